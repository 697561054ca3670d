"""What live runs came to: a table for each app, and whether adaptive holds beside the best and the worst fixed granularity."""

import statistics
from collections.abc import Sequence

from msgspec import Struct

from benchmarks.measuring import Check, Table

FIXED = "fixed: "
MOST_POINTS, MOST_COST = 3.0, 10.0
SHOWN = 4
SAME_POINTS = 1.0
"""Attainments that differ by no more are called the same."""


class Outcome(Struct, frozen=True):
    """One run. ``latencies_ms`` are those of right answers, in the order in which requests were due; None for all others.

    ``met`` counts right answers within the SLO at the client, ``controller_met`` answers within it at the controller. Costs are
    those of the time from the first request to the end of the run. ``extents`` counts the invocations of each.
    """

    app: str
    way: str
    round: int
    offered: int
    right: int
    met: int
    p50_ms: float
    p95_ms: float
    send_delay_ms: float
    first_error: str
    controller_offered: int
    controller_met: int
    controller_p95_ms: float
    provisioned_usd_per_hour: float
    billed_usd_per_hour: float
    changes: int
    cold_starts: int
    grain: str
    verdict: str
    extents: dict[str, int]
    latencies_ms: tuple[float | None, ...]
    foreign_cores: float = 0.0


class Setting(Struct, frozen=True):
    """One app with its runs. ``roles`` has every way and what its granularity stands for."""

    app: str
    slo_ms: float
    rate_per_s: float
    capacity_per_s: float
    roles: dict[str, tuple[str, ...]]
    outcomes: tuple[Outcome, ...]

    def of(self, way: str) -> list[Outcome]:
        """The runs of a way, round by round."""
        return sorted((each for each in self.outcomes if each.way == way), key=lambda each: each.round)


def attainment(runs: Sequence[Outcome]) -> float:
    """The part of all offered requests that was answered right and in time."""
    return sum(run.met for run in runs) / max(1, sum(run.offered for run in runs))


def cost(runs: Sequence[Outcome]) -> float:
    """Mean provisioned USD per hour."""
    return statistics.fmean(run.provisioned_usd_per_hour for run in runs)


def table(setting: Setting, note: str) -> Table:
    """A row for each way."""
    columns = (
        "way",
        "granularity",
        "in time, client / controller",
        "p50 / p95 ms",
        "provisioned / billed $/h",
        "changes / starts",
        "extents",
        "right",
        "foreign cores",
    )
    rows = tuple(_row(way, roles, setting.of(way)) for way, roles in setting.roles.items())
    title = (
        f"{setting.app} within {setting.slo_ms:g} ms at {setting.rate_per_s:.1f} requests/s on average, "
        f"{setting.capacity_per_s:.1f} at capacity (measured)"
    )
    return Table(title, columns, rows, note)


def _row(way: str, roles: Sequence[str], runs: Sequence[Outcome]) -> tuple[str, ...]:
    by_controller = sum(run.controller_met for run in runs) / max(1, sum(run.controller_offered for run in runs))
    extents = {extent for run in runs for extent in run.extents}
    grains = dict.fromkeys(run.grain for run in runs)
    return (
        ", ".join(roles) or way,
        way.removeprefix(FIXED) if roles else "in the end " + "; ".join(grains),
        f"{attainment(runs):.1%} / {by_controller:.1%}",
        f"{statistics.fmean(run.p50_ms for run in runs):.0f} / {statistics.fmean(run.p95_ms for run in runs):.0f}",
        f"{cost(runs):.4f} / {statistics.fmean(run.billed_usd_per_hour for run in runs):.4f}",
        f"{statistics.fmean(run.changes for run in runs):.1f} / {statistics.fmean(run.cold_starts for run in runs):.1f}",
        str(len(extents)),
        f"{sum(run.right for run in runs)} of {sum(run.offered for run in runs)}",
        f"{statistics.median(run.foreign_cores for run in runs):.2f}",
    )


