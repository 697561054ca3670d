"""Settings are drawn from their seed and number; a sweep simulates their candidates; a contest holds picks against them."""

from functools import cache

import msgspec
import pytest

from grainwise.domain.errors import ConfigurationError
from grainwise.planning.granularity import granularities
from grainwise.planning.judged import decide
from grainwise.predictors.analytic import Analytic
from grainwise.predictors.evaluator import Band, Judgement
from grainwise.predictors.features import FEATURES
from grainwise.simulation.contest import CONSTANTS, OTHER_RUNS, play, standings
from grainwise.simulation.settings import MOST_PER_S, Setting, draw_setting, wrong
from grainwise.simulation.sweep import Cell, Outcome, best, is_saturated, sweep

REQUESTS = 40
SEED = 3


def small() -> Setting:
    """The first setting of three stages with a low rate: one that is simulated quickly."""
    drawn = (draw_setting(number, SEED, "held out") for number in range(100))
    return next(each for each in drawn if len(each.spec.graph.stages) == 3 and each.rate_per_s < 20)


@cache
def swept() -> tuple[Cell, ...]:
    return sweep(small(), requests=REQUESTS)


def cell(attainment: float, usd: float, target: float = 0.9, pattern: str = "0+1+2") -> Cell:
    return msgspec.structs.replace(swept()[0], target=target, pattern=pattern, outcome=Outcome(attainment, usd, usd))


def test_a_setting_depends_on_its_seed_number_and_purpose_alone() -> None:
    drawn = draw_setting(4, SEED, "training")
    assert draw_setting(4, SEED, "training") == drawn
    others = [draw_setting(4, SEED, "held out"), draw_setting(5, SEED, "training"), draw_setting(4, SEED + 1, "training")]
    assert all(each.sample.model != drawn.sample.model for each in others)


def test_settings_are_varied_and_within_what_they_promise() -> None:
    drawn = [draw_setting(number, SEED, "training") for number in range(60)]
    assert {each.sample.source for each in drawn} == {"made chain", "made diamond", "made fan-out"}
    assert {len(each.spec.graph.stages) for each in drawn} == {3, 4, 5}
    assert {type(each.arrivals).__name__ for each in drawn} == {"Poisson", "Gamma", "OnOff"}
    assert {each.cluster.capabilities.is_share_hard for each in drawn} == {False, True}
    assert {each.objective for each in drawn} == {"provisioned", "billed"}
    assert len({len(each.cluster.nodes) for each in drawn}) > 2
    for each in drawn:
        assert 0 < each.load_fraction <= 0.8
        assert 0 < each.rate_per_s <= MOST_PER_S
        assert len(list(granularities(each.spec.graph))) >= 4


def test_settings_of_profiled_apps_alone_need_one() -> None:
    with pytest.raises(ConfigurationError, match="no app to draw settings of"):
        draw_setting(0, SEED, "training", (), 0.0)


def test_a_wrong_profile_is_off_by_its_fraction_at_every_stage() -> None:
    sample = small().sample
    off = wrong(sample, 0.2, 5)
    ratios = {
        round(theirs.per_item_us / ours.per_item_us, 9)
        for theirs, ours in zip(off.model.stages, sample.model.stages, strict=True)
    }
    assert ratios <= {0.8, 1.2}
    assert off.residuals == sample.residuals
    assert wrong(sample, 0.2, 5) == off


def test_a_sweep_simulates_every_candidate_and_says_the_same_twice() -> None:
    assert 2 <= len(swept()) <= 8
    assert {"0+1+2", "0 | 1 | 2"} <= {each.pattern for each in swept()}
    for each in swept():
        assert len(each.features) == len(FEATURES)
        assert 0 <= each.outcome.attainment <= 1
        assert each.usd_per_hour > 0
    assert sweep(small(), requests=REQUESTS)[:2] == swept()[:2]


def test_the_best_is_the_cheapest_that_reaches_the_target_else_what_attains_most() -> None:
    assert best([cell(0.95, 3), cell(0.91, 2), cell(0.99, 2.5), cell(0.8, 1)]) == 1
    assert best([cell(0.5, 1), cell(0.7, 3), cell(0.7, 2)]) == 2
    assert is_saturated([cell(0.1, 1), cell(0.4, 1)])
    assert not is_saturated([cell(0.1, 1), cell(0.6, 1)])


def judged(attainment: float, usd: float, width: float = 0.0) -> Judgement:
    return Judgement(
        Band(attainment, attainment - width, attainment + width), Band(usd, usd - width, usd + width), "analytic"
    )  # fmt: skip


def test_a_decision_takes_the_cheapest_that_reaches_the_target() -> None:
    assert decide([judged(0.99, 3), judged(0.95, 2), judged(0.8, 1)], 0.9).winner == 1
    assert decide([judged(0.5, 3), judged(0.7, 2), judged(0.6, 1)], 0.9).winner == 1
    # Of the same cost within the error the first in the order of the search.
    assert decide([judged(0.99, 1.01, 0.05), judged(0.99, 1.0, 0.05)], 0.9).winner == 0
    assert decide([judged(0.695, 1, 0.05), judged(0.7, 2, 0.05)], 0.9).winner == 0


class Cheapest:
    """Believes that everything attains everything and that fewer functions are cheaper."""

    name = "rollout"

    def judge(self, scenario, plans, snapshot=b""):
        return tuple(judged(1.0, len(plan.functions)) for plan in plans)


def test_a_contest_holds_every_pick_against_the_simulated_best() -> None:
    setting = small()
    found = play(setting, [Analytic(), Cheapest()], {"3": "0+1 | 2"}, requests=REQUESTS, wrong_fractions=(0.0, 0.5))
    assert len(found.answers) == 2 * (3 + len(CONSTANTS))
    assert len(found.candidates) == len(swept())
    by_name = {answer.entrant: answer for answer in found.answers if answer.wrong_fraction == 0.5}
    assert by_name["rollout"].pick == by_name["fused"].pick == "s0+s1+s2"
    assert by_name["split"].pick == "s0 | s1 | s2"
    assert by_name["rollout"].attainment_error is not None
    assert by_name["fused"].attainment_error is None
    # The truth differs from itself by chance, however well it is known.
    assert by_name[OTHER_RUNS].attainment_error is not None
    for answer in found.answers:
        assert answer.shortfall >= 0
        assert answer.dearer_fraction >= 0
        if answer.is_best:
            assert answer.is_within
    table = standings([found, found])
    assert [each.wrong_fraction for each in table] == [0.0] * 6 + [0.5] * 6
    assert all(each.settings == 2 for each in table)
    assert len(found.at(0.5).answers) == 6
