import re
import sys
from html.parser import HTMLParser

import msgspec
import pytest

from grainwise.domain.errors import PlatformError
from grainwise.reports.page import page
from grainwise.telemetry.compare import Replicated, compare
from grainwise.telemetry.result import RunResult, TenantResult
from grainwise.telemetry.run_recorder import RunRecorder

pytest.importorskip("plotly")
EVIL = "</script><script>alert(1)</script><b>&[red]"


class Reader(HTMLParser):
    """The tags of a page, its text outside scripts, and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        (self.scripts if self.tags[-1:] and self.tags[-1][0] == "script" and self.cdata_elem else self.text).append(data)


def test_a_page_draws_everything_and_loads_nothing(runs: tuple[RunResult, ...]) -> None:
    text = page(runs[:1], None, f"One run {EVIL}")
    read = Reader(text)
    assert [tag for tag, attributes in read.tags if {"src", "href"} & attributes.keys() and tag != "link"] == []
    ids = [attributes["id"] for tag, attributes in read.tags if (attributes.get("id") or "").startswith("figure-")]
    # Five figures for each of two apps, and the instances.
    assert len(ids) == len(set(ids)) == 11
    assert text.count("plotly.js v") == 1
    said = " ".join(read.text)
    for word in ("simulated on the virtual world", "Latency against the SLO", "Offered rate", "Cost", "Functions", "Nodes"):
        assert word in said


def test_tenants_are_shown(runs: tuple[RunResult, ...]) -> None:
    app = runs[0].apps[0]
    tenants = tuple(TenantResult(name, 100, 90, 80, 0.8, app.latency) for name in ("", f"shops {EVIL}"))
    result = msgspec.structs.replace(runs[0], apps=(msgspec.structs.replace(app, tenants=tenants),))
    said = " ".join(Reader(page([result], None, "Two tenants")).text)
    for word in ("Tenants", "(none)", f"shops {EVIL}", "80.00 %"):
        assert word in said


def test_what_a_user_named_stays_text(runs: tuple[RunResult, ...]) -> None:
    comparison = compare([Replicated(f"{EVIL}1", runs[:2]), Replicated("plain", runs[2:])])
    for text in (page(runs[:1], None, EVIL), page((runs[0], runs[2]), comparison, EVIL)):
        read = Reader(text)
        assert "<script>alert" not in text
        assert EVIL in " ".join(read.text)
        # Inside a script a name is JSON in which no tag can end, and plotly reads it as escaped HTML.
        mine = [script for script in read.scripts if len(script) < 1_000_000 and "alert(1)" in script]
        assert mine
        assert not any(re.search(r"<\s*/?\s*(script|b)\b", script, re.IGNORECASE) for script in mine)
        assert not any(r"\u003cscript" in script for script in mine)


def test_runs_are_overlaid_under_names_that_tell_them_apart(runs: tuple[RunResult, ...]) -> None:
    text = page((runs[0], runs[2]))
    assert "slack" in text
    assert "goodput · plain" in text.replace("\\u00b7", "·")
    same = page((runs[0], runs[0]))
    assert "1 simulated, slack, seed 1" in same
    assert "2 simulated, slack, seed 1" in same
    seeds = page(runs)
    assert "plain, seed 2" in seeds


def test_a_page_is_the_same_every_time_and_an_empty_run_has_one(runs: tuple[RunResult, ...]) -> None:
    assert page(runs[:1]) == page(runs[:1])
    assert "measured on hardware that was not named" in page([RunRecorder("measured").result()])


def test_without_plotly_the_error_says_what_to_install(runs: tuple[RunResult, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(PlatformError, match=r'pip install "grainwise\[report\]"'):
        page(runs[:1])
