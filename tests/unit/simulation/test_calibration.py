"""Calibration: what is read from a trail, the corrections that follow, and what predictions do with them."""

from pathlib import Path

import msgspec
import pytest

from grainwise.cli.calibrate_client import Seen
from grainwise.cli.calibrate_options import parse_levels
from grainwise.cli.calibrate_twin import Twin, door_of, simulate
from grainwise.domain.app import AppSpec
from grainwise.domain.errors import ArtifactError, ConfigurationError
from grainwise.domain.machine import HopModel, Node
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.predictors.fit import hop_model, latency_model, residuals
from grainwise.profiles.artifact import (
    ColdParts,
    MachineFacts,
    Point,
    Profile,
    StageProfile,
    digest,
    read,
    write,
)
from grainwise.profiles.calibration import DoorCalibration
from grainwise.simulation.app import kinds_of, simulated_app
from grainwise.simulation.calibration import Observed, Provenance, calibrate, observe, quantiles
from grainwise.simulation.capacity import bisect_rate
from grainwise.simulation.cluster import SIMULATED
from grainwise.simulation.comparison import Figures, compare, figures, result_of
from worlds.apps import chain

APP = chain(max_batch=1)
SPEC: AppSpec = APP.spec(b"app")
STAGE_US = 10_000
SAMPLES = 3


def made_profile(factor: float = 1.0) -> Profile:
    """Every stage takes 10 ms at any share, on three samples of one size; ``factor`` times as long as that."""
    points = tuple(
        Point(1, 1.0, 1.0, cores, tuple(round(STAGE_US * factor * (1 + 0.01 * at)) for at in range(-2, 3)))
        for cores in (0.5, 1.0)
    )
    stages = tuple(
        StageProfile(node.name, node.declared, 100.0, 30_000.0, 1.0, 1.0, 1.0, 100.0, points, samples=((1, 1.0),) * SAMPLES)
        for node in SPEC.graph.stages
    )
    return Profile(
        schema=1,
        app=SPEC.name,
        app_digest=SPEC.digest,
        source_digest=SPEC.source_digest,
        device_class="cpu:made up:2",
        machine=MachineFacts("made up", 2.0, 1000.0, "linux", "3.11"),
        share_mechanism="none",
        libraries={},
        date="2026-01-01",
        budget_s=1.0,
        entry_bytes=(100.0,),
        process_mib=10.0,
        cold=ColdParts(1000.0, 0.0),
        hop=HopModel(100.0, 10.0, 50.0, 5.0, 10.0),
        stages=stages,
    )


PLAN = Plan(SPEC.name, (FunctionPlan(tuple(node.name for node in SPEC.graph.stages), 1.0, 1, 1, 1, 1),))
ARRIVALS = [at * 100_000 for at in range(100)]
DOOR = DoorCalibration(100, 300.0, 200.0)
SOURCE = Provenance("2026-01-02", SPEC.digest, ("a run",), 0.0)


def twin(profile: Profile) -> Twin:
    return Twin.of(profile, SPEC, PLAN, 10.0, Node("local", 2.0, 1000.0), SIMULATED)


def observed(profile: Profile, since: int = 0) -> Observed:
    trail, origin = simulate(twin(profile), ARRIVALS, seed=1)
    return observe(trail, origin + since, SAMPLES)


def calibrated(truth: float = 1.5) -> Profile:
    """A profile that is off by ``truth``, corrected by what a world that takes that long has shown."""
    profile = made_profile()
    seen = observed(made_profile(truth), since=1_000_000)
    model = latency_model(profile, SPEC)
    found = calibrate(seen, SPEC, SAMPLES, model, profile.hop, DOOR, SOURCE)
    return msgspec.structs.replace(profile, calibration=found)


def test_a_trail_tells_calls_and_hops() -> None:
    seen = observed(made_profile())
    stages = len(SPEC.graph.stages)
    assert len(seen.calls) == 100 * stages
    assert len(seen.arrived) == len(seen.responded) == 100
    # The first call in an instance that does not warm up is the profile's first call, and its invocation gives no hop.
    assert [call.duration_us for call in seen.calls if call.is_first] == [30_000] * stages
    assert {hop.overhead_us for hop in seen.hops} == {100}
    assert len(seen.hops) == 99
    assert {call.sample for call in seen.calls} == {0, 1, 2}


def test_a_profile_that_is_off_is_corrected() -> None:
    corrected = latency_model(calibrated(1.5), SPEC).stage(0, 1, 1.0, 1.0).mean_us
    assert corrected == pytest.approx(1.5 * STAGE_US, rel=0.01)


def test_the_twin_of_a_corrected_profile_predicts_the_world() -> None:
    def p50(profile: Profile) -> float:
        trail, origin = simulate(twin(profile), ARRIVALS, seed=2)
        result = result_of(trail, "simulated", origin, 1_000_000, trail[-1][2], "", "", 2)
        return figures(result, SPEC.name, 0.0).metrics[0]

    assert p50(calibrated(1.5)) == pytest.approx(p50(made_profile(1.5)), rel=0.01)


def test_residuals_and_hop_are_those_of_the_runs() -> None:
    profile = calibrated(1.5)
    assert profile.calibration is not None
    assert hop_model(profile) == profile.calibration.hop
    assert hop_model(made_profile()) == made_profile().hop
    found = residuals(profile)[0]
    assert len(found) == len(profile.calibration.stages[0].residuals)
    assert sum(found) / len(found) == pytest.approx(1.0, abs=0.01)
    app = simulated_app(profile, SPEC, PLAN, rate_per_s=1.0)
    assert app.hop_residuals == profile.calibration.hop_residuals
    assert app.provenance == "profile of 2026-01-01 on made up, corrected by live runs of 2026-01-02"


