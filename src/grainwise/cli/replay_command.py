"""``grainwise replay``: a log through a fresh controller, a segment at a time."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from grainwise.cli.commands import print_json
from grainwise.cli.render import console
from grainwise.control.events import AppDeployed, RequestArrived
from grainwise.control.log import Entry, Header, Record
from grainwise.control.replay import Divergence, replay
from grainwise.domain.time import SECOND, Instant
from grainwise.runtimes.log_reader import records

MAX_SHOWN = 400


class ReplayOutput(Struct, frozen=True):
    """What was replayed, and the first difference. ``seconds`` is the time that the replayed entries span."""

    entries: int
    segments: int
    divergence: Divergence | None
    note: str
    code_version: str
    apps: tuple[str, ...]
    requests: int
    seconds: float
    first_seq: int
    from_snapshot: bool


class _Seen:
    """Takes note of what passes by."""

    def __init__(self) -> None:
        self.header: Header | None = None
        self.apps: dict[str, None] = {}
        self.requests = 0
        self.first: Instant | None = None
        self.last: Instant = 0

    def watch(self, steps: Iterable[Record]) -> Iterator[Record]:
        """The same records."""
        for record in steps:
            if isinstance(record, Header):
                self.header = self.header or record
            elif isinstance(record, Entry):
                self.first = record.now if self.first is None else self.first
                self.last = record.now
                event = record.event
                if isinstance(event, RequestArrived):
                    self.requests += 1
                    self.apps.setdefault(event.app)
                elif isinstance(event, AppDeployed):
                    self.apps.setdefault(event.app.name)
            yield record


def replay_log(path: Path, as_json: bool) -> int:
    """The command; the exit code.

    Raises:
        ArtifactError: there is no log, or it cannot be replayed.
    """
    seen = _Seen()
    report = replay(seen.watch(records(path)))
    header = seen.header
    output = ReplayOutput(
        entries=report.entries,
        segments=report.segments,
        divergence=report.divergence,
        note=header.note if header else "",
        code_version=header.code_version if header else "",
        apps=tuple(seen.apps),
        requests=seen.requests,
        seconds=(seen.last - (seen.first or 0)) / SECOND,
        first_seq=header.first_seq if header else 0,
        from_snapshot=bool(header and header.snapshot),
    )
    if as_json:
        print_json(output)
    else:
        for line in _lines(output):
            console().print(line)
    return 0 if report.is_identical else 1


def _lines(output: ReplayOutput) -> Iterator[str]:
    apps = ", ".join(output.apps) or "no app"
    begins = f" from the snapshot before entry {output.first_seq} on" if output.from_snapshot else ""
    what = f"{output.requests} requests for {apps} in {output.seconds:.6g} s{begins}"
    yield f"replayed {what}; written by {output.note or 'an unnamed run'}, grainwise {output.code_version}"
    different = output.divergence
    if different is None:
        yield f"{output.entries} entries in {output.segments} segments: identical actions"
        return
    at = f"at {different.now / SECOND:.6f} s"
    yield f"entry {different.seq} differs, the first of {output.entries} that does; {at} the controller heard"
    yield f"  {_short(different.event)}"
    for each in different.differences:
        yield f"{each.place}:\n  logged   {_short(each.logged)}\n  replayed {_short(each.replayed)}"
    if not different.differences:
        yield f"logged   {_short(different.logged)}\nreplayed {_short(different.replayed)}"


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}… ({len(text)} characters; all with --json)"
