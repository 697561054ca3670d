"""``python -m validation [theory] [independent] [golden] [campaign] [all] [--write] [--seed N]``: is the simulator right?"""

import argparse
import importlib
import os
import sys
import time

PARTS = ("theory", "independent", "golden", "campaign")


def main() -> int:
    """Run what is named; exit code 1 where a claim does not hold."""
    parser = argparse.ArgumentParser(prog="python -m validation", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PARTS)}, all")
    parser.add_argument("--write", action="store_true", help="write RESULTS.md")
    parser.add_argument("--seed", type=int, help="run one seed of the campaign alone, with what happened")
    parser.add_argument("--runs", type=int, help="how many runs, instead of each part's own number")
    given = parser.parse_args()
    names = PARTS if not given.names or "all" in given.names else tuple(dict.fromkeys(given.names))
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; choose from {', '.join(PARTS)}, all")
    if given.write and set(names) != set(PARTS):
        parser.error("--write needs all parts")
    # The libraries under NumPy would spread over the cores that the processes of a part share.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if given.seed is not None:
        campaign = importlib.import_module("validation.campaign")
        return int(campaign.show(given.seed))
    report = importlib.import_module("validation.report")
    parts = []
    for name in names:
        began = time.monotonic()
        module = importlib.import_module(f"validation.{name}")
        part = module.validate() if given.runs is None or name == "golden" else module.validate(given.runs)
        part.wall_s = time.monotonic() - began
        report.show(part)
        parts.append(part)
    if given.write:
        print(f"written: {report.write(parts)}")
    return 0 if all(part.is_met for part in parts) else 1


if __name__ == "__main__":
    sys.exit(main())
