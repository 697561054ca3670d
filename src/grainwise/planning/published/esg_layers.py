"""What ESG searches over: the configurations of each function, and which functions it searches together.

A configuration is (batch, vCPUs, share of a GPU), its cost the time of an invocation at the price of vCPUs and share, a part
of it for each request of the batch; memory is not priced. The time left is distributed over the functions that remain by their
average normalised lengths (``planning.dominators``), and runs of at most three that follow one another are searched together.

After ESG (HPDC 2024): that there are such configurations, groups and dominators is published, lengths and the size of groups
are recalled, the rest is our own (evidence grade: reconstructed). ESG knows no fan-outs: here the items of one share the
instances that its function has, in as many rounds as that takes.
"""

import math
from collections.abc import Iterable, Sequence

from msgspec import Struct

from grainwise.planning.dominators import Piece, Share, decompose, distribute, normalised_lengths, remaining
from grainwise.planning.lattice import bits
from grainwise.planning.published.esg_1q import Configuration
from grainwise.predictors.groups import GroupFacts, Scenario, stage_times_us
from grainwise.predictors.high_times import high_us
from grainwise.predictors.station import concurrency

GROUP = 3
"""Functions that are searched together at most."""

PATHS = 5
"""Paths whose first configurations a dispatch tries in turn."""

Way = tuple[int, float, float]
"""A batch in items, vCPUs, and the share of a device."""


def configurations(scenario: Scenario, facts: GroupFacts, ways: Iterable[Way], instances: int) -> tuple[Configuration, ...]:
    """The configurations of a function, in the order of ``ways``; without vCPUs or shares that make it no faster.

    Args:
        scenario: the app with everything that is known about it, and the machines.
        facts: the function.
        ways: batches, vCPUs and shares to look at; those of one batch and share by increasing vCPUs.
        instances: that the items of a fan-out are shared out over.
    """
    found: list[Configuration] = []
    fastest: dict[tuple[int, float], float] = {}
    for batch, cores, gpu in ways:
        size = _size(facts, batch)
        invocations = facts.items / size
        able = max(1, concurrency(scenario.nodes, scenario.capabilities, cores, instances))
        rounds = max(1, math.ceil(invocations / able - 1e-9)) if facts.extent.scope else 1
        requests = max(1, int(batch / max(facts.items, 1.0) + 1e-9)) if facts.extent.scope else batch
        times = stage_times_us(scenario, facts, size, cores, gpu)
        hop_us = scenario.hop.latency_us(facts.bytes_in * size)
        time_us = rounds * (hop_us + high_us(scenario, facts, times, requests))
        if time_us >= fastest.get((batch, gpu), math.inf):
            continue
        fastest[(batch, gpu)] = time_us
        usd = (hop_us + _total(times)) / 1e6 * scenario.prices.usd_per_second(cores, 0.0, gpu)
        found.append(Configuration(time_us, invocations * usd, batch, requests, cores, gpu))
    return tuple(found)


def _size(facts: GroupFacts, batch: int) -> float:
    """Items of an invocation: a full batch, or of a request's items in a fan-out, which are dealt out evenly, its part."""
    if not facts.extent.scope or facts.items <= batch:
        return float(batch)
    return facts.items / math.ceil(facts.items / batch - 1e-9)


def lengths(scenario: Scenario, functions: Sequence[GroupFacts], most: Sequence[int], ways: Sequence[Way]) -> tuple[float, ...]:
    """The average normalised length of each function: the mean part that it has in the time of all, over configurations.

    Args:
        scenario: the app with everything that is known about it.
        functions: all of them.
        most: the largest batch of each, where a way has a larger one.
        ways: the configurations, the same for all.
    """
    return normalised_lengths(
        [
            [_mean_us(scenario, facts, min(batch, bound), cores, gpu) for batch, cores, gpu in ways]
            for facts, bound in zip(functions, most, strict=True)
        ]
    )


def _mean_us(scenario: Scenario, facts: GroupFacts, batch: int, cores: float, gpu: float) -> float:
    size = _size(facts, batch)
    times = stage_times_us(scenario, facts, size, cores, gpu if facts.device == "gpu" else 0.0)
    return scenario.hop.latency_us(facts.bytes_in * size) + _total(times)


class Run(Struct, frozen=True):
    """Functions that follow one another and are searched together, and the time that they have, microseconds."""

    functions: tuple[int, ...]
    time_us: int


class Distribution:
    """The time of an app distributed over its functions.

    Args:
        predecessors: for each function, in topological order, the mask of those that it waits for.
        weights: of each function, see ``lengths``.
    """

    def __init__(self, predecessors: Sequence[int], weights: Sequence[float]) -> None:
        self._piece: Piece = decompose(predecessors)
        self._weights = tuple(weights)

    def runs(self, done: int, time_us: int) -> tuple[Run, ...]:
        """What is left when the functions ``done`` have run, with ``time_us`` for all of it."""
        left = remaining(self._piece, done)
        if left is None:
            return ()
        found: list[Run] = []
        _collect(distribute(left, time_us, self._weights, GROUP), found)
        return tuple(found)

    def run_from(self, done: int, head: int, time_us: int) -> Run:
        """The functions from ``head`` on that are searched together, with their time; ``head`` is not among ``done``."""
        for run in self.runs(done, time_us):
            if head in run.functions:
                return Run(run.functions[run.functions.index(head) :], run.time_us)
        raise ValueError(f"function {head} has run")


def _collect(shares: Iterable[Share], found: list[Run]) -> None:
    for share in shares:
        if not share.branches:
            found.append(Run(tuple(bits(share.mask)), share.time_us))
        for branch in share.branches:
            _collect(branch, found)


def _total(values: Iterable[float]) -> float:
    total = 0.0
    for value in values:
        total += value
    return total
