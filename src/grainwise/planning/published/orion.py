"""One static plan for the whole DAG by best-first search over sizes, after Orion (OSDI'22), reconstructed from its abstract.

Every function begins with the smallest size; a step gives one function the next larger CPU share, the next larger share of a
device, or, inside a fan-out, one instance more for its elements. The step that takes most latency off per dollar is followed
first, where none helps the search goes back, and the first plan that meets the SLO is the answer: nothing is planned again.
The latency is the quantile that the SLO asks for, of the distribution along the paths of a request that the evaluator puts
together out of those of the stages.

Reconstructed, not known: the ladder of sizes, latency per dollar as the order, and fewer instances than elements as what Orion
calls bundling (there several workers of a stage share a VM). Orion has no queues, since its platform starts another VM for
every invocation: here so many instances stand by that no more requests wait for one than may be late.
"""

import heapq
import math
from collections.abc import Iterator

from msgspec import Struct

from grainwise.domain.errors import InfeasibleError
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.best import SAME_ATTAINMENT, Groups
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.published.answer import functions_of, table_of
from grainwise.planning.published.sizes import Enough, Ladders, Size, as_ours, ladders, placed, sized
from grainwise.planning.table import nothing_fits
from grainwise.predictors.evaluate import Evaluation
from grainwise.predictors.station import Station

MAX_PLANS = 400
"""Plans that are evaluated at most; a bound on work and not on time, so that the answer is the same on every machine."""

_BATCH = 1

Place = tuple[int, int, int]
"""Of one function: the steps up the CPU ladder, those up the ladder of device shares, and instances beyond the first."""


class _Seen(Struct, frozen=True):
    """A plan that was looked at. ``latency_ms`` is the quantile that the SLO asks for."""

    places: tuple[Place, ...]
    plan: Plan
    evaluation: Evaluation
    latency_ms: float
    attainment: float
    usd_per_hour: float


def configure(problem: Problem) -> PlanTable:
    """Plan the functions that the problem forces, else every stage as one, by best-first search over their sizes.

    Raises:
        InfeasibleError: not even one smallest instance of each function fits the nodes, the forced granularity is none, or a
            stage wants a GPU and no node has one.
        ConfigurationError: the problem holds a value outside its range.
    """
    return _configure(problem, seldom_waits(problem.app.slo.target))


def configure_as_ours(problem: Problem) -> PlanTable:
    """The same search where as many instances stand by as our autoscaler would have up.

    Raises:
        InfeasibleError: as ``configure``.
        ConfigurationError: as ``configure``.
    """
    return _configure(problem, as_ours)


def _configure(problem: Problem, enough: Enough) -> PlanTable:
    groups, masks = functions_of(problem)
    search = _Search(groups, masks, enough)
    found = search.run()
    how = f"after Orion, reconstructed: best-first over sizes from the smallest, {search.looked_at} plans looked at"
    if search.is_cut_off:
        how += " and no more, so another one may be better"
    return table_of(groups, found.plan, how, search.looked_at)


