"""The comparison of evaluators as tables, on a terminal and as Markdown; every figure comes from the run."""

import platform
from collections.abc import Sequence
from importlib.metadata import version

from msgspec import Struct
from rich.console import Console
from rich.table import Table

from grainwise.simulation.contest import OTHER_RUNS, REPLICATIONS, Round, Standing
from grainwise.simulation.truth import SELDOM, WITHIN_ATTAINMENT, WITHIN_COST

_PACKAGES = ("grainwise", "lightgbm", "numpy")

COLUMNS = (
    "run times",
    "entrant",
    "attainment error",
    "cost error",
    "picks the best",
    "as good as the best",
    "or not ruled out",
    "attains less",
    "costs more",
    "decision",
    "handed on",
)


class ContestReport(Struct, frozen=True):
    """Everything that ``grainwise predictor evaluate`` found. ``by_source`` is for right, or least wrong, run times."""

    predictor: str
    apps: tuple[str, ...]
    seed: int
    requests: int
    settings: int
    left_out: int
    seconds: float
    standings: tuple[Standing, ...]
    standings_saturated: tuple[Standing, ...]
    by_source: dict[str, tuple[Standing, ...]]
    rounds: tuple[Round, ...]

    @property
    def saturated(self) -> int:
        """In how many settings no candidate can carry the load."""
        return sum(each.is_saturated for each in self.rounds)


def print_report(console: Console, report: ContestReport) -> None:
    """The tables."""
    console.print(_table("all settings but saturated ones", report.standings))
    if report.standings_saturated:
        console.print(_table("saturated settings", report.standings_saturated))
    for line in _notes(report):
        console.print(line, highlight=False, markup=False)


def markdown(report: ContestReport) -> str:
    """The report as a page."""
    command = "grainwise predictor evaluate"
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    lines = [
        "# Evaluators on held-out settings",
        "",
        f"Written by `{command}`; every attainment and every cost is simulated. Python {platform.python_version()}, "
        f"{versions}; {report.seconds:.0f} s of wall time.",
        "",
        *_notes(report),
        "",
        "## All settings but saturated ones",
        "",
        *_rows(report.standings),
    ]
    if report.standings_saturated:
        lines += ["", f"## Saturated settings ({report.saturated})", "", *_rows(report.standings_saturated)]
    for source, standings in report.by_source.items():
        lines += ["", f"## {source} ({standings[0].settings} settings)", "", *_rows(standings)]
    lines += [
        "",
        "## Settings",
        "",
        "| setting | app | load | SLO | target | best | attains | picks that are worse |",
        "|---" * 8 + "|",
    ]
    lines += [_setting(each) for each in report.rounds]
    return "\n".join(lines) + "\n"


def _notes(report: ContestReport) -> list[str]:
    steady = [each for each in report.rounds if not each.is_saturated]
    told = sum(each.is_told for each in steady)
    apps = f"made apps and {', '.join(report.apps)} with other run times" if report.apps else "made apps"
    return [
        f"{report.settings} settings of {apps}, seed {report.seed}: {report.saturated} saturated (no candidate attains half), "
        f"{report.left_out} left out (no plan fits). The truth of each candidate is the mean of {REPLICATIONS} runs of about "
        f"{report.requests} requests.",
        "",
        "As good as the best: it attains at most "
        f"{100 * WITHIN_ATTAINMENT:g} point less than it should and costs at most {100 * WITHIN_COST:g} % more than the best "
        "candidate, which is the cheapest that reaches the target in the true run, else the one that attains most. "
        "Attains less: points below the target, or below the best candidate where that misses it. "
        "Both are means over settings. Errors are mean absolute ones over all candidates, of cost relative to the true one.",
        "",
        f"Or not ruled out: also picks that are as good as the best in at least {100 * SELDOM:g} % of the draws from the runs "
        "of the truth, drawn again with replacement and the same of every candidate: the truth has too few runs to say that "
        f"these are worse. In {told} of {len(steady)} settings that are not saturated it says surely enough which candidate is "
        f"the best: in more than {100 * (1 - SELDOM):g} % of the draws that one is as good as the best of the draw.",
        "",
        "Run times: by how much those are wrong that an evaluator is given, up or down for each stage; the candidates and the "
        f"truth stay. Learned: {report.predictor}. Constant: the granularity that was best most often in its training, by the "
        "number of stages.",
        "",
        "Other runs: no evaluator, but what one would do that knew everything beforehand but chance. It decides by the mean of "
        f"{REPLICATIONS} other runs of the setting itself; where it is not as good as the best, the truth is not told surely "
        "enough to say which candidate is, and its errors are those of the truth.",
    ]


def _rows(standings: Sequence[Standing]) -> list[str]:
    return [
        f"| {' | '.join(COLUMNS)} |",
        "|---" * len(COLUMNS) + "|",
        *(f"| {' | '.join(_cells(each))} |" for each in standings),
    ]


def _table(title: str, standings: Sequence[Standing]) -> Table:
    table = Table(title=f"{title} ({standings[0].settings if standings else 0})", title_justify="left")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:2] else "right")
    for each in standings:
        table.add_row(*_cells(each))
    return table


def _cells(each: Standing) -> tuple[str, ...]:
    wrong = f"±{100 * each.wrong_fraction:g} %" if each.wrong_fraction else "right"
    is_evaluator = each.attainment_error is not None
    return (
        wrong,
        each.entrant,
        _points(each.attainment_error),
        _percent(each.cost_error),
        _percent(each.picks_best, 0),
        _percent(each.within, 0),
        _percent(each.not_ruled_out, 0),
        _points(each.shortfall),
        _percent(each.dearer_fraction),
        f"{1000 * each.decision_s:.0f} ms" if is_evaluator and each.entrant != OTHER_RUNS else "",
        _percent(each.handed_on, 0) if is_evaluator else "",
    )


def _points(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.1f} points"


def _percent(fraction: float | None, digits: int = 1) -> str:
    return "" if fraction is None else f"{100 * fraction:.{digits}f} %"


def _setting(each: Round) -> str:
    least = min(answer.wrong_fraction for answer in each.answers)
    worse = [
        f"{answer.entrant}: {_escaped(answer.pick)} "
        f"(−{100 * answer.shortfall:.1f} points, +{100 * answer.dearer_fraction:.0f} %"
        f"{', not ruled out' if answer.is_not_ruled_out else ''})"
        for answer in each.answers
        if answer.wrong_fraction == least and not answer.is_within
    ]
    best = next(one for one in each.candidates if one.grain == each.best)
    cells = (
        str(each.setting),
        each.source + (", saturated" if each.is_saturated else "") + ("" if each.is_told else ", best not told"),
        f"{100 * each.load_fraction:.0f} %",
        f"{each.slo_factor:g} ×",
        f"{100 * each.target:g} %, {each.objective}",
        _escaped(each.best),
        f"{100 * best.attainment:.1f} %",
        "; ".join(worse),
    )
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
