"""A table of the study: values and how they are said, as text for a terminal, as HTML for the page, as JSON for programs."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, Literal

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from grainwise.reports.text import number

Kind = Literal["text", "said", "count", "number", "percent", "points", "change", "ratio", "verdict"]
"""How a value is said: a fraction in percent, a difference in points, a relative change in percent.

A ``text`` may be folded; what is ``said`` is text that stands to the right, as numbers do.
"""

Value = str | float | int | bool | None
UNKNOWN = "–"
_OPEN = 16
"""A table with more rows is folded on the page."""


class Column(Struct, frozen=True):
    """A column under its title, which names the unit where values do not say it."""

    title: str
    kind: Kind = "text"


class StudyTable(Struct, frozen=True):
    """Rows of values; ``key`` names the table in JSON, ``note`` says how it is read."""

    key: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""


def shown(value: Value, kind: Kind) -> str:
    """A value in words; a number that is not there is a dash."""
    if value is None:
        return "not told" if kind == "verdict" else UNKNOWN
    if isinstance(value, str):
        return value
    match kind:
        case "verdict":
            return "met" if value else "missed"
        case "percent":
            return f"{100 * value:.1f} %"
        case "points":
            return f"{value:+.2f} points"
        case "change":
            return f"{100 * value:+.2f} %"
        case "ratio":
            return f"{value:.2f}x"
        case "count":
            return f"{value:,.0f}"
        case _:
            return number(float(value))


def render(tables: Iterable[StudyTable]) -> RenderableType:
    """The tables for a terminal, one under another; those without a row say so."""
    return Group(*(part for table in tables for part in (_drawn(table), *([Text(table.note, "dim")] if table.note else []))))


def _drawn(table: StudyTable) -> RenderableType:
    if not table.rows:
        return Text.assemble((f"{table.title}: ", "bold"), "nothing of this is in the results")
    drawn = RichTable(title=Text(table.title, "bold"), title_justify="left")
    for column in table.columns:
        drawn.add_column(Text(column.title), justify="left" if column.kind in ("text", "verdict") else "right", overflow="fold")
    for row in table.rows:
        drawn.add_row(*(Text(cell) for cell in _cells(table.columns, row)))
    return drawn


def as_html(table: StudyTable) -> str:
    """The table as a card of the page, with its note; a long one is folded until someone opens it."""
    title, note = escape(table.title), f"<p>{escape(table.note)}</p>" if table.note else ""
    if not table.rows:
        return f'<div class="card wide"><h3>{title}</h3><p>Nothing of this is in the results.</p>{note}</div>'
    head = "".join(f"<th{_side(column)}>{escape(column.title)}</th>" for column in table.columns)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{_side(column)}>{_html(value, column.kind)}</td>" for value, column in zip(row, table.columns, strict=True)
        )
        + "</tr>"
        for row in table.rows
    )
    drawn = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    if len(table.rows) > _OPEN:
        drawn = f"<details><summary>{len(table.rows):,} rows</summary>{drawn}</details>"
    return f'<div class="card wide"><h3>{title}</h3>{drawn}{note}</div>'


def _side(column: Column) -> str:
    return ' style="text-align:left"' if column.kind in ("text", "verdict") else ""


def _html(value: Value, kind: Kind) -> str:
    said = escape(shown(value, kind))
    if kind == "verdict" and isinstance(value, bool):
        return f'<span class="{"good" if value else "bad"}">{said}</span>'
    return f'<span class="free">{said}</span>' if kind == "text" else said


def _cells(columns: Sequence[Column], row: Sequence[Value]) -> list[str]:
    return [shown(value, column.kind) for value, column in zip(row, columns, strict=True)]


def as_builtins(tables: Iterable[StudyTable]) -> dict[str, Any]:
    """The tables by their keys, for JSON: numbers as they are, not as they are said."""
    return {
        table.key: {
            "title": table.title,
            "note": table.note,
            "columns": [column.title for column in table.columns],
            "rows": [list(row) for row in table.rows],
        }
        for table in tables
    }
