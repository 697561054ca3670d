import re
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from grainwise import App, Batch, Slo
from grainwise.control.actions import (
    Invoke,
    KillInstance,
    LoadStages,
    Reject,
    Respond,
    StartInstance,
    StopInstance,
)
from grainwise.control.events import (
    AppDeployed,
    InstanceFailed,
    InstanceReady,
    InstanceStopped,
    InvocationDone,
    InvocationFailed,
    ItemRange,
    ItemResult,
    ModelReady,
    PlanFailed,
    PlanRequested,
    RequestArrived,
    RequestCancelled,
    StagesLoaded,
    StageSpan,
    Wake,
)
from grainwise.domain.because import Because
from grainwise.domain.config import AppConfig
from grainwise.domain.machine import Capabilities, HopModel, Prices
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.predictors.latency import ColdStartModel, LatencyModel, StageModel
from grainwise.predictors.workload import Workload
from grainwise.telemetry.accuracy import StageAccuracy
from grainwise.telemetry.http import HttpCounters
from grainwise.telemetry.metrics import Metrics
from grainwise.telemetry.recorder import MAX_EXTENTS, OTHER, Recorder

WHY = Because("test")
PRICES = Prices("test", usd_per_core_hour=3600.0, usd_per_gib_hour=0.0, usd_per_million_requests=1e6)
MEMORY_PRICES = Prices("test", usd_per_core_hour=0.0, usd_per_gib_hour=3600.0)
NO_MODEL = LatencyModel((), ColdStartModel(0, 0), "test", "test")


def deployed(model: LatencyModel = NO_MODEL, prices: Prices = PRICES) -> AppDeployed:
    app = App("pair", slo=Slo(latency_ms=100))

    @app.stage
    def first(texts: Batch[str]) -> Batch[str]:
        return texts

    @app.stage
    def second(texts: Batch[str]) -> Batch[str]:
        return texts

    @app.flow
    def flow(text: str) -> str:
        return second(first(text))

    return AppDeployed(
        app.spec(b"pair"),
        model,
        HopModel(0, 0, 0, 0, 0),
        Workload(1, (1, 1), (1, 1), (1, 1), (1,)),
        Plan("pair", (FunctionPlan(("first", "second"), 1.0),)),
        Capabilities("test", "none", "invocation", False, 0.1, 1 << 30),
        prices,
        AppConfig(),
    )


class Told:
    """A recorder that is told a story, and its exposition as numbers."""

    def __init__(self, event: AppDeployed | None = None) -> None:
        self.recorder = Recorder()
        self.http = HttpCounters()
        self.metrics = Metrics(self.recorder, self.http, payload_bytes=lambda: 17)
        self.tell(event or deployed(), at=0)

    def tell(self, event, *actions, at: int) -> None:
        self.recorder.observe(event, list(actions), at)

    def values(self) -> dict[str, float]:
        _, body = self.metrics.expose()
        return {
            sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }


def start(instance: int, stages: int = 3) -> StartInstance:
    return StartInstance(instance, "pair", stages, "here", 0.5, 100.0, WHY)


def invoke(invocation: int, instance: int, extent: int = 3, items: int = 1) -> Invoke:
    ranges = tuple(ItemRange(number, (), 0, 1) for number in range(items))
    return Invoke(invocation, instance, extent, ranges, (), 0.5, 1000, WHY)


