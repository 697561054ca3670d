"""The forecast: how many requests come and what a mean request looks like."""

from msgspec import Struct


class Workload(Struct, frozen=True):
    """The forecast: requests per second and what a mean request looks like.

    Per stage of the graph: ``items`` executions per request (fan-outs and branches counted), ``item_size`` mean size, and
    ``output_bytes`` mean length of one item's output. ``input_bytes`` is the mean length of each entry value.
    ``variants`` are kinds of requests, equally frequent: the work of each stage relative to the mean request.
    ``arrival_scv`` is the squared coefficient of variation of the inter-arrival times (1 for Poisson).
    """

    rate_per_s: float
    items: tuple[float, ...]
    item_size: tuple[float, ...]
    output_bytes: tuple[float, ...]
    input_bytes: tuple[float, ...]
    arrival_scv: float = 1.0
    variants: tuple[tuple[float, ...], ...] = ()