def test_too_few_calls_leave_the_residuals_as_they_were() -> None:
    profile = made_profile()
    few = Observed(observed(profile).calls[:20], (), (), ())
    found = calibrate(few, SPEC, SAMPLES, latency_model(profile, SPEC), profile.hop, DOOR, SOURCE)
    assert all(not stage.residuals for stage in found.stages)
    assert found.hop == profile.hop
    with_it = msgspec.structs.replace(profile, calibration=found)
    assert residuals(with_it)[0] == pytest.approx(residuals(profile)[0], rel=0.01)


def test_a_sample_that_differs_from_its_size_is_told_apart() -> None:
    """Calls of the second sample take twice as long; its items fall into calls of their own."""
    profile = made_profile()
    seen = observed(profile, since=1_000_000)
    calls = tuple(
        msgspec.structs.replace(call, duration_us=call.duration_us * 2, together=(4, 4)) if call.sample == 1 else call
        for call in seen.calls
    )
    model = latency_model(profile, SPEC)
    found = calibrate(Observed(calls, seen.hops, (), ()), SPEC, SAMPLES, model, profile.hop, DOOR, SOURCE)
    factors = [sample.factor for sample in found.stages[0].samples]
    assert factors[1] / factors[0] == pytest.approx(2.0, rel=0.02)
    assert max(found.stages[0].residuals) < 1.1
    kinds = kinds_of(msgspec.structs.replace(profile, calibration=found))
    assert kinds[1].factors[0] == factors[1]
    assert kinds_of(profile)[1].factors == ()


def test_a_calibration_is_part_of_the_artifact() -> None:
    profile = calibrated()
    assert read(write(profile)) == profile
    assert digest(profile) != digest(made_profile())


def test_a_profile_without_one_reads_and_digests_as_before() -> None:
    data = write(made_profile())
    assert b"calibration" not in data
    assert read(data).calibration is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"app_digest": "another"}, "calibration.app_digest"),
        ({"stages": ()}, "calibration.stages"),
        ({"hop_residuals": (-1.0,)}, "calibration.hop_residuals"),
    ],
)
def test_a_calibration_of_something_else_is_refused(change: dict[str, object], field: str) -> None:
    profile = calibrated()
    assert profile.calibration is not None
    wrong = msgspec.structs.replace(profile, calibration=msgspec.structs.replace(profile.calibration, **change))
    with pytest.raises(ArtifactError, match=field.replace(".", r"\.")):
        read(write(wrong))


def test_quantiles_keep_the_mean() -> None:
    values = [1.0] * 99 + [101.0]
    assert sum(quantiles(values)) / len(quantiles(values)) == pytest.approx(2.0, abs=0.01)


def test_the_door_is_what_is_outside_the_controller() -> None:
    arrived = tuple(1_000_000 + at * 1000 for at in range(4))
    seen = [Seen(at - 500, at - 300, at + 5_000 + 200, 200) for at in arrived]
    there = Observed((), (), arrived, tuple(at + 5_000 for at in arrived))
    assert door_of(seen, there) == DoorCalibration(4, 300.0, 200.0)
    assert door_of(seen[:3], there) == DoorCalibration(0, 0.0, 0.0)


def test_rows_are_judged_by_the_median_difference_of_twins() -> None:
    live = [Figures(10, (100.0 + at, 200.0, 1.0, 1.0), (1.0,) * 5) for at in (-50, 0, 50)]
    there = [Figures(10, ((100.0 + at) * 1.14, 240.0, 0.96, 1.05), (2.0,) * 5) for at in (-50, 0, 50)]
    rows = {row.metric: row for row in compare("60 %", live, there, is_gated=True)}
    assert rows["p50"].is_met
    assert rows["p50"].difference == pytest.approx(0.14)
    assert (rows["p50"].live_low, rows["p50"].live_high) == (50.0, 150.0)
    assert rows["p95"].is_met is False
    assert rows["attainment"].is_met is False
    assert rows["billed cost"].is_met
    assert rows["queue"].is_met is None
    assert all(row.is_met is None for row in compare("85 %", live, there, is_gated=False))


@pytest.mark.parametrize(("first", "truth"), [(10.0, 37.0), (100.0, 37.0), (37.0, 37.0)])
def test_capacity_is_found_from_either_side(first: float, truth: float) -> None:
    assert bisect_rate(lambda rate: rate <= truth, first) == pytest.approx(truth, rel=0.03)


def test_no_rate_may_be_good_enough() -> None:
    assert bisect_rate(lambda rate: False, 10.0) == 0.0


def test_levels_are_percentages() -> None:
    assert parse_levels("--levels", "30, 60.5") == (30.0, 60.5)
    with pytest.raises(ConfigurationError, match="--gate has 'much'"):
        parse_levels("--gate", "30,much")


def test_the_example_says_how_long_it_takes() -> None:
    from grainwise.runtimes.loading import load_app

    app = load_app(Path(__file__).parents[3] / "examples" / "sleep" / "app.py")
    assert [len(str(sample[0])) for sample in app.sample_values()] == [600, 1000, 1400, 800, 1200]
