"""What a plan offers to those who dispatch: at every point of the DAG the extents that may run next, with what follows them.

Compiled from the plan, the latency model and the nodes, so a snapshot need not hold it. An extent begins at one stage and lies
within one function. Its time is that of a batch of mean requests at a high quantile, with the hop into it; its cost is what is
paid for the time that the batch is busy. What comes after the first extent is assumed to find an instance at once.
"""

import math
from collections.abc import Iterator

from grainwise.control.routing import Routing
from grainwise.domain.extent import common_scope
from grainwise.domain.graph import Graph
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.granularity import explain_illegal
from grainwise.planning.joint import Step
from grainwise.planning.lattice import ancestors, descendants
from grainwise.planning.options import SHARES, powers_up_to, useful_batch
from grainwise.planning.staircase import Staircases, build
from grainwise.policies.extent import Offer
from grainwise.predictors.effects import Setting
from grainwise.predictors.groups import GroupFacts, group_facts, stage_times_us
from grainwise.predictors.high_times import high_us
from grainwise.predictors.station import concurrency

MAX_SUBSETS = 10
"""Functions of more stages are only cut into runs of stages that follow one another in the order of the graph."""

MAX_LABELS = 256
"""Labels kept per state of finished stages: a dispatch must not wait long for its staircases."""


