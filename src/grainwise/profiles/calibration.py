"""What live runs on the machine that was profiled say about a profile: the section of the artifact that corrects the rest."""

from msgspec import Struct

from grainwise.domain.machine import HopModel


class CallGroup(Struct, frozen=True, forbid_unknown_fields=True):
    """Calls of one batch at one share in a live run: ``factor`` is measured over predicted time, summed over the calls."""

    items: int
    cpu_cores: float
    calls: int
    factor: float


class SampleCalibration(Struct, frozen=True, forbid_unknown_fields=True):
    """One stage on one sample in a live run.

    ``factor`` is measured over corrected time of its calls. ``split`` is how many calls its items took, over the calls that
    batches of the declared size would need: items of different shape do not share a call.
    """

    factor: float = 1.0
    split: float = 1.0


class StageCalibration(Struct, frozen=True, forbid_unknown_fields=True):
    """What a live run says about the predictions of one stage.

    ``factor`` corrects the mean; ``residuals`` are evenly spaced quantiles of measured over corrected time, empty where there
    were too few calls to tell. ``samples`` says how each sample of the profile differs from its size; empty where unknown.
    """

    name: str
    calls: int
    factor: float
    residuals: tuple[float, ...]
    groups: tuple[CallGroup, ...]
    samples: tuple[SampleCalibration, ...] = ()


class DoorCalibration(Struct, frozen=True, forbid_unknown_fields=True):
    """Mean time from a client's send to the controller, and from the controller's answer to the client."""

    requests: int
    ingress_us: float
    egress_us: float


class Calibration(Struct, frozen=True, forbid_unknown_fields=True):
    """Corrections of a profile from live runs on the machine that was profiled; ``runs`` says which.

    ``hop`` is what an invocation takes beyond its calls, both messages and all work around the stages; ``hop_residuals`` are
    evenly spaced quantiles of measured over predicted. ``foreign_cores`` is what else the machine was busy with.
    """

    date: str
    app_digest: str
    runs: tuple[str, ...]
    foreign_cores: float
    stages: tuple[StageCalibration, ...]
    hop: HopModel
    hop_residuals: tuple[float, ...]
    door: DoorCalibration
