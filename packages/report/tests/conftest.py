"""What the tests share: a width of text, and a browser."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import ARGUMENTS, BROWSER

# Text has the width that a test gives it: processes of pytest-xdist start with one of their own
os.environ.pop("COLUMNS", None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as tool:
        launched = tool.chromium.launch(executable_path=BROWSER, args=list(ARGUMENTS))
        yield launched
        launched.close()
