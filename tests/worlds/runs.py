"""Recorded runs of the virtual world: a controller that serves small apps, seen by a run recorder."""

from collections.abc import Callable
from random import Random
from typing import Any

from grainwise import App
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Node
from grainwise.domain.plan import Grain
from grainwise.domain.time import SECOND
from grainwise.telemetry.request_rows import RequestRow
from grainwise.telemetry.result import RunResult
from grainwise.telemetry.run_recorder import RunRecorder
from worlds.control import World

NODES = (Node("here", 8.0, 10_000.0), Node("there", 8.0, 10_000.0))


def watched(
    *apps: App, on_request: Callable[[RequestRow], None] | None = None, warmup_us: int = 0, **more: Any
) -> tuple[World, RunRecorder]:
    """A world, warm, and a recorder that has seen and will see everything in it."""
    more = {"nodes": NODES, **more}
    world = World(*apps, **more)
    recorder = RunRecorder("simulated", on_request=on_request, warmup_us=warmup_us)
    for entry in world.log:
        recorder.observe(entry.event, entry.actions, entry.now)
    world.before = lambda event, actions: recorder.observe(event, actions, world.now)
    return world, recorder


def lively(
    *apps: App,
    grains: tuple[Grain, ...],
    regrain: Grain | None = None,
    seed: int = 1,
    requests: int = 200,
    mean_us: int = 15_000,
    policy: str = "",
    note: str = "",
    **more: Any,
) -> RunResult:
    """A run with random arrivals, a re-granulation of the first app in its middle, and a crash near its end."""
    world, recorder = watched(*apps, grains=grains, is_checked=False, config=AppConfig(replan_us=0, max_requests=20), **more)
    draws = Random(seed)
    for number in range(requests):
        app = apps[number % len(apps)].name
        world.ask(number, app=app)
        if regrain is not None and number == requests // 2:
            world.regranulate(regrain)
        if number == requests * 3 // 4 and world.instances:
            world.crash(min(world.instances))
        world.run_for(int(draws.expovariate(1.0) * mean_us))
    world.drain()
    world.run_for(SECOND // 10)
    return recorder.result(
        hardware="the virtual world",
        end=world.now,
        seed=seed,
        policy=policy,
        workload=f"{requests} requests, Poisson",
        cluster="two nodes of eight cores",
        versions={"grainwise": "0"},
        notes=(note,) if note else (),
    )
