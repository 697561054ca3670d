"""The grid of the study as it is committed: axes, levels, seeds, sizes, rules, and every change of them with its reason."""

import hashlib
import tomllib
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from grainwise.domain.errors import ConfigurationError
from reproduce.granularity.records import Billing, Change

GRID_FILE = Path(__file__).parent / "grid.toml"

Load = Literal["light", "normal", "busy", "below_cliff", "cliff", "above_cliff"]
Burstiness = Literal["steady", "bursts"]
Sharing = Literal["cpu", "gpu_soft", "gpu_slices"]
MIXED = 0
"""The level of the axis ``app`` at which the first four apps of a profile set share the machines."""


class _Strict(Struct, frozen=True, forbid_unknown_fields=True):
    """Refuses what a grid file does not know."""


class Study(_Strict, frozen=True):
    """What holds for every size; see the comments of the grid file."""

    headline_hop: str
    headline_billing: Billing
    selection_seeds: tuple[int, ...]
    evaluation_seeds: tuple[int, ...]
    sample_seed: int
    usable_attainment: float
    same_attainment: float
    tie_cost: float


class Axes(_Strict, frozen=True):
    """The levels of each axis."""

    hop: tuple[str, ...]
    slo_factor: tuple[float, ...]
    weights: tuple[float, ...]
    billing: tuple[Billing, ...]
    load: tuple[Load, ...]
    burstiness: tuple[Burstiness, ...]
    app: tuple[int, ...]
    nodes: tuple[int, ...]
    sharing: tuple[Sharing, ...]

    @property
    def cells(self) -> int:
        """How many combinations there are."""
        product = 1
        for name in self.__struct_fields__:
            product *= len(getattr(self, name))
        return product


class Bisection(_Strict, frozen=True):
    """How the saturation of split and its cliff are found."""

    attainment: float
    slo_factor: float
    requests: int
    resolution: float
    seed: int


class Loads(_Strict, frozen=True):
    """What a level of load is, over the saturation of split or over its cliff."""

    light: float
    normal: float
    busy: float
    below_cliff: float
    cliff: float
    above_cliff: float

    def fraction(self, load: Load) -> float:
        """Of the level."""
        return float(getattr(self, load))


class Bursts(_Strict, frozen=True):
    """Rates over the mean one, the part of the time that is high, and how many bursts a run has."""

    high: float
    low: float
    fraction: float
    count: int
    least_period_s: float

    def __post_init__(self) -> None:
        """Refuse bursts that change the mean rate.

        Raises:
            ConfigurationError: the mean of both rates is not 1.
        """
        mean = self.high * self.fraction + self.low * (1 - self.fraction)
        if abs(mean - 1) > 1e-9:
            raise ConfigurationError(f"bursts have a mean rate of {mean:g}; let high and low average to 1 over their times")


class Planning(_Strict, frozen=True):
    """In which steps a planner that is asked again in a run sees a forecast."""

    rate_step: float
    scv_step: float
    same_fraction: float


class CapacityRule(_Strict, frozen=True):
    """How capacities are found, and where."""

    attainment: float
    resolution: float
    seed: int
    hop: str
    nodes: int


class MapAxes(_Strict, frozen=True):
    """The levels of the cells at the headline hop and billing."""

    app: tuple[int, ...]
    slo_factor: tuple[float, ...]
    load: tuple[Load, ...]
    burstiness: tuple[Burstiness, ...]
    weights: tuple[float, ...]
    nodes: tuple[int, ...]
    sharing: tuple[Sharing, ...]


class Size(_Strict, frozen=True):
    """A declared part of the grid; see the comments of the grid file."""

    requests: int
    least_s: float
    most_requests: int
    selection_seeds: int
    evaluation_seeds: int
    sample: int
    published: int
    ablations: int
    rollout: int
    capacity_requests: int
    capacity_slo_factors: tuple[float, ...]
    capacity_apps: tuple[int, ...]
    capacity_sharing: tuple[Sharing, ...]
    capacity_published: tuple[str, ...]
    map: MapAxes


class Grid(_Strict, frozen=True):
    """The whole file."""

    study: Study
    axes: Axes
    profiles: dict[Sharing, str]
    bisection: Bisection
    loads: Loads
    bursts: Bursts
    planning: Planning
    capacity: CapacityRule
    sizes: dict[str, Size]
    changes: tuple[Change, ...]

    @property
    def figures_sha256(self) -> str:
        """The digest of everything but the list of changes."""
        figures = msgspec.structs.replace(self, changes=())
        return hashlib.sha256(msgspec.json.encode(figures, order="sorted")).hexdigest()

    @property
    def changed(self) -> str:
        """A sentence where the figures are not those of the last listed change; else empty."""
        last = self.changes[-1].sha256 if self.changes else ""
        found = self.figures_sha256
        if found == last:
            return ""
        return (
            f"the grid has the digest {found[:12]}, its last listed change {last[:12] or 'none'}: "
            "it was changed without a listed reason"
        )

    def size(self, name: str) -> Size:
        """The size of this name.

        Raises:
            ConfigurationError: there is none.
        """
        if name not in self.sizes:
            raise ConfigurationError(f"the grid has no size {name!r}: use one of {', '.join(self.sizes)}")
        return self.sizes[name]


def read_grid(path: Path = GRID_FILE) -> Grid:
    """The grid of a file.

    Raises:
        ConfigurationError: it cannot be read, or a field of it is wrong.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Grid)
    except (OSError, tomllib.TOMLDecodeError, msgspec.MsgspecError) as error:
        raise ConfigurationError(f"{path} is no grid of the study: {error}") from error
