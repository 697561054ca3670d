"""Quick versions of what ``python -m validation`` does at length."""

import math

import msgspec
import pytest
from validation import campaign, golden, models, queues, recursions, theory
from validation.scenarios import SCENARIOS
from validation.worlds import ArrivalError, Ledger, UnansweredError, app_with, check_arrivals, queueing_app

from grainwise.control.actions import Action, Respond
from grainwise.control.controller import Controller
from grainwise.control.events import Event
from grainwise.simulation.performers import CountingStore


def test_one_server_is_lindleys_and_near_theory() -> None:
    case = queues.CASES[0]
    rate = 0.5 / queues.MEAN_US
    means = []
    for seed in (1, 2, 3):
        run, rejected = theory.observe(case, rate, 2000, seed)
        assert rejected == 0
        assert run.sojourns == recursions.one_server(run.arrived, run.draws[0])
        means.append(sum(run.sojourns[300:]) / len(run.sojourns[300:]))
    assert sum(means) / len(means) == pytest.approx(models.mm1(rate, queues.MEAN_US), rel=0.1)


def test_batch_service_is_the_recursion() -> None:
    case = next(each for each in queues.CASES if each.name.startswith("M/D^"))
    run, _ = theory.observe(case, 0.8 * queues.BATCH / queues.MEAN_US, 2000, 1)
    assert run.sojourns == recursions.bulk(run.arrived, queues.MEAN_US, queues.BATCH)


def test_the_closed_forms_agree_where_they_meet() -> None:
    rate, mean = 0.08, 10.0
    assert models.mmc(rate, mean, 1) == pytest.approx(models.mm1(rate, mean))
    assert models.mg1(rate, mean, 2 * mean**2) == pytest.approx(models.mm1(rate, mean))
    assert models.tandem(rate, (mean,)) == pytest.approx(models.mm1(rate, mean))
    assert models.batch_arrivals_last(rate, 1, mean, 2 * mean**2) == pytest.approx(models.mm1(rate, mean))
    assert models.batch_arrivals_mean(rate / 2, 2, mean, 2 * mean**2) < models.batch_arrivals_last(
        rate / 2, 2, mean, 2 * mean**2
    )
    assert models.bulk_service(rate, mean, 1) == pytest.approx(models.mg1(rate, mean, mean**2), rel=1e-6)
    assert models.mm1_quantile(rate, mean, 1 - math.exp(-1)) == pytest.approx(models.mm1(rate, mean))
    # No load at all: two exponentials, joined.
    assert models.fork_join(1e-12, mean) == pytest.approx(1.5 * mean)


def test_the_two_point_table_has_its_moments() -> None:
    first, second = models.moments(queues.TWO_POINT)
    assert (first, second) == (pytest.approx(1.0), pytest.approx(5.0))


@pytest.mark.parametrize("name", ["failing", "closed-loop"])
def test_a_scenario_repeats_itself_and_no_other(name: str) -> None:
    assert name in SCENARIOS
    once = golden.run(name, 1)
    assert once == golden.run(name, 1)
    assert once.digest != golden.run(name, 2).digest


def test_a_change_of_one_digest_is_told() -> None:
    committed = msgspec.json.decode(golden.COMMITTED.read_bytes(), type=list[golden.Digest])
    assert golden.differences(committed) == []
    other = msgspec.structs.replace(committed[0], digest="0" * 64)
    assert len(golden.differences([other, *committed[1:]])) == 1


@pytest.mark.parametrize("seed", [27, 43, 85, 215, 500])
def test_a_seed_of_the_campaign_holds(seed: int) -> None:
    outcome = campaign.outcome_of(seed)
    assert not outcome.error, outcome.error


def test_a_campaign_repeats_itself() -> None:
    assert campaign.outcome_of(7) == campaign.outcome_of(7)


@pytest.mark.parametrize(("slower", "is_inside"), [(1.0, True), (1.05, False)])
def test_theory_tells_a_world_that_is_too_slow(slower: float, is_inside: bool) -> None:
    case = next(each for each in queues.CASES if each.name == "M/D/1")
    mean_us = queues.MEAN_US * slower
    app = queueing_app(app_with("slow", queues.chain(1)), [mean_us], [queues.CONSTANT], instances=[1])
    slow = msgspec.structs.replace(case, app=lambda: app)
    rate = 0.5 / queues.MEAN_US
    runs = [theory.observe(slow, rate, 1500, seed)[0].sojourns[300:] for seed in range(1, 9)]
    estimate, half = theory.interval([sum(run) / len(run) for run in runs], None, 0.99)
    known = case.known(rate, queues.MEAN_US, 1.0, 1.0)
    assert (abs(estimate - known) <= half) is is_inside


def test_a_world_that_loses_or_moves_an_arrival_is_told() -> None:
    check_arrivals([1, 2, 3], [1, 2, 3])
    with pytest.raises(ArrivalError, match="2 of 3 requests came, and request 2"):
        check_arrivals([1, 3], [1, 2, 3])
    with pytest.raises(ArrivalError, match="3 of 3 requests came, and request 3"):
        check_arrivals([1, 2, 4], [1, 2, 3])
    with pytest.raises(ArrivalError, match="2 of 3 requests came, and request 3"):
        check_arrivals([1, 2], [1, 2, 3])


def test_a_request_without_an_answer_is_told() -> None:
    ledger = Ledger()
    ledger.arrived, ledger.ended = [10, 20], {1: 15}
    with pytest.raises(UnansweredError, match="1 of 2 requests have an answer, 0 were refused; 2 has none"):
        ledger.sojourns()


@pytest.mark.parametrize(("times", "claim"), [(0, "1: requests [5] are lost"), (2, "is released twice")])
def test_the_campaign_finds_an_answer_that_is_not_given_once(times: int, claim: str, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Controller.handle

    def faulty(self: Controller, event: Event, now: int) -> list[Action]:
        actions = handle(self, event, now)
        of = [isinstance(action, Respond) and action.request == 5 for action in actions]
        return [action for action, is_fifth in zip(actions, of, strict=True) for _ in range(times if is_fifth else 1)]

    monkeypatch.setattr(Controller, "handle", faulty)
    assert claim in campaign.outcome_of(7).error


def test_the_campaign_finds_bytes_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CountingStore, "release", lambda self, handles: None)
    assert "bytes are live after the last request" in campaign.outcome_of(7).error
