"""Each question is answered within two clicks from home, with a figure of the recorded rows; in a
real browser without a network, as `test_site_browser.py`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from browsing import NEEDS_SITE, Visitor

from ablation_report.attribution.worths import attribution_of, ratio
from ablation_report.load import gather, read_one
from ablation_report.series import short_case
from ablation_report.site.pages.findings import answers_of
from ablation_report.site.pages.kernels import NO_RECORD

ROOT = Path(__file__).parents[3]
RUNS = ROOT / "data/runs"
# The tables of the page that are shown, each as CSV, and whether it has such a column
TABLES = """() => [...document.querySelectorAll(".md-content table")]
  .filter((table) => table.checkVisibility() && table.querySelector("button.sort"))
  .map((table) => window.ablationTables.csv(table))"""
RUN_LINKS = """() => [...document.querySelectorAll(".md-content a[href*='runs/']")]
  .filter((a) => a.checkVisibility()).map((a) => a.textContent)"""

pytestmark = NEEDS_SITE
Lines = list[dict[str, str]]


def tables(page: Any) -> list[Lines]:
    """The tables that a page shows, as their CSV has them."""
    return [list(csv.DictReader(io.StringIO(text))) for text in page.evaluate(TABLES)]


def table_with(page: Any, *columns: str) -> Lines:
    """The first table that is shown and has these columns."""
    return next(found for found in tables(page) if set(columns) <= found[0].keys())


def league(page: Any) -> None:
    lines = table_with(page, "case", "ratio", "ours", "other", "run")
    for line in lines:
        run = read_one(RUNS / line["run"])[0]
        rows = {row["printed_name"]: row for row in run.rows if short_case(row) == line["case"]}
        # A spreadsheet would run a name that begins with a plus as a formula
        ours, other = (rows[line[name].removeprefix("'")] for name in ("ours", "other"))
        said = run.compare(ours, other)
        assert said is not None and line["ratio"] == str(said.ratio.value)
    assert len(lines) > 1


def worth(page: Any) -> None:
    lines = table_with(page, "Optimization")
    runs = [read_one(RUNS / name)[0] for name in page.evaluate(RUN_LINKS)]
    for size in set(lines[0]) - {"Optimization", "group"}:
        told = {line["Optimization"]: line[size] for line in lines}
        found = [
            found
            for run in runs
            for case, rows in run.by_case.items()
            if short_case(rows[0]) == size and (found := attribution_of(run, case))
        ]
        expected = [
            {w.printed_name: str(ratio(w.phi.value)) for w in each.worths} for each in found
        ]
        assert any(each.items() <= told.items() for each in expected), size
    assert runs


def kernels(page: Any) -> None:
    records = sorted((ROOT / "data/kernels").glob("*.json"))
    if not records:
        assert page.get_by_text(NO_RECORD.split("`")[0].strip("* ")).is_visible()
        return
    times = {str(value) for path in records for value in numbers(json.loads(path.read_text()))}
    lines = table_with(page, "op", "kernel", "shape", "median_ns")
    assert len(lines) > 1 and all(line["median_ns"] in times for line in lines)


def numbers(value: Any) -> Iterator[float]:
    """Every number of nested lists and tables."""
    if isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from numbers(entry)
    elif isinstance(value, int | float):
        yield value


def models(page: Any) -> None:
    told_of = json.loads((ROOT / "data/models.json").read_text())["lines"]
    known = {(told["part"], told["model"], told["attention"]): told for told in told_of}
    part = told_of[0]["part"]
    lines = table_with(page, "Model", "Covered")
    for line in lines:
        told = known[part, line["Model"], line["Attention"]]
        if told["ops"] is not None:
            covered = told["ops"] - sum(told["refused"].values())
            assert line["Covered"] == f"{covered} of {told['ops']}"
    assert len(lines) > 10


def refused(page: Any) -> None:
    told = page.locator(".md-content details summary").all_inner_texts()
    counts = [int(text.split()[1]) for text in told]
    assert len(told) > 5 and page.locator(".md-content details pre").count() == sum(counts)


def findings(page: Any) -> None:
    found = answers_of(gather(RUNS).runs)
    verdicts = {
        finding.claim: {a.machine: a.outcome.verdict for a in said} for finding, said in found
    }
    lines = table_with(page, "Claim")
    for line in lines:
        told = {name: value for name, value in line.items() if name not in ("group", "Claim")}
        known = verdicts[line["Claim"]]
        assert told == {name: known.get(name, "") for name in told}
    assert len(lines) > 5


def published(page: Any) -> None:
    names = {run.name for run in gather(ROOT / "data/published").runs}
    text = page.locator(".md-content").text_content()
    assert names and all(name in text for name in names)


# A question, the links that lead to its answer from home, and what is compared with the rows there
QUESTIONS: Mapping[str, tuple[tuple[str, ...], Callable[[Any], None]]] = {
    "What is an optimization worth on my CPU?": (("What is it worth?",), worth),
    "How do ours and others compare?": (("Ours against others",), league),
    "Which kernel is fastest?": (("Which kernel is fastest?",), kernels),
    "Which models are covered?": (("Models",), models),
    "Why was my fusion refused?": (("Why was my fusion refused?",), refused),
    "Which claims hold on which machine?": (("Findings",), findings),
    "Where do the published figures come from?": (("Published figures, reread",), published),
}


SLIDE_MS = 500


def follow(page: Any, name: str) -> None:
    """Click a link of the navigation, and wait until the page that it leads to is loaded."""
    with page.expect_event("load"):
        page.locator(".md-nav").get_by_role("link", name=name, exact=True).click()


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_is_answered_within_two_clicks(browser: Any, question: str) -> None:
    links, check = QUESTIONS[question]
    assert len(links) <= 2
    visitor = Visitor(browser, 1280, "light")
    page = visitor.open("index.html")
    for name in links:
        follow(page, name)
    check(page)
    visitor.context.close()
    assert visitor.faults == []


def test_a_phone_reaches_each_question_by_its_menu(browser: Any) -> None:
    visitor = Visitor(browser, 390, "light")
    for links, _ in QUESTIONS.values():
        page = visitor.open("index.html")
        page.locator("label.md-header__button[for=__drawer]").click()
        # The drawer and its panel slide in, in a quarter of a second each
        page.wait_for_timeout(SLIDE_MS)
        page.locator("label.md-nav__link", has_text="Answers").click()
        page.wait_for_timeout(SLIDE_MS)
        follow(page, links[0])
        assert not page.url.endswith("index.html")
    visitor.context.close()
    assert visitor.faults == []