def test_requests_are_counted_by_how_they_ended():
    told = Told()
    for number in range(5):
        told.tell(RequestArrived(number, "pair", ()), at=1_000_000)
    assert told.values()["grainwise_requests_in_flight pair"] == 5
    told.tell(Wake(), Respond(0, ()), at=1_050_000)
    told.tell(Wake(), Respond(1, ()), at=1_150_000)
    told.tell(Wake(), Reject(2, "deadline", WHY), Reject(3, "queue_full", WHY), at=1_200_000)
    told.tell(RequestCancelled(4), at=1_300_000)
    told.tell(RequestCancelled(0), Respond(1, ()), at=1_300_000)
    values = told.values()
    assert values["grainwise_requests_in_flight pair"] == 0
    assert {name: value for name, value in values.items() if name.startswith("grainwise_requests_total")} == {
        "grainwise_requests_total pair ok": 2,
        "grainwise_requests_total pair deadline": 1,
        "grainwise_requests_total pair queue_full": 1,
        "grainwise_requests_total pair cancelled": 1,
    }
    assert values["grainwise_requests_within_slo_total pair"] == 1
    assert values["grainwise_request_seconds_count pair"] == 2
    assert values["grainwise_request_seconds_sum pair"] == pytest.approx(0.2)
    assert values["grainwise_request_seconds_bucket pair 0.05"] == 1
    assert values["grainwise_request_seconds_bucket pair 0.15"] == 2
    assert values["grainwise_request_seconds_bucket pair +Inf"] == 2


def test_instances_are_seen_in_their_states():
    told = Told()
    told.tell(Wake(), start(1), start(2, stages=1), at=0)
    assert told.values()["grainwise_instances pair first+second starting"] == 1
    told.tell(InstanceReady(1, 10_000, 200_000, 30_000, 1_000, 50.0), at=500_000)
    told.tell(InstanceReady(2, 10_000, 200_000, 30_000, 1_000, 50.0), LoadStages(2, 2, WHY), at=500_000)
    values = told.values()
    assert values["grainwise_instances pair first+second ready"] == 1
    assert values["grainwise_instances pair first loading"] == 1
    assert values["grainwise_cold_starts_total pair"] == 2
    assert values["grainwise_cold_start_seconds_total pair import"] == pytest.approx(0.4)
    told.tell(StagesLoaded(2, 2, 5, 50.0), StopInstance(1, WHY), at=600_000)
    values = told.values()
    assert values["grainwise_instances pair first+second ready"] == 1
    assert values["grainwise_instances pair first+second stopping"] == 1
    assert values["grainwise_stage_loads_total pair"] == 1
    told.tell(InstanceStopped(1), at=700_000)
    # Who was silent while idle is ended by the runtime, and nothing else is heard of it.
    told.tell(InstanceFailed(2, "hung"), at=700_000)
    values = told.values()
    assert told.recorder.instances == {}
    assert values["grainwise_instance_failures_total pair hung"] == 1
    assert not [name for name in values if name.startswith("grainwise_instances ")]


def test_invocations_are_counted_by_extent_and_stages_by_their_spans():
    told = Told()
    told.tell(Wake(), start(1), at=0)
    told.tell(Wake(), invoke(1, 1, extent=3, items=3), at=1_000_000)
    spans = (StageSpan(0, 3, 3.0, 2_000), StageSpan(1, 3, 3.0, 4_000, raised=True))
    told.tell(InvocationDone(1, 1, (ItemResult(()),), 6_000, spans), invoke(2, 1, extent=1), at=1_010_000)
    told.tell(InvocationFailed(2, 1, "backpressure"), at=1_020_000)
    values = told.values()
    assert values["grainwise_invocations_total pair first+second"] == 1
    assert values["grainwise_invocations_total pair first"] == 1
    assert values["grainwise_invocation_busy_seconds_total pair first+second"] == pytest.approx(0.01)
    assert values["grainwise_invocation_items_sum pair"] == 4
    assert values["grainwise_stage_items_total pair second"] == 3
    assert values["grainwise_stage_seconds_total pair second"] == pytest.approx(0.004)
    assert values["grainwise_stage_errors_total pair second"] == 1
    assert values["grainwise_stage_errors_total pair first"] == 0


