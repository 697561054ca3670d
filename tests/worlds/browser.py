"""A real browser for pages that are written."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
INLINE = ("file:", "data:", "blob:")
"""What a self-contained page may ask for."""
DRAWN = "[...document.querySelectorAll('.figure')].every(figure => figure.querySelector('svg.main-svg :is(.trace, .hm)'))"
"""Holds in a page when all of its figures are there."""


def browser() -> tuple[Any, str]:
    """Playwright's door and a browser's path; skips, or fails where ``GRAINWISE_REQUIRE`` names ``browser``."""
    missing = ""
    path = next((found for name in BROWSERS if (found := shutil.which(name))), "")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing = "playwright is not installed"
    else:
        if path:
            return sync_playwright, path
        missing = f"none of {', '.join(BROWSERS)} is on the path"
    if "browser" in os.environ.get("GRAINWISE_REQUIRE", ""):
        pytest.fail(missing)
    pytest.skip(missing)


@contextmanager
def drawn(path: Path, door: Any, executable: str, **options: Any) -> Iterator[Any]:
    """A tab with a page of which every figure is there; fails where the page says or asks for anything meanwhile."""
    told: list[str] = []
    asked: list[str] = []
    with door() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        try:
            tab = opened.new_page(viewport={"width": 1300, "height": 900}, **options)
            tab.on("console", lambda message: told.append(f"{message.type}: {message.text}"))
            tab.on("pageerror", lambda error: told.append(str(error)))
            tab.on("request", lambda request: asked.append(request.url))
            tab.goto(path.as_uri(), wait_until="load")
            tab.wait_for_function(DRAWN)
            yield tab
        finally:
            opened.close()
    assert told == []
    assert [url for url in asked if not url.startswith(INLINE)] == []
