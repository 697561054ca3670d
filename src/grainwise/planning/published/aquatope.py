"""One static plan per app by Bayesian optimisation, after Aquatope (ASPLOS'23), reconstructed from its abstract.

A plan is a point: for every function how far up its ladders of CPU and device shares it is. The objective is the logarithm of
the cost with a penalty for the part of the latency that is beyond the SLO. It is looked at as measured
figures would be: at every look each stage is off its model by a part as large as its held-out errors are. A Gaussian process
(Matern 5/2) learns the objective, expected improvement says where to look next. Of what was looked at, the cheapest plan is
the answer that meets the SLO even where every stage is slower by the error that nine in ten measurements stay within.

Reconstructed, not known: the penalty and its weight, the number of looks, the last choice. Aquatope measures real invocations
and models noise and failed measurements with more care. So many instances stand by as its pre-warmed pool would have: the mean
concurrency and some deviations of it, taken as Poisson before anything has been measured.

The library (``bayesian-optimization``) is loaded when a plan is computed. One seed: the same problem gives the same plan on one
machine; its linear algebra may differ between machines in the last bits, and then the plan may.
"""

import importlib
import math
import warnings
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from grainwise.domain.errors import InfeasibleError, PlatformError
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.planning.best import SAME_ATTAINMENT, Groups
from grainwise.planning.problem import PlanTable, Problem
from grainwise.planning.published.answer import functions_of, table_of
from grainwise.planning.published.sizes import Enough, Ladders, Size, as_ours, ladders, mean_concurrency, placed, sized
from grainwise.planning.table import nothing_fits
from grainwise.predictors.analytic import with_errors
from grainwise.predictors.effects import Setting, setting, slowed
from grainwise.predictors.evaluate import Evaluation
from grainwise.predictors.memo import Memo
from grainwise.predictors.station import Station

SEED = 1
POOL_DEVIATIONS = 2.0
"""Standard deviations of the concurrency that the pool holds beyond the mean (``policies.autoscale_pool``)."""

FIRST_LOOKS = 16
"""Points that are drawn before the model is asked, the corners among them."""

LOOKS = 40
"""Points that the model chooses."""

PENALTY = 4.0
"""What a latency without end adds to the logarithm of the cost."""

UNFIT = 3.0
"""What a plan counts as that the nodes do not hold; no cost counts for more."""

_BATCH = 1
_XI = 0.01
_NOISE = 1e-3
"""Variance of the objective by noise, relative to its variance over the points."""

_DRAWN = 2000
"""Points at which expected improvement is looked up. Points are whole steps, so its gradient would lead nowhere."""

_MEAN_TO_DEVIATION = 1.2533
"""A profile states the mean absolute error; of normal errors the standard deviation is so much larger."""

Point = tuple[int, ...]
"""Of every ladder that has more than one share, how far up it is."""


class _Look(Struct, frozen=True):
    """A plan that was looked at, without noise. ``slow_ms`` and ``slow_attainment`` are those with every stage slow."""

    plan: Plan
    slow_ms: float
    slow_attainment: float
    attainment: float
    usd_per_hour: float


def configure(problem: Problem) -> PlanTable:
    """Plan the functions that the problem forces, else every stage as one, by Bayesian optimisation over their sizes.

    Raises:
        InfeasibleError: not even one smallest instance of each function fits the nodes, the forced granularity is none, or a
            stage wants a GPU and no node has one.
        ConfigurationError: the problem holds a value outside its range.
        PlatformError: the library for it is not installed.
    """
    return _configure(problem, holds_the_pool)


def configure_as_ours(problem: Problem) -> PlanTable:
    """The same search where as many instances stand by as our autoscaler would have up.

    Raises:
        InfeasibleError: as ``configure``.
        ConfigurationError: as ``configure``.
        PlatformError: as ``configure``.
    """
    return _configure(problem, as_ours)


