"""A process with another hash seed that replays each world's log."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPLAYER = """
import sys
from pathlib import Path
from grainwise.control.replay import replay
from grainwise.runtimes.log_writer import read_log
for line in sys.stdin:
    report = replay(read_log(Path(line.strip())))
    print(f"{report.is_identical} {report.entries} {report.divergence!r}", flush=True)
"""


class Replayer:
    """Replays logs in a process of its own."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def check(self, folder: Path) -> None:
        """Every log in ``folder`` gives the same actions again."""
        logs = sorted(folder.glob("log-*"))
        assert logs
        for log in logs:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(f"{log}\n")
            self._process.stdin.flush()
            said = self._process.stdout.readline()
            assert said.startswith("True "), said
            assert int(said.split()[1]) > 3


@pytest.fixture(scope="session")
def replayer() -> Iterator[Replayer]:
    environment = os.environ | {"PYTHONHASHSEED": "4242"}
    with subprocess.Popen(
        [sys.executable, "-c", REPLAYER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield Replayer(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


@pytest.fixture(params=["in-memory", "local"])
def platform(request: Any) -> str:
    return str(request.param)


@pytest.fixture
def folder(tmp_path: Path, replayer: Replayer) -> Iterator[Path]:
    """Where a test's logs go; they are replayed elsewhere when it ends."""
    yield tmp_path
    replayer.check(tmp_path)
