"""Predictions against live data: of each stage the latest calls, and whether they contradict its profile."""

from statistics import median

from msgspec import Struct

from grainwise.predictors.latency import StageModel

WINDOW = 500
"""So many of the latest calls are compared."""
FEWEST = 50
"""With fewer calls nothing is said against a profile."""
RATIO_BOUNDS = (0.5, 2.0)
SLACK_US = 100.0
"""A median difference below it says nothing against a profile, however short the stage: it is the machine's noise."""
MAX_SHARES = 64


class StageAccuracy(Struct, frozen=True):
    """A stage's latest calls against its model.

    ``ratio`` is the median of measured over predicted time, ``error`` the mean of |measured - predicted| / predicted; both are
    None without calls. ``is_stale``: at least 50 calls, and the ratio is not within 0.5 to 2.
    """

    stage: str
    calls: int
    ratio: float | None
    error: float | None
    is_stale: bool


class Accuracy:
    """The latest calls of one stage and what ``model`` predicts for them. ``add`` is on the hot path."""

    __slots__ = ("_at", "_factors", "_measured", "_predicted", "model")

    def __init__(self, model: StageModel) -> None:
        self.model = model
        self._factors: dict[float, float] = {}
        self._measured: list[float] = []
        self._predicted: list[float] = []
        self._at = 0

    def add(self, items: int, size_sum: float, cpu_cores: float, duration_us: float) -> None:
        """Compare a call of ``items`` items whose sizes add up to ``size_sum``, which took ``duration_us`` on ``cpu_cores``."""
        factor = self._factors.get(cpu_cores)
        if factor is None:
            factor = self._factor(cpu_cores)
        model = self.model
        # As StageModel.predict, without the object.
        predicted = (model.intercept_us + model.per_item_us * items + model.per_size_us * size_sum) * factor
        if predicted <= 0.0:
            return
        if len(self._measured) < WINDOW:
            self._measured.append(duration_us)
            self._predicted.append(predicted)
            return
        at = self._at
        self._measured[at] = duration_us
        self._predicted[at] = predicted
        self._at = at + 1 if at + 1 < WINDOW else 0

    def _factor(self, cpu_cores: float) -> float:
        if len(self._factors) >= MAX_SHARES:
            self._factors.clear()
        factor = self._factors[cpu_cores] = self.model.share_factor(cpu_cores)
        return factor

    def describe(self, stage: str) -> StageAccuracy:
        """The comparison as it stands."""
        calls = len(self._measured)
        if not calls:
            return StageAccuracy(stage, 0, None, None, False)
        pairs = list(zip(self._measured, self._predicted, strict=True))
        ratio = median(measured / predicted for measured, predicted in pairs)
        gaps = [abs(measured - predicted) for measured, predicted in pairs]
        error = sum(gap / predicted for gap, (_, predicted) in zip(gaps, pairs, strict=True)) / calls
        lowest, highest = RATIO_BOUNDS
        is_stale = calls >= FEWEST and not lowest <= ratio <= highest and median(gaps) > SLACK_US
        return StageAccuracy(stage, calls, round(ratio, 4), round(error, 4), is_stale)
