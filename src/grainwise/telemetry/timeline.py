"""A run over time in at most 600 bins, whatever its length: the sums as they stood at the end of each bin."""

from msgspec import Struct

from grainwise.domain.time import SECOND, Instant, Micros
from grainwise.telemetry.result import Timeline

MAX_BINS = 600
FIRST_WIDTH_US: Micros = SECOND // 10


class Standing(Struct, frozen=True, gc=False):
    """Sums of an app since the start, and what stood, at one instant."""

    at: Instant
    offered: int
    answered: int
    met: int
    in_flight: int
    billed_usd: float
    provisioned_usd: float
    instances: dict[str, int]
    grain: str


class Bins:
    """The instants at which bins end. When there are 600, each second one is dropped and bins become twice as wide."""

    __slots__ = ("count", "start", "width_us")

    def __init__(self, start: Instant) -> None:
        self.start = start
        self.width_us = FIRST_WIDTH_US
        self.count = 0

    @property
    def next_end(self) -> Instant:
        """When the present bin ends."""
        return self.start + (self.count + 1) * self.width_us

    def end(self) -> bool:
        """The present bin has ended; True where every second standing is to be dropped."""
        self.count += 1
        if self.count < MAX_BINS:
            return False
        self.count //= 2
        self.width_us *= 2
        return True


def thin(standings: list[Standing]) -> None:
    """Keep the second, the fourth and so on."""
    standings[:] = standings[1::2]


def render_timeline(first: Standing, standings: list[Standing], last: Standing, width_us: Micros) -> Timeline:
    """Differences between standings; ``last`` closes the bin under way, if it has any length."""
    points = [*standings]
    if not points or last.at > points[-1].at:
        points.append(last)
    else:
        points[-1] = last
    start = first.at
    before = first
    names = sorted({name for point in points for name in point.instances})
    offered, answered, met, billed, provisioned = [], [], [], [], []
    for point in points:
        hours = max(point.at - before.at, 1) / SECOND / 3600
        offered.append(point.offered - before.offered)
        answered.append(point.answered - before.answered)
        met.append(point.met - before.met)
        billed.append((point.billed_usd - before.billed_usd) / hours)
        provisioned.append((point.provisioned_usd - before.provisioned_usd) / hours)
        before = point
    return Timeline(
        width_s=width_us / SECOND,
        end_s=tuple((point.at - start) / SECOND for point in points),
        offered=tuple(offered),
        answered=tuple(answered),
        met=tuple(met),
        in_flight=tuple(point.in_flight for point in points),
        instances={name: tuple(point.instances.get(name, 0) for point in points) for name in names},
        billed_usd_per_hour=tuple(billed),
        provisioned_usd_per_hour=tuple(provisioned),
        grain=tuple(point.grain for point in points),
    )