def _configure(problem: Problem, enough: Enough) -> PlanTable:
    groups, masks = functions_of(problem)
    search = _Search(groups, masks, enough)
    found, count = search.run()
    how = (
        f"after Aquatope, reconstructed: Bayesian optimisation over sizes, {FIRST_LOOKS} points drawn and {LOOKS} chosen, "
        f"{count} plans that fit"
    )
    if not search.axes:
        how = "after Aquatope, reconstructed: there is one size for each function"
    return table_of(groups, found.plan, how, count)


class _Search:
    def __init__(self, groups: Groups, masks: tuple[int, ...], enough: Enough) -> None:
        self._groups = groups
        self._problem = groups.problem
        self._facts = [groups.facts[mask] for mask in masks]
        self._ladders: list[Ladders] = [ladders(self._problem, facts, _BATCH) for facts in self._facts]
        self._enough = enough
        self._rng = np.random.default_rng(SEED)
        self._slow = with_errors(self._problem, 1)
        self._slow_memo = Memo()
        self._looks: dict[Point, _Look | None] = {}
        self.axes = [
            (at, is_gpu, len(shares))
            for at, ladder in enumerate(self._ladders)
            for is_gpu, shares in ((False, ladder.cpu), (True, ladder.gpu))
            if len(shares) > 1
        ]

    def run(self) -> tuple[_Look, int]:
        """The plan that is chosen, and how many were looked at."""
        smallest = self._look((0,) * len(self.axes)) if all(each.cpu for each in self._ladders) else None
        if smallest is None:
            raise InfeasibleError(nothing_fits(self._groups))
        if self.axes:
            self._optimise(smallest)
        looks = [each for each in self._looks.values() if each is not None]
        return _chosen(looks, self._problem.app.slo.target), len(looks)

    def _optimise(self, smallest: _Look) -> None:
        library = _library()
        bounds = {f"x{axis:03d}": (-0.5, steps - 0.5) for axis, (_, _, steps) in enumerate(self.axes)}
        last = np.array([steps - 1.0 for _, _, steps in self.axes])
        space = library.space(None, bounds, random_state=SEED)
        model = library.process(alpha=_NOISE, seed=SEED)
        improvement = library.improvement(xi=_XI)
        with warnings.catch_warnings():
            # Of few points the length scale is often at its bounds; the next points say more.
            warnings.simplefilter("ignore", library.cut_short)
            for number in range(min(FIRST_LOOKS + LOOKS, math.prod(steps for _, _, steps in self.axes))):
                if number < FIRST_LOOKS:
                    at = self._drawn(number)
                else:
                    at = improvement.suggest(model, space, n_random=_DRAWN, n_smart=0, random_state=SEED + number)
                    at = np.clip(np.rint(at), 0.0, last)
                while at in space:
                    at = self._anywhere()
                space.register(at, -self._objective(at, smallest.usd_per_hour))

    def _drawn(self, number: int) -> NDArray[np.float64]:
        """The corners with all smallest and all largest sizes, then draws up to a level that rises: large sizes seldom fit."""
        if number < 2:
            return np.array([number * (steps - 1.0) for _, _, steps in self.axes])
        return np.floor(self._anywhere() * (number - 1) / (FIRST_LOOKS - 2))

    def _anywhere(self) -> NDArray[np.float64]:
        return np.array([float(self._rng.integers(steps)) for _, _, steps in self.axes])

    def _objective(self, at: NDArray[np.float64], least_usd: float) -> float:
        """Cost and penalty as they would be measured once."""
        look = self._look(tuple(int(step) for step in at))
        if look is None:
            return UNFIT
        slo = self._problem.app.slo
        measured = Evaluation(self._measured(), look.plan)
        latency_ms = measured.latency_ms(slo.target)
        beyond = max(0.0, 1 - slo.latency_ms / latency_ms) if latency_ms > 0 else 0.0
        usd = measured.usd_per_hour(self._problem.objective)
        cost = math.log(usd / least_usd) if usd > 0 and least_usd > 0 else 0.0
        return min(cost, UNFIT) + PENALTY * beyond

    def _measured(self) -> Setting:
        """The problem with every stage off its model by a drawn part of its error."""
        problem = self._problem
        stages = tuple(
            slowed(stage, max(0.5, 1 + _MEAN_TO_DEVIATION * stage.held_out_error_fraction * float(drawn)))
            for stage, drawn in zip(problem.model.stages, self._rng.standard_normal(len(problem.model.stages)), strict=True)
        )
        return msgspec.structs.replace(setting(problem), model=msgspec.structs.replace(problem.model, stages=stages))

    def _look(self, point: Point) -> _Look | None:
        if point not in self._looks:
            plan = self._plan(point)
            self._looks[point] = None if plan is None else self._evaluated(plan)
        return self._looks[point]

    def _plan(self, point: Point) -> Plan | None:
        """The plan of a point; ``None`` where the nodes do not hold it."""
        steps = {(at, is_gpu): step for (at, is_gpu, _), step in zip(self.axes, point, strict=True)}
        functions: list[FunctionPlan] = []
        for at, (facts, ladder) in enumerate(zip(self._facts, self._ladders, strict=True)):
            size = Size(ladder.cpu[steps.get((at, False), 0)], ladder.gpu[steps.get((at, True), 0)])
            function = sized(self._problem, facts, size, _BATCH, self._enough)
            if function is None:
                return None
            functions.append(function)
        return placed(self._problem, tuple(functions))

    def _evaluated(self, plan: Plan) -> _Look:
        slow = Evaluation(self._slow, plan, memo=self._slow_memo)
        expected = self._groups.evaluation(plan)
        return _Look(
            plan,
            slow.latency_ms(self._problem.app.slo.target),
            slow.attainment_at_forecast(),
            expected.attainment_at_forecast(),
            expected.usd_per_hour(self._problem.objective),
        )


