"""From the options of ``grainwise simulate`` to trials: apps with profiles and first plans, cluster, traffic, policies."""

import sys
from pathlib import Path

import msgspec
from msgspec import Struct

from grainwise.cli.options import check_folder_of, check_positive, read_grain
from grainwise.cli.problems import Machines, problem_of, refuse_untrained
from grainwise.cli.profiles import find_shipped
from grainwise.cli.trial_notes import notes_of
from grainwise.cli.workload_file import is_file, read_workload
from grainwise.domain.app import AppSpec, Slo
from grainwise.domain.config import AppConfig
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.plan import Objective
from grainwise.policies.sets import policy_set
from grainwise.predictors.evaluator import EvaluatorName
from grainwise.profiles.artifact import Profile, check, digest, read
from grainwise.simulation.app import SimulatedApp, simulated_app
from grainwise.simulation.cluster import Cluster, this_machine
from grainwise.simulation.cluster_file import read_cluster
from grainwise.simulation.failure_plan import FailurePlan, parse_failures, read_failures
from grainwise.simulation.planners import plan
from grainwise.simulation.run import Scenario
from grainwise.simulation.trial import Trial
from grainwise.workloads.recorded import TraceSource
from grainwise.workloads.traffic import Traffic, mean_rate_per_s, span_us

DEFAULT_WORKLOAD = "poisson:5:60s"
LEAST_RATE_PER_S = 0.01
"""What an app that the traffic hardly asks for is planned for."""


class SimulateOptions(Struct, frozen=True):
    """What ``grainwise simulate`` was told. ``policies`` are ``NAME`` or ``NAME:GRAIN``, ``config`` is the rest of control."""

    apps: tuple[Path, ...]
    cluster: Path | None = None
    workload: str = DEFAULT_WORKLOAD
    policies: tuple[str, ...] = ("adaptive",)
    grain: str | None = None
    slo_ms: float | None = None
    objective: Objective = "provisioned"
    seed: int = 1
    replications: int = 1
    failures: str | None = None
    profiles: tuple[Path, ...] = ()
    is_cold: bool = False
    log: Path | None = None
    requests: Path | None = None
    html: Path | None = None
    out: Path | None = None
    config: AppConfig = msgspec.field(default_factory=AppConfig)

    def __post_init__(self) -> None:
        check_positive("--slo-ms", self.slo_ms)
        if self.replications < 1:
            raise ConfigurationError(f"--replications must be at least 1, not {self.replications}")
        repeated = [name for name in self.policies if self.policies.count(name) > 1]
        if repeated:
            raise ConfigurationError(f"--policy {repeated[0]} is given twice; give each once")
        for option, path in (("--html", self.html), ("--out", self.out), ("--requests", self.requests)):
            check_folder_of(option, path)
        if self.requests is not None and self.requests.suffix.lower() not in (".parquet", ".csv"):
            raise ConfigurationError(f"--requests {self.requests} is neither .parquet nor .csv; rename it")


class _App(Struct, frozen=True):
    path: Path
    spec: AppSpec
    profile: Profile
    rate_per_s: float


def make_trials(options: SimulateOptions, traces: TraceSource) -> list[Trial]:
    """A trial for each policy and seed, the seeds of a policy together.

    Raises:
        GrainwiseError: an app, a profile, a file or an option cannot be used, or an app cannot be planned on the cluster.
    """
    # Whatever is wrong is found before anything that takes time.
    settings = [_setting(text, options) for text in options.policies]
    before = list(sys.path)
    try:
        specs = _specs(options)
    finally:
        # Processes that simulate need no app, and a file beside one may have the name of a module of Python.
        sys.path[:] = before
    cluster = load_cluster(options.cluster)
    failures = load_failures(options.failures)
    traffic = read_workload(options.workload, tuple(specs))
    _check_apps(traffic, tuple(specs), options.workload)
    profiles = _profiles(options.profiles, specs)
    duration_us = span_us(traffic, traces)
    apps = [_App(path, spec, profiles[name], _rate(traffic, name, traces)) for name, (path, spec) in specs.items()]
    trials: list[Trial] = []
    several = len(settings) * options.replications > 1
    # The search alone does not ask who controls the app; what judges beyond it does.
    evaluator: EvaluatorName = options.config.evaluator
    planned_for: dict[tuple[str | None, str], tuple[SimulatedApp, ...]] = {}
    # Different granularities may look the same once they are a name of a file, so the settings are numbered.
    for number, (policy, (policies, grain)) in enumerate(zip(options.policies, settings, strict=True), 1):
        config = msgspec.structs.replace(options.config, policies=policies)
        key = grain, "" if evaluator == "analytic" else policies
        if key not in planned_for:
            planned_for[key] = tuple(_planned(app, cluster, options.objective, grain, config) for app in apps)
        planned = tuple(app.with_plan(app.plan, config) for app in planned_for[key])
        rated = [(one, app.rate_per_s) for one, app in zip(planned, apps, strict=True)]
        notes = notes_of(cluster, rated, traffic, traces) + _assumed(options)
        for seed in range(options.seed, options.seed + options.replications):
            own = f"{number}-{_slug(policy)}-{seed}"
            trials.append(
                Trial(
                    scenario=Scenario(cluster, planned, duration_us, seed, failures, not options.is_cold),
                    traffic=traffic,
                    policy=policy if evaluator == "analytic" else f"{policy} by {evaluator}",
                    hardware=_hardware(cluster, apps),
                    digests=_digests(apps, planned),
                    notes=notes,
                    requests=_own_file(options.requests, own if several else ""),
                    log=options.log / own if options.log is not None and several else options.log,
                )
            )
    return trials


