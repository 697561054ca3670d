"""Planning that looks at one function at a time: what INFless and FaST-GShare have in common here (reconstructed).

Neither knows of pipelines. So the SLO is split beforehand: each function has the part of it that its run time is of the longest
path through it, all run times being those of its fastest configuration. Then every function takes the configuration that the
system prefers of those that are in time for its part, and where none is, the one that it prefers of about the fastest. There
are as many instances as the rate needs at the throughput of that configuration.

Waiting for an idle instance is in no part, as the throughput of the instances is to be enough.
"""

import math
from collections.abc import Callable, Iterable, Sequence

import msgspec
from msgspec import Struct

from grainwise.planning.devices import gpu_shares, instances_on_devices
from grainwise.planning.options import batches, shares
from grainwise.planning.problem import Problem
from grainwise.predictors.groups import GroupFacts, source_bytes, stage_times_us
from grainwise.predictors.station import concurrency

NEARLY = 1.05
"""Where nothing is in time, by so much longer than the fastest a configuration may take that is preferred to it."""

_DIGITS = 9


class Configuration(Struct, frozen=True):
    """What each instance of a function may have.

    ``run_us`` is the mean time of a full batch from invoke to result, ``usd_per_s`` what an instance costs, ``most`` how many
    instances empty nodes hold.
    """

    batch: int
    cpu_cores: float
    gpu_share_fraction: float
    run_us: float
    usd_per_s: float
    most: int

    @property
    def items_per_s(self) -> float:
        """What an instance carries with full batches."""
        return self.batch * 1e6 / self.run_us if self.run_us > 0 else math.inf


class Function(Struct, frozen=True):
    """One function: its part of the SLO in microseconds, the requests that come, and the configurations that it may have."""

    facts: GroupFacts
    part_us: float
    rate_per_s: float
    configurations: tuple[Configuration, ...]

    @property
    def items_per_s(self) -> float:
        """Items that come."""
        return self.rate_per_s * self.facts.items

    def instances(self, configuration: Configuration) -> int:
        """As many as the rate needs, at least one."""
        return max(1, math.ceil(self.items_per_s / configuration.items_per_s - 1e-9))

    def batches(self, configuration: Configuration) -> int:
        """How many batches the items of one request are."""
        return max(1, math.ceil(self.facts.items / configuration.batch - 1e-9))

    def fill_us(self, batch: int) -> float:
        """How long the first items of a batch wait for the last, requests coming evenly; those of one request come at once."""
        later = batch - max(1.0, self.facts.items)
        if later <= 0:
            return 0.0
        return later * 1e6 / self.items_per_s if self.items_per_s > 0 else math.inf

    def time_us(self, configuration: Configuration) -> float:
        """Until the last item of a request has run: the batch fills, and the batches of a request share the instances."""
        rounds = math.ceil(self.batches(configuration) / self.instances(configuration))
        return self.fill_us(configuration.batch) + rounds * configuration.run_us

    def busy_cores(self, configuration: Configuration) -> float:
        """Cores that are at work on the mean, with full batches."""
        return self.items_per_s / configuration.items_per_s * configuration.cpu_cores

    def in_time(self) -> list[Configuration]:
        """The configurations that are within the part of the SLO."""
        return [each for each in self.configurations if self.time_us(each) <= self.part_us]


Preference = Callable[[Problem, Function, Configuration], tuple[float, ...]]
"""What a system likes about a configuration of a function: the least is best."""


class System(Struct, frozen=True):
    """A published system.

    ``looks_for`` says what it chooses by, for people. ``margin`` is the factor by which it takes run times for longer than
    they are predicted to be.
    """

    name: str
    looks_for: str
    preference: Preference
    is_batching: bool
    margin: float = 1.0


