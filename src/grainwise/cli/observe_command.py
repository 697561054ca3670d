"""``grainwise observe``: what was asked of a live run, as a trace that can be replayed."""

import asyncio
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from msgspec import Struct
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from grainwise.cli.admin_client import AdminClient
from grainwise.cli.commands import print_json
from grainwise.cli.log_results import entries
from grainwise.cli.options import check_positive
from grainwise.cli.render import console
from grainwise.control.actions import Reject, Respond
from grainwise.control.events import RequestArrived, RequestCancelled
from grainwise.control.log import Entry, Record
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND, Instant
from grainwise.gateway.admin import read_token
from grainwise.runtimes.log_reader import follow, records
from grainwise.workloads.traces.observed import ObservedRequest, ObservedWriter

DEFAULT_SECONDS = 60.0
FLUSH_S = 0.5
"""A server's log is behind by less than this."""
SETTLE_S = 30.0
"""How long a live observation waits for the last answers."""


class Observation(Struct, frozen=True):
    """What was recorded."""

    requests: int
    answered: int
    unanswered: int
    seconds: float
    log: str
    out: str


def observe_source(
    source: str, out: Path, seconds: float | None, app: str | None, token_file: Path | None, as_json: bool
) -> None:
    """The command; of all apps without ``app``.

    Raises:
        GrainwiseError: there is no log or server, or the trace cannot be written.
    """
    check_positive("--seconds", seconds)
    path = Path(source)
    is_log = not source.startswith(("http://", "https://")) and (path.is_dir() or path.suffix == ".log")
    columns = (TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console(is_error=True), disable=as_json, transient=True) as progress:
        task = progress.add_task("observing", total=None)

        def step(count: int) -> None:
            progress.update(task, description=f"observing: {count} requests")

        if is_log:
            window_us = round(seconds * SECOND) if seconds is not None else None
            observation = _Trace(out, window_us, app, step).record(entries(records(path), path), str(path))
        else:
            log = _log_of(source, token_file)
            observation = _observe_live(log, out, seconds if seconds is not None else DEFAULT_SECONDS, app, step)
    if as_json:
        print_json(observation)
        return
    shown = console()
    missing = f", {observation.unanswered} without an answer by the end" if observation.unanswered else ""
    shown.print(
        f"{observation.requests} requests in {observation.seconds:.6g} s, {observation.answered} answered{missing}: {out}\n"
        f"replay them with --workload trace:{out}"
    )


def _log_of(source: str, token_file: Path | None) -> Path:
    """The log folder of the server whose admin API is at ``source``."""
    token = read_token(token_file) if token_file is not None else None

    async def ask() -> str:
        async with AdminClient(source, token) as client:
            return str((await client.get("/status")).get("log", ""))

    log = Path(asyncio.run(ask()))
    if not log.is_dir():
        raise ConfigurationError(f"the server at {source} logs to {log}, which is not on this machine; observe it there")
    return log


def _observe_live(log: Path, out: Path, seconds: float, app: str | None, on_count: Callable[[int], None]) -> Observation:
    """Record what arrives within ``seconds`` from now, and wait for its answers for a while."""
    began = time.monotonic()
    trace = _Trace(out, round(seconds * SECOND), app, on_count)

    def is_over() -> bool:
        passed = time.monotonic() - began - seconds
        return passed >= SETTLE_S or (passed >= FLUSH_S and trace.is_settled)

    return trace.record(_live_entries(follow(log, is_over)), str(log))


def _live_entries(steps: Iterable[Record]) -> Iterator[Entry]:
    """The entries of a live log; what a gap hides is lost to the trace."""
    return (record for record in steps if isinstance(record, Entry))


class _Trace:
    """Follows requests from arrival to end and writes each when it ends; the file appears when it is complete."""

    def __init__(self, out: Path, window_us: int | None, app: str | None, on_count: Callable[[int], None]) -> None:
        self._out = out
        self._app = app
        self._window_us = window_us
        self._on_count = on_count
        self._began: Instant | None = None
        self._open: dict[int, tuple[Instant, str, float]] = {}
        self._requests = self._answered = 0
        self._last: Instant = 0

    @property
    def is_settled(self) -> bool:
        """Whether every recorded request has ended."""
        return not self._open

    def record(self, steps: Iterable[Entry], log: str) -> Observation:
        """Write the trace of these entries.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        fresh = self._out.with_name(f".{os.getpid()}-{self._out.name}")
        try:
            with ObservedWriter(fresh) as writer:
                for entry in steps:
                    self._take(entry, writer)
                for at, app, size in self._open.values():
                    writer.write(ObservedRequest(at, app, size, None, "unfinished"))
            if self._requests:
                fresh.replace(self._out)
        except OSError as error:
            raise ConfigurationError(f"{self._out} cannot be written: {error.strerror}") from error
        finally:
            fresh.unlink(missing_ok=True)
        if not self._requests:
            what = f" for {self._app}" if self._app is not None else ""
            raise ConfigurationError(f"no request{what} arrived while {log} was observed; send some, or observe for longer")
        seconds = (self._window_us if self._window_us is not None else self._last - (self._began or 0)) / SECOND
        return Observation(self._requests, self._answered, len(self._open), seconds, log, str(self._out))

    def _take(self, entry: Entry, writer: ObservedWriter) -> None:
        if self._began is None:
            self._began = entry.now
        at = entry.now - self._began
        self._last = entry.now
        event = entry.event
        if type(event) is RequestArrived and self._wants(event, at):
            self._requests += 1
            self._open[event.request] = (at, event.app, size_of(event))
            if self._requests % 100 == 1:
                self._on_count(self._requests)
        elif type(event) is RequestCancelled:
            self._end(event.request, at, "cancelled", writer)
        for action in entry.actions:
            if type(action) is Respond:
                self._end(action.request, at, "answered", writer)
            elif type(action) is Reject:
                self._end(action.request, at, action.code, writer)

    def _wants(self, event: RequestArrived, at: Instant) -> bool:
        return (self._window_us is None or at < self._window_us) and self._app in (None, event.app)

    def _end(self, request: int, at: Instant, outcome: str, writer: ObservedWriter) -> None:
        known = self._open.pop(request, None)
        if known is None:
            return
        arrived, app, size = known
        is_answered = outcome == "answered"
        self._answered += is_answered
        writer.write(ObservedRequest(arrived, app, size, at - arrived if is_answered else None, outcome))


def size_of(event: RequestArrived) -> float:
    """The size of a request's input as the first stage that measures one does; its length in bytes where none does."""
    refs = [ref for payload in event.inputs for ref in payload.refs]
    return next((ref.sizes[0] for ref in refs if ref.sizes), float(sum(ref.nbytes for ref in refs)))
