"""What this project has measured itself: the apps under ``examples/`` by the profiles that are shipped beside them.

They were profiled on the CPU cores of one small machine; each profile says which, when and with what.
"""

from pathlib import Path

from grainwise.cli.commands import read_spec
from grainwise.domain.errors import ArtifactError
from grainwise.profiles.artifact import Profile, read
from grainwise.simulation.made_apps import Sample, profiled

EXAMPLES = Path(__file__).parents[2] / "examples"
APPS = (
    "vision/image_classification",
    "vision/depth_recognition",
    "vision/background_elimination",
    "vision/expanded_classification",
    "ocr/app",
)
GPU_SUFFIX = ".gpu.profile.json"


def samples() -> tuple[Sample, ...]:
    """The four vision pipelines and OCR.

    Raises:
        ArtifactError: a profile is missing, or is not of its app.
    """
    return tuple(profiled(profile(app), read_spec(EXAMPLES / f"{app}.py")) for app in APPS)


def gpu_samples() -> tuple[Sample, ...]:
    """The apps with a profile that was measured on a GPU, which lies beside the app as ``APP.gpu.profile.json``.

    Raises:
        ArtifactError: there is none.
    """
    found: list[Sample] = []
    for app in APPS:
        path = EXAMPLES / f"{app}{GPU_SUFFIX}"
        if path.exists():
            found.append(profiled(read(path.read_bytes()), read_spec(EXAMPLES / f"{app}.py")))
    if not found:
        raise ArtifactError(
            f"nothing was measured on a GPU: no example has a profile named APP{GPU_SUFFIX}. "
            "Use the profile set recalled-shape, which is not measured, or measured-cpu."
        )
    return tuple(found)


def profile(app: str) -> Profile:
    """The shipped profile of an example.

    Raises:
        ArtifactError: it is missing or malformed.
    """
    path = EXAMPLES / f"{app}.profile.json"
    if not path.exists():
        raise ArtifactError(f"{path} is missing; measure it with: make profiles")
    return read(path.read_bytes())
