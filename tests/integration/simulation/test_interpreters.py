"""One seed gives one event log, byte for byte, on every interpreter that is present.

``make install`` makes an environment beside the main one for each; the names of these tests say which were checked.
"""

import json
import os
import platform
import subprocess
import sys
from itertools import zip_longest
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
COMMITTED = ROOT / "tests" / "golden" / "digests.json"
SECONDS = 300


def pythons() -> dict[str, Path]:
    """This interpreter, and those of the environments that are complete, by version."""
    ready = sorted(ROOT.glob(".venv-3.*/.ready"))
    return {platform.python_version(): Path(sys.executable)} | {
        path.read_text().strip(): path.parent / "bin" / "python" for path in ready
    }


def digests(python: Path) -> list[object]:
    """What the golden runs give on an interpreter, one object per line; hash seeds differ from process to process."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_", "PYTHONHASH"))
    }
    done = subprocess.run(
        [python, "-m", "validation.golden", "--digest"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize(("version", "python"), pythons().items(), ids=list(pythons()))
def test_the_golden_runs_are_the_committed_ones_on_python(version: str, python: Path) -> None:
    given, committed = digests(python), json.loads(COMMITTED.read_text())
    assert committed, f"{COMMITTED} has no digest"
    different = [pair for pair in zip_longest(given, committed) if pair[0] != pair[1]]
    assert not different, f"Python {version} gives {different[0][0]} where {different[0][1]} is committed"


def test_every_interpreter_that_is_present_has_an_environment() -> None:
    """Those whose packages cannot be installed are named by ``make install``; here they show as skipped, by version."""
    listed = subprocess.run(
        [sys.executable, ROOT / "tools" / "interpreters.py", "list"], capture_output=True, text=True, check=True, timeout=120
    ).stdout.splitlines()
    missing = [line.split()[0] for line in listed if " not ready " in line]
    if missing:
        reason = f"no environment for Python {', '.join(missing)}: run make install"
        if "interpreters" in os.environ.get("GRAINWISE_REQUIRE", ""):
            pytest.fail(reason)
        pytest.skip(reason)
