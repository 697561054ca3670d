"""The timeline of the demo: what it says of a window without requests, and how it shows that the demo failed."""

import io

import msgspec
from rich.console import Console

from grainwise.cli.demo import DemoResult, Look, Row, _rows, _show
from grainwise.cli.load_generator import Sample, summarise
from grainwise.domain.time import SECOND

SAMPLES = [Sample(at * SECOND, at * SECOND, at * SECOND + 50_000, 200, True) for at in range(4)]
LOOKS = [Look(at * SECOND, "a | b", 0, "", "", ("a", "b"), 0.0, 0.0) for at in range(11)]
ROW = Row(0.0, 5.0, 1.0, "a | b", 2, 12.0, 34.0, 1.0, 0.1, 0.2)


def shown(*rows: Row, problems: tuple[str, ...] = (), is_colour: bool = False) -> str:
    """The end of the demo, as text."""
    load = summarise(SAMPLES, 100.0, 4.0)
    result = DemoResult("here", ("a", "b"), None, None, load, rows, (), (), 1, problems)  # type: ignore[arg-type]
    out = io.StringIO()
    _show(result, Console(file=out, markup=False, width=160, color_system="standard" if is_colour else None))
    return out.getvalue()


def test_a_window_in_which_no_request_was_due_has_no_attainment():
    first, second = _rows(SAMPLES, LOOKS, 100.0)
    assert first.attainment == 1.0
    assert second.offered_per_s == 0
    assert second.attainment is None


def test_what_is_not_known_is_a_dash():
    text = shown(ROW, msgspec.structs.replace(ROW, from_s=5.0, to_s=10.0, attainment=None, p50_ms=0.0, p95_ms=0.0))
    with_requests, without = (line for line in text.splitlines() if "A | B" in line or "a | b" in line)
    assert with_requests.split()[-5:-2] == ["12", "34", "100%"]
    assert without.split()[-5:-2] == ["-", "-", "-"]


def test_a_failure_is_red_and_its_words_are_taken_as_they_are():
    assert "FAILED: 3 requests [bold]lost[/bold]" in shown(ROW, problems=("3 requests [bold]lost[/bold]",))
    assert "\x1b[1;31mFAILED\x1b[0m: x" in shown(ROW, problems=("x",), is_colour=True)
