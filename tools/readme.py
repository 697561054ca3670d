"""Put the demo's printed result into the README, between its markers: ``make readme`` runs the demo and calls this.

Usage: python tools/readme.py DEMO_OUTPUT
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- demo: begin -->", "<!-- demo: end -->"
RULE = "─"


def excerpt(text: str) -> str:
    """The plan of the first rate, from its title to its reason, and everything from the timeline on; nothing is rewritten."""
    lines = [line.rstrip() for line in text.splitlines()]
    plan = next(at for at, line in enumerate(lines) if " granularities at " in line)
    reason = next(at for at in range(plan, len(lines)) if lines[at].startswith("why: "))
    end = next(at for at in range(reason, len(lines)) if lines[at].startswith("measured on "))
    timeline = next(at for at, line in enumerate(lines) if line.startswith("timeline"))
    plan_lines = lines[plan:end]
    rows = [at for at, line in enumerate(plan_lines) if line.startswith((" ✔", " ≈", "    ")) and "%" in line]
    kept = [line for at, line in enumerate(plan_lines) if at not in rows[4:]]
    kept.insert(rows[3] + 1, f"    … {len(rows) - 4} more")
    return "\n".join([*kept, "", *lines[timeline:]])


def main() -> None:
    """Rewrite the README's block."""
    output = Path(sys.argv[1]).read_text("utf-8")
    readme = ROOT / "README.md"
    before, _, rest = readme.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{BEGIN}\n```text\n{excerpt(output)}\n```\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()
