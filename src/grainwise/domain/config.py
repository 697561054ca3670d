"""The few knobs of an app under control. Unknown keys are refused; everything else is derived."""

from typing import Literal

from msgspec import Struct

from grainwise.domain.time import SECOND, Micros


class AppConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How an app is controlled.

    ``max_requests`` bounds the accepted requests in flight, above it arrivals are rejected with 429. ``keep_alive_us`` is how
    long an instance above a function's minimum may stay idle. ``replan_us`` is the interval of the regranulation policy,
    0 to re-granulate only on command. ``wait_bound_fraction`` is the part of a request's slack that batching may use.
    ``patience_us`` is the deadline of a request whose client names none: the SLO orders the work, this ends it.
    ``policies`` names the set of policies that decides, see ``policies.sets``. ``evaluator`` is the model by which plans are
    judged, see ``predictors.evaluator``. After a change of granularity ``dwell_us`` pass before the next. ``late`` says what is
    done about a request that cannot meet its deadline any more: run it as cheaply or as fast as possible, or drop it.
    """

    max_requests: int = 1024
    keep_alive_us: Micros = 60 * SECOND
    scale_to_zero: bool = False
    replan_us: Micros = 5 * SECOND
    replan_gain_fraction: float = 0.05
    wait_bound_fraction: float = 0.1
    patience_us: Micros = 30 * SECOND
    policies: str = "adaptive"
    evaluator: Literal["analytic", "learned", "rollout"] = "analytic"
    dwell_us: Micros = 30 * SECOND
    late: Literal["cheapest", "fastest", "drop"] = "cheapest"
