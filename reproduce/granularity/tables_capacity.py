"""Capacity at 99 % attainment: of adaptive beside every baseline, for each app and SLO."""

from collections.abc import Sequence
from statistics import fmean

from msgspec import Struct

from reproduce.granularity.records import ADAPTIVE, Capacity, Group
from reproduce.granularity.tables import Column, StudyTable


class WayCapacity(Struct, frozen=True):
    """The capacity of a way, the mean over seeds."""

    way: str
    group: Group
    per_s: float
    is_split: bool
    is_fused: bool


class Place(Struct, frozen=True):
    """One app under one SLO with the capacity of every way."""

    profiles: str
    app: str
    slo_factor: float
    hop: str
    billing: str
    ways: tuple[WayCapacity, ...]

    def of(self, way: str) -> float | None:
        """The capacity of a way, None where it was not sought."""
        return next((each.per_s for each in self.ways if each.way == way), None)

    @property
    def split(self) -> float | None:
        """That of a function for every stage."""
        return next((each.per_s for each in self.ways if each.is_split), None)

    @property
    def fused(self) -> float | None:
        """That of one function."""
        return next((each.per_s for each in self.ways if each.is_fused), None)

    def most(self, *groups: Group) -> WayCapacity | None:
        """The way of these groups with the highest capacity, of equals the first."""
        own = [each for each in self.ways if each.group in groups]
        return max(own, key=lambda each: each.per_s) if own else None


def places(capacities: Sequence[Capacity]) -> list[Place]:
    """The capacities by what they are of, in the order in which they were found."""
    found: dict[tuple[str, str, float, str, str], dict[str, list[Capacity]]] = {}
    for each in capacities:
        ways = found.setdefault((each.profiles, each.app, each.slo_factor, each.hop, each.billing), {})
        ways.setdefault(each.way, []).append(each)
    return [
        Place(
            *place,
            tuple(
                WayCapacity(
                    way, own[0].group, fmean(each.per_s for each in own), own[0].is_split, own[0].is_fused
                )
                for way, own in ways.items()
            ),
        )
        for place, ways in found.items()
    ]  # fmt: skip


def ratio(first: float | None, second: float | None) -> float | None:
    """The first over the second, None where that is no number."""
    return first / second if first is not None and second else None


def capacity_table(capacities: Sequence[Capacity]) -> StudyTable:
    """A row for each app and SLO: adaptive beside split, fused, the best fixed one and the best published scheduler."""
    columns = (
        Column("app"), Column("hop"), Column("SLO / L", "number"), Column("adaptive /s", "number"),
        Column("split /s", "number"),
        Column("fused /s", "number"), Column("best fixed /s", "number"), Column("which"), Column("best published /s", "number"),
        Column("which"), Column("adaptive / split", "ratio"), Column("adaptive / best baseline", "ratio"),
    )  # fmt: skip
    rows = []
    for place in places(capacities):
        ours, fixed, published = place.of(ADAPTIVE), place.most("fixed"), place.most("configuration", "reconstructed")
        best = place.most("fixed", "configuration", "reconstructed")
        rows.append(
            (
                place.app, place.hop, place.slo_factor, ours, place.split, place.fused,
                fixed.per_s if fixed else None, fixed.way.removeprefix("fixed:") if fixed else None,
                published.per_s if published else None, published.way if published else None,
                ratio(ours, place.split), ratio(ours, best.per_s if best else None),
            )
        )  # fmt: skip
    note = "Requests per second at 99 % attainment, by bisection of the rate; means over seeds. Simulated."
    return StudyTable("capacity", "Capacity at 99 % attainment", columns, tuple(rows), note)


def capacity_by_way(capacities: Sequence[Capacity]) -> StudyTable:
    """A row for each app, SLO and way."""
    columns = (
        Column("app"), Column("profiles"), Column("hop"), Column("billing"), Column("SLO / L", "number"), Column("way"),
        Column("group"), Column("requests/s", "number"), Column("over split", "ratio"),
    )  # fmt: skip
    rows = tuple(
        (place.app, place.profiles, place.hop, place.billing, place.slo_factor, way.way, way.group, way.per_s,
         ratio(way.per_s, place.split))
        for place in places(capacities)
        for way in place.ways
    )  # fmt: skip
    return StudyTable("capacity_by_way", "Capacity at 99 % attainment of every way", columns, rows)
