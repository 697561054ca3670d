"""A contest of evaluators: each judges the candidates of held-out settings and picks one; a long simulated run is the truth.

An evaluator sees the planning problem alone: run times as a profile has them, maybe wrong, the mean request, the rate and the
burstiness. The truth is another run of the setting itself, with its kinds of requests, its network and its own arrivals.
"""

import time
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import Struct

from grainwise.domain.plan import Plan, render_grain
from grainwise.planning.judged import decide
from grainwise.predictors.evaluator import Band, Judgement, PlanEvaluator
from grainwise.simulation.settings import Setting, wrong
from grainwise.simulation.sweep import Cell, best, candidates, is_saturated, sweep
from grainwise.simulation.truth import SELDOM, chance_as_good, is_within, worse_by
from grainwise.workloads.integers import derive_seed

REPLICATIONS = 4
"""Runs that tell the truth of a candidate: what autoscaling costs differs much from run to run."""

CONSTANTS = ("constant", "fused", "split")
"""Entrants that look at nothing: the granularity that was best most often in training, all in one function, each in its own."""

OTHER_RUNS = "other runs"
"""An entrant that knows all: it decides by as many other runs of the setting itself as the truth has. What it misses is the
noise of the truth, which nobody can foresee."""


class Answer(Struct, frozen=True):
    """What one entrant made of one setting with run times that are wrong by ``wrong_fraction``.

    Errors are the mean absolute ones over all candidates: of attainment as a fraction, of cost relative to the simulated one;
    ``None`` for entrants that predict nothing. ``shortfall`` is by how much the pick attains less than it should: than the
    target, or than the best candidate where that misses it too. ``dearer_fraction`` is by how much it costs more than the best.
    ``chance_as_good`` is the fraction of draws from the runs of the truth in which it is as good as the best, see ``truth``.
    """

    entrant: str
    wrong_fraction: float
    pick: str
    is_best: bool
    shortfall: float
    dearer_fraction: float
    chance_as_good: float = 1.0
    seconds: float = 0.0
    attainment_error: float | None = None
    cost_error: float | None = None
    handed_on: int = 0

    @property
    def is_within(self) -> bool:
        """Whether the pick is as good as the best one, within the tolerances."""
        return is_within(self.shortfall, self.dearer_fraction)

    @property
    def is_not_ruled_out(self) -> bool:
        """Whether it is as good as the best one, or the truth has too few runs to say that it is not."""
        return self.is_within or self.chance_as_good >= SELDOM


class Contestant(Struct, frozen=True):
    """A candidate as it turned out."""

    grain: str
    attainment: float
    usd_per_hour: float


class Round(Struct, frozen=True):
    """One setting: what it is, how its candidates turned out, and what each entrant picked.

    ``is_told``: whether the runs of the truth say surely enough which candidate is the best, or as good.
    """

    setting: int
    source: str
    load_fraction: float
    slo_factor: float
    target: float
    objective: str
    is_saturated: bool
    is_told: bool
    best: str
    candidates: tuple[Contestant, ...]
    answers: tuple[Answer, ...]

    def at(self, wrong_fraction: float) -> "Round":
        """The same with the answers for run times that are wrong by this much alone."""
        own = tuple(answer for answer in self.answers if answer.wrong_fraction == wrong_fraction)
        return msgspec.structs.replace(self, answers=own)


class Standing(Struct, frozen=True):
    """One entrant over many settings at one error of the run times. Means; ``decision_s`` is the median."""

    entrant: str
    wrong_fraction: float
    settings: int
    picks_best: float
    within: float
    not_ruled_out: float
    shortfall: float
    dearer_fraction: float
    decision_s: float
    attainment_error: float | None
    cost_error: float | None
    handed_on: float


