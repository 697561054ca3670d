"""What many plans of one scenario have in common, each derived once: facts of groups, functions under the forecast."""

from grainwise.predictors.groups import GroupFacts
from grainwise.predictors.samples import Samples
from grainwise.predictors.station import Station

FunctionKey = tuple[int, float, int, int, float]
"""A function's stages as a mask, CPU share, batch, instances and share of a device."""


class Memo:
    """Of one scenario at its forecast rate; never shared between two.

    Attributes:
        facts: by the mask of a group.
        stations: functions under the forecast.
        taken: for each stage 1 for the requests that run it and 0 for others, ``None`` for a stage that all run.
        own_us: samples of what each of them adds to a request by itself, waiting for cores that others hold apart.
    """

    def __init__(self) -> None:
        self.facts: dict[int, GroupFacts] = {}
        self.stations: dict[FunctionKey, Station] = {}
        self.own_us: dict[FunctionKey, Samples] = {}
        self.taken: list[Samples | None] | None = None
