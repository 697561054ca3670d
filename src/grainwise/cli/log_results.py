"""From a log to the result of the run that wrote it, live or simulated, without holding the log in memory."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from grainwise.control.actions import Action, StartInstance
from grainwise.control.controller import Controller
from grainwise.control.events import AppDeployed, CapacityChanged, Event, InstanceReady
from grainwise.control.log import Entry, Gap, Header, Record
from grainwise.domain.because import Because
from grainwise.domain.errors import ArtifactError
from grainwise.domain.time import SECOND, Instant
from grainwise.runtimes.log_reader import records
from grainwise.simulation.log_file import END, NOTES, ORIGIN, TENANTS
from grainwise.telemetry.request_rows import RequestRow
from grainwise.telemetry.result import Kind, RunResult
from grainwise.telemetry.run_recorder import RunRecorder

Step = tuple[Event, list[Action], Instant]


def result_of_log(
    path: Path, *, warmup_s: float | None = None, on_request: Callable[[RequestRow], None] | None = None
) -> RunResult:
    """The result of the run whose log lies at ``path``.

    Args:
        path: a log folder or one segment.
        warmup_s: seconds of the log that are not counted; by default none, or as long as a simulation took to become ready.
        on_request: takes each request as it ends.

    Raises:
        ArtifactError: there is no log, it is malformed, or a part of it is missing.
    """
    steps = records(path)
    header = next(steps)
    if not isinstance(header, Header):
        raise ArtifactError(f"the log {path} does not start with a header; give its first segment or one with a snapshot")
    said = dict(header.digests)
    is_simulated = said.pop("kind", "") == "simulated"
    origin, end = (int(said.pop(name, "0")) for name in (ORIGIN, END))
    kind: Kind = "simulated" if is_simulated else "measured"
    first = next(steps, None)
    if not isinstance(first, Entry):
        raise ArtifactError(f"the log {path} holds no entry; the run that wrote it ended before its first")
    start = first.now
    became_ready_us = max(0, origin - start) if origin else 0
    warmup_us = round(warmup_s * SECOND) if warmup_s is not None else became_ready_us
    recorder = RunRecorder(kind, on_request=on_request, start=start, warmup_us=warmup_us)
    notes = [header.note] if header.note else []
    notes.extend(said.pop(NOTES, "").splitlines())
    if tenants := said.pop(TENANTS, ""):
        notes.append(f"requests came from the tenants {tenants}; the log does not say which, so there is no result by tenant")
    if header.snapshot:
        for event, actions, _ in restored(header.snapshot, start):
            recorder.observe(event, actions, start)
        notes.append(
            f"the log begins in the middle of the run, with entry {header.first_seq}: what was there by then is taken from its "
            "snapshot, and requests that were in flight are not counted"
        )
    recorder.observe(first.event, first.actions, first.now)
    for entry in entries(steps, path):
        recorder.observe(entry.event, entry.actions, entry.now)
    if not recorder.apps:
        raise ArtifactError(f"no app is deployed in the log {path}; the run that wrote it ended before that")
    return recorder.result(
        end=end or None,
        hardware=said.pop("hardware", "") or said.get("device_class", ""),
        seed=header.seed if is_simulated else None,
        policy=said.pop("policy", ""),
        cluster=said.pop("cluster", ""),
        workload=said.pop("workload", ""),
        versions={"grainwise": header.code_version},
        digests=said,
        notes=notes,
    )


def entries(steps: Iterable[Record], path: Path) -> Iterator[Entry]:
    """The entries among records.

    Raises:
        ArtifactError: some are missing.
    """
    for record in steps:
        if isinstance(record, Gap):
            raise ArtifactError(
                f"entries {record.first_seq} to {record.last_seq} of the log {path} are missing (the writer could not keep up, "
                "or a segment was deleted); give a segment before or after them"
            )
        if isinstance(record, Entry):
            yield record


def restored(snapshot: bytes, now: Instant) -> Iterator[Step]:
    """What would have led to the state of a snapshot: its machines, its apps under their plans, their instances."""
    state = Controller.restore(snapshot).state
    nodes = tuple(each.node for each in state.nodes.values() if each.is_present)
    yield CapacityChanged(nodes), [], now
    for app in state.apps.values():
        old = app.deployed
        yield (
            AppDeployed(old.app, old.model, old.hop, old.workload, app.plan, old.capabilities, old.prices, old.config),
            [],
            now,
        )
    for number, instance in state.instances.items():
        start = StartInstance(
            number,
            instance.app,
            instance.stages,
            instance.node,
            instance.cores,
            instance.memory_mib,
            Because("was there when the log begins"),
            instance.share,
            instance.device,
            instance.gpu_share_fraction,
            instance.slice_start,
            instance.device_mib,
        )
        yield CapacityChanged(nodes), [start], now
        if instance.phase in ("ready", "loading"):
            yield InstanceReady(number, 0, 0, 0, 0, instance.memory_mib), [], now
