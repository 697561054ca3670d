"""Parts as tables on a terminal, and as RESULTS.md."""

import importlib
import platform
from datetime import date
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

from validation.measuring import Part

DOCUMENT = Path(__file__).parent / "RESULTS.md"
_PACKAGES = ("grainwise", "numpy", "msgspec", "scipy", "simpy", "ciw")


def show(part: Part) -> None:
    """Print one part."""
    console = Console(width=None if Console().is_terminal else 150)
    drawn = Table(title=f"{part.name}: {part.about}")
    for at, column in enumerate(part.columns):
        drawn.add_column(column, justify="left" if at == 0 else "right")
    for row in part.rows:
        drawn.add_row(*row)
    console.print(drawn)
    for check in part.checks:
        if not check.is_met:
            console.print(f"  [red]FAILED[/red]  {check.what}: {check.measured}, bound {check.bound}", highlight=False)
    for line in (*part.failures, *part.notes):
        console.print(f"  {line}", highlight=False, markup=False)
    met = sum(check.is_met for check in part.checks)
    console.print(
        f"  {met} of {len(part.checks)} claims hold; {part.cpu_s:.0f} s of processor, {part.wall_s:.0f} s of wall time",
        highlight=False,
    )


def _about(name: str) -> str:
    """What a part does, in the words of its module."""
    return str(importlib.import_module(f"validation.{name}").__doc__).strip().replace("``", "`")


def write(parts: list[Part]) -> Path:
    """Write RESULTS.md."""
    versions = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    wall, cpu = sum(part.wall_s for part in parts), sum(part.cpu_s for part in parts)
    lines = [
        "# Validation of the simulator",
        "",
        "Written by `python -m validation all --write`. Every time in the tables is simulated.",
        "",
        f"Run {date.today().isoformat()} with Python {platform.python_version()}, {versions}: {wall:.0f} s of wall time, "
        f"{cpu:.0f} s of processor.",
    ]
    for part in parts:
        met = sum(check.is_met for check in part.checks)
        lines += [
            "",
            f"## {part.name}",
            "",
            _about(part.name),
            "",
            f"Here: {part.about}.",
            "",
            f"| {' | '.join(part.columns)} |",
            "|---" * len(part.columns) + "|",
        ]
        lines += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in part.rows]
        lines += [
            "",
            f"{met} of {len(part.checks)} claims hold; {part.cpu_s:.0f} s of processor, {part.wall_s:.0f} s of wall time.",
        ]
        lines += [f"- FAILED: {check.what}: {check.measured}, bound {check.bound}" for check in part.checks if not check.is_met]
        shown = [check for check in part.checks if check.is_met and part.name != "theory"]
        lines += [f"- {check.what}: {check.measured} (bound {check.bound})" for check in shown]
        lines += [f"- {note}" for note in (*part.failures, *part.notes)]
    DOCUMENT.write_text("\n".join(lines) + "\n")
    return DOCUMENT
