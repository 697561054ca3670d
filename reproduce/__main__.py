"""``python -m reproduce granularity``: run a study, write its results and its page, and say what it found."""

import argparse
import sys
from contextlib import redirect_stdout
from pathlib import Path

from grainwise.domain.errors import GrainwiseError
from reproduce.granularity.check import check
from reproduce.granularity.grid import GRID_FILE, read_grid
from reproduce.granularity.page import write_page
from reproduce.granularity.records import read_results, write_results
from reproduce.granularity.study import study
from reproduce.granularity.tables_all import show
from reproduce.granularity.tables_live import read_live

RESULTS = Path(__file__).parent / "granularity" / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m reproduce", description="Studies that anyone can rerun.")
    parser.add_argument("study", choices=("granularity",))
    parser.add_argument("--size", default="smoke", choices=("smoke", "laptop", "paper"))
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results and the page")
    parser.add_argument("--grid", type=Path, default=GRID_FILE, help="another grid file")
    parser.add_argument("--check", action="store_true", help="fail where a target of the size is missed")
    parser.add_argument("--from", dest="read", type=Path, help="read these results instead of running")
    parser.add_argument("--json", action="store_true", help="print every table as one JSON object, all else to stderr")
    parser.add_argument("--processes", type=int, help="how many processes run, by default one for each core")
    chosen = parser.parse_args(arguments)
    try:
        grid = read_grid(chosen.grid)
        with redirect_stdout(sys.stderr if chosen.json else sys.stdout):
            print(f"grid {grid.figures_sha256}")
            if grid.changed:
                print(grid.changed)
            if chosen.read is not None:
                results = read_results(chosen.read)
            else:
                results = study(chosen.size, grid, processes=chosen.processes)
                print(f"wrote {write_results(results, chosen.out / f'{chosen.size}.json')}")
            written = write_page(chosen.out / f"{results.header.size}.html", results, grid.study, read_live())
            print(f"wrote {written}")
        show(results, grid.study, as_json=chosen.json)
        with redirect_stdout(sys.stderr if chosen.json else sys.stdout):
            return check(results, grid, is_strict=chosen.check)
    except GrainwiseError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
