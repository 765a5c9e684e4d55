"""The built site in a real browser without a network; `nox -s site_tests` builds and names it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SITE = os.environ.get("ABLATION_SITE")
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for name in NAMES if (path := shutil.which(name))), None)
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
ALL_DRAWN = "[...document.querySelectorAll('.vega-chart')].every((e) => e.dataset.drawn)"
DARK = "[...document.querySelectorAll('.vega-chart')].every((e) => e.dataset.drawn === 'dark')"
# The width of what is drawn: an svg without a width stands in the page all the same
WIDTHS = """[...document.querySelectorAll(".vega-chart")].map((e) => {
  const svg = e.querySelector("svg");
  return [e.id, svg ? Math.min(svg.getBoundingClientRect().width, e.clientWidth) : 0];
})"""
FOUND = """(word) => [...document.querySelectorAll("*")].some((host) => {
  if (!host.shadowRoot) return false;
  const links = [...host.shadowRoot.querySelectorAll("a[href]")];
  return links.some((a) => a.href.includes(".html") && a.innerText.toLowerCase().includes(word));
})"""
# What a table that is shown takes, and what it has
TABLES = """[...document.querySelectorAll(".md-typeset__scrollwrap")]
  .filter((e) => e.clientWidth && !e.closest("details"))
  .map((e) => [e.scrollWidth, e.clientWidth])"""
LABEL_INK = """getComputedStyle(document.querySelector(
  ".vega-chart svg .role-axis-label text")).fill"""

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = [
    pytest.mark.skipif(BROWSER is None, reason=f"none of {', '.join(NAMES)} is installed"),
    pytest.mark.skipif(SITE is None, reason="ABLATION_SITE is not set; nox -s site_tests sets it"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser."""
    with playwright.sync_playwright() as tool:
        launched = tool.chromium.launch(executable_path=BROWSER, args=list(ARGUMENTS))
        yield launched
        launched.close()


class Visitor:
    """A page without a network, and what it complained of or asked for outside."""

    def __init__(self, browser: Any, width: int, scheme: str, scripts: bool = True) -> None:
        self.context = browser.new_context(
            offline=True,
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
        """Open a page of the site from the disk and wait until its charts are drawn."""
        assert SITE is not None
        self.page.goto((Path(SITE) / name).resolve().as_uri())
        self.page.wait_for_function(ALL_DRAWN)
        return self.page


@pytest.fixture
def visitor(browser: Any) -> Iterator[Visitor]:
    """A fresh visitor on a wide, light screen."""
    made = Visitor(browser, 1280, "light")
    yield made
    made.context.close()


def page_names() -> list[str]:
    """Every page that was built, but the one of errors, which only a server can show."""
    folder = Path(SITE or "nowhere")
    names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html"))
    return [name for name in names if name != "404.html"]


def test_every_chart_of_every_page_is_drawn(visitor: Visitor) -> None:
    n_charts = 0
    for name in page_names():
        for chart, width in visitor.open(name).evaluate(WIDTHS):
            n_charts += 1
            assert width > 100, f"{name}: {chart} is {width} wide"
    assert n_charts > 20
    assert visitor.faults == []


def test_a_tooltip_appears_over_a_mark(visitor: Visitor) -> None:
    page = visitor.open("configs/gpt-2.html")
    mark = page.locator(".vega-chart .mark-rect path").first
    mark.scroll_into_view_if_needed()
    mark.hover()
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for(timeout=5000)
    assert "variant" in tooltip.inner_text()
    assert visitor.faults == []


def test_the_dark_toggle_draws_again(visitor: Visitor) -> None:
    page = visitor.open("configs/gpt-2.html")
    light = page.evaluate(LABEL_INK)
    page.locator("label[for^=__palette]:visible").first.click()
    page.wait_for_function(DARK)
    assert page.evaluate(LABEL_INK) != light
    assert all(width > 100 for _, width in page.evaluate(WIDTHS))
    assert visitor.faults == []


def test_a_dark_system_begins_dark(browser: Any) -> None:
    dark = Visitor(browser, 1280, "dark")
    dark.open("index.html").wait_for_function(DARK)
    dark.context.close()
    assert dark.faults == []


def test_without_scripts_each_chart_is_a_picture(browser: Any) -> None:
    plain = Visitor(browser, 1280, "light", scripts=False)
    assert SITE is not None
    plain.page.goto((Path(SITE) / "configs/gpt-2.html").resolve().as_uri())
    pictures = plain.page.locator("figure.chart img")
    widths = [picture.bounding_box()["width"] for picture in pictures.all()]
    plain.context.close()
    assert len(widths) > 2 and min(widths) > 300
    assert plain.faults == []


def test_search_finds_flash(visitor: Visitor) -> None:
    page = visitor.open("index.html")
    page.locator(".md-search__button").click()
    page.keyboard.type("flash")
    page.wait_for_function(FOUND, arg="flash", timeout=10000)
    assert visitor.faults == []


@pytest.mark.parametrize(
    "name", ["index.html", "configs/gpt-2.html", "ladder.html", "league.html", "runs.html"]
)
def test_a_phone_need_not_scroll_sideways(browser: Any, name: str) -> None:
    phone = Visitor(browser, 390, "light")
    width = phone.open(name).evaluate("document.documentElement.scrollWidth")
    phone.context.close()
    assert width <= 390
    assert phone.faults == []


@pytest.mark.parametrize("width", [1280, 1440, 1920])
def test_no_column_of_the_league_is_cut_off(browser: Any, width: int) -> None:
    wide = Visitor(browser, width, "light")
    tables = wide.open("league.html").evaluate(TABLES)
    wide.context.close()
    assert len(tables) > 3
    assert [pair for pair in tables if pair[0] > pair[1]] == []