def by_function(
    problem: Problem, facts: Sequence[GroupFacts], before: Sequence[Sequence[int]], system: System
) -> list[Function]:
    """The functions with their parts of the SLO.

    Args:
        problem: the planning problem.
        facts: of the functions, in topological order.
        before: for each function the places of those that it waits for.
        system: whose configurations they are.
    """
    rate = problem.workload.rate_per_s
    bare = [Function(each, 0.0, rate, configurations(problem, each, system)) for each in facts]
    parts = parts_us(problem, [_alone_us(function) for function in bare], before)
    return [msgspec.structs.replace(function, part_us=part) for function, part in zip(bare, parts, strict=True)]


def configurations(problem: Problem, facts: GroupFacts, system: System) -> tuple[Configuration, ...]:
    """The configurations that a function may have on these nodes; none where a value at its border is too long for them."""
    if facts.largest_bytes > problem.capabilities.payload_limit_bytes:
        return ()
    room = sum(math.floor(node.memory_mib / facts.memory_mib) if facts.memory_mib > 0 else 1 << 10 for node in problem.nodes)
    parts = [
        (batch, gpu, min(room, instances_on_devices(problem, facts, batch, gpu)))
        for batch in (batches(facts) if system.is_batching else (1,))
        for gpu in gpu_shares(problem, facts, batch)
    ]
    found: list[Configuration] = []
    for cores in shares(problem):
        most = concurrency(problem.nodes, problem.capabilities, cores, 1 << 10)
        if problem.capabilities.is_share_hard:
            most = sum(math.floor(node.usable_cores / cores + 1e-9) for node in problem.nodes)
        for batch, gpu, room_for_part in parts:
            bound = min(most, room_for_part)
            if bound >= 1:
                hop_us = problem.hop.latency_us(facts.bytes_in * batch)
                run_us = system.margin * total((hop_us, *stage_times_us(problem, facts, float(batch), cores, gpu)))
                usd = problem.prices.usd_per_second(cores, facts.memory_mib, gpu)
                found.append(Configuration(batch, cores, gpu, run_us, usd, bound))
    return tuple(found)


def parts_us(problem: Problem, run_us: Sequence[float], before: Sequence[Sequence[int]]) -> list[float]:
    """The parts of the SLO, less what handing out the results takes: along no path do they add up to more than all of it.

    Args:
        problem: the planning problem.
        run_us: what each function takes, in topological order.
        before: for each function the places of those that it waits for.
    """
    until = [0.0] * len(run_us)
    after = [0.0] * len(run_us)
    for at, sources in enumerate(before):
        until[at] = max((until[source] + run_us[source] for source in sources), default=0.0)
    for at in reversed(range(len(run_us))):
        for source in before[at]:
            after[source] = max(after[source], after[at] + run_us[at])
    outputs = total(source_bytes(problem.app.graph, problem.workload, source) for source in problem.app.graph.outputs)
    left_us = max(0.0, problem.app.slo.latency_ms * 1000 - problem.hop.latency_us(outputs))
    paths = [before_it + own + after_it for before_it, own, after_it in zip(until, run_us, after, strict=True)]
    return [left_us * own / path if path > 0 else left_us for own, path in zip(run_us, paths, strict=True)]


def ranked(problem: Problem, system: System, function: Function) -> list[Configuration]:
    """All configurations of a function: those in time as the system prefers them, then about the fastest so, then by time."""

    def preferred(each: Configuration) -> tuple[float, ...]:
        return tuple(float(f"{figure:.{_DIGITS}g}") for figure in system.preference(problem, function, each))

    in_time = sorted(function.in_time(), key=preferred)
    late = [each for each in function.configurations if function.time_us(each) > function.part_us]
    near_us = NEARLY * min((function.time_us(each) for each in late), default=0.0)
    late.sort(key=lambda each: (max(function.time_us(each), near_us), preferred(each)))
    return [*in_time, *late]


def _alone_us(function: Function) -> float:
    """What the items of one request take on one instance of the fastest configuration."""
    return min((function.batches(each) * each.run_us for each in function.configurations), default=0.0)


def total(values: Iterable[float]) -> float:
    """The plain sum, the same to the last bit under every interpreter."""
    found = 0.0
    for value in values:
        found += value
    return found