def _chosen(looks: list[_Look], target: float) -> _Look:
    """The cheapest that meets the SLO with every stage slow, else as expected; else the nearest to it."""
    safe = [each for each in looks if each.slow_attainment >= target]
    meeting = safe or [each for each in looks if each.attainment >= target]
    if meeting:
        return min(meeting, key=lambda each: (each.usd_per_hour, each.slow_ms, each.plan.id))
    most = max(each.attainment for each in looks)
    if most <= SAME_ATTAINMENT:
        return min(looks, key=lambda each: (each.slow_ms, each.plan.id))
    near = [each for each in looks if each.attainment >= most - SAME_ATTAINMENT]
    return min(near, key=lambda each: (each.usd_per_hour, each.slow_ms, each.plan.id))


def holds_the_pool(station: Station, instances: int) -> bool:
    """Whether instances hold the mean concurrency and ``POOL_DEVIATIONS`` of it; independent invocations make it Poisson."""
    mean = mean_concurrency(station, instances)
    return mean + POOL_DEVIATIONS * math.sqrt(mean) <= instances


class _Library(Struct, frozen=True):
    """Expected improvement, the space of points, a maker of the model, and the warning of a fit that was cut short."""

    improvement: Callable[..., Any]
    space: Callable[..., Any]
    process: Callable[..., Any]
    cut_short: type[Warning]


def _library() -> _Library:
    """What is used of it.

    Raises:
        PlatformError: it is not installed; the message names the extra.
    """
    try:
        acquisition = importlib.import_module("bayes_opt.acquisition")
        parameter = importlib.import_module("bayes_opt.parameter")
        spaces = importlib.import_module("bayes_opt.target_space")
        processes = importlib.import_module("sklearn.gaussian_process")
        exceptions = importlib.import_module("sklearn.exceptions")
    except ImportError as error:
        raise PlatformError(
            "the policy sets after Aquatope plan with the library bayesian-optimization, which is not installed: "
            "pip install 'grainwise[published]', or choose another set"
        ) from error

    def process(*, alpha: float, seed: int) -> Any:
        # All that rounds to a step is that step, so that what was looked at once promises nothing more.
        kernel = parameter.wrap_kernel(processes.kernels.Matern(nu=2.5), transform=np.rint)
        return processes.GaussianProcessRegressor(kernel=kernel, alpha=alpha, normalize_y=True, random_state=seed)

    return _Library(acquisition.ExpectedImprovement, spaces.TargetSpace, process, exceptions.ConvergenceWarning)
