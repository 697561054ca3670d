"""``grainwise serve`` as a process: what it announces, what it refuses, how it ends."""

import asyncio
import json
import signal
import sys
from contextlib import asynccontextmanager

import aiohttp
import msgspec
import psutil
import pytest

from grainwise.cli.admin_client import AdminClient, regranulate_and_follow
from grainwise.cli.profiles import save_profile
from grainwise.domain.errors import GrainwiseError
from grainwise.runtimes.loading import load_app

from .gates import SOURCE, Gate
from .serving_harness import TEXT_APP, made_profile, replay_elsewhere, run, write_app

TOKEN = "0123456789abcdef0123"


class Served:
    """A running command."""

    def __init__(self, process, announced):
        self.process = process
        self.url = announced["url"]
        self.admin = announced["admin"]
        self.announced = announced


def command(app, folder, *options):
    more = ["--port", "0", "--admin-port", "0", "--profile", str(folder / "profile.json"), "--log", str(folder / "log")]
    return [sys.executable, "-m", "grainwise", "serve", str(app), *more, "--replan-seconds", "0", *map(str, options)]


@asynccontextmanager
async def started(*arguments):
    """A process with pipes; in the end it is not there any more and its pipes are closed."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*arguments, stdout=pipe, stderr=pipe)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@asynccontextmanager
async def served(app, folder, *options):
    """Serve in a process of its own; at the end it is told to stop, and everything of it has gone."""
    async with started(*command(app, folder, *options, "--json", "--check-invariants")) as process:
        line = await process.stdout.readline()
        assert line, (await process.stderr.read()).decode()
        family = psutil.Process(process.pid).children(recursive=True)
        yield Served(process, json.loads(line))
        if process.returncode is None:
            process.terminate()
        _, said = await process.communicate()
        assert process.returncode == 0, said.decode()
        _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
        assert not alive, [each.cmdline() for each in alive]
    await asyncio.to_thread(replay_elsewhere, folder / "log")


async def refused(app, folder, *options):
    """Exit code and what was said by a server that does not begin."""
    async with started(*command(app, folder, *options)) as process:
        out, err = await process.communicate()
    assert out == b""
    assert b"Traceback (most recent call last)" not in err or b"stage" in err
    return process.returncode, err.decode()


def with_profile(app, folder, **changes):
    spec = load_app(app).spec(app.read_bytes())
    save_profile(msgspec.structs.replace(made_profile(spec), **changes), folder / "profile.json")
    return app


async def ask(session, url, body):
    async with session.post(url, data=json.dumps(body), headers={"Content-Type": "application/json"}) as response:
        return response.status, await response.json(), response.headers


def test_sigterm_drains_what_is_in_flight_is_answered_and_nothing_is_left(tmp_path):
    async def main():
        app = write_app(tmp_path, SOURCE)
        with Gate(tmp_path) as gate:
            async with served(app, tmp_path) as server, aiohttp.ClientSession() as session:
                url = f"{server.url}/v1/apps/gated"
                assert (await ask(session, url, {"word": "a"}))[:2] == (200, {"outputs": {"output": "A"}})
                waiting = asyncio.create_task(ask(session, url, {"word": "wait"}))
                await gate.reached()
                server.process.send_signal(signal.SIGTERM)
                assert b"draining" in await server.process.stderr.readline()
                status, answer, headers = await ask(session, url, {"word": "b"})
                assert (status, answer["code"]) == (503, "draining")
                assert int(headers["Retry-After"]) >= 1
                assert not waiting.done()
                gate.open()
                assert (await waiting)[:2] == (200, {"outputs": {"output": "WAIT"}})
                assert await server.process.wait() == 0

    run(main())


def test_a_profile_of_another_machine_is_refused_by_field_and_accepted_on_request(tmp_path):
    async def main():
        app = with_profile(TEXT_APP, tmp_path, device_class="cpu:another:64")
        code, said = await refused(app, tmp_path)
        assert code == 4
        assert "`device_class`" in said
        assert "cpu:another:64" in said
        assert "--accept-profile" in said
        (tmp_path / "log" / "segment-00000.log").unlink(missing_ok=True)
        async with served(app, tmp_path, "--accept-profile") as server:
            assert server.announced["profile_device_class"] == "cpu:another:64"
            assert server.announced["device_class"] != "cpu:another:64"
            async with AdminClient(server.admin) as admin:
                status = await admin.get("/status")
                assert status["profile_device_class"] == "cpu:another:64"
                assert status["profile_is_of_this_machine"] is False
                assert (await admin.get("/profile"))["device_class"] == "cpu:another:64"

    run(main())


def test_people_are_told_where_it_serves_and_that_a_profile_was_accepted(tmp_path):
    async def main():
        app = with_profile(TEXT_APP, tmp_path, device_class="cpu:another:64")
        socket = tmp_path / "admin.sock"
        async with started(*command(app, tmp_path, "--accept-profile", "--admin-socket", socket)) as process:
            said = b""
            while b"this is" not in said:
                line = await process.stderr.readline()
                assert line, said
                said += line
            text = " ".join(said.decode().split())
            assert "serving text at http://127.0.0.1:" in text
            assert "admin.sock" in text
            assert "profile of another machine accepted: measured on cpu:another:64" in text
            async with AdminClient(str(socket)) as admin:
                assert (await admin.get("/plan"))["app"] == "text"
                assert oct(socket.stat().st_mode)[-3:] == "600"
                await admin.post("/drain", {})
            assert await process.wait() == 0
            assert not socket.exists()

    run(main())


def test_the_admin_api_wants_its_token_and_re_granulates(tmp_path):
    async def main():
        app = with_profile(TEXT_APP, tmp_path)
        token = tmp_path / "token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        async with served(app, tmp_path, "--admin-token-file", token, "--grain", "fused") as server:
            for wrong in (None, "x" * 20):
                async with AdminClient(server.admin, wrong) as admin:
                    with pytest.raises(GrainwiseError, match="401"):
                        await admin.get("/plan")
            async with AdminClient(server.admin, TOKEN) as admin:
                assert (await regranulate_and_follow(admin, "split", "text", 30))["grain"] == "split | clean | count | join"
                with pytest.raises(GrainwiseError, match=r"400.*no stage 'five'"):
                    await admin.post("/regranulate", {"grain": "five"})
                with pytest.raises(GrainwiseError, match="404"):
                    await admin.get("/plan?app=other")
                planned = await regranulate_and_follow(admin, None, None, 30)
                assert planned["is_planning"] is False

    run(main())


def test_a_second_server_on_the_same_ports_is_told_which_one_is_taken(tmp_path):
    async def main():
        app = with_profile(TEXT_APP, tmp_path)
        async with served(app, tmp_path) as server:
            other = tmp_path / "other"
            other.mkdir()
            with_profile(TEXT_APP, other)
            port, admin_port = (url.rpartition(":")[2] for url in (server.url, server.admin))
            for option, taken in (("--port", port), ("--admin-port", admin_port)):
                code, said = await refused(app, other, "--log", tmp_path / option, option, taken)
                assert code == 2
                assert f"127.0.0.1:{taken}" in said
                assert "in use" in said
                assert f"choose another {option}" in said

    run(main())


def test_a_stage_whose_constructor_raises_ends_the_server_with_the_reason(tmp_path):
    source = SOURCE.replace(
        "@app.flow", "class Broken:\n    def __init__(self) -> None:\n        raise OSError('no model file')\n\n"
        "    def __call__(self, words: Batch[str]) -> Batch[str]:\n        return words\n\n\n"
        "broken = app.stage(Broken)\n\n\n@app.flow",
    ).replace("return hold(clean(word))", "return broken(hold(clean(word)))")  # fmt: skip

    async def main():
        write_app(tmp_path, source)
        code, said = await refused(tmp_path / "app.py", tmp_path, "--grain", "split")
        assert code == 6
        assert "do not start" in said
        assert "broken" in said.lower()
        assert "no model file" in said

    run(main())


def test_a_signal_while_it_starts_ends_it_at_once(tmp_path):
    source = SOURCE.replace(
        "@app.flow", "class Slow:\n    def __init__(self) -> None:\n"
        "        with (HERE / 'reached').open('wb', buffering=0) as reached:\n            reached.write(b'x')\n"
        "        with (HERE / 'gate').open('rb', buffering=0) as gate:\n            gate.read(1)\n\n"
        "    def __call__(self, words: Batch[str]) -> Batch[str]:\n        return words\n\n\n"
        "slow = app.stage(Slow)\n\n\n@app.flow",
    ).replace("return hold(clean(word))", "return slow(hold(clean(word)))")  # fmt: skip

    async def main():
        write_app(tmp_path, source)
        with Gate(tmp_path) as gate:
            for number in (signal.SIGTERM, signal.SIGINT):
                arguments = command(tmp_path / "app.py", tmp_path, "--log", tmp_path / str(int(number)))
                async with started(*arguments) as process:
                    await gate.reached()
                    family = psutil.Process(process.pid).children(recursive=True)
                    process.send_signal(number)
                    assert await asyncio.wait_for(process.wait(), 15) == 0
                    _, alive = await asyncio.to_thread(psutil.wait_procs, family, 10)
                    assert not alive

    run(main())
