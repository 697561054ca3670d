"""Find every other CPython from 3.11 on, and give each an environment with what Grainwise itself needs, and nothing else.

Usage: python tools/interpreters.py install    make or renew .venv-3.12 and so on
       python tools/interpreters.py list       one line each: version, whether its environment is ready, and where
"""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
OLDEST = (3, 11)
INPUTS = ("pyproject.toml", "constraints.txt")
ASK = "import sys; print(sys.implementation.name, *sys.version_info[:3], sys.version_info.releaselevel)"


def candidates() -> list[Path]:
    """Programs called python3.N on the path, and those of pyenv, whose shims may name a version that does not run."""
    folders = [Path(folder) for folder in os.environ.get("PATH", "").split(os.pathsep) if folder]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    folders += sorted(pyenv.glob("3.*/bin"))
    return [path for folder in folders for path in sorted(folder.glob("python3.*")) if re.fullmatch(r"python3\.\d+", path.name)]


def version_of(python: Path) -> tuple[int, int, int] | None:
    """The version of a program that runs and is a released CPython."""
    try:
        said = subprocess.run([python, "-c", ASK], capture_output=True, text=True, timeout=30, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return None
    if said[0] != "cpython" or said[4] != "final":
        return None
    return int(said[1]), int(said[2]), int(said[3])


def others() -> dict[tuple[int, int, int], Path]:
    """The first program of each minor version but this one's, oldest first."""
    found: dict[tuple[int, int], tuple[tuple[int, int, int], Path]] = {}
    for python in candidates():
        version = version_of(python)
        if version is not None and OLDEST <= version[:2] != sys.version_info[:2]:
            found.setdefault(version[:2], (version, python))
    return dict(sorted(found.values()))


def environment(version: tuple[int, int, int]) -> Path:
    """Where the environment of an interpreter is; it holds ``.ready`` once it is complete."""
    return ROOT / f".venv-{version[0]}.{version[1]}"


def was_made_by(version: tuple[int, int, int]) -> bool:
    """Whether the environment was once complete, with this very interpreter."""
    ready = environment(version) / ".ready"
    return ready.is_file() and ready.read_text().strip() == ".".join(map(str, version))


def is_ready(version: tuple[int, int, int]) -> bool:
    """Whether the environment was made by this very interpreter and after the last change of what it is made from."""
    ready = environment(version) / ".ready"
    return was_made_by(version) and all(ready.stat().st_mtime >= (ROOT / name).stat().st_mtime for name in INPUTS)


def install(version: tuple[int, int, int], python: Path) -> str:
    """Make or renew one environment; the reason in one line if that failed, else nothing."""
    folder, name = environment(version), ".".join(map(str, version))
    make: list[list[str | Path]] = [] if was_made_by(version) else [[python, "-m", "venv", "--clear", folder]]
    (folder / ".ready").unlink(missing_ok=True)
    pip: list[str | Path] = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (*make, [*pip, "--constraint", "constraints.txt", "--editable", "."]):
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip().splitlines()
            return said[-1] if said else f"exit {done.returncode}"
    (folder / ".ready").write_text(name + "\n")
    return ""


def main() -> None:
    """Do what the command line says. A failed environment is reported and costs nothing else."""
    if sys.argv[1:] not in (["install"], ["list"]):
        raise SystemExit(__doc__)
    for version, python in others().items():
        name = ".".join(map(str, version))
        if sys.argv[1] == "list":
            print(f"{name} {'ready' if is_ready(version) else 'not ready'} {python}")
        elif not is_ready(version):
            print(f"== install into {environment(version).name} with Python {name} ({python})", flush=True)
            reason = install(version, python)
            if reason:
                print(f"== Python {name} is left out, its packages could not be installed: {reason}", flush=True)


if __name__ == "__main__":
    main()
