"""Live runs of a calibration: a fresh server for each, so that each begins in the state in which its simulated twin begins."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from grainwise.cli.calibrate_client import Bodies, Client, Seen, Work
from grainwise.cli.foreign_load import ForeignLoad
from grainwise.cli.serving import ServeOptions, Serving
from grainwise.control.log import Entry
from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ConfigurationError, GrainwiseError
from grainwise.domain.machine import Capabilities, Node
from grainwise.domain.plan import Plan
from grainwise.domain.time import MILLISECOND, Instant
from grainwise.gateway.admin import AdminListen
from grainwise.gateway.datatypes import to_jsonable
from grainwise.runtimes.local.machine import this_node
from grainwise.runtimes.log_writer import read_log
from grainwise.simulation.calibration import Trail

LEAD_US = 300 * MILLISECOND
"""From the moment in which a server is ready until the first request may be due."""

TIMEOUT_S = 30.0


class LiveRun(Struct, frozen=True):
    """One run: what the controller did, what the client saw, and what else the machine was busy with.

    ``origin`` is the instant from which arrivals count, on the clock of ``trail`` and ``seen``.
    """

    trail: Trail
    seen: tuple[Seen, ...]
    origin: Instant
    foreign_cores: float
    plan: Plan
    spec: AppSpec
    node: Node
    capabilities: Capabilities


def bodies_of(spec: AppSpec, samples: Sequence[tuple[object, ...]]) -> Bodies:
    """The samples of an app as request bodies: raw bytes where it takes nothing else, otherwise JSON."""
    names = spec.graph.input_names
    if len(names) == 1 and all(isinstance(sample[0], bytes) for sample in samples):
        return Bodies("application/octet-stream", tuple(bytes(sample[0]) for sample in samples))  # type: ignore[call-overload]
    objects = [{name: to_jsonable(value) for name, value in zip(names, sample, strict=True)} for sample in samples]
    return Bodies("application/json", tuple(msgspec.json.encode(each) for each in objects))


def reserve_cores(cores: float) -> float:
    """What a plan must leave free so that its instances have at most ``cores`` of this machine.

    Raises:
        ConfigurationError: the machine has no more than that.
    """
    have = this_node().cpu_cores
    if cores >= have:
        raise ConfigurationError(
            f"--cores is {cores:g} and this machine has {have:g}: leave something to the client and the server"
        )
    return have - cores


async def run_live(options: ServeOptions, client: Client, arrivals: Sequence[Instant], expected: Plan | None) -> LiveRun:
    """Serve the app anew, offer the arrivals, and read what happened from the log.

    Args:
        options: how to serve; its log folder is ignored.
        client: who asks.
        arrivals: when, from 0 on.
        expected: the plan that must come out of ``options``; None for any.

    Raises:
        GrainwiseError: the server does not become ready, serves another plan, or a request gets no answer.
    """
    with tempfile.TemporaryDirectory(prefix="grainwise-calibrate-") as folder:
        log = Path(folder) / "log"
        serving = await Serving.open(msgspec.structs.replace(options, log=log))
        try:
            await serving.ready()
            plan = serving.table.winner.plan
            if expected is not None and plan != expected:
                raise GrainwiseError(f"the server chose plan {plan.id}, not {expected.id}, from the same forecast")
            load = ForeignLoad()
            origin = serving.driver.now() + LEAD_US
            url = f"{serving.addresses.url}/v1/apps/{serving.spec.name}"
            seen = await client.offer(Work(url, origin, tuple(arrivals), TIMEOUT_S))
            foreign = load.end()
        finally:
            await serving.close()
        entries = await asyncio.to_thread(read_log, log)
    lost = [each for each in seen if each.status == 0 or (each.status >= 500 and each.status != 503)]
    if lost:
        raise GrainwiseError(
            f"{len(lost)} of {len(seen)} requests got no answer; the first: {lost[0].detail or lost[0].status}"
        )
    trail = [(each.event, each.actions, each.now) for each in entries if isinstance(each, Entry)]
    node = this_node(reserve_cores=options.reserve_cores)
    return LiveRun(trail, tuple(seen), origin, foreign, plan, serving.spec, node, serving.runtime.capabilities)


def serve_options(
    app: Path, profile: Path, rate_per_s: float, grain: str | None, slo_ms: float | None, cores: float
) -> ServeOptions:
    """How calibrations serve: on loopback, with a plan that does not change."""
    return ServeOptions(
        app,
        port=0,
        admin=AdminListen(port=0),
        profile=profile,
        rate_per_s=rate_per_s,
        slo_ms=slo_ms,
        grain=grain,
        config=AppConfig(replan_us=0),
        reserve_cores=reserve_cores(cores),
    )
