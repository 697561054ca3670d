"""The figures that documents quote from committed results: ``<!-- figure: KEY -->VALUE<!-- /figure -->``.

Usage: python tools/figures.py            print every key that may be quoted, with its value
       python tools/figures.py --check    say what documents quote otherwise than the results have it, and exit 1 if anything
       python tools/figures.py --write    put the values into the documents

A key is the name of a file in reproduce/granularity/results without its ending, a dot, and the name of a figure.
"""

import argparse
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "reproduce" / "granularity" / "results"
QUOTE = re.compile(r"<!-- figure: (?P<key>\S+) -->(?P<value>(?:(?!<!-- figure: ).)*?)<!-- /figure -->", re.DOTALL)
BEGIN = "<!-- figure: "


def documents() -> list[Path]:
    """The files that may quote figures."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def known(folder: Path, names: Collection[str] | None = None) -> dict[str, str]:
    """Every figure of the result files in a folder by its key, as documents quote it; of the files of these names alone."""
    paths = [path for path in sorted(folder.glob("*.json*")) if names is None or path.name.partition(".")[0] in names]
    if not paths:
        return {}
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from reproduce.granularity.tables_quoted import quoted

    found: dict[str, str] = {}
    for path in paths:
        found |= {f"{path.name.partition('.')[0]}.{name}": value for name, value in quoted(path).items()}
    return found


def complaints(name: str, text: str, figures: Mapping[str, str]) -> list[str]:
    """What a document says otherwise than the results, a line each."""
    found = []
    for quote in QUOTE.finditer(text):
        key, value = quote["key"], quote["value"]
        line = text.count("\n", 0, quote.start()) + 1
        if key not in figures:
            found.append(f"{name}:{line}: no result has a figure {key}; python tools/figures.py lists those that there are")
        elif value != figures[key]:
            found.append(f"{name}:{line}: {key} is quoted as {value!r}, the result has {figures[key]!r}; --write corrects it")
    whole = [quote.start() for quote in QUOTE.finditer(text)]
    begun = [place.start() for place in re.finditer(re.escape(BEGIN), text)]
    found.extend(
        f"{name}:{text.count(chr(10), 0, place) + 1}: a quoted figure must be <!-- figure: KEY -->VALUE<!-- /figure -->"
        for place in begun
        if place not in whole
    )
    return found


def written(text: str, figures: Mapping[str, str]) -> str:
    """A document with the values of the results; a key that no result has keeps what stands there."""
    return QUOTE.sub(
        lambda quote: f"{BEGIN}{quote['key']} -->{figures.get(quote['key'], quote['value'])}<!-- /figure -->", text
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print, check or write; the exit status is 1 where a document differs from the results."""
    parser = argparse.ArgumentParser(prog="python tools/figures.py", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder of the result files")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--check", action="store_true", help="compare what documents quote with the results")
    action.add_argument("--write", action="store_true", help="put the values of the results into the documents")
    given = parser.parse_args(arguments)
    if not (given.check or given.write):
        print("\n".join(f"{key} {value}" for key, value in known(given.results).items()))
        return 0
    texts = {path: path.read_text("utf-8") for path in documents()}
    quoted = {quote["key"].partition(".")[0] for text in texts.values() for quote in QUOTE.finditer(text)}
    figures = known(given.results, quoted)
    found = []
    for path, text in texts.items():
        now = written(text, figures) if given.write else text
        if now != text:
            path.write_text(now, "utf-8")
        found.extend(complaints(str(path.relative_to(ROOT)), now, figures))
    print("\n".join(found) or "every quoted figure is that of its result")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
