"""Planning again in a run, with the forecast in steps: the same question is answered once for all seeds of a way."""

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

from grainwise.planning.problem import PlanTable, Problem
from grainwise.predictors.workload import Workload
from grainwise.simulation.planners import plan
from reproduce.granularity.grid import Planning

_MOST = 512


class Answers:
    """A planner whose forecasts are rounded, so that it is asked less often than a run asks it.

    Rates are rounded to powers of ``1 + rate_step`` and the squared coefficient of variation of gaps to multiples of
    ``scv_step``; counts and sizes of items that are within ``same_fraction`` of the first forecast's are taken for those, since
    the work of a mean request never changes in the study. A rollout goes on from the controller's memory, so nothing of its
    problems is rounded or kept.
    """

    def __init__(self, steps: Planning, first: Sequence[tuple[str, Workload]]) -> None:
        self._steps = steps
        self._first = dict(first)
        self._rates = _ladder(steps.rate_step)
        self._known: dict[Problem, PlanTable] = {}
        self.asked = self.answered = 0

    def __call__(self, problem: Problem) -> PlanTable:
        """Answer a problem.

        Raises:
            InfeasibleError: no plan fits the machines.
        """
        self.asked += 1
        if problem.evaluator == "rollout":
            self.answered += 1
            return plan(problem)
        key = self._key(problem)
        found = self._known.get(key)
        if found is None:
            self.answered += 1
            if len(self._known) >= _MOST:
                self._known.clear()
            found = self._known[key] = plan(key)
        return msgspec.structs.replace(found, problem=problem.number)

    def _key(self, problem: Problem) -> Problem:
        workload, step = problem.workload, self._steps.scv_step
        first = self._first.get(problem.app.name, workload)
        rounded = msgspec.structs.replace(
            workload,
            items=self._near(workload.items, first.items),
            item_size=self._near(workload.item_size, first.item_size),
            output_bytes=self._near(workload.output_bytes, first.output_bytes),
            input_bytes=self._near(workload.input_bytes, first.input_bytes),
            rate_per_s=self._rounded(workload.rate_per_s),
            arrival_scv=max(step, round(workload.arrival_scv / step) * step),
        )
        return msgspec.structs.replace(problem, number=0, now=0, snapshot=b"", workload=rounded)

    def _near(self, seen: tuple[float, ...], first: tuple[float, ...]) -> tuple[float, ...]:
        most = self._steps.same_fraction
        return tuple(old if abs(new - old) <= most * old else new for new, old in zip(seen, first, strict=True))

    def _rounded(self, rate: float) -> float:
        at = bisect_left(self._rates, rate)
        near = self._rates[max(0, at - 1) : at + 1]
        return min(near, key=lambda each: abs(each - rate)) if rate > self._rates[0] else rate


def _ladder(step: float) -> list[float]:
    """Powers of ``1 + step`` from a ten-thousandth on."""
    found = [1e-4]
    while found[-1] < 1e6:
        found.append(found[-1] * (1 + step))
    return found
