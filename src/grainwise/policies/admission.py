"""Accept or reject at arrival, with a reason. Queues are bounded; an app may refuse what cannot meet its deadline."""

from msgspec import Struct

from grainwise.domain.because import Because
from grainwise.domain.time import MILLISECOND, Instant, Micros


class AdmissionView(Struct, frozen=True, gc=False):
    """Accepted requests in flight and their bound, and the predicted wait and remaining work in microseconds."""

    in_flight: int
    max_requests: int
    reject_late: bool
    deadline: Instant
    wait_us: float
    work_us: float


class Accept(Struct, frozen=True):
    """Take the request."""


class Refuse(Struct, frozen=True):
    """Reject it; the client may come back after ``retry_after_us``."""

    is_late: bool
    retry_after_us: Micros
    because: Because


ACCEPT = Accept()


def decide(view: AdmissionView, now: Instant) -> Accept | Refuse:
    """Refuse above the bound, and, where the app asks for it, refuse what would miss its deadline anyway."""
    if view.in_flight >= view.max_requests:
        retry = max(MILLISECOND, int(view.wait_us))
        return Refuse(
            False,
            retry,
            Because("the bound on accepted requests is reached", (("in_flight", view.in_flight), ("bound", view.max_requests))),
        )
    if view.reject_late and now + view.wait_us + view.work_us > view.deadline:
        facts = (("wait_ms", view.wait_us / 1000), ("work_ms", view.work_us / 1000), ("left_ms", (view.deadline - now) / 1000))
        return Refuse(True, max(MILLISECOND, int(view.wait_us)), Because("it cannot meet its deadline", facts))
    return ACCEPT
