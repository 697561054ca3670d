"""From the options of ``grainwise load`` to the traffic that is offered, and to the URLs of its apps."""

from typing import Literal
from urllib.parse import urlsplit

from grainwise.cli.options import check_positive
from grainwise.domain.errors import ConfigurationError
from grainwise.domain.time import SECOND
from grainwise.workloads.arrivals import parse_steps
from grainwise.workloads.processes import Constant, Poisson, StepPhase, Steps
from grainwise.workloads.replaying import Replay
from grainwise.workloads.traffic import Stream, Traffic

_APP_PATH = "/v1/apps/"


def steady_traffic(url: str, rate_per_s: float, seconds: float, process: Literal["poisson", "constant"]) -> Traffic:
    """One rate for a while.

    Raises:
        ConfigurationError: a value is no number above 0.
    """
    check_positive("--rate", rate_per_s)
    check_positive("--seconds", seconds)
    arrivals = Poisson(rate_per_s) if process == "poisson" else Constant(rate_per_s)
    return Traffic(process, (Stream(app_of(url), arrivals),), seconds)


def stepped_traffic(url: str, steps: str, process: Literal["poisson", "constant"]) -> Traffic:
    """Rates one after the other.

    Raises:
        ConfigurationError: ``steps`` is not ``RATE:SECONDS,…``.
    """
    phases = tuple(StepPhase(phase.rate_per_s, phase.duration_us / SECOND) for phase in parse_steps(steps))
    return Traffic("steps", (Stream(app_of(url), Steps(phases, process)),))


def traced_traffic(url: str, trace: str, time_scale: float) -> Traffic:
    """Recorded arrivals, by the path or the name of a trace."""
    return Traffic("trace", (Stream(app_of(url), Replay(trace, time_scale=time_scale)),))


def app_of(url: str) -> str:
    """The app that a URL names; where it names none, its last part stands for the app."""
    path = urlsplit(url).path.rstrip("/")
    return path.rpartition("/")[2] or "app"


def urls_of(traffic: Traffic, url: str, *, from_file: bool) -> dict[str, str]:
    """Where the requests of each app are posted: at the URL itself where it names an app, else beside its server's other apps.

    Raises:
        ConfigurationError: ``url`` is no URL, or names one app where the traffic has several or another.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"{url!r} is no URL; give one like http://127.0.0.1:8000/v1/apps/APP")
    if not from_file:
        return dict.fromkeys(traffic.apps, url)
    base, separator, app = url.partition(_APP_PATH)
    if separator and traffic.apps != (app.rstrip("/"),):
        raise ConfigurationError(f"the workload is for {', '.join(traffic.apps)}; give the URL of the server, such as {base}")
    return {app: f"{base.rstrip('/')}{_APP_PATH}{app}" for app in traffic.apps}
