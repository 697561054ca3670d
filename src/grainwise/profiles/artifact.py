"""The profile artifact: everything that was measured about one app on one machine, as reviewable JSON with provenance.

Reading and writing take and return bytes; only the doors touch files.
"""

import hashlib
from typing import Literal

import msgspec
from msgspec import Struct

from grainwise.domain.app import AppSpec
from grainwise.domain.errors import ArtifactError
from grainwise.domain.machine import HopModel
from grainwise.profiles.calibration import Calibration
from grainwise.profiles.rendering import render

SCHEMA = 1
"""Version of the artifact's layout; another version is refused."""

_MAX_BYTES = 64 * 1024 * 1024

_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the decoder raises for bytes that are no JSON of the expected type; the last for brackets within brackets."""

Mechanism = Literal["cgroup2", "cgroup1", "signals", "none"]

Outcome = Literal["ok", "does not fit", "out of memory", "failed"]
"""What became of a measurement. All but ``ok`` are results, not failures of the profiler."""


class MachineFacts(Struct, frozen=True, forbid_unknown_fields=True):
    """The machine that was measured, for people; ``Profile.device_class`` is what must match."""

    cpu_model: str
    cpu_cores: float
    memory_mib: float
    system: str
    python: str


class Point(Struct, frozen=True, forbid_unknown_fields=True):
    """One configuration of a stage: a batch of ``items`` with these sizes, run at ``cpu_cores``.

    ``gpu_share_fraction`` is the part of a device that it was given besides, 0 for none.
    ``latencies_us`` are the durations of all warm repeats, in the order of measurement; empty unless ``outcome`` is ``ok``.
    """

    items: int
    size_sum: float
    size_max: float
    cpu_cores: float
    latencies_us: tuple[int, ...] = ()
    outcome: Outcome = "ok"
    detail: str = ""
    gpu_share_fraction: float = 0.0

    @property
    def count(self) -> int:
        """How many repeats were measured."""
        return len(self.latencies_us)

    @property
    def mean_us(self) -> float:
        """Mean duration of the repeats; 0 without any."""
        return sum(self.latencies_us) / len(self.latencies_us) if self.latencies_us else 0.0

    def quantile_us(self, level: float) -> float:
        """The empirical quantile of the repeats at ``level``; 0 without any."""
        ordered = sorted(self.latencies_us)
        return float(ordered[min(len(ordered) - 1, int(level * len(ordered)))]) if ordered else 0.0


class StageProfile(Struct, frozen=True, forbid_unknown_fields=True):
    """One stage of the graph, in the graph's order.

    ``declared`` names the ``StageSpec``: points of stages with the same declaration are pooled by the fit. Of a mean request:
    ``items_per_request`` executions (fan-outs and branches counted), ``item_size`` as the stage's size function measures its
    input, ``output_bytes`` the mean length of one item's output. ``held_out_error_fraction`` is the mean relative error on
    configurations that were left out of the fit. ``samples`` has, for each sample request that ran to its end, the executions
    of the stage and the sum of their sizes. ``device_memory_mib`` is what its weights take on a device, ``activation_mib`` what
    each item of a batch takes there while it runs.
    """

    name: str
    declared: str
    load_us: float
    first_call_us: float
    memory_mib: float
    items_per_request: float
    item_size: float
    output_bytes: float
    points: tuple[Point, ...]
    held_out_error_fraction: float = 0.0
    samples: tuple[tuple[int, float], ...] = ()
    device_memory_mib: float = 0.0
    activation_mib: float = 0.0


class ColdParts(Struct, frozen=True, forbid_unknown_fields=True):
    """Cold start of an instance before its stages: starting the process and importing the app file, in microseconds."""

    process_us: float
    import_us: float


class Profile(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything that is known about an app on one device class, with where it came from.

    ``app_digest`` is ``AppSpec.digest``, ``source_digest`` that of the app file and its own modules. ``entry_bytes`` is the
    mean length of each entry value, ``libraries`` maps the names of loaded libraries to their versions. ``process_mib`` is the
    memory of an instance without any stage; it is the same figure as ``hop.process_mib``, which is what the planner reads.
    ``is_complete`` is false while the profiler has not yet spent its budget: such a profile can be resumed. ``calibration``
    corrects what is predicted from the rest; None where there was none. ``device_context_mib`` is what an instance takes on a
    device before it holds any stage.
    """

    schema: int
    app: str
    app_digest: str
    source_digest: str
    device_class: str
    machine: MachineFacts
    share_mechanism: Mechanism
    libraries: dict[str, str]
    date: str
    budget_s: float
    entry_bytes: tuple[float, ...]
    process_mib: float
    cold: ColdParts
    hop: HopModel
    stages: tuple[StageProfile, ...]
    is_complete: bool = True
    calibration: Calibration | None = None
    device_context_mib: float = 0.0