class Extents:
    """The extents of one plan.

    Args:
        scenario: the app with everything that is known about it, and the machines.
        plan: whose functions hold the stages.
        flows: the routing of its values, stage by stage.
        varies_share: whether an invocation may have another share than its function, where the platform can change it.
    """

    def __init__(self, scenario: Setting, plan: Plan, flows: Routing, *, varies_share: bool = True) -> None:
        self._scenario = scenario
        self._plan = plan
        self._varies_share = varies_share
        self._graph = scenario.app.graph
        self._flows = flows
        self._facts: dict[int, GroupFacts] = {}
        self._functions: dict[int, FunctionPlan] = {}
        self._useful: dict[int, int] = {}
        self._ways: list[tuple[float, int]] = []
        self._side: dict[int, tuple[int, ...]] = {}
        self._built: dict[tuple[int, int], Staircases] = {}
        self._offers: dict[tuple[int, int, int, int], tuple[Offer, ...]] = {}
        self._ancestors = ancestors(self._graph.predecessors)
        self._from = tuple(1 << at | after for at, after in enumerate(descendants(self._graph.predecessors)))
        for function in plan.functions:
            for mask in _extents_of(self._graph, self._graph.mask(function.stages)):
                self._functions[mask] = function
                self._facts[mask] = facts = group_facts(self._scenario, mask)
                self._useful[mask] = useful = useful_batch(facts)
                if function.device_fraction and not facts.extent.scope:
                    # On a device the memory for a batch was planned with the function.
                    self._useful[mask] = min(useful, function.max_batch)
        self._levels = powers_up_to(max(self._useful.values()))
        whole = group_facts(self._scenario, self._graph.all_mask)
        alone = stage_times_us(self._scenario, whole, 1.0, 1.0, max(each.device_fraction for each in plan.functions))
        self.doubt = high_us(self._scenario, whole, alone, 1) / math.fsum(alone) if math.fsum(alone) > 0 else 1.0
        """The high times that offers hold over mean ones."""

    def useful(self, mask: int) -> int:
        """The largest batch of an extent that some stage of it can use."""
        return self._useful[mask]

    def needs(self, mask: int) -> tuple[int, ...]:
        """Numbers of the sources that an extent reads and that may be unknown when its first stage can run."""
        found = self._side.get(mask)
        if found is None:
            part = self._flows.extent(mask)
            before = self._ancestors[part.extent.stages[0]]
            found = self._side[mask] = tuple(
                number
                for number, source in zip(part.inputs, part.extent.inputs, strict=True)
                if any(not before >> stage & 1 for stage in self._graph.producers(source))
            )
        return found

    def offers(self, done: int, head: int, items: int, side: int, slack_us: float = 0.0, tries: int = 0) -> tuple[Offer, ...]:
        """The first steps for ``items`` that wait for stage ``head`` of requests that have run ``done``.

        Args:
            done: mask of stages; those that ``head`` waits for are added, and ``head`` and what follows it left out: of a
                fan-out that has been joined, what nobody reads may still be to come.
            head: a stage.
            items: how many wait, so that no larger batch is offered.
            side: how many instances could share them.
            slack_us: what is offered is the same whatever time is left.
            tries: nor does it depend on what did not fit before.
        """
        done = (done | self._ancestors[head]) & ~self._from[head]
        requests = max(1, int(items / max(self._scenario.workload.items[head], 1e-9))) if self._is_scoped(head) else items
        level = self._levels[0]
        for each in self._levels:
            if each <= requests:
                level = each
        side = 1 if side < 2 else 2 if side < 4 else 4
        key = (done, head, level, side)
        found = self._offers.get(key)
        if found is None:
            offers = [
                Offer(first.step.mask, *self._ways[first.step.payload], each, first.times_us, first.costs)
                for each in self._levels
                if each <= level
                for first in self._staircases(each, side).first_steps(done, head)
            ]
            # Of equals the policy takes the first: the fewest requests that wait for one another, then the fewest hops.
            offers.sort(key=lambda offer: (offer.requests, offer.batch, -offer.mask.bit_count(), offer.mask, offer.cpu_cores))
            found = self._offers[key] = tuple(offers)
        return found

    def _is_scoped(self, stage: int) -> bool:
        return bool(self._graph.stages[stage].scope)

    def _staircases(self, level: int, side: int) -> Staircases:
        found = self._built.get((level, side))
        if found is None:
            steps = {mask: self._steps(mask, level, side) for mask in sorted(self._functions)}
            found = self._built[(level, side)] = build(self._graph.predecessors, steps, max_labels=MAX_LABELS)
        return found

    def _steps(self, mask: int, level: int, side: int) -> list[Step]:
        """The ways to run an extent for ``level`` requests at once, or a part of them in each of several invocations."""
        facts, function, useful = self._facts[mask], self._functions[mask], self._useful[mask]
        items = facts.items * level if facts.extent.scope else float(level)
        scenario = self._scenario
        return [
            self._step(
                mask,
                function,
                cores,
                batch,
                items,
                max(1, concurrency(scenario.nodes, scenario.capabilities, cores, side)),
                level,
            )
            for cores in self._cores(function)
            for batch in (powers_up_to(useful) if facts.extent.scope else (min(level, useful),))
        ]

    def _cores(self, function: FunctionPlan) -> tuple[float, ...]:
        """Shares of an invocation, where the platform can change them: the function's, and others.

        Where presence is paid for, none below the function's, which is its own anyway, and above it those that some stage gains
        by: an invocation then runs on shares of instances that are idle.
        """
        capabilities = self._scenario.capabilities
        if not self._varies_share or capabilities.is_share_hard or capabilities.share_scope != "invocation":
            return (function.cpu_cores,)
        least = capabilities.min_cpu_cores
        most = max((node.usable_cores for node in self._scenario.nodes), default=0.0)
        if most <= 0:
            # While there is no machine nothing runs, on any share.
            return (function.cpu_cores,)
        own = min(function.cpu_cores, most)
        if function.device_fraction:
            # Beside a device cores cost next to nothing and are scarce all the same: whoever takes many lets neighbours wait.
            each_device = int(1 / function.device_fraction + 1e-9)
            beside = min(each_device, sum(each.instances for each in self._plan.functions))
            most = max([own, *(node.usable_cores / max(1, beside * node.gpus) for node in self._scenario.nodes)])
        if self._plan.objective == "provisioned":
            stages = self._graph.mask(function.stages)
            useful = max(model.share_cores[-1] for at, model in enumerate(self._scenario.model.stages) if stages >> at & 1)
            least, most = own, min(most, useful)
        return tuple(sorted({*(share for share in SHARES if least <= share <= most), own}))

    def _step(self, mask: int, function: FunctionPlan, cores: float, batch: int, items: float, able: int, level: int) -> Step:
        scenario, facts = self._scenario, self._facts[mask]
        invocations = max(1.0, math.ceil(items / batch - 1e-9)) if items > 1 else items
        size = items / invocations if items > 1 else 1.0
        rounds = max(1.0, math.ceil(invocations / able - 1e-9)) if facts.extent.scope else 1.0
        times = stage_times_us(scenario, facts, size, cores, function.device_fraction)
        mean_us, most_us = math.fsum(times), high_us(scenario, facts, times, level)
        hop_us = scenario.hop.latency_us(facts.bytes_in * size)
        rate = scenario.prices.usd_per_second(cores, self._memory_mib(function), function.device_fraction)
        # Where presence is paid for, an invocation costs what it takes of the instances and no fee of its own.
        fee = scenario.prices.usd_per_million_requests / 1e6 if self._plan.objective == "billed" else 0.0
        usd = invocations * ((hop_us + mean_us) / 1e6 * rate + fee) / level
        self._ways.append((cores, batch))
        return Step(mask, rounds * (hop_us + most_us), usd, len(self._ways) - 1)

    def _memory_mib(self, function: FunctionPlan) -> float:
        """What an instance of a function holds, whatever an invocation runs of it."""
        mask = self._graph.mask(function.stages)
        return self._scenario.model.memory_mib(mask, self._scenario.hop.process_mib)


def _extents_of(graph: Graph, function: int) -> Iterator[int]:
    """The extents within a function: legal groups that begin at one stage, in whose scope they lie, smallest masks first.

    A group that begins inside a fan-out and reaches beyond it is none: its items are already apart when the first can run.
    """
    stages = [stage for stage in range(len(graph.stages)) if function >> stage & 1]
    if len(stages) > MAX_SUBSETS:
        candidates = sorted(
            sum(1 << stage for stage in stages[low:high])
            for low in range(len(stages))
            for high in range(low + 1, len(stages) + 1)
        )
    else:
        candidates = []
        mask = function & -function
        while mask:
            candidates.append(mask)
            mask = (mask - function) & function
        candidates.sort()
    for mask in candidates:
        entries = [stage for stage in stages if mask >> stage & 1 and not graph.predecessors[stage] & mask]
        if len(entries) != 1 or common_scope(graph, mask) != graph.stages[entries[0]].scope:
            continue
        if explain_illegal(graph, mask) is None:
            yield mask
