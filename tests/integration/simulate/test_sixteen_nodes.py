"""Three apps on sixteen machines under a recorded arrival process: progress, the report, and a page that a browser draws."""

import os
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from grainwise.cli.main import cli
from worlds.browser import browser, drawn

EXAMPLES = Path(__file__).parents[3] / "examples"
APPS = ("ocr/app.py", "ocr/app_accurate.py", "text/app.py")
TRACE = "azure_llm_2023_code.parquet"
SECONDS = 6


def traces() -> Path:
    """The folder with the trace; skips, or fails where ``GRAINWISE_REQUIRE`` names ``traces``."""
    folder = os.environ.get("GRAINWISE_TRACES", "")
    if folder and (Path(folder) / TRACE).is_file():
        return Path(folder)
    missing = f"GRAINWISE_TRACES ({folder or 'not set'}) names no folder with {TRACE}"
    if "traces" in os.environ.get("GRAINWISE_REQUIRE", ""):
        pytest.fail(missing)
    pytest.skip(missing)


def test_three_apps_on_sixteen_nodes_end_with_a_report_and_a_page(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="two of the apps are the OCR example, which needs its extra")
    traces()
    door, executable = browser()
    text = (EXAMPLES / "workloads" / "three-apps.yaml").read_text()
    shorter, changes = re.subn(r"^duration_s: 600$", f"duration_s: {SECONDS}", text, flags=re.MULTILINE)
    assert changes == 1
    workload, html = tmp_path / "three-apps.yaml", tmp_path / "page.html"
    workload.write_text(shorter)
    # What was shipped, whatever has been measured in this working copy.
    profiles = [(EXAMPLES / app).with_suffix(".profile.json") for app in APPS]
    words = ["simulate", *(str(EXAMPLES / app) for app in APPS), "--cluster", str(EXAMPLES / "clusters" / "sixteen.yaml")]
    words += ["--workload", str(workload), "--html", str(html)]
    for profile in profiles:
        words += ["--profile", str(profile)]
    said = CliRunner().invoke(cli, words, env={"COLUMNS": "200", "TERM": "dumb"})
    assert said.exit_code == 0, said.output
    assert "simulating three-apps" in said.stderr and "100%" in said.stderr
    assert "times as fast" in said.stderr
    assert "simulated on sixteen (16 nodes" in said.stdout
    assert "tenant shops" in said.stdout and "large-gpu-2" in said.stdout

    with drawn(html, door, executable) as tab:
        shown = tab.inner_text("body")
        headings = tab.locator("h2").all_inner_texts()
    assert [heading.split()[0] for heading in headings[:3]] == ["ocr", "ocr-accurate", "text"]
    assert "simulated on sixteen" in shown