class _Head(Struct):
    schema: int


def read(data: bytes) -> Profile:
    """Decode a profile.

    Raises:
        ArtifactError: the bytes are no profile of this schema; the message names the field.
    """
    if len(data) > _MAX_BYTES:
        raise ArtifactError(
            f"The profile is {len(data)} bytes long, above the limit of {_MAX_BYTES}. Run `grainwise profile APP`."
        )
    try:
        head = msgspec.json.decode(data, type=_Head)
    except _UNREADABLE as error:
        raise ArtifactError(f"This is not a profile: {error}. Run `grainwise profile APP` to make one.") from error
    if head.schema != SCHEMA:
        raise ArtifactError(
            f"Field `schema` of the profile is {head.schema}, this version reads {SCHEMA}. "
            "Run `grainwise profile APP` to measure again."
        )
    try:
        profile = msgspec.json.decode(data, type=Profile)
    except _UNREADABLE as error:
        raise ArtifactError(f"The profile is malformed: {error}. Run `grainwise profile APP` to measure again.") from error
    _check_values(profile)
    return profile


def write(profile: Profile) -> bytes:
    """Encode a profile: fields in a fixed order, a line per measured point, so that two versions can be compared as a diff."""
    plain = msgspec.to_builtins(profile)
    plain["libraries"] = dict(sorted(profile.libraries.items()))
    if profile.calibration is None:
        # A profile without one reads, and digests, as it did before there were any.
        del plain["calibration"]
    _drop_unused(plain, ("device_context_mib",))
    for stage in plain["stages"]:
        _drop_unused(stage, ("device_memory_mib", "activation_mib"))
        for point in stage["points"]:
            _drop_unused(point, ("gpu_share_fraction",))
    return (render(plain) + "\n").encode()


def _drop_unused(record: dict[str, object], fields: tuple[str, ...]) -> None:
    """Leave out what only devices have, so that a profile of CPUs reads, and digests, as it did before there were any."""
    for field in fields:
        if not record[field]:
            del record[field]


def digest(profile: Profile) -> str:
    """A short digest of the whole content."""
    return hashlib.sha256(write(profile)).hexdigest()[:16]


def check(profile: Profile, *, spec: AppSpec, device_class: str | None) -> None:
    """Refuse a profile that was not measured for this app on this class of device.

    Args:
        profile: what was read.
        spec: the app to be served or planned.
        device_class: the class of this machine, or ``None`` where a profile of any machine will do.

    Raises:
        ArtifactError: a field differs; the message names it with both values and says what to do.
    """
    again = f"Run `grainwise profile` on the app file of {spec.name!r} to measure again."
    for field, theirs, ours in (
        ("app", profile.app, spec.name),
        ("app_digest", profile.app_digest, spec.digest),
        ("source_digest", profile.source_digest, spec.source_digest),
        ("stages", _names(profile), "+".join(node.name for node in spec.graph.stages)),
        ("entry_bytes", str(len(profile.entry_bytes)), str(len(spec.inputs))),
    ):
        if theirs != ours:
            raise ArtifactError(f"Field `{field}` of the profile is {theirs!r}, but the app has {ours!r}. {again}")
    if device_class is not None and profile.device_class != device_class:
        raise ArtifactError(
            f"Field `device_class` of the profile is {profile.device_class!r}, but this machine is {device_class!r}. "
            f"{again} Or pass `--accept-profile` to use these measurements all the same."
        )