def simulated_table(app: str, found: dict[str, tuple[float, float]], rounds: int) -> Table:
    """The granularities that are best in simulation, with fused and split: attainment, provisioned USD per hour."""
    most = max(attained for attained, _ in found.values())
    by_rank = sorted(found, key=lambda name: (found[name][0] < most - SAME_POINTS / 100, found[name][1]))
    ends = (min(found, key=lambda name: name.count(" | ")), max(found, key=lambda name: name.count(" | ")))
    shown = [name for at, name in enumerate(by_rank) if at < SHOWN or name in ends]
    rows = tuple((name, f"{found[name][0]:.1%}", f"{found[name][1]:.4f}") for name in shown)
    note = (
        f"the same arrivals and requests as in the first {rounds} round{'s' if rounds > 1 else ''}, beside nothing else; "
        f"{len(shown)} of {len(found)} granularities: those within a point of the best by cost, with fused and split"
    )
    return Table(f"{app}, every granularity fixed (simulated)", ("granularity", "in time", "provisioned $/h"), rows, note)


def checks(setting: Setting) -> list[Check]:
    """Adaptive beside the best and the worst fixed granularity, both told in hindsight from these runs, and right answers."""
    fixed = [way for way in setting.roles if way.startswith(FIXED)]
    adaptive = [way for way in setting.roles if way not in fixed]
    best, worst = best_of(setting, fixed), worst_of(setting, fixed)
    found = []
    for way in adaptive:
        runs, theirs, last = setting.of(way), setting.of(best), setting.of(worst)
        points, error = difference(runs, theirs, setting.slo_ms)
        dearer = 100 * (cost(runs) / cost(theirs) - 1)
        found.append(
            Check(
                f"{setting.app}, {way}, beside the best fixed one ({best.removeprefix(FIXED)})",
                f"{points:+.1f} ± {error:.1f} points, {dearer:+.1f} % cost",
                f">= -{MOST_POINTS:g} points, <= +{MOST_COST:g} % cost",
                points >= -MOST_POINTS and dearer <= MOST_COST,
            )
        )
        if worst == best:
            continue
        points, error = difference(runs, last, setting.slo_ms)
        dearer = 100 * (cost(runs) / cost(last) - 1)
        found.append(
            Check(
                f"{setting.app}, {way}, beside the worst fixed one ({worst.removeprefix(FIXED)})",
                f"{points:+.1f} ± {error:.1f} points, {dearer:+.1f} % cost",
                f"> 0 points, or cheaper within {SAME_POINTS:g} point",
                points > 0 or (points >= -SAME_POINTS and dearer < 0),
            )
        )
    right, offered = sum(each.right for each in setting.outcomes), sum(each.offered for each in setting.outcomes)
    found.append(Check(f"{setting.app}, right answers", f"{right} of {offered}", "all", right == offered))
    return found


def best_of(setting: Setting, ways: Sequence[str]) -> str:
    """The cheapest of those that attain about as much as any."""
    most = max(attainment(setting.of(way)) for way in ways)
    near = [way for way in ways if attainment(setting.of(way)) >= most - SAME_POINTS / 100]
    return min(near, key=lambda way: cost(setting.of(way)))


def worst_of(setting: Setting, ways: Sequence[str]) -> str:
    """The dearest of those that attain about as little as any."""
    least = min(attainment(setting.of(way)) for way in ways)
    near = [way for way in ways if attainment(setting.of(way)) <= least + SAME_POINTS / 100]
    return max(near, key=lambda way: cost(setting.of(way)))


def difference(ours: Sequence[Outcome], theirs: Sequence[Outcome], slo_ms: float) -> tuple[float, float]:
    """Points of attainment by which one is above the other, and their error at 95 %.

    The requests are the same, so only those tell that one of the two answered in time and the other did not (McNemar,
    Psychometrika 12, 1947). Lateness comes in bursts, so that the true error is larger.
    """
    gained = lost = count = 0
    for run, other in zip(ours, theirs, strict=True):
        for mine, yours in zip(_in_time(run, slo_ms), _in_time(other, slo_ms), strict=True):
            gained += mine and not yours
            lost += yours and not mine
            count += 1
    return 100 * (gained - lost) / max(1, count), 196 * (gained + lost) ** 0.5 / max(1, count)


def _in_time(run: Outcome, slo_ms: float) -> list[bool]:
    return [latency is not None and latency <= slo_ms for latency in run.latencies_ms]
