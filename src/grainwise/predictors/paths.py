"""The latency of a request: the longest path through the functions of a plan, as samples.

Each function adds hops, a wait for one of its instances, a wait for cores that other functions hold, and the run time of its
stages. A stage that two paths share, or that two plans share, is the same column of samples in both. A function that only
serves some branches of a ``choose`` delays only the requests that take one of them.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from grainwise.predictors.branches import Branch, branches
from grainwise.predictors.groups import GroupFacts, Scenario, stage_calls
from grainwise.predictors.memo import Memo
from grainwise.predictors.queueing import Waiting
from grainwise.predictors.samples import SAMPLES, Samples, factor_moments, levels, residuals, waits
from grainwise.predictors.station import Station


class Paths:
    """The functions of one plan as they follow one another.

    Args:
        scenario: app, model and workload.
        facts: the functions; every stage in exactly one, an acyclic quotient.
        memo: of the scenario.

    Raises:
        ValueError: the functions wait for one another.
    """

    def __init__(self, scenario: Scenario, facts: Sequence[GroupFacts], memo: Memo) -> None:
        self._scenario = scenario
        self._facts = facts
        self._count = len(scenario.app.graph.stages)
        self._variant_column = 7 * self._count
        self.before = _predecessors(facts, scenario.app.graph.predecessors)
        self.order = _topological(self.before)
        if memo.taken is None:
            found = branches(scenario.app.graph, scenario.workload)
            memo.taken = [None if branch is None else self._takes(branch) for branch in found]
        self._taken = memo.taken
        self._served = [self._serves(group) for group in facts]

    def latency_us(self, own_us: Sequence[Samples], held: Sequence[Waiting]) -> Samples:
        """Samples of the longest path, in no order.

        Args:
            own_us: what each function adds by itself, in the order of ``facts``; see ``own_us``.
            held: for each of them the wait for cores that others hold.
        """
        finish: list[Samples | float] = [0.0] * len(own_us)
        longest: Samples = np.zeros(SAMPLES)
        for group in self.order:
            first = self._facts[group].extent.stages[0]
            start: Samples | float = 0.0
            for other in self.before[group]:
                start = np.maximum(start, finish[other])
            spent = own_us[group] + waits(held[group], 2 * self._count + first, 4 * self._count + first)
            served = self._served[group]
            finish[group] = start + (spent if served is None else spent * served)
            longest = np.maximum(longest, finish[group])
        return longest

    def own_us(self, group: int, station: Station) -> Samples:
        """Time that one function adds to the requests that it serves, but for the wait for cores that others hold."""
        facts, model = self._facts[group], self._scenario.model
        first = facts.extent.stages[0]
        total = np.full(SAMPLES, station.rounds * station.hop_us)
        total = total + waits(station.wait, self._count + first, 3 * self._count + first)
        for index, executions, max_batch, time in zip(
            facts.extent.stages, facts.executions, facts.max_batches, station.stage_us, strict=True
        ):
            if time <= 0:
                continue
            quantiles = model.stages[index].residual_quantiles
            mean, _ = factor_moments(quantiles)
            calls = stage_calls(executions * station.batch, max_batch)
            # Of invocations side by side the slowest counts; the noise of calls that follow one another averages out.
            factor = residuals(quantiles, index, station.side_by_side) / mean
            ran = (
                self._varied(index, facts, station)
                * station.rounds
                * time
                * (1 + (factor - 1) / math.sqrt(max(1.0, station.rounds * calls)))
            )
            taken = self._taken[index]
            # Alone in its invocation a request pays for its own branch in full; in a batch it pays for what the others take.
            total = total + (ran if taken is None or calls >= 1 or station.batch > 1 else ran * taken / calls)
        return total

    def _varied(self, index: int, facts: GroupFacts, station: Station) -> Samples | float:
        """The work of a stage for each request relative to the mean; in a batch of several requests it evens out."""
        variants = self._scenario.workload.variants
        if not variants:
            return 1.0
        together = max(1.0, station.batch / max(facts.items, 1.0))
        return 1.0 + _beside_mean(self._variant_column, tuple(variant[index] for variant in variants)) / together

    def _takes(self, branch: Branch) -> Samples:
        draws = levels(5 * self._count + branch.draw)
        return ((draws >= branch.low) & (draws < branch.high)).astype(np.float64)

    def _serves(self, facts: GroupFacts) -> Samples | None:
        """1 for the requests that a function serves and 0 for others; ``None`` where it serves all."""
        served: Samples = np.zeros(SAMPLES)
        for index in facts.extent.stages:
            taken = self._taken[index]
            if taken is None:
                return None
            served = np.maximum(served, taken)
        return served


@lru_cache(maxsize=256)
def _beside_mean(column: int, factors: tuple[float, ...]) -> Samples:
    """For each sample the factor of its kind of request, less 1."""
    kinds = (levels(column) * len(factors)).astype(np.int64)
    values: Samples = np.array(factors)[kinds] - 1.0
    values.setflags(write=False)
    return values


def _predecessors(facts: Sequence[GroupFacts], stage_predecessors: tuple[int, ...]) -> list[list[int]]:
    """For each group the groups that it waits for."""
    found: list[list[int]] = []
    for number, group in enumerate(facts):
        needed = 0
        for stage in group.extent.stages:
            needed |= stage_predecessors[stage]
        found.append([other for other, their in enumerate(facts) if other != number and their.mask & needed])
    return found


def _topological(before: Sequence[Sequence[int]]) -> list[int]:
    order: list[int] = []
    while len(order) < len(before):
        ready = [number for number in range(len(before)) if number not in order and all(o in order for o in before[number])]
        if not ready:
            raise ValueError("the functions of the plan wait for one another")
        order.append(ready[0])
    return order