def play(
    setting: Setting,
    evaluators: Sequence[PlanEvaluator],
    constants: Mapping[str, str],
    *,
    requests: int,
    wrong_fractions: Sequence[float] = (0.0,),
) -> Round:
    """Let everybody pick in one setting.

    Args:
        setting: held out: of no app that anybody was trained on.
        evaluators: who judges.
        constants: by number of stages the granularity of the entrant ``constant``, see ``learning.constants``.
        requests: about how many requests each of the ``REPLICATIONS`` runs has that tell the truth.
        wrong_fractions: by how much the run times that evaluators are given are wrong; the truth stays.

    Raises:
        InfeasibleError: no plan of any granularity fits the machines.
        CapacityError: a plan does not become ready on them.
        ArtifactError: a predictor was trained for another app.
    """
    options = candidates(setting.problem)
    cells = sweep(setting, requests=requests, replications=REPLICATIONS)
    plans = [option.plan for option in options]
    answers: list[Answer] = []
    for fraction in wrong_fractions:
        sample = wrong(setting.sample, fraction, derive_seed(setting.seed, "wrong")) if fraction else setting.sample
        problem = msgspec.structs.replace(setting, sample=sample).problem
        for evaluator in evaluators:
            began = time.perf_counter()
            judgements = evaluator.judge(problem, plans)
            seconds = time.perf_counter() - began
            answers.append(
                _answer(evaluator.name, fraction, cells, plans, decide(judgements, cells[0].target).winner, seconds, judgements)
            )
    others = sweep(
        msgspec.structs.replace(setting, seed=derive_seed(setting.seed, OTHER_RUNS)),
        requests=requests,
        replications=REPLICATIONS,
    )
    known = [_known(cell) for cell in others]
    at = decide(known, cells[0].target).winner
    answers.extend(_answer(OTHER_RUNS, fraction, cells, plans, at, 0.0, known) for fraction in wrong_fractions)
    for name in CONSTANTS:
        at = _constant(name, cells, constants)
        answers.extend(_answer(name, fraction, cells, plans, at) for fraction in wrong_fractions)
    return Round(
        setting=setting.number,
        source=setting.sample.source,
        load_fraction=setting.load_fraction,
        slo_factor=setting.slo_factor,
        target=cells[0].target,
        objective=setting.objective,
        is_saturated=is_saturated(cells),
        is_told=chance_as_good(cells, best(cells)) > 1 - SELDOM,
        best=render_grain(plans[best(cells)].grain),
        candidates=tuple(
            Contestant(render_grain(plan.grain), cell.outcome.attainment, cell.usd_per_hour)
            for plan, cell in zip(plans, cells, strict=True)
        ),
        answers=tuple(answers),
    )


def standings(rounds: Sequence[Round]) -> tuple[Standing, ...]:
    """Every entrant at every error of the run times, in the order in which they first come."""
    groups: dict[tuple[float, str], list[Answer]] = {}
    for each in rounds:
        for answer in each.answers:
            groups.setdefault((answer.wrong_fraction, answer.entrant), []).append(answer)
    return tuple(_standing(own) for _, own in sorted(groups.items(), key=lambda item: item[0][0]))


def _standing(answers: Sequence[Answer]) -> Standing:
    count = len(answers)
    times = sorted(answer.seconds for answer in answers)
    return Standing(
        entrant=answers[0].entrant,
        wrong_fraction=answers[0].wrong_fraction,
        settings=count,
        picks_best=sum(answer.is_best for answer in answers) / count,
        within=sum(answer.is_within for answer in answers) / count,
        not_ruled_out=sum(answer.is_not_ruled_out for answer in answers) / count,
        shortfall=sum(answer.shortfall for answer in answers) / count,
        dearer_fraction=sum(answer.dearer_fraction for answer in answers) / count,
        decision_s=times[count // 2],
        attainment_error=_mean([answer.attainment_error for answer in answers]),
        cost_error=_mean([answer.cost_error for answer in answers]),
        handed_on=sum(answer.handed_on > 0 for answer in answers) / count,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _answer(
    entrant: str,
    fraction: float,
    cells: Sequence[Cell],
    plans: Sequence[Plan],
    at: int,
    seconds: float = 0.0,
    judgements: Sequence[Judgement] = (),
) -> Answer:
    shortfall, dearer = worse_by([(cell.outcome.attainment, cell.usd_per_hour) for cell in cells], cells[0].target, at)
    attainment_error = cost_error = None
    if judgements:
        pairs = list(zip(judgements, cells, strict=True))
        attainment_error = sum(abs(one.attainment.value - cell.outcome.attainment) for one, cell in pairs) / len(pairs)
        cost_error = sum(abs(one.usd_per_hour.value / cell.usd_per_hour - 1) for one, cell in pairs if cell.usd_per_hour) / len(
            pairs
        )
    return Answer(
        entrant=entrant,
        wrong_fraction=fraction,
        pick=render_grain(plans[at].grain),
        is_best=at == best(cells),
        shortfall=shortfall,
        dearer_fraction=dearer,
        chance_as_good=chance_as_good(cells, at),
        seconds=seconds,
        attainment_error=attainment_error,
        cost_error=cost_error,
        handed_on=0 if entrant == OTHER_RUNS else sum(one.by != entrant for one in judgements),
    )


def _known(cell: Cell) -> Judgement:
    """What runs of the setting itself came to, as a judgement without a doubt."""
    attainment, usd = cell.outcome.attainment, cell.usd_per_hour
    return Judgement(Band(attainment, attainment, attainment), Band(usd, usd, usd), "rollout")


def _constant(name: str, cells: Sequence[Cell], constants: Mapping[str, str]) -> int:
    """The place of a constant entrant's pick; where its granularity is no candidate, that of all stages in one function."""
    groups = [cell.pattern.count("|") + 1 for cell in cells]
    fused, split = groups.index(min(groups)), groups.index(max(groups))
    if name == "fused":
        return fused
    if name == "split":
        return split
    wanted = constants.get(str(cells[0].stages), "")
    return next((at for at, cell in enumerate(cells) if cell.pattern == wanted), fused)
