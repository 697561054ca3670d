"""What ``GET /status`` of the admin API shows of a server: what it is, what it costs, what decides and what it last decided."""

from msgspec import Struct

from grainwise.control.status import AppStatus
from grainwise.domain.config import AppConfig
from grainwise.domain.time import SECOND
from grainwise.telemetry.accuracy import StageAccuracy


class CostStatus(Struct, frozen=True):
    """Money since the start, by the catalogue that ``prices`` names."""

    billed_usd: float
    provisioned_usd: float
    prices: str


class ControlStatus(Struct, frozen=True):
    """By what the app is controlled and what it last came to: why a plan was asked for or not, the verdict, the change."""

    policies: str
    evaluator: str
    late: str
    dwell_s: float
    grain: str
    plan_id: str
    last_ask: str
    last_verdict: str
    last_change: str
    last_refusal: str


class ServerStatus(Struct, frozen=True):
    """The server as ``GET /status`` shows it.

    ``predictions`` compares each stage's latest calls with the profile; ``profile_is_stale`` where one contradicts it.
    """

    app: str
    uptime_s: float
    in_flight: int
    is_draining: bool
    memory_mib: float
    live_bytes: int
    copied_bytes: int
    log: str
    share_mechanism: str
    device_class: str
    profile_device_class: str
    profile_is_of_this_machine: bool
    cost: CostStatus
    control: ControlStatus
    profile_is_stale: bool = False
    predictions: tuple[StageAccuracy, ...] = ()


def control_status(config: AppConfig, now: AppStatus) -> ControlStatus:
    """What controls an app, and what that last came to."""
    return ControlStatus(
        config.policies,
        config.evaluator,
        config.late,
        config.dwell_us / SECOND,
        now.grain,
        now.plan_id,
        now.last_ask,
        now.last_verdict,
        now.last_change,
        now.last_refusal,
    )
