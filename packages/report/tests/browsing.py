"""A headless browser without a network for the tests of the built site."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

SITE = os.environ.get("ABLATION_SITE")
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
# For tests that open the built site
NEEDS_SITE = [
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is installed"),
    pytest.mark.skipif(SITE is None, reason="ABLATION_SITE is not set; nox -s site_tests sets it"),
]
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# The search lives in a closed shadow root; what it finds is to be seen here
OPEN_SHADOWS = """
const attach = Element.prototype.attachShadow;
Element.prototype.attachShadow = function (options) {
  return attach.call(this, { ...options, mode: "open" });
};
"""
# A chart in a closed box is drawn when the box opens
ALL_DRAWN = """[...document.querySelectorAll(".vega-chart")]
  .every((e) => e.dataset.drawn || !e.checkVisibility())"""


class Visitor:
    """A page without a network, and what it complained of or asked for outside."""

    def __init__(self, browser: Any, width: int, scheme: str, scripts: bool = True) -> None:
        self.context = browser.new_context(
            offline=True,
            accept_downloads=True,
            color_scheme=scheme,
            viewport={"width": width, "height": 900},
            java_script_enabled=scripts,
        )
        self.faults: list[str] = []
        self.context.add_init_script(OPEN_SHADOWS)
        self.context.on("request", self._on_request)
        self.page = self.context.new_page()
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.faults.append(f"{self.page.url}: {error}"))

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:", "about:")):
            self.faults.append(f"{self.page.url}: request to {request.url}")

    def _on_console(self, message: Any) -> None:
        if message.type == "error":
            self.faults.append(f"{self.page.url}: {message.text}")

    def open(self, name: str) -> Any:
        """Open a page of the site from the disk, with a query if it has one, and wait until its
        charts are drawn."""
        path, mark, query = name.partition("?")
        self.page.goto((site() / path).resolve().as_uri() + mark + query)
        self.page.wait_for_function(ALL_DRAWN)
        return self.page


def site() -> Path:
    """The folder of the built site."""
    assert SITE is not None
    return Path(SITE)


def page_names() -> list[str]:
    """Every page that was built, but the one of errors, which only a server can show."""
    folder = Path(SITE or "nowhere")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html"))
    return [name for name in names if name != "404.html"]
