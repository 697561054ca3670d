"""``grainwise observe`` beside a running server: what is asked while it watches becomes a trace, and its log a report."""

import asyncio
import json
import sys
from pathlib import Path

from grainwise.cli.log_results import result_of_log
from grainwise.workloads.traces.finding import trace_source
from live.serving_harness import TEXT_APP, serve

WATCHED_S = 1.5


async def command(*words: object) -> tuple[int, bytes, bytes]:
    """A command in a process of its own: exit code, output, errors."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "grainwise",
        *map(str, words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await process.communicate()
    return process.returncode or 0, said, errors


def test_a_running_server_is_observed_and_what_was_seen_can_be_replayed(tmp_path: Path) -> None:
    trace = tmp_path / "observed.csv"

    async def main() -> tuple[dict[str, object], int, Path]:
        async with serve(TEXT_APP, tmp_path) as live:
            admin = live.serving.addresses.admin
            watching = asyncio.create_task(command("observe", admin, "--seconds", WATCHED_S, "--out", trace, "--json"))
            sent = 0
            while not watching.done():
                status, _ = await live.post({"text": "a b c"})
                assert status == 200
                sent += 1
            code, said, errors = await watching
            assert code == 0, errors
            return json.loads(said), sent, live.serving.log.folder

    observation, sent, log = asyncio.run(asyncio.wait_for(main(), 60))
    recorded = trace_source()(str(trace), None)
    assert 0 < observation["requests"] == observation["answered"] == recorded.arrival_count <= sent
    assert recorded.span_us <= WATCHED_S * 1_000_000
    assert set(recorded.sizes) == {5.0}
    result = result_of_log(log)
    assert result.kind == "measured"
    assert result.app("text").answered == sent
