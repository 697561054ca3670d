"""The predictor artifact: trained trees with where they come from, as one text file that can be read and compared.

Reading and writing take and return bytes; only the doors touch files. Nothing in a file is ever run.
"""

import json
from typing import Literal

import msgspec
from msgspec import Struct

from grainwise.domain.errors import ArtifactError
from grainwise.predictors.features import FEATURES, FEATURES_VERSION

SCHEMA = 1
"""Version of the artifact's layout; another version is refused."""

KIND: Literal["grainwise-predictor"] = "grainwise-predictor"
TARGETS = ("attainment", "billed", "provisioned", "capacity")
"""What trees predict: the simulated attainment less the analytic one; both costs and the capacity over the analytic ones."""

_MAX_BYTES = 16 * 1024 * 1024
_AGAIN = "Run `grainwise predictor train` to make it anew."


class FeatureRange(Struct, frozen=True, forbid_unknown_fields=True):
    """A feature and the least and the greatest value that the trees were trained on."""

    name: str
    low: float
    high: float


class TrainedOn(Struct, frozen=True, forbid_unknown_fields=True):
    """An app, or a shape of made apps, in the training settings. ``profile_digest`` is empty for a made one."""

    source: str
    settings: int
    profile_digest: str = ""


class Predictor(Struct, frozen=True, forbid_unknown_fields=True):
    """A trained predictor.

    ``is_general``: trained on made apps too, so that it may be asked about any app within its ranges; otherwise only about the
    apps in ``trained_on``. ``constants`` has, by number of stages, the granularity that was best most often, by positions of
    stages. ``held_out`` are errors on settings that were left out, by a name that says of what. ``trees`` has for each of
    ``TARGETS`` the boosters as lines of LightGBM's text.
    """

    schema: int
    kind: str
    features_version: int
    is_general: bool
    settings: int
    rows: int
    requests: int
    seed: int
    versions: dict[str, str]
    trained_on: tuple[TrainedOn, ...]
    constants: dict[str, str]
    held_out: dict[str, float]
    features: tuple[FeatureRange, ...]
    trees: dict[str, tuple[tuple[str, ...], ...]]

    def texts(self, target: str) -> tuple[str, ...]:
        """The boosters of a target as text."""
        return tuple("\n".join(lines) + "\n" for lines in self.trees[target])


class _Head(Struct):
    schema: int
    kind: str = ""


def read(data: bytes, name: str = "the predictor") -> Predictor:
    """Decode a predictor; ``name`` is what errors call it.

    Raises:
        ArtifactError: the bytes are no predictor of this schema and these features; the message names the field that differs.
    """
    if len(data) > _MAX_BYTES:
        raise ArtifactError(f"{name} is {len(data)} bytes long, above the limit of {_MAX_BYTES}. {_AGAIN}")
    try:
        head = msgspec.json.decode(data, type=_Head)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{name} is no predictor: {error}. {_AGAIN}") from error
    if head.kind != KIND:
        raise ArtifactError(f"Field `kind` of {name} is {head.kind!r}, a predictor has {KIND!r}. {_AGAIN}")
    if head.schema != SCHEMA:
        raise ArtifactError(f"Field `schema` of {name} is {head.schema}, this version reads {SCHEMA}. {_AGAIN}")
    try:
        found = msgspec.json.decode(data, type=Predictor)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ArtifactError(f"{name} is malformed: {error}. {_AGAIN}") from error
    if found.features_version != FEATURES_VERSION:
        raise ArtifactError(
            f"Field `features_version` of {name} is {found.features_version}, this version computes {FEATURES_VERSION}. "
            + _AGAIN
        )
    _check_features(found, name)
    missing = [target for target in TARGETS if target not in found.trees]
    if missing:
        raise ArtifactError(f"Field `trees.{missing[0]}` of {name} is missing. {_AGAIN}")
    return found


def _check_features(found: Predictor, name: str) -> None:
    names = tuple(feature.name for feature in found.features)
    if names != FEATURES:
        at = next((at for at, (left, right) in enumerate(zip(names, FEATURES, strict=False)) if left != right), None)
        differs = f"{len(names)} features, this version computes {len(FEATURES)}"
        if at is not None:
            differs = f"{names[at]!r} at place {at}, this version computes {FEATURES[at]!r}"
        raise ArtifactError(f"Field `features` of {name} has {differs}. {_AGAIN}")
    for feature in found.features:
        if not feature.low <= feature.high:
            raise ArtifactError(
                f"Field `features[{feature.name}]` of {name} has an impossible range, "
                f"{feature.low:g} to {feature.high:g}. {_AGAIN}"
            )


def check_app(predictor: Predictor, app: str, profile_digest: str, name: str = "the predictor") -> None:
    """Refuse a predictor that was trained for other apps alone.

    Raises:
        ArtifactError: the app, or the profile that it was trained with, differs; the message has both.
    """
    if predictor.is_general:
        return
    own = [each for each in predictor.trained_on if each.source == app]
    again = f"Run `grainwise predictor train` on the app file of {app!r}."
    if not own:
        apps = ", ".join(repr(each.source) for each in predictor.trained_on)
        raise ArtifactError(f"Field `trained_on` of {name} is {apps}, but the app is {app!r}: trained for another app. {again}")
    if own[0].profile_digest != profile_digest:
        raise ArtifactError(
            f"Field `trained_on.profile_digest` of {name} is {own[0].profile_digest!r}, but the profile of {app!r} is "
            f"{profile_digest!r}: it was trained with another profile. {again}"
        )


def write(predictor: Predictor) -> bytes:
    """Encode a predictor: fields in a fixed order, a line for each feature and for each line of a tree."""
    plain = msgspec.to_builtins(predictor)
    return (json.dumps(plain, ensure_ascii=False, indent=1) + "\n").encode()
