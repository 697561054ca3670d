"""Where built networks lie: one ONNX file each in a cache folder, made when it is first asked for.

The name of a file holds a digest of the code that builds it, so an edit of a network makes a new file. A file is written
beside its place and then moved into it: instances that start at the same time may build the same one, and whichever comes last
replaces equal bytes by equal bytes.
"""

import hashlib
import os
import tempfile
from functools import cache
from pathlib import Path

from grainwise.domain.errors import ArtifactError

FOLDER_VARIABLE = "GRAINWISE_VISION_CACHE"
"""Names the folder, in the environment; else it is ``grainwise/vision`` in the user's cache."""

NAMES = ("super-resolution", "deblur", "segmentation", "classification", "background-removal", "depth")

_SOURCES = ("architectures.py", "dimensions.py", "graph.py")


def cache_folder() -> Path:
    """The folder of the files, which may not exist yet."""
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "grainwise" / "vision"


@cache
def source_digest() -> str:
    """A digest of the code that builds the networks, 16 hexadecimal digits."""
    here = Path(__file__).parent
    return hashlib.sha256(b"".join((here / name).read_bytes() for name in _SOURCES)).hexdigest()[:16]


def build(name: str) -> bytes:
    """The network of that name, one of ``NAMES``: the same bytes each time.

    Raises:
        ArtifactError: the package onnx is not installed.
    """
    try:
        # Only a build needs it; an instance that finds its file starts without.
        from networks.architectures import BUILDERS
    except ModuleNotFoundError as error:
        raise ArtifactError(
            f"the network {name} is not in {cache_folder()} yet and {error.name} is not installed to build it; "
            'install it with: pip install "grainwise[vision]"'
        ) from error
    return bytes(BUILDERS[name]().SerializeToString(deterministic=True))


def network_file(name: str) -> Path:
    """The file of the network of that name, one of ``NAMES``, built first if it is not there.

    Raises:
        ArtifactError: it cannot be built, or its folder cannot be written.
    """
    path = cache_folder() / f"{name}-{source_digest()}.onnx"
    if path.is_file():
        return path
    content = build(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{name}-", delete=False) as file:
            unfinished = Path(file.name)
            try:
                file.write(content)
                file.close()
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise ArtifactError(
            f"the network {name} cannot be written to {path.parent}: {error.strerror}; "
            f"name a folder that can be written in {FOLDER_VARIABLE}"
        ) from error
    return path
