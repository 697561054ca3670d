"""One finished request as a row: what a recorder streams out and what a file of requests holds."""

from msgspec import Struct

from grainwise.domain.time import Instant, Micros


class RequestRow(Struct, frozen=True, gc=False):
    """A request that has ended.

    ``arrived_us`` counts from the start of the measured time. ``latency_us`` runs from the arrival to the answer or the
    rejection as the controller sees them, without what the client's side adds. ``outcome`` is ``ok``, the code of the
    rejection, or ``cancelled``; ``met`` whether it was answered within the SLO. ``plan`` is the granularity that it followed.
    For an answered request the parts along its critical path, ``queue_us + cold_us + service_us + hop_us``, add up to
    ``latency_us``; of another one they cover what had been done by then.
    """

    request: int
    app: str
    tenant: str
    arrived_us: Instant
    latency_us: Micros
    outcome: str
    met: bool
    queue_us: Micros
    service_us: Micros
    hop_us: Micros
    cold_us: Micros
    plan: str


COLUMNS: tuple[str, ...] = RequestRow.__struct_fields__
