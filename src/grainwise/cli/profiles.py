"""Where profiles lie and how the commands find them."""

from pathlib import Path

from grainwise.domain.app import AppSpec
from grainwise.domain.errors import ArtifactError
from grainwise.profiles.artifact import Profile, check, read, write
from grainwise.runtimes.local.machine import device_class


def profile_path(app_path: Path) -> Path:
    """Where ``grainwise profile`` writes and the others read: beside the app file."""
    return app_path.resolve().parent / ".grainwise" / f"{app_path.stem}.profile.json"


def find_profile(app_path: Path, spec: AppSpec, path: Path | None, accept: bool) -> tuple[Profile, str]:
    """The profile to serve an app with, and the class of this machine.

    Raises:
        ArtifactError: there is none, or it is of another app, or of another machine and that is not accepted.
    """
    here = device_class()
    profile = read_profile(app_path, path)
    check(profile, spec=spec, device_class=None if accept else here)
    return profile, here


def read_profile(app_path: Path, path: Path | None) -> Profile:
    """The profile at ``path``, or the one beside the app file.

    Raises:
        ArtifactError: there is none, or it cannot be read.
    """
    wanted = path if path is not None else profile_path(app_path)
    try:
        data = wanted.read_bytes()
    except OSError as error:
        raise ArtifactError(f"there is no profile at {wanted} ({error.strerror}); run: grainwise profile {app_path}") from error
    return read(data)


def find_shipped(app: Path, profile: Path | None = None) -> Profile:
    """The profile of an app: the one that is named, measured here, or shipped beside the app file.

    Raises:
        ArtifactError: there is none, or it cannot be read.
    """
    wanted = [profile] if profile is not None else [profile_path(app), app.with_name(f"{app.stem}.profile.json")]
    for path in wanted:
        if path.is_file():
            try:
                return read(path.read_bytes())
            except OSError as error:
                raise ArtifactError(f"the profile {path} cannot be read: {error.strerror}") from error
    raise ArtifactError(
        f"there is no profile of {app} (looked at {' and '.join(map(str, wanted))}); run: grainwise profile {app}"
    )


def unfinished_profile(path: Path) -> Profile | None:
    """The profile at ``path``, if it was interrupted and is of this class of machine; of which app is not known yet."""
    try:
        found = read(path.read_bytes())
    except (OSError, ArtifactError):
        return None
    return found if not found.is_complete and found.device_class == device_class() else None


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile so that a reader never sees half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    fresh.write_bytes(write(profile))
    fresh.replace(path)