def test_who_hangs_in_an_invocation_is_up_until_its_process_has_ended():
    told = Told()
    told.tell(Wake(), start(1), at=0)
    told.tell(Wake(), invoke(1, 1), at=1_000_000)
    told.tell(Wake(), KillInstance(1, WHY), at=2_000_000)
    assert told.values()["grainwise_instances pair first+second stopping"] == 1
    told.tell(InstanceStopped(1), at=3_000_000)
    assert told.recorder.instances == {}
    assert not told.recorder._invocations
    assert told.values()["grainwise_cost_usd_total pair provisioned"] == pytest.approx(1.5)


def test_the_function_s_share_is_provisioned_and_the_invocation_s_is_billed_whatever_it_started_with():
    told = Told()
    told.tell(Wake(), StartInstance(1, "pair", 3, "here", 0.1, 100.0, WHY, share=2.0), at=0)
    told.tell(Wake(), invoke(1, 1), at=4_000_000)
    told.tell(InvocationDone(1, 1, (), 1, ()), at=6_000_000)
    values = told.values()
    assert values["grainwise_cost_usd_total pair provisioned"] == pytest.approx(6 * 2.0)
    assert values["grainwise_cost_usd_total pair billed"] == pytest.approx(2 * 0.5 + 1.0)


def test_a_load_raises_the_memory_that_is_paid_for_from_then_on():
    stage = StageModel(0, 0, 0, (1.0,), (1.0,), (1.0,) * 7, 0.1, 1024.0, 0, 0)
    told = Told(deployed(model=LatencyModel((stage, stage), ColdStartModel(0, 0), "test", "test"), prices=MEMORY_PRICES))
    told.tell(Wake(), StartInstance(1, "pair", 1, "here", 0.5, 1024.0, WHY), at=0)
    told.tell(StagesLoaded(1, 2, 5, 2048.0, "no memory"), at=1_000_000)
    told.tell(StagesLoaded(1, 3, 5, 2048.0), at=2_000_000)
    told.tell(Wake(), invoke(1, 1), at=3_000_000)
    told.tell(InvocationDone(1, 1, (), 1, ()), at=4_000_000)
    values = told.values()
    assert values["grainwise_cost_usd_total pair provisioned"] == pytest.approx(2 * 1.0 + 2 * 2.0)
    assert values["grainwise_cost_usd_total pair billed"] == pytest.approx(2.0)


def test_predictions_are_compared_with_the_spans_of_the_share_that_an_invocation_had():
    stage = StageModel(1000, 0, 0, (1.0,), (1.0,), (1.0,) * 7, 0.1, 10.0, 0, 0)
    model = LatencyModel((stage, stage), ColdStartModel(0, 0), "test", "test")
    told = Told(deployed(model))
    told.tell(Wake(), start(1), at=0)
    for number in range(60):
        # On half a core 1 ms takes 2 ms.
        told.tell(Wake(), invoke(number, 1), at=number)
        spans = (StageSpan(0, 1, 1.0, 2000), StageSpan(1, 1, 1.0, 6000), StageSpan(1, 1, 1.0, 99, raised=True))
        told.tell(InvocationDone(number, 1, (), 1, spans), at=number)
    first, second = told.recorder.apps["pair"].stage_accuracy()
    assert first == StageAccuracy("first", 60, 1.0, 0.0, False)
    assert second == StageAccuracy("second", 60, 3.0, 2.0, True)
    values = told.values()
    assert values["grainwise_stage_prediction_ratio pair second"] == 3.0
    assert values["grainwise_stage_prediction_error pair second"] == 2.0
    assert values["grainwise_profile_stale pair"] == 1
    told.tell(ModelReady("pair", model), at=100)
    assert [each.calls for each in told.recorder.apps["pair"].stage_accuracy()] == [0, 0]
    assert told.values()["grainwise_profile_stale pair"] == 0