class _Search:
    def __init__(self, groups: Groups, masks: tuple[int, ...], enough: Enough) -> None:
        self._groups = groups
        self._problem = groups.problem
        self._facts = [groups.facts[mask] for mask in masks]
        self._ladders: list[Ladders] = [ladders(self._problem, facts, _BATCH) for facts in self._facts]
        self._functions: dict[tuple[int, Place], FunctionPlan | None] = {}
        self._enough = enough
        self._seen: dict[tuple[Place, ...], _Seen | None] = {}

    @property
    def looked_at(self) -> int:
        return sum(each is not None for each in self._seen.values())

    @property
    def is_cut_off(self) -> bool:
        return len(self._seen) >= MAX_PLANS

    def run(self) -> _Seen:
        start = self._look(((0, 0, 0),) * len(self._facts)) if all(each.cpu for each in self._ladders) else None
        if start is None:
            raise InfeasibleError(nothing_fits(self._groups))
        target = self._problem.app.slo.target
        serial = 0
        # The plan to go on from first: one more step where it helps, by most latency off per dollar, then by most latency off.
        frontier: list[tuple[int, float, float, int, _Seen]] = [(0, 0.0, 0.0, serial, start)]
        while frontier and start.attainment < target and not self.is_cut_off:
            *_, before = heapq.heappop(frontier)
            after = [seen for places in self._steps(before.places) if (seen := self._look(places)) is not None]
            meeting = [each for each in after if each.attainment >= target]
            if meeting:
                return min(meeting, key=lambda each: (each.usd_per_hour, each.latency_ms, each.plan.id))
            for each in after:
                serial += 1
                off_ms = before.latency_ms - each.latency_ms
                more_usd = each.usd_per_hour - before.usd_per_hour
                depth = sum(sum(place) for place in each.places) if off_ms > 0 else 0
                per_usd = off_ms / more_usd if more_usd > 0 else math.copysign(math.inf, off_ms)
                heapq.heappush(frontier, (-depth, -per_usd, -off_ms, serial, each))
        return start if start.attainment >= target else self._nearest()

    def _nearest(self) -> _Seen:
        seen = [each for each in self._seen.values() if each is not None]
        most = max(each.attainment for each in seen)
        near = [each for each in seen if each.attainment >= most - SAME_ATTAINMENT]

        def rank(each: _Seen) -> tuple[float, float, float, str]:
            # Where nothing is in time money saves nothing: the fastest comes nearest.
            cost = each.usd_per_hour if most > SAME_ATTAINMENT else 0.0
            return each.evaluation.overload(), cost, each.latency_ms, each.plan.id

        return min(near, key=rank)

    def _steps(self, places: tuple[Place, ...]) -> Iterator[tuple[Place, ...]]:
        """Every way to give one function more that was not tried yet."""
        for at, (cpu, gpu, more) in enumerate(places):
            ladder = self._ladders[at]
            raised: list[Place] = []
            if cpu + 1 < len(ladder.cpu):
                raised.append((cpu + 1, gpu, more))
            if gpu + 1 < len(ladder.gpu):
                raised.append((cpu, gpu + 1, more))
            if self._side_by_side(places, at) + 1 <= self._facts[at].items:
                raised.append((cpu, gpu, more + 1))
            for place in raised:
                found = (*places[:at], place, *places[at + 1 :])
                if found not in self._seen:
                    yield found

    def _side_by_side(self, places: tuple[Place, ...], at: int) -> int:
        function = self._function(at, places[at])
        return function.instances if function is not None else 1

    def _function(self, at: int, place: Place) -> FunctionPlan | None:
        if (at, place) not in self._functions:
            ladder = self._ladders[at]
            cpu, gpu, more = place
            size = Size(ladder.cpu[cpu], ladder.gpu[gpu])
            base = self._function(at, (cpu, gpu, more - 1)) if more else None
            least = base.instances + 1 if base is not None else 1
            self._functions[at, place] = sized(self._problem, self._facts[at], size, _BATCH, self._enough, at_least=least)
        return self._functions[at, place]

    def _look(self, places: tuple[Place, ...]) -> _Seen | None:
        """Evaluate a plan; ``None`` where the nodes do not hold it."""
        functions = [self._function(at, place) for at, place in enumerate(places)]
        known = tuple(each for each in functions if each is not None)
        plan = placed(self._problem, known) if len(known) == len(functions) else None
        self._seen[places] = None if plan is None else self._evaluated(places, plan)
        return self._seen[places]

    def _evaluated(self, places: tuple[Place, ...], plan: Plan) -> _Seen:
        evaluation = self._groups.evaluation(plan)
        problem = self._problem
        return _Seen(
            places,
            plan,
            evaluation,
            evaluation.latency_ms(problem.app.slo.target),
            evaluation.attainment(problem.workload.rate_per_s),
            evaluation.usd_per_hour(problem.objective),
        )


def seldom_waits(target: float) -> Enough:
    """Instances are enough where the autoscaler would start no more and a wait is no likelier than a request may be late."""

    def enough(station: Station, instances: int) -> bool:
        return as_ours(station, instances) and station.wait.probability <= 1 - target

    return enough
