"""Replay: the same events at the same instants through a fresh controller must give the same actions, byte for byte."""

from collections.abc import Iterable

from msgspec import Struct

from grainwise.control.controller import Controller
from grainwise.control.log import Entry, Gap, Header, Record, encode_actions
from grainwise.domain.errors import ArtifactError


class Divergence(Struct, frozen=True):
    """The first entry whose actions differ."""

    seq: int
    event: str
    logged: str
    replayed: str


class ReplayReport(Struct, frozen=True):
    """How many entries were replayed, and where the first one differed."""

    entries: int
    segments: int
    divergence: Divergence | None = None

    @property
    def is_identical(self) -> bool:
        """Whether every action was the same."""
        return self.divergence is None


def replay(records: Iterable[Record]) -> ReplayReport:
    """Feed a log to a fresh controller and compare.

    Raises:
        ArtifactError: the log does not start with a header, or has a gap.
    """
    controller: Controller | None = None
    entries = segments = 0
    for record in records:
        if isinstance(record, Header):
            segments += 1
            if controller is None:
                controller = Controller.restore(record.snapshot) if record.snapshot else Controller()
        elif isinstance(record, Gap):
            raise ArtifactError(
                f"entries {record.first_seq} to {record.last_seq} of the log are missing (the writer could not keep up); "
                "a replay cannot cross a gap: replay the segments before or after it"
            )
        else:
            if controller is None:
                raise ArtifactError("the log does not start with a header; give its first segment or one with a snapshot")
            difference = _step(controller, record)
            entries += 1
            if difference is not None:
                return ReplayReport(entries, segments, difference)
    return ReplayReport(entries, segments)


def _step(controller: Controller, entry: Entry) -> Divergence | None:
    actions = controller.handle(entry.event, entry.now)
    if encode_actions(actions) == encode_actions(entry.actions):
        return None
    return Divergence(entry.seq, str(entry.event), str(entry.actions), str(actions))