def _names(profile: Profile) -> str:
    return "+".join(stage.name for stage in profile.stages)


def _check_values(profile: Profile) -> None:
    """Refuse values that no measurement can have, before they become a plan."""
    if not profile.stages:
        raise ArtifactError("Field `stages` of the profile is empty. Run `grainwise profile APP` to measure again.")
    names = [stage.name for stage in profile.stages]
    for name in names:
        if names.count(name) > 1:
            raise ArtifactError(
                f"Field `stages` of the profile holds {name!r} twice. Run `grainwise profile APP` to measure again."
            )
    measured: list[tuple[str, float]] = [("budget_s", profile.budget_s), ("process_mib", profile.process_mib)]
    for part, record in (("machine", profile.machine), ("cold", profile.cold), ("hop", profile.hop)):
        measured.extend(_numbers(part, record))
    measured.extend((f"entry_bytes[{index}]", value) for index, value in enumerate(profile.entry_bytes))
    for stage in profile.stages:
        measured.extend(_numbers(f"stages[{stage.name}]", stage))
        for index, point in enumerate(stage.points):
            place = f"stages[{stage.name}].points[{index}]"
            measured.extend(_numbers(place, point))
            measured.extend((f"{place}.latencies_us", value) for value in point.latencies_us)
            for field, is_right in (
                ("items", point.items >= 1),
                ("cpu_cores", point.cpu_cores > 0),
                ("gpu_share_fraction", 0 <= point.gpu_share_fraction <= 1),
                ("latencies_us", bool(point.latencies_us) == (point.outcome == "ok")),
            ):
                if not is_right:
                    raise ArtifactError(
                        f"Field `{place}.{field}` of the profile has an impossible value: {getattr(point, field)}. "
                        "Run `grainwise profile APP` to measure again."
                    )
    if profile.calibration is not None:
        measured.extend(_calibrated(profile, profile.calibration))
    for field, value in measured:
        if value < 0:
            raise ArtifactError(
                f"Field `{field}` of the profile is negative: {value:g}. Run `grainwise profile APP` to measure again."
            )


def _calibrated(profile: Profile, calibration: Calibration) -> list[tuple[str, float]]:
    """The numbers of a calibration, which must be of this app and these stages."""
    for field, theirs, ours in (
        ("app_digest", calibration.app_digest, profile.app_digest),
        ("stages", "+".join(stage.name for stage in calibration.stages), _names(profile)),
    ):
        if theirs != ours:
            raise ArtifactError(
                f"Field `calibration.{field}` of the profile is {theirs!r}, but the profile is of {ours!r}. "
                "Run `grainwise calibrate APP --apply` to measure again."
            )
    found = [*_numbers("calibration.hop", calibration.hop), *_numbers("calibration.door", calibration.door)]
    found.extend((f"calibration.hop_residuals[{at}]", value) for at, value in enumerate(calibration.hop_residuals))
    for stage in calibration.stages:
        place = f"calibration.stages[{stage.name}]"
        found.extend(_numbers(place, stage))
        found.extend((f"{place}.residuals[{at}]", value) for at, value in enumerate(stage.residuals))
        for at, sample in enumerate(stage.samples):
            found.extend(_numbers(f"{place}.samples[{at}]", sample))
    return found


def _numbers(place: str, record: Struct) -> list[tuple[str, float]]:
    """The numbers of a record, each with its full name."""
    values = [(field, getattr(record, field)) for field in record.__struct_fields__]
    return [(f"{place}.{field}", value) for field, value in values if isinstance(value, int | float)]