def test_both_costs_follow_the_catalogue():
    told = Told()
    told.tell(Wake(), start(1), at=0)
    told.tell(Wake(), invoke(1, 1), at=1_000_000)
    told.tell(Wake(), invoke(2, 1), at=1_000_000)
    told.tell(InvocationDone(1, 1, (), 1, ()), at=3_000_000)
    values = told.values()
    # Half a core at a dollar per core-second, and a dollar per invocation.
    assert values["grainwise_cost_usd_total pair provisioned"] == pytest.approx(1.5)
    assert values["grainwise_cost_usd_total pair billed"] == pytest.approx(1.0 + 1.0)
    told.tell(InstanceFailed(1, "lost"), at=5_000_000)
    told.tell(Wake(), at=9_000_000)
    values = told.values()
    assert values["grainwise_cost_usd_total pair provisioned"] == pytest.approx(2.5)
    assert values["grainwise_cost_usd_total pair billed"] == pytest.approx(2.0 + 2.0 + 1.0)


def test_plans_and_requests_for_them_are_counted():
    told = Told()
    told.tell(PlanRequested("pair", "admin"), at=1)
    told.tell(PlanFailed("pair", 1, "no"), at=2)
    values = told.values()
    assert values["grainwise_plan_requests_total pair"] == 1
    assert values["grainwise_plans_total pair failed"] == 1


def test_http_responses_and_payload_bytes_are_exposed():
    told = Told()
    told.http.count("infer", 200, 100, 10)
    told.http.count("infer", 200, 100, 10)
    told.http.count("plain", 429)
    values = told.values()
    assert values["grainwise_http_responses_total infer 200"] == 2
    assert values["grainwise_http_responses_total plain 429"] == 1
    assert values["grainwise_http_received_bytes_total"] == 200
    assert values["grainwise_http_sent_bytes_total"] == 20
    assert values["grainwise_payload_bytes"] == 17


def test_what_the_recorder_does_not_know_is_ignored():
    told = Told()
    told.tell(RequestArrived(1, "other", ()), Respond(9, ()), invoke(1, 99), at=1)
    told.tell(InvocationDone(1, 99, (), 1, ()), at=2)
    told.tell(InstanceStopped(99), StartInstance(5, "other", 1, "here", 1, 1, WHY), at=3)
    assert told.recorder.instances == {}


def test_extents_beyond_the_bound_share_a_series():
    told = Told()
    sums = told.recorder.apps["pair"]
    for number in range(MAX_EXTENTS):
        sums.extents[str(number)] = sums.extent(3)
    sums.extent(1).count += 1
    assert sums.extents[OTHER].count == 1


def test_names_follow_the_conventions():
    told = Told()
    told.tell(Wake(), start(1), at=0)
    _, body = told.metrics.expose()
    for line in body.decode().splitlines():
        if line.startswith("# TYPE"):
            _, _, name, kind = line.split()
            assert re.fullmatch(r"grainwise_[a-z_]+", name), name
            assert (kind == "counter") == name.endswith("_total"), name


def test_finished_requests_leave_nothing_behind():
    told = Told()
    for number in range(1000):
        told.tell(RequestArrived(number, "pair", ()), invoke(number, 1), at=number)
        told.tell(InvocationDone(number, 1, (), 1, ()), Respond(number, ()), at=number)
    assert not told.recorder._requests
    assert not told.recorder._invocations


def test_observing_is_cheap():
    """A generous bound on the mean, so that a busy machine does not fail it."""
    told = Told()
    told.tell(Wake(), start(1), at=0)
    stories = [
        (RequestArrived(1, "pair", ()), [invoke(1, 1)]),
        (InvocationDone(1, 1, (), 1, (StageSpan(0, 1, 1.0, 5), StageSpan(1, 1, 1.0, 5))), [Respond(1, ())]),
    ]
    observe = told.recorder.observe
    best = min(_time(observe, stories) for _ in range(5))
    assert best < 20, f"{best:.1f} us per event"


def _time(observe, stories) -> float:
    begin = time.perf_counter()
    for now in range(2000):
        for event, actions in stories:
            observe(event, actions, now)
    return (time.perf_counter() - begin) / 4000 * 1e6
