"""A real browser without a screen, for pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

_COMPLAINTS = {"error", "warning"}
_OF_SPEED = "willReadFrequently"  # what Chromium tells of the canvas of older versions of Bokeh


@contextmanager
def page() -> Iterator[Any]:
    """A page of the system's Chromium, which fails the test for what the page complains of."""
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium; tests/setup-machine.sh installs it")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1100, "height": 900})
        complaints: list[str] = []

        def note(message: Any) -> None:
            if message.type in _COMPLAINTS and _OF_SPEED not in message.text:
                complaints.append(message.text)

        opened.on("console", note)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        yield opened
        browser.close()
        assert complaints == [], complaints
