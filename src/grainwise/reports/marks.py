"""Pictures in a terminal, of characters alone: points over two axes, and bars."""

import math
from collections.abc import Sequence

from msgspec import Struct

from grainwise.predictors.samples import SAMPLES

WIDTH, HEIGHT = 72, 14
BAR_WIDTH = 40
_PARTS = " ▏▎▍▌▋▊▉"
"""Eighths of a cell."""

NINES = math.log10(SAMPLES)
"""So many nines of attainment a prediction tells apart: what is above stands at the top."""

_TICKS = (0.0, 0.5, 0.9, 0.99)


class Mark(Struct, frozen=True):
    """A point of a picture. Where two meet, the one with the greater ``weight`` is seen, of equals the first."""

    x: float
    attainment: float
    text: str
    weight: int = 0


def height_of(attainment: float) -> float:
    """Where an attainment stands, in nines: 0.9 at 1, 0.99 at 2, at most ``NINES``."""
    return min(NINES, -math.log10(max(1.0 - attainment, 1e-12)))


def scatter(marks: Sequence[Mark], x_label: str, bound: float = 0.0) -> list[str]:
    """Lines of a picture: attainment, in nines, over ``x``; ``bound`` is drawn as a line from top to bottom, 0 for none.

    Args:
        marks: at least one.
        x_label: what the other axis holds.
        bound: a value on it.
    """
    xs = [mark.x for mark in marks] + ([bound] if bound > 0 else [])
    left, right = min(xs), max(xs)
    span = (right - left) or max(abs(right), 1e-9) * 0.1
    heights = [height_of(mark.attainment) for mark in marks]
    bottom, top = max(float(math.floor(min(heights) - 0.1)), 0.0), NINES
    rows = [[" "] * WIDTH for _ in range(HEIGHT)]
    if bound > 0:
        at = round((bound - left) / span * (WIDTH - 1))
        for row in rows:
            row[at] = "┊"
    order = sorted(range(len(marks)), key=lambda place: (marks[place].weight, -place))
    for place in order:
        mark = marks[place]
        column = min(round((mark.x - left) / span * (WIDTH - 1)), WIDTH - len(mark.text))
        row = rows[_row(heights[place], bottom, top)]
        row[column : column + len(mark.text)] = list(mark.text)
    labels = {0: "all"} | {
        _row(height_of(tick), bottom, top): f"{100 * tick:g}%" for tick in _TICKS if bottom <= height_of(tick) <= top
    }
    lines = [f"{labels.get(at, ''):>7} ┤{''.join(row)}".rstrip() for at, row in enumerate(rows)]
    ends = f"{left:.4g}", f"{right:.4g}"
    gap = WIDTH - len(ends[0]) - len(ends[1])
    return [*lines, f"{'':>7} └{'─' * WIDTH}", f"{'':>9}{ends[0]}{x_label:^{max(gap, 0)}}{ends[1]}"]


def _row(height: float, bottom: float, top: float) -> int:
    return round((top - height) / max(top - bottom, 1e-9) * (HEIGHT - 1))


def bar(value: float, most: float) -> str:
    """A bar of at most ``BAR_WIDTH`` cells for a value of 0 or more, to an eighth of a cell."""
    eighths = round(value / most * BAR_WIDTH * 8) if most > 0 else 0
    return "█" * (eighths // 8) + (_PARTS[eighths % 8] if eighths % 8 else "")
