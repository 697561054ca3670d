"""An app as the simulator takes it: its declaration, what was measured about it, and how it is controlled."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from grainwise.domain.app import AppSpec
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.machine import HopModel
from grainwise.domain.plan import Plan
from grainwise.planning.problem import Workload
from grainwise.predictors.fit import hop_model, latency_model, residuals, workload_of
from grainwise.predictors.latency import LatencyModel
from grainwise.profiles.artifact import Profile
from grainwise.simulation.contents import Kind


class SimulatedApp(Struct, frozen=True):
    """One app under simulation.

    ``residuals`` has per stage the measured over the predicted run times, all equally likely; empty for a world without noise;
    ``hop_residuals`` are those of hops.
    ``kinds`` are the kinds of requests, equally frequent. ``workload`` is the forecast that the controller is deployed with.
    ``plan`` is served from the first moment on; ``provenance`` says what the figures come from.
    """

    spec: AppSpec
    model: LatencyModel
    hop: HopModel
    workload: Workload
    kinds: tuple[Kind, ...]
    plan: Plan
    residuals: tuple[tuple[float, ...], ...] = ()
    config: AppConfig = AppConfig()
    provenance: str = ""
    hop_residuals: tuple[float, ...] = ()

    def with_plan(self, plan: Plan, config: AppConfig | None = None) -> "SimulatedApp":
        """The same app under another plan."""
        return msgspec.structs.replace(self, plan=plan, config=config or self.config)


def kinds_of(profile: Profile) -> tuple[Kind, ...]:
    """A kind for each sample request of the profile, or the mean request where samples are not known."""
    stages = profile.stages
    counts = {len(stage.samples) for stage in stages}
    entry = tuple(max(1, round(nbytes)) for nbytes in profile.entry_bytes)
    outputs = tuple(max(1, round(stage.output_bytes)) for stage in stages)
    if len(counts) != 1 or counts == {0}:
        mean = tuple(max(0, round(stage.items_per_request)) for stage in stages)
        return (Kind(mean, tuple(stage.item_size for stage in stages), outputs, entry),)
    found: list[Kind] = []
    for at in range(counts.pop()):
        executions = tuple(stage.samples[at][0] for stage in stages)
        sizes = tuple(
            stage.samples[at][1] / stage.samples[at][0] if stage.samples[at][0] else stage.item_size for stage in stages
        )
        found.append(Kind(executions, sizes, outputs, entry, *_calibrated(profile, at)))
    return tuple(found)


def _calibrated(profile: Profile, sample: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Factors and splits of a sample, as live runs have shown them."""
    calibration = profile.calibration
    if calibration is None or any(len(stage.samples) <= sample for stage in calibration.stages):
        return (), ()
    of = [stage.samples[sample] for stage in calibration.stages]
    return tuple(each.factor for each in of), tuple(each.split for each in of)


def simulated_app(
    profile: Profile,
    spec: AppSpec,
    plan: Plan,
    *,
    rate_per_s: float,
    config: AppConfig | None = None,
    hop: HopModel | None = None,
) -> SimulatedApp:
    """An app as it was profiled.

    Args:
        profile: measured; its residuals are what calls are drawn from.
        spec: the declaration that the profile is of.
        plan: served from the first moment on.
        rate_per_s: the forecast.
        config: how it is controlled.
        hop: of the cluster, where that differs from the profile's own.

    Raises:
        ArtifactError: a stage has no usable point.
    """
    return SimulatedApp(
        spec=spec,
        model=latency_model(profile, spec),
        hop=hop or hop_model(profile),
        workload=workload_of(profile, rate_per_s),
        kinds=kinds_of(profile),
        plan=plan,
        residuals=residuals(profile),
        hop_residuals=profile.calibration.hop_residuals if profile.calibration is not None and hop is None else (),
        config=config or AppConfig(),
        provenance=f"profile of {profile.date} on {profile.machine.cpu_model}{_corrected(profile)}",
    )


def _corrected(profile: Profile) -> str:
    return "" if profile.calibration is None else f", corrected by live runs of {profile.calibration.date}"


def checked(apps: Sequence[SimulatedApp]) -> dict[str, SimulatedApp]:
    """Apps by name.

    Raises:
        ConfigurationError: there is none, or two have one name.
    """
    found: dict[str, SimulatedApp] = {}
    for app in apps:
        if app.spec.name in found:
            raise ConfigurationError(f"app {app.spec.name!r} is given twice")
        found[app.spec.name] = app
    if not found:
        raise ConfigurationError("give at least one app to simulate")
    return found
