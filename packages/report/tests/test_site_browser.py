"""The built site in a real browser without a network; `nox -s site_tests` builds and names it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import ALL_DRAWN, NEEDS_SITE, Visitor, page_names, site

from ablation_report.compare import compare_runs
from ablation_report.compare.conditions import differences
from ablation_report.compare.tables import compare_tables
from ablation_report.load import read_one
from ablation_report.run import Run

ROOT = Path(__file__).parents[3]
DARK = """[...document.querySelectorAll(".vega-chart")]
  .every((e) => e.dataset.drawn === "dark" || !e.checkVisibility())"""
# Everything that is folded or not chosen is shown and drawn
SHOW_ALL = """() => {
  document.querySelectorAll("details").forEach((e) => (e.open = true));
  document.querySelectorAll("section[hidden]").forEach((e) => (e.hidden = false));
  document.dispatchEvent(new Event("ablation:shown"));
}"""
# The width of what is drawn: an svg without a width stands in the page all the same
WIDTHS = """[...document.querySelectorAll(".vega-chart")]
  .filter((e) => e.checkVisibility())
  .map((e) => {
    const svg = e.querySelector("svg");
    return [e.id, svg ? Math.min(svg.getBoundingClientRect().width, e.clientWidth) : 0];
  })"""
# What is wider than its place: a page may not scroll sideways; a table and a chart may, in a box of
# their own, where the window is narrow or where they are folded
CUT = """(mustFit) => {
  const faults = [];
  const page = document.documentElement.scrollWidth;
  if (page > innerWidth) faults.push(`the page is ${page} wide`);
  for (const e of document.querySelectorAll(".md-content table, .vega-chart svg")) {
    const width = e.getBoundingClientRect().width;
    if (!width || !e.checkVisibility()) continue;
    let box = e.parentElement;
    const scrolls = (b) => /auto|scroll/.test(getComputedStyle(b).overflowX);
    while (!scrolls(box) && !box.matches("article")) box = box.parentElement;
    const isFree = scrolls(box) && !(mustFit && !e.closest("details"));
    const name = e.closest("[id]")?.id || e.textContent.trim().slice(0, 40);
    if (width > box.clientWidth + 1 && !isFree)
      faults.push(`${e.tagName} ${name}: ${Math.round(width)} of ${box.clientWidth}`);
  }
  return faults;
}"""
FOUND = """(word) => [...document.querySelectorAll("*")].some((host) => {
  if (!host.shadowRoot) return false;
  const links = [...host.shadowRoot.querySelectorAll("a[href]")];
  return links.some((a) => a.href.includes(".html") && a.innerText.toLowerCase().includes(word));
})"""
LABEL_INK = """getComputedStyle(document.querySelector(
  ".vega-chart svg .role-axis-label text")).fill"""
CELLS = """[...document.querySelectorAll(".compare-result tbody tr")]
  .map((row) => [...row.cells].map((cell) => cell.textContent))"""
# The tests are shared among processes: a test of all pages is several
PARTS = 4
# A chart stands on each page of a config
CHART_PAGE = "configs/gpt-2.html"

pytestmark = NEEDS_SITE


@pytest.fixture
def visitor(browser: Any) -> Iterator[Visitor]:
    """A fresh visitor on a wide, light screen, of which no page may complain."""
    made = Visitor(browser, 1280, "light")
    yield made
    made.context.close()
    assert made.faults == []


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_every_chart_of_every_page_is_drawn_and_nothing_is_cut(
    browser: Any, width: int, part: int
) -> None:
    visitor = Visitor(browser, width, "light")
    cut, n_charts = {}, 0
    for name in page_names()[part::PARTS]:
        page = visitor.open(name)
        page.evaluate(SHOW_ALL)
        page.wait_for_function(ALL_DRAWN)
        if faults := page.evaluate(CUT, width >= 1280):
            cut[name] = faults
        for chart, drawn in page.evaluate(WIDTHS):
            n_charts += 1
            assert drawn > 100, f"{name}: {chart} is {drawn} wide"
    visitor.context.close()
    assert n_charts > 20 // PARTS
    assert cut == {}
    assert visitor.faults == []


def test_the_chart_library_is_loaded_where_a_chart_is(visitor: Visitor) -> None:
    loaded = "[...document.scripts].map((e) => e.src).join()"
    for name, is_there in ((CHART_PAGE, True), ("glossary.html", False)):
        page = visitor.open(name)
        assert ("vega-bundle.js" in page.evaluate(loaded)) == is_there, name


def test_a_tooltip_appears_over_a_mark(visitor: Visitor) -> None:
    page = visitor.open(CHART_PAGE)
    mark = page.locator(".vega-chart .mark-rect path").first
    mark.scroll_into_view_if_needed()
    mark.hover()
    tooltip = page.locator("#vg-tooltip-element.visible")
    tooltip.wait_for()
    assert "variant" in tooltip.inner_text()


def test_the_dark_toggle_draws_again(visitor: Visitor) -> None:
    page = visitor.open(CHART_PAGE)
    light = page.evaluate(LABEL_INK)
    page.locator("label[for^=__palette]:visible").first.click()
    page.wait_for_function(DARK)
    assert page.evaluate(LABEL_INK) != light
    assert all(width > 100 for _, width in page.evaluate(WIDTHS))


def test_a_dark_system_begins_dark(browser: Any) -> None:
    dark = Visitor(browser, 1280, "dark")
    dark.open("index.html").wait_for_function(DARK)
    dark.context.close()
    assert dark.faults == []


def test_without_scripts_each_open_chart_is_a_picture(browser: Any) -> None:
    plain = Visitor(browser, 1280, "light", scripts=False)
    plain.page.goto((site() / CHART_PAGE).resolve().as_uri())
    pictures = plain.page.locator("figure.chart:not(details *) img")
    widths = [picture.bounding_box()["width"] for picture in pictures.all()]
    plain.context.close()
    assert len(widths) > 1 and min(widths) > 300
    assert plain.faults == []


@pytest.mark.parametrize(("ending", "opening"), [("SVG", b"<svg"), ("PNG", b"\x89PNG")])
def test_a_chart_is_saved_as_a_picture(visitor: Visitor, ending: str, opening: bytes) -> None:
    page = visitor.open(CHART_PAGE)
    with page.expect_download() as waiting:
        page.get_by_role("button", name=f"Save {ending}").first.click()
    saved = waiting.value
    assert saved.suggested_filename.endswith(f".{ending.lower()}")
    assert Path(saved.path()).read_bytes().startswith(opening)


def test_search_finds_flash(visitor: Visitor) -> None:
    page = visitor.open("index.html")
    page.locator(".md-search__button").click()
    page.get_by_placeholder("Search").fill("flash")
    page.wait_for_function(FOUND, arg="flash")


def run_page() -> str:
    """A page with a table of raw values: that of the first run."""
    return next(name for name in page_names() if name.startswith("runs/"))


def test_a_table_sorts_by_its_raw_values_and_back(visitor: Visitor) -> None:
    page = visitor.open(run_page())
    page.evaluate(SHOW_ALL)
    table = page.locator(".data-table table").last
    title = table.locator("th", has_text="Time")
    read = (
        "(t) => [...t.tBodies[0].rows].slice(1).map((r) => r.cells[2].dataset.value)"
        ".map((v) => (v === '' ? null : Number(v)))"
    )
    first = table.evaluate(read)
    for expected in ("ascending", "descending", "none"):
        title.locator("button").click()
        assert title.get_attribute("aria-sort") == expected
        now = table.evaluate(read)
        if expected == "none":
            assert now == first
            continue
        known = [value for value in now if value is not None]
        # What is not known stands last
        assert len(known) > 1 and now[: len(known)] == known
        assert known == sorted(known, reverse=expected == "descending")


def test_the_csv_of_a_table_is_its_rows(visitor: Visitor) -> None:
    name = run_page()
    page = visitor.open(name)
    page.evaluate(SHOW_ALL)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save CSV").last.click()
    text = Path(waiting.value.path()).read_text(encoding="utf-8")
    lines = list(csv.DictReader(io.StringIO(text)))
    folder = re.search(r"Folder: <code>([^<]+)</code>", (site() / name).read_text("utf-8"))
    assert folder is not None
    run = read_one(ROOT / folder[1])[0]
    cases = list(dict.fromkeys(row["case"] for row in run.rows))
    ordered = sorted(run.rows, key=lambda row: cases.index(row["case"]))
    assert len(lines) == len(ordered)
    for line, row in zip(lines, ordered, strict=True):
        time = run.time(row)
        told = [line[name] for name in ("group", "variant", "phase")]
        assert told == [row[name] for name in ("case", "variant", "phase")]
        # A folded table has nine digits of a figure
        assert line["time_ns"] == "" if time is None else float(line["time_ns"]) == nine(time.value)


def nine(value: float) -> float:
    return float(f"{value:.9g}")


def compared(visitor: Visitor, first: str, second: str) -> Any:
    """The page with two runs, once it shows what it has of them."""
    page = visitor.open(f"compare.html?runs={first},{second}")
    page.wait_for_selector(".compare-result > *")
    return page


def recorded(name: str) -> Run:
    """A recorded run of the repository."""
    return read_one(ROOT / "data/runs" / name)[0]


PAIRS = [
    ("2026-11-30-zen4-quick-calm-1a", "2026-11-30-zen4-quick-calm-1b"),
    ("2026-11-20-zen4-small-a", "2026-11-20-zen4-small-b"),
    ("2026-11-21-zen5-quick-a", "2026-11-21-zen5-quick-e"),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_pair_has_the_verdicts_of_compare(visitor: Visitor, first: str, second: str) -> None:
    page = compared(visitor, first, second)
    old, new = recorded(first), recorded(second)
    tables = compare_tables(old, new, compare_runs(old, new))
    expected = [
        line
        for table in tables
        for name, lines in table.groups
        for line in ([[name]] if name else []) + [list(line) for line in lines]
    ]
    assert page.evaluate(CELLS) == expected and len(expected) > 5
    selects = page.locator(".compare-runs select")
    assert [selects.nth(i).evaluate("(s) => s.selectedOptions[0].text") for i in (0, 1)] == [
        first,
        second,
    ]


def test_runs_that_compare_refuses_are_not_compared(visitor: Visitor) -> None:
    first, second = "2026-11-20-zen4-small-a", "2026-11-21-zen5-quick-a"
    page = compared(visitor, first, second)
    told = page.locator(".differences li").all_inner_texts()
    assert told == differences(recorded(first), recorded(second))


def test_a_choice_of_runs_stands_in_the_address(visitor: Visitor) -> None:
    page = compared(visitor, *PAIRS[0])
    page.locator(".compare-runs select").first.select_option(label=PAIRS[1][0])
    page.wait_for_function("location.search.includes('small-a')")
    assert page.url.endswith(f"compare.html?runs={PAIRS[1][0]},{PAIRS[0][1]}")


def pages_with_choices() -> list[str]:
    """The pages that show one of several machines or sizes."""
    marked = re.compile(r"<section[^>]* data-(?:machine|size)=")
    return [name for name in page_names() if marked.search((site() / name).read_text("utf-8"))]


SHOWN = """(key) => [...document.querySelectorAll(`section[data-${key}]:not([hidden])`)]
  .map((e) => e.dataset[key])"""


def test_the_address_restores_the_choice_of_a_page(visitor: Visitor) -> None:
    for name in pages_with_choices():
        page = visitor.open(name)
        for key, title in (("machine", "Machine"), ("size", "Size")):
            chips = page.locator(f".choices [aria-label={title}] button")
            if not chips.count():
                continue
            chips.last.click()
            chosen = chips.last.inner_text()
            assert set(page.evaluate(SHOWN, key)) <= {chosen}
            query = page.url.partition("?")[2]
            assert re.search(rf"\b{key}=[a-z0-9-]+", query), page.url
            again = visitor.open(f"{name}?{query}")
            pressed = again.locator(f".choices [aria-label={title}] [aria-pressed=true]")
            assert pressed.inner_text() == chosen
            assert set(again.evaluate(SHOWN, key)) <= {chosen}


def test_every_page_has_a_card_and_a_foot() -> None:
    for name in page_names():
        text = (site() / name).read_text("utf-8")
        for mark in ("og:title", "og:description", "og:image"):
            found = re.search(rf'<meta property="{mark}" content="([^"]+)">', text)
            assert found, f"{name}: no {mark}"
            if mark == "og:image":
                assert ((site() / name).parent / found[1]).is_file(), f"{name}: {found[1]}"
        assert 'license.html">MIT License</a>' in text