def load_cluster(path: Path | None) -> Cluster:
    """The cluster of a file, or this machine.

    Raises:
        ConfigurationError: the file cannot be read or used.
    """
    if path is None:
        from grainwise.runtimes.local.machine import this_node

        return this_machine(this_node())
    return read_cluster(_read(path, "--cluster"), str(path))


def load_failures(text: str | None) -> FailurePlan:
    """The failures of a file or a line; none without one.

    Raises:
        ConfigurationError: it cannot be read or used.
    """
    if text is None:
        return FailurePlan()
    return read_failures(_read(Path(text), "--failures"), text) if is_file(text) else parse_failures(text)


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{option} {path} cannot be read: {error.strerror}; give the path of a file") from error


def _check_apps(traffic: Traffic, apps: tuple[str, ...], text: str) -> None:
    missing = [app for app in traffic.apps if app not in apps]
    if missing:
        raise ConfigurationError(
            f"{text} asks for the app {missing[0]!r}, which is not given (given: {', '.join(apps)}); give its file too"
        )


def _setting(text: str, options: SimulateOptions) -> tuple[str, str | None]:
    """Name of the set and granularity of ``NAME`` or ``NAME:GRAIN``."""
    name, _, grain = text.partition(":")
    policy_set(name)
    return name, grain.strip() or options.grain


def _specs(options: SimulateOptions) -> dict[str, tuple[Path, AppSpec]]:
    from grainwise.cli.commands import read_spec

    found: dict[str, tuple[Path, AppSpec]] = {}
    for path in options.apps:
        spec = read_spec(path)
        if spec.name in found:
            raise ConfigurationError(f"{path} and {found[spec.name][0]} are both the app {spec.name!r}; give it once")
        if options.slo_ms is not None:
            spec = msgspec.structs.replace(spec, slo=Slo(options.slo_ms, spec.slo.target))
        found[spec.name] = (path, spec)
    return found


def _profiles(given: tuple[Path, ...], specs: dict[str, tuple[Path, AppSpec]]) -> dict[str, Profile]:
    named: dict[str, Profile] = {}
    for path in given:
        profile = read(_read(path, "--profile"))
        if profile.app not in specs:
            raise ConfigurationError(f"--profile {path} is of the app {profile.app!r}, which is not given; give its file too")
        named[profile.app] = profile
    found: dict[str, Profile] = {}
    for name, (path, spec) in specs.items():
        profile = named.get(name) or find_shipped(path)
        check(profile, spec=spec, device_class=None)
        found[name] = profile
    return found


def _rate(traffic: Traffic, app: str, traces: TraceSource) -> float:
    return max(LEAST_RATE_PER_S, mean_rate_per_s(traffic, app, traces))


def _planned(app: _App, cluster: Cluster, objective: Objective, grain: str | None, config: AppConfig) -> SimulatedApp:
    """An app with the plan that it is served with at first."""
    profile, spec = app.profile, app.spec
    problem = problem_of(
        spec,
        profile,
        Machines(cluster.domain_nodes, cluster.capabilities, cluster.prices, cluster.hop),
        rate_per_s=app.rate_per_s,
        objective=objective,
        grain=read_grain(spec, grain),
        config=config,
    )
    refuse_untrained(problem)
    return simulated_app(profile, spec, plan(problem).winner.plan, rate_per_s=app.rate_per_s, hop=cluster.hop)


def _hardware(cluster: Cluster, apps: list[_App]) -> str:
    cores = sum(each.node.cpu_cores for each in cluster.nodes)
    count = len(cluster.nodes)
    classes = ", ".join(dict.fromkeys(app.profile.device_class for app in apps))
    return f"{cluster.name} ({count} node{'s' * (count > 1)}, {cores:g} cores), service times measured on {classes}"


def _digests(apps: list[_App], planned: tuple[SimulatedApp, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for app, one in zip(apps, planned, strict=True):
        name = app.spec.name
        found |= {f"app {name}": app.spec.digest, f"profile {name}": digest(app.profile), f"plan {name}": one.plan.id}
    return found


def _assumed(options: SimulateOptions) -> tuple[str, ...]:
    """What the options assume."""
    found = []
    if options.is_cold:
        found.append("requests come from the first moment on, before any instance is ready")
    if options.failures:
        found.append(f"failures: {options.failures}")
    return tuple(found)


def _slug(text: str) -> str:
    return "".join(each if each.isalnum() or each in "-_" else "-" for each in text).strip("-")


def _own_file(path: Path | None, own: str) -> Path | None:
    return path if path is None or not own else path.with_name(f"{path.stem}-{own}{path.suffix}")
