"""Granularities in few characters: ``12|3`` is the first two stages in one function, the third alone."""

from collections.abc import Iterable

from msgspec import Struct

from reproduce.granularity.records import FUSED, SPLIT, Cell, Run

FIXED = "fixed:"
_MOST_DIGITS = 9


class Grains(Struct, frozen=True):
    """How the granularities of one app are written: ``digits`` has the digit of each stage, none where there are too many."""

    digits: dict[str, str]

    def short(self, way: str) -> str:
        """A way in few characters; one that is no fixed granularity by its own name."""
        grain = way.removeprefix(FIXED)
        groups = [group.split("+") for group in grain.split(" | ")]
        if way == grain or not all(stage in self.digits for group in groups for stage in group):
            return grain
        return "|".join("".join(self.digits[stage] for stage in group) for group in groups)

    def cut(self, way: str) -> float:
        """How much a way is cut: 0 is one function, 1 a function for every stage; half where its name does not tell."""
        grain = way.removeprefix(FIXED)
        if grain in (SPLIT, FUSED):
            return float(grain == SPLIT)
        cuts, joins = grain.count(" | "), grain.count("+")
        return cuts / (cuts + joins) if cuts + joins else 0.5

    @property
    def legend(self) -> str:
        """Which digit is which stage, empty where stages have none."""
        return ", ".join(f"{digit} {stage}" for stage, digit in self.digits.items())


def grains_of(profiles: str, app: str, cells: Iterable[Cell], runs: Iterable[Run]) -> Grains:
    """How the granularities of an app are written, by the split one among its runs; ``mixed`` cells name theirs themselves."""
    numbers = {cell.number for cell in cells if (cell.profiles, cell.app) == (profiles, app)}
    split = next((run.way.removeprefix(FIXED) for run in runs if run.is_split and run.cell in numbers), "")
    stages = split.split(" | ")
    is_short = app != "mixed" and 1 < len(stages) <= _MOST_DIGITS and "+" not in split
    return Grains({stage: str(at) for at, stage in enumerate(stages, start=1)} if is_short else {})
