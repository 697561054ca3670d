"""Results as files, as tables on a terminal, and as RESULTS.md: ``python -m benchmarks.report`` writes it from the files."""

from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table as RichTable

from benchmarks.measuring import QUIET_CORES, Result

FOLDER = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parent / "RESULTS.md"
ORDER = ("hop", "fused", "controller", "door", "http", "memory", "adaptive", "live", "soak")


def save(result: Result) -> Path:
    """Write ``results/NAME.json``."""
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{result.name}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=1))
    return path


def load() -> list[Result]:
    """Every result that is there, in the order of the document."""
    found = [msgspec.json.decode(path.read_bytes(), type=Result) for path in FOLDER.glob("*.json")]
    return sorted(found, key=lambda each: (ORDER.index(each.name) if each.name in ORDER else len(ORDER), each.name))


def provenance(result: Result) -> str:
    """One sentence: measured when, on what, beside how much foreign load."""
    machine = result.machine
    noise = "" if result.foreign_cores <= QUIET_CORES else ", so NOT an idle machine: read the ratios, not the times"
    quick = " (quick run: few rounds)" if result.is_quick else ""
    return (
        f"Measured {result.date} on {machine.cores} cores of {machine.cpu}, {machine.memory_gib:g} GiB, "
        f"Linux {machine.kernel}, Python {machine.python}, NumPy {machine.numpy}, uvloop {machine.uvloop}{quick}; "
        f"foreign load {result.foreign_cores:.2f} cores (median){noise}."
    )


def show(results: list[Result], as_json: bool) -> None:
    """Print results for people, or as one JSON array."""
    if as_json:
        print(msgspec.json.encode(results).decode())
        return
    console = Console(width=None if Console().is_terminal else 150)
    for result in results:
        console.print(f"\n[bold]{result.name}[/bold]: {provenance(result)}")
        for table in result.tables:
            drawn = RichTable(title=table.title, caption=table.note)
            for at, column in enumerate(table.columns):
                drawn.add_column(column, justify="left" if at == 0 else "right")
            for row in table.rows:
                drawn.add_row(*row)
            console.print(drawn)
        for check in result.checks:
            verdict = "[green]met[/green]" if check.is_met else "[red]NOT met[/red]"
            console.print(f"  {verdict}  {check.what}: {check.measured}, bound {check.bound}", highlight=False)
        for line in result.skipped:
            console.print(f"  skipped  {line}", highlight=False)


def markdown(results: list[Result]) -> str:
    """The whole document."""
    parts = [
        "# Measured",
        "",
        "Written by `python -m benchmarks.report` from the files that `make bench` and `make soak` leave. Every figure is "
        "measured; ratios are of figures of the same run.",
    ]
    for result in results:
        parts += ["", f"## {result.name}", "", provenance(result)]
        for table in result.tables:
            parts += ["", f"**{table.title}**", "", f"| {' | '.join(table.columns)} |", f"|{'---|' * len(table.columns)}"]
            parts += [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in table.rows]
            if table.note:
                parts += ["", table.note[0].upper() + table.note[1:] + "."]
        if result.checks:
            parts += ["", "| target | measured | bound | met |", "|---|---|---|---|"]
            parts += [
                f"| {check.what} | {check.measured} | {check.bound} | {'yes' if check.is_met else '**no**'} |"
                for check in result.checks
            ]
        if result.skipped:
            parts += ["", "Skipped: " + "; ".join(result.skipped) + "."]
    return "\n".join(parts) + "\n"


def write() -> Path:
    """Write the document from the result files."""
    DOCUMENT.write_text(markdown(load()))
    return DOCUMENT


if __name__ == "__main__":
    print(write())
