"""What ``grainwise calibrate`` can be told."""

import math
from pathlib import Path

from msgspec import Struct

from grainwise.cli.options import check_positive
from grainwise.domain.errors import ConfigurationError


class CalibrateOptions(Struct, frozen=True):
    """What ``grainwise calibrate`` was told. Levels and gate are percent of capacity; ``rate_per_s`` is what is planned for."""

    app: Path
    levels: tuple[float, ...] = (30.0, 60.0, 85.0)
    gate: tuple[float, ...] = (30.0, 60.0, 85.0)
    runs: int = 5
    seconds: float = 30.0
    fit_seconds: float = 60.0
    cores: float = 1.5
    capacity_per_s: float | None = None
    capacity_seconds: float = 60.0
    rate_per_s: float | None = None
    grain: str | None = None
    slo_ms: float | None = None
    profile: Path | None = None
    profile_budget: float = 60.0
    seed: int = 1
    apply: bool = False

    def __post_init__(self) -> None:
        for option, value in (
            ("--seconds", self.seconds),
            ("--fit-seconds", self.fit_seconds),
            ("--capacity", self.capacity_per_s),
            ("--capacity-seconds", self.capacity_seconds),
            ("--rate", self.rate_per_s),
            ("--slo-ms", self.slo_ms),
            ("--cores", self.cores),
        ):
            check_positive(option, value)


def parse_levels(option: str, text: str) -> tuple[float, ...]:
    """``"30,60,85"`` as numbers, each once.

    Raises:
        ConfigurationError: a part is no number above 0.
    """
    found: list[float] = []
    for part in text.split(",") if text.strip() else ():
        try:
            value = float(part)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise ConfigurationError(f"{option} has {part!r}; give percentages of capacity, as in 30,60,85")
        found.append(value)
    return tuple(dict.fromkeys(found))
