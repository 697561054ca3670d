"""Each contender of the comparison: how its server is started and which call of the client it answers."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from msgspec import Struct

from benchmarks.peers.environments import PeerUnavailableError, environment, site_packages
from benchmarks.peers.triton_models import write_fused, write_split

HERE = Path(__file__).parent
APP = HERE.parent / "apps" / "image.py"
READY_LIMIT_S = 90.0

Command = tuple[list[str], dict[str, str]]


class Contender(Struct, frozen=True):
    """One row: ``command(port, folder)`` gives the command line and further environment variables."""

    name: str
    grain: str
    kind: str
    path: str
    command: Callable[[int, Path], Command]


def contenders(profile: Path) -> tuple[Contender, ...]:
    """Everything that is compared; ``profile`` is the one of the image application."""

    def ours(grain: str) -> Callable[[int, Path], Command]:
        def command(port: int, folder: Path) -> Command:
            given = ["--grain", grain, "--port", str(port), "--profile", str(profile), "--log", str(folder / "log")]
            return [sys.executable, "-m", "benchmarks.our_server", str(APP), *given], {}

        return command

    fused, split = ours("invert+mask+total"), ours("invert | mask | total")
    return (
        Contender("Grainwise, OIP binary", "fused", "oip", "/v2/models/image/infer", fused),
        Contender("Grainwise, OIP binary", "split", "oip", "/v2/models/image/infer", split),
        Contender("Grainwise, raw body", "fused", "raw", "/v1/apps/image", fused),
        Contender("Grainwise, raw body", "split", "raw", "/v1/apps/image", split),
        Contender("Triton, Python backend", "fused", "oip", "/v2/models/image/infer", _triton(write_fused)),
        Contender("Triton, ensemble", "split", "oip", "/v2/models/image/infer", _triton(write_split)),
        Contender("MOSEC", "fused", "raw", "/inference", _mosec("fused")),
        Contender("MOSEC, append_worker", "split", "raw", "/inference", _mosec("split")),
        Contender("BentoML", "fused", "raw", "/infer", _bentoml("Fused")),
        Contender("BentoML, depends()", "split", "raw", "/infer", _bentoml("Split")),
        Contender("LitServe", "fused", "base64", "/predict", _litserve),
    )


def _mosec(which: str) -> Callable[[int, Path], Command]:
    def command(port: int, folder: Path) -> Command:
        python = environment("mosec") / "bin" / "python"
        given = [which, "--port", str(port), "--address", "127.0.0.1", "--log-level", "error"]
        return [str(python), str(HERE / "mosec_server.py"), *given], {}

    return command


def _triton(write: Callable[[Path], None]) -> Callable[[int, Path], Command]:
    def command(port: int, folder: Path) -> Command:
        home = environment("triton")
        packages = site_packages(home)
        server = packages / "pytriton" / "tritonserver"
        backends = folder / "backends"
        shutil.copytree(server / "backends", backends)
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        stub = server / "python_backend_stubs" / version / "triton_python_backend_stub"
        if not stub.exists():
            raise PeerUnavailableError(f"its Python backend has no stub for Python {version}")
        shutil.copy(stub, backends / "python")
        write(folder / "models")
        given = {
            "--model-repository": str(folder / "models"),
            "--backend-directory": str(backends),
            "--http-address": "127.0.0.1",
            "--http-port": str(port),
            "--allow-grpc": "false",
            "--allow-metrics": "false",
            "--log-info": "false",
        }
        variables = {
            "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
            # The stub finds its interpreter's packages by the first python3 of the path.
            "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        }
        options = [f"{name}={value}" for name, value in given.items()]
        return [str(server / "bin" / "tritonserver"), *options, "--disable-auto-complete-config"], variables

    return command


def _bentoml(service: str) -> Callable[[int, Path], Command]:
    def command(port: int, folder: Path) -> Command:
        program = environment("bentoml") / "bin" / "bentoml"
        given = ["serve", f"bentoml_service:{service}", "--host", "127.0.0.1", "--port", str(port)]
        variables = {"BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "1", "PYTHONPATH": str(HERE)}
        return [str(program), *given, "--working-dir", str(HERE)], variables

    return command


def _litserve(port: int, folder: Path) -> Command:
    python = environment("litserve") / "bin" / "python"
    return [str(python), str(HERE / "litserve_server.py"), str(port)], {}


class Running:
    """A contender's server with everything that it has started."""

    def __init__(self, contender: Contender, folder: Path) -> None:
        """Start it and wait until it answers.

        Raises:
            PeerUnavailableError: it does not start.
        """
        self.contender = contender
        self.port = _free_port()
        folder.mkdir(parents=True)
        command, variables = contender.command(self.port, folder)
        self._output = (folder / "output.txt").open("wb")
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command,
            env=os.environ | one_thread | variables,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait(folder)
        except BaseException:
            self.close()
            raise

    def _wait(self, folder: Path) -> None:
        until = time.monotonic() + READY_LIMIT_S
        error = ""
        while time.monotonic() < until:
            if self._process.poll() is not None:
                said = (folder / "output.txt").read_text(errors="replace").strip().splitlines()[-3:]
                raise PeerUnavailableError(f"its server ended with {self._process.returncode}: {' / '.join(said)}")
            try:
                figures = self.drive(clients=1, seconds=0.1, warm_up_s=0.0)
            except PeerUnavailableError as failure:
                error = str(failure)
            else:
                if figures["requests"] and not figures["wrong"]:
                    return
                error = str(figures["example"]) or "no answer"
            time.sleep(0.2)
        raise PeerUnavailableError(f"its server gives no right answer within {READY_LIMIT_S:g} s: {error}")

    @property
    def pid(self) -> int:
        """The process that was started."""
        return self._process.pid

    def drive(
        self, *, clients: int, seconds: float = 1.0, warm_up_s: float = 0.3, requests: int = 0, side: int = 448
    ) -> dict[str, object]:
        """One turn of the client: ``seconds`` after ``warm_up_s``, or so many ``requests`` where that is not 0.

        Raises:
            PeerUnavailableError: the client could not finish.
        """
        contender = self.contender
        before = self.cpu_s()
        done = subprocess.run(
            [
                *(sys.executable, "-m", "benchmarks.http_client", "--port", str(self.port), "--kind", contender.kind),
                *("--path", contender.path, "--clients", str(clients), "--seconds", str(seconds), "--warm-up", str(warm_up_s)),
                *("--requests", str(requests), "--side", str(side)),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + warm_up_s + 60 + requests / 50,
        )
        if done.returncode:
            raise PeerUnavailableError((done.stderr.strip().splitlines() or ["the client failed"])[-1])
        figures: dict[str, object] = json.loads(done.stdout)
        # Warm-up requests are served too; the client counts them apart.
        figures["server_cpu_s"] = self.cpu_s() - before
        return figures

    def cpu_s(self) -> float:
        """Seconds of CPU that the server's processes have used."""
        total = 0.0
        for process in self._tree():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total += times.user + times.system
        return total

    def _tree(self) -> list[psutil.Process]:
        try:
            root = psutil.Process(self._process.pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def close(self) -> None:
        """End the server and everything that it has started. Idempotent."""
        tree = self._tree()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        _, left = psutil.wait_procs(tree, 5)
        for process in left:
            process.kill()
        self._output.close()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
