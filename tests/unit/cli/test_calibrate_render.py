"""What ``grainwise calibrate`` prints: where it ran, beside what load, and which bound a metric is out of."""

from pathlib import Path

import msgspec
import pytest

from grainwise.cli.calibrate_render import Outcome, Try, print_outcome
from grainwise.domain.app import Slo
from grainwise.domain.machine import HopModel
from grainwise.domain.plan import FunctionPlan, Plan
from grainwise.profiles.calibration import Calibration, CallGroup, DoorCalibration, StageCalibration
from grainwise.simulation.comparison import Figures, compare

LIVE = [Figures(100, (50.0, 80.0, 0.99, 0.001), (4.0, 45.0, 1.0, 0.0, 2.0))]
THERE = [Figures(100, (52.0, 120.0, 0.98, 0.001), (3.0, 45.0, 1.0, 0.0, 2.0))]


def outcome(there: list[Figures], foreign: float) -> Outcome:
    stage = StageCalibration("only", 40, 1.1, (), (CallGroup(1, 0.5, 40, 1.1),))
    calibration = Calibration(
        "2026-01-02", "digest", ("fit: 9/s",), foreign, (stage,), HopModel(150, 4, 0, 0, 0), (), DoorCalibration(9, 300, 200)
    )
    plan = Plan("made up", (FunctionPlan(("only",), 0.5),))
    rows = tuple(compare("60 %", LIVE, there, is_gated=True))
    return Outcome(
        app="made up",
        hardware="cpu:made up:2",
        slo=Slo(100.0, 0.99),
        plan=plan,
        grain="only",
        planned_for_per_s=10.0,
        capacity_per_s=20.0,
        tries=(Try(20.0, "measured", 0.985),),
        runs=1,
        seconds=30.0,
        gated=(60.0,),
        rows=rows,
        foreign_cores={"60 %, run 1 of 1": foreign},
        most_send_delay_ms=1.2,
        calibration=calibration,
    )


def test_a_metric_out_of_its_bound_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    found = outcome(THERE, 0.0)
    print_outcome(found, Path("p.json"), is_applied=False)
    said = capsys.readouterr().out
    assert said.startswith("measured and simulated: made up on cpu:made up:2\n")
    assert "capacity 20/s (measured 20/s: 98.5%)" in said
    [p95] = [line for line in said.splitlines() if " p95 " in line and "ms" in line]
    assert "+50.0%" in p95
    assert "FAIL" in p95
    assert "as profiled" in said
    assert "--apply writes it into p.json" in said
    assert not found.is_met


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    found = outcome(LIVE, 0.7)
    print_outcome(found, Path("p.json"), is_applied=True)
    said = capsys.readouterr().out
    assert found.is_met
    assert "FAIL" not in said
    assert "1 of 1 runs above 0.1 cores, most 0.70 in 60 %, run 1 of 1" in said
    assert "written into p.json" in said


def test_without_a_gate_nothing_is_said_to_be_within_it(capsys: pytest.CaptureFixture[str]) -> None:
    found = outcome(THERE, 0.0)
    rows = tuple(compare("60 %", LIVE, THERE, is_gated=False))
    print_outcome(msgspec.structs.replace(found, rows=rows, gated=()), Path("p.json"), is_applied=False)
    said = capsys.readouterr().out
    assert "no level is gated" in said
    assert "within its bound" not in said


def test_a_capacity_at_which_no_live_run_attained_is_called_a_guess(capsys: pytest.CaptureFixture[str]) -> None:
    found = outcome(THERE, 0.0)
    print_outcome(found, Path("p.json"), is_applied=False)
    assert "a guess" not in capsys.readouterr().out
    tries = (Try(20.0, "simulated", 0.98), Try(20.0, "measured", 0.9))
    print_outcome(msgspec.structs.replace(found, tries=tries), Path("p.json"), is_applied=False)
    assert "no live run attained 98%: the capacity is a guess" in capsys.readouterr().out
