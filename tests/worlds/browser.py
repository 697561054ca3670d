"""A real browser for pages that are written."""

import os
import shutil
from typing import Any

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
INLINE = ("file:", "data:", "blob:")
"""What a self-contained page may ask for."""
DRAWN = "[...document.querySelectorAll('.figure')].every(figure => figure.querySelector('svg.main-svg .trace'))"
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
