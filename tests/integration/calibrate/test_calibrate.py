"""``grainwise calibrate`` on the sleeping example: one short run of each kind, live and simulated."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from grainwise.cli.profiles import profile_path, read_profile, save_profile
from grainwise.domain.app import AppSpec
from grainwise.domain.machine import HopModel
from grainwise.profiles.artifact import ColdParts, MachineFacts, Point, Profile, StageProfile
from grainwise.runtimes.loading import load_app
from grainwise.runtimes.local.machine import device_class

SLEEP = Path(__file__).parents[3] / "examples" / "sleep" / "app.py"
LENGTHS = (600, 1000, 1400, 800, 1200)
STAGE_MS = {"decode": 8.0, "detect": 25.0, "recognise": 12.0}


def known_profile(spec: AppSpec) -> Profile:
    """What the profiler would measure, since the example says how long its stages take."""

    def stage(name: str, declared: str, milliseconds: float) -> StageProfile:
        def took(length: int) -> int:
            return round(milliseconds * 1000 * (0.5 + 0.5 * length / 1000))

        points = tuple(
            Point(1, float(length), float(length), cores, (took(length),) * 5) for length in LENGTHS for cores in (0.25, 1.0)
        )
        samples = tuple((1, float(length)) for length in LENGTHS)
        return StageProfile(name, declared, 200.0, took(1000), 1.0, 1.0, 1000.0, 1000.0, points, samples=samples)

    return Profile(
        schema=1,
        app=spec.name,
        app_digest=spec.digest,
        source_digest=spec.source_digest,
        device_class=device_class(),
        machine=MachineFacts("made up", 2.0, 1000.0, "linux", "3.11"),
        share_mechanism="cgroup1",
        libraries={},
        date="2026-01-01",
        budget_s=1.0,
        entry_bytes=(1000.0,),
        process_mib=10.0,
        cold=ColdParts(3000.0, 0.0),
        hop=HopModel(150.0, 4.0, 150.0, 4.0, 10.0),
        stages=tuple(stage(node.name, node.declared, STAGE_MS[node.name]) for node in spec.graph.stages),
    )


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "app.py"
    shutil.copy(SLEEP, path)
    save_profile(known_profile(load_app(path).spec(path.read_bytes())), profile_path(path))
    return path


def command(app: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "grainwise", "calibrate", str(app), "--capacity", "20", "--grain", "fused", *options]


def test_live_beside_simulated(app: Path) -> None:
    done = subprocess.run(
        command(app, "--levels", "60", "--runs", "1", "--seconds", "3", "--fit-seconds", "4", "--apply", "--json"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    # Whether a busy machine stays within the gate is not what is tested.
    assert done.returncode in (0, 1), done.stderr
    outcome = json.loads(done.stdout)
    rows = {row["metric"]: row for row in outcome["rows"]}
    assert list(rows) == ["p50", "p95", "attainment", "billed cost", "queue", "service", "hop", "cold", "door"]
    for side in ("live", "simulated"):
        assert rows["p50"][side] > 36
        assert rows["service"][side] > 36
        assert rows["billed cost"][side] > 0
    assert rows["p50"]["limit"] == 0.15
    assert rows["queue"]["limit"] is None
    assert (done.returncode == 0) == all(row["is_met"] is not False for row in rows.values())
    calibration = read_profile(app, profile_path(app)).calibration
    assert calibration is not None
    assert [stage.name for stage in calibration.stages] == ["decode", "detect", "recognise"]
    assert all(0.9 < stage.factor < 3.0 and stage.calls > 10 for stage in calibration.stages)
    assert calibration.door.ingress_us > 0


def test_an_interrupt_leaves_nothing_running(app: Path) -> None:
    process = subprocess.Popen(
        command(app, "--levels", "60", "--seconds", "300"), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    try:
        assert "fit" in process.stderr.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in said
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--levels", "0"), "--levels has '0'"),
        (("--levels", "60", "--gate", "60,85"), "--gate names 85"),
        (("--capacity", "0.00001"), "no request that counts"),
        (("--cores", "64000"), "leave something to the client"),
    ],
)
def test_what_cannot_be_run_is_refused(app: Path, options: tuple[str, ...], message: str) -> None:
    done = subprocess.run(command(app, *options), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert message in done.stderr
