"""The types of the SDK, tested by mypy itself: one run over the snippets, compared with their expectations."""

import re
from collections import defaultdict
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture(scope="module")
def codes_by_place(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], set[str]]:
    """The error codes that mypy gives for each line of the snippets."""
    snippets = [str(path) for path in sorted(HERE.glob("*.py")) if not path.name.startswith("test_")]
    cache = tmp_path_factory.mktemp("mypy")
    out, err, _ = api.run(
        ["--strict", "--config-file=", f"--cache-dir={cache}", "--hide-error-context", "--no-pretty", *snippets]
    )
    assert not err, err
    found: dict[tuple[str, int], set[str]] = defaultdict(set)
    for line in out.splitlines():
        match = re.match(r"(.+?):(\d+): error: .*\[([a-z-]+)\]$", line)
        if match:
            found[Path(match[1]).name, int(match[2])].add(match[3])
    return found


def expected(path: Path) -> dict[tuple[str, int], set[str]]:
    marked: dict[tuple[str, int], set[str]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.search(r"# E: ([a-z -]+)$", line)
        if match:
            marked[path.name, number] = set(match[1].split())
    return marked


@pytest.mark.parametrize("name", ["accepted.py", "refused.py"])
def test_a_snippet_has_exactly_the_errors_that_it_expects(name: str, codes_by_place: dict[tuple[str, int], set[str]]) -> None:
    found = {place: codes for place, codes in codes_by_place.items() if place[0] == name}
    assert found == expected(HERE / name)


def test_the_refused_snippet_covers_calls_each_choose_and_declarations() -> None:
    assert len(expected(HERE / "refused.py")) >= 20
