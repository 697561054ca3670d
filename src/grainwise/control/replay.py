"""Replay: the same events at the same instants through a fresh controller must give the same actions, byte for byte."""

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from grainwise.control.actions import Action
from grainwise.control.controller import Controller
from grainwise.control.log import Entry, Gap, Header, Record, encode_actions
from grainwise.domain.errors import ArtifactError

MAX_DIFFERENCES = 20


class FieldDifference(Struct, frozen=True):
    """One place at which logged and replayed actions differ, such as ``actions[0].limit_us``; "absent" where one has none."""

    place: str
    logged: str
    replayed: str


class Divergence(Struct, frozen=True):
    """The first entry whose actions differ. ``differences`` are the first 20 places."""

    seq: int
    event: str
    logged: str
    replayed: str
    now: int = 0
    differences: tuple[FieldDifference, ...] = ()


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
    return Divergence(
        entry.seq, str(entry.event), str(entry.actions), str(actions), entry.now, differences(entry.actions, actions)
    )


def differences(logged: list[Action], replayed: list[Action]) -> tuple[FieldDifference, ...]:
    """The first places at which two lists of actions differ."""
    found: list[FieldDifference] = []
    for each in _walk("actions", msgspec.to_builtins(logged), msgspec.to_builtins(replayed)):
        found.append(each)
        if len(found) == MAX_DIFFERENCES:
            break
    return tuple(found)


_ABSENT = object()


def _walk(place: str, logged: object, replayed: object) -> Iterator[FieldDifference]:
    if isinstance(logged, dict) and isinstance(replayed, dict) and logged.get("type") == replayed.get("type"):
        for key in dict.fromkeys([*logged, *replayed]):
            yield from _walk(f"{place}.{key}", logged.get(key, _ABSENT), replayed.get(key, _ABSENT))
    elif isinstance(logged, list | tuple) and isinstance(replayed, list | tuple):
        for at in range(max(len(logged), len(replayed))):
            one = logged[at] if at < len(logged) else _ABSENT
            other = replayed[at] if at < len(replayed) else _ABSENT
            yield from _walk(f"{place}[{at}]", one, other)
    elif logged != replayed or type(logged) is not type(replayed):
        yield FieldDifference(place, _shown(logged), _shown(replayed))


def _shown(value: object) -> str:
    return "absent" if value is _ABSENT else repr(value)
