"""The apps that the study runs, in sets by where their figures come from, and what the axes change about an app."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec import Struct

from grainwise.domain.app import Slo
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import MIG_SLOTS, HopModel
from grainwise.simulation.made_apps import Sample
from reproduce.granularity import measured_cpu, recalled_shape

Provenance = Literal["recalled", "measured"]


class ProfileSet(Struct, frozen=True):
    """Apps by name in the order in which they are listed. ``says`` tells in a sentence what the figures are worth."""

    name: str
    provenance: Provenance
    says: str
    make: Callable[[], tuple[Sample, ...]]


SETS: Mapping[str, ProfileSet] = {
    each.name: each
    for each in (
        ProfileSet(
            "recalled-shape", "recalled",
            "recalled shape of ESG's four pipelines on shares of GPUs: not measured; splits, memory and noise are assumed",
            lambda: recalled_shape.samples("gpu"),
        ),
        ProfileSet(
            "recalled-shape-cpu", "recalled",
            "the same on CPU cores alone, one core standing for a core and a slice: not measured",
            lambda: recalled_shape.samples("cpu"),
        ),
        ProfileSet(
            "measured-cpu", "measured",
            "four vision pipelines with random weights and OCR, profiled by this project on CPU cores of one small machine",
            measured_cpu.samples,
        ),
        ProfileSet(
            "measured-gpu", "measured", "examples profiled by this project on a GPU, where such a profile is shipped",
            measured_cpu.gpu_samples,
        ),
    )
}  # fmt: skip


def load(name: str) -> tuple[Sample, ...]:
    """The apps of a profile set.

    Raises:
        ConfigurationError: there is no such set.
        ArtifactError: its figures are not there, as those of ``measured-gpu`` where nothing was measured on a GPU.
    """
    return profile_set(name).make()


def profile_set(name: str) -> ProfileSet:
    """A profile set by name.

    Raises:
        ConfigurationError: there is none.
    """
    if name not in SETS:
        raise ConfigurationError(f"there is no profile set {name!r}: use one of {', '.join(SETS)}")
    return SETS[name]


def digest(samples: Sequence[Sample]) -> str:
    """A short digest of every figure of a set."""
    return hashlib.sha256(msgspec.json.encode(samples, order="deterministic")).hexdigest()[:16]


def base_latency_ms(sample: Sample) -> float:
    """L: the mean time of a lone request on the least configuration, one core and one slice, without any hop.

    A stage inside a fan-out counts as often as it runs in a mean request, one at a time.
    """
    slice_share = 1 / MIG_SLOTS
    total = 0.0
    for at, (items, size) in enumerate(zip(sample.workload.items, sample.workload.item_size, strict=True)):
        share = slice_share if sample.spec.spec(at).device == "gpu" else 0.0
        total += items * sample.model.stage(at, 1, size, 1.0, share).mean_us
    return total / 1000


def with_slo(sample: Sample, slo_ms: float) -> Sample:
    """The same app with another SLO; the target stays."""
    return msgspec.structs.replace(sample, spec=msgspec.structs.replace(sample.spec, slo=Slo(slo_ms, sample.spec.slo.target)))


def with_hop(sample: Sample, hop: HopModel) -> Sample:
    """The same app handing on by another hop. The memory of an instance without stages stays its own."""
    own = msgspec.structs.replace(hop, process_mib=sample.hop.process_mib)
    return msgspec.structs.replace(sample, hop=own, hop_residuals=())


def with_weights(sample: Sample, factor: float) -> Sample:
    """The same app with models that take ``factor`` times the memory, on the host and on a device.

    Run times and activations stay, and so do cold starts: what grows is the memory that an instance must find.
    """
    stages = tuple(
        msgspec.structs.replace(
            stage,
            memory_mib=stage.memory_mib * factor,
            device=stage.device and msgspec.structs.replace(stage.device, memory_mib=stage.device.memory_mib * factor),
        )
        for stage in sample.model.stages
    )
    return msgspec.structs.replace(sample, model=msgspec.structs.replace(sample.model, stages=stages))


def with_rate(sample: Sample, rate_per_s: float, arrival_scv: float = 1.0) -> Sample:
    """The same app under a load, as a forecast has it."""
    workload = msgspec.structs.replace(sample.workload, rate_per_s=rate_per_s, arrival_scv=arrival_scv)
    return msgspec.structs.replace(sample, workload=workload)
