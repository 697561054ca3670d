"""An environment per peer, installed by the benchmark at pinned versions into ``benchmarks/.peers``."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1] / ".peers"

PINS: dict[str, tuple[str, ...]] = {
    "mosec": ("mosec==0.9.8", "numpy==2.2.6"),
    # Its Python backend returns empty outputs under NumPy 2.
    "triton": ("nvidia-pytriton==0.7.0", "numpy==1.26.4"),
    "litserve": ("litserve==0.2.19", "numpy==2.2.6"),
    "bentoml": ("bentoml==1.4.39", "numpy==2.2.6"),
}


class PeerUnavailableError(Exception):
    """A peer cannot be run here; the text says why, and its rows are skipped with it."""


def environment(peer: str) -> Path:
    """The folder of a peer's environment, made and filled where it is not there yet.

    Raises:
        PeerUnavailableError: it cannot be installed.
    """
    folder = ROOT / peer
    stamp = folder / ".installed"
    wanted = "\n".join(PINS[peer])
    if stamp.exists() and stamp.read_text() == wanted:
        return folder
    print(f"installing {', '.join(PINS[peer])} into {folder} ...", flush=True)
    commands = (
        [sys.executable, "-m", "venv", str(folder)],
        [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS[peer]],
    )
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerUnavailableError(f"cannot be installed: {done.stderr.strip().splitlines()[-1:] or done.returncode}")
    stamp.write_text(wanted)
    return folder


def site_packages(folder: Path) -> Path:
    """Where an environment keeps its packages."""
    return next((folder / "lib").glob("python3*/site-packages"))
