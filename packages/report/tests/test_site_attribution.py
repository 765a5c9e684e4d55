"""The pages of attribution: what stands on them, which run they are of, and what odd runs make of
them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from attribution_samples import make_attribution_run, usual_value
from ladder_samples import ladder_run, lattice_run
from samples import write_run
from test_brackets import folding, value
from test_charts_attribution import FEW, sampled_run
from test_findings_attribution import QUIET, counters_only

from ablation_report.attribution.worths import attribution_of
from ablation_report.load import Gathered, gather
from ablation_report.run import Run
from ablation_report.site import write_pages
from ablation_report.site.inputs import Inputs
from ablation_report.site.navigation import navigation, pages_of
from ablation_report.site.pages.attribution import (
    attribution_page,
    attribution_pages,
    ladders_of,
    shown_places,
)

ROOT = Path(__file__).parents[3]
LINK = re.compile(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)")


def of(*runs: Run, mine: frozenset[str] = frozenset()) -> Inputs:
    """What pages are made from: these runs."""
    return Inputs(Gathered(runs), mine=mine)


def page_of(inputs: Inputs) -> str:
    """The one page of attribution."""
    (page,) = attribution_pages(inputs)
    return attribution_page(inputs, page)


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def changed(run: Run, **header: Any) -> Run:
    """A run with another header."""
    return replace(run, header={**run.header, **header})


def test_a_machine_has_a_page_with_its_cases() -> None:
    run = make_attribution_run(usual_value, FEW, noise=QUIET)
    inputs = of(run)
    (page,) = attribution_pages(inputs)
    assert page.path == "attribution/test-cpu-2-cores-2-threads-avx2.md"
    text = attribution_page(inputs, page)
    for told in (
        "# Test CPU, 2 cores, 2 threads, avx2",
        "<summary>Findings: run</summary>",
        "](../findings.md#worth-of-each)",
        '<section data-size="Toy" markdown="1">',
        "## Toy { #case-toy }",
        "Rows: [run](../runs/run.md)",
        "worth something",
        ", top ",
        "### What each optimization is worth",
        "<summary>Where the time went</summary>",
        "<summary>Which two save the same time</summary>",
        "<summary>Every program by its time</summary>",
    ):
        assert told in text, told
    # No ladder of the block was recorded on this machine
    assert "inside the brackets" not in text
    assert text.count("vega-chart") == 4
    assert text.count("<summary>The rows behind the chart</summary>") == 4
    anchors = re.findall(r"\{ #(\S+) ", text)
    assert len(anchors) == len(set(anchors)) >= 1


def test_the_page_is_in_the_navigation_and_its_links_lead_somewhere(tmp_path: Path) -> None:
    run = make_attribution_run(usual_value, FEW)
    out = tmp_path / "pages"
    pages = pages_of(write_pages(of(run), ROOT / "docs", out, ROOT))
    (path,) = (page for page in pages if page.startswith("attribution/"))
    assert "worth.md" in pages
    for target in LINK.findall((out / path).read_text("utf-8")):
        assert (out / path).parent.joinpath(target).is_file(), target
    suite = (out / "suites/attribution.md").read_text("utf-8")
    assert "../findings.html#worth-of-each" in suite
    assert "{ #worth-of-each }" in _text(out / "findings.md")
    assert f"Results by machine: [Test CPU, 2 cores, 2 threads, avx2](../{path})." in suite
    # Programs by the hundred are no table of means
    assert "Geometric means" not in suite and "## Charts" not in _text(out / "runs/run.md")
    assert "Attribution" not in str(navigation(of(), (), {}))


def test_each_machine_threads_and_instruction_set_has_a_page() -> None:
    run = make_attribution_run(usual_value, FEW)
    other = changed(run, machine={**run.header["machine"], "cpu_model": "Other CPU"})
    forced = changed(run, providers={**run.header["providers"], "simd": "baseline"})
    caches = changed(run, machine={**run.header["machine"], "caches": {"L1d": 65536}})
    runs = (replace(r, name=f"run {i}") for i, r in enumerate((run, other, forced, caches)))
    titles = [page.title for page in attribution_pages(of(*runs))]
    assert sorted(titles) == [
        "Other CPU, 2 cores, 2 threads, avx2",
        "Test CPU, 2 cores, 2 threads, avx2",
        "Test CPU, 2 cores, 2 threads, avx2 (2)",
        "Test CPU, 2 cores, 2 threads, baseline",
    ]


def test_your_runs_have_a_page_of_their_own() -> None:
    run = make_attribution_run(usual_value, FEW)
    own = replace(run, name="own")
    pages = attribution_pages(of(run, own, mine=frozenset({"own"})))
    assert [page.title.partition(":")[0] for page in pages][1:] == ["Your machine"]
    assert [p.run.name for page in pages for p in shown_places(page.setting)] == ["run", "own"]


def test_of_two_runs_the_one_that_resolves_more_is_shown() -> None:
    quiet = changed(
        make_attribution_run(usual_value, FEW, "quiet", noise=2 * QUIET),
        created_utc="2026-01-01T00:00:00Z",
    )
    noisy = changed(
        make_attribution_run(usual_value, FEW, "noisy", noise=0.3),
        created_utc="2026-01-03T00:00:00Z",
    )
    vague = changed(
        make_attribution_run(lambda point: 0.0, FEW, "vague", noise=QUIET),
        created_utc="2026-01-02T00:00:00Z",
    )
    counted = replace(changed(counters_only(), created_utc="2026-01-04T00:00:00Z"), name="counted")
    (page,) = attribution_pages(of(quiet, vague, noisy, counted))
    assert [place.run.name for place in shown_places(page.setting)] == ["quiet"]


SAID: Mapping[str, tuple[Callable[[], Run], str]] = {
    "counters alone": (
        counters_only,
        "*No worth at Toy: only counters were recorded, no time",
    ),
    "no base": (
        lambda: make_attribution_run(usual_value, FEW, missing={(0, 0, 0): "oom"}),
        "*No worth at Toy: base: oom, predicted.*",
    ),
    "sampled": (sampled_run, "mean over 4 sampled orders"),
    "a program missing": (
        lambda: make_attribution_run(usual_value, FEW, missing={(1, 0, 0): "incorrect"}),
        "mean over the orders that avoid programs without a time",
    ),
    "noisy": (
        lambda: make_attribution_run(usual_value, FEW, noise=0.4),
        '!!! warning "run: too noisy"',
    ),
    "no effect": (
        lambda: make_attribution_run(
            lambda point: usual_value({**point, "simd": 0}),
            FEW,
            program=lambda point: (point["folding"], point["threads"]),
        ),
        "No effect here: SIMD",
    ),
}


@pytest.mark.parametrize("name", SAID)
def test_an_odd_run_has_a_page_that_says_what_is_odd(name: str, tmp_path: Path) -> None:
    make, said = SAID[name]
    run = make()
    assert said in page_of(of(run))
    pages = pages_of(write_pages(of(run), ROOT / "docs", tmp_path / "pages", ROOT))
    assert all((tmp_path / "pages" / page).is_file() for page in pages)


def test_the_ladders_of_the_machine_and_the_published_stand_in_the_brackets() -> None:
    lattice = lattice_run(value)
    ladder = changed(ladder_run(*folding(800)), providers=lattice.header["providers"])
    away = replace(
        changed(ladder, machine={**ladder.header["machine"], "cpu_model": "Other CPU"}), name="away"
    )
    rows = tuple(
        {**row, "threads": None, "samples_ns": [ns] * 12}
        for row, ns in zip(ladder.rows, (1000, 900), strict=True)
    )
    published = replace(ladder, rows=rows, is_published=True, name="paper")
    inputs = of(lattice, ladder, away, published)
    (page,) = attribution_pages(inputs)
    (place,) = shown_places(page.setting)
    found = attribution_of(place.run, place.case)
    assert found is not None
    assert [run.name for run in ladders_of(inputs, place, found)] == ["ladder", "paper"]
    text = attribution_page(inputs, page)
    assert "<summary>The ladder inside the brackets</summary>" in text
    assert (
        "| folded | none | Folding: folded | 1.20x to 1.50x | 1.25x, inside | "
        "1.11x, outside (measured on another machine) |"
    ) in text


def test_markup_in_names_is_text(tmp_path: Path) -> None:
    bad = '<img src=x>"|`x`[y](javascript:z)'
    factors = {
        key: (printed + bad, tuple(level + bad for level in levels))
        for key, (printed, levels) in FEW.items()
    }
    run = make_attribution_run(usual_value, factors)
    rows = tuple({**row, "printed_name": row["printed_name"] + bad} for row in run.rows)
    text = page_of(of(replace(run, rows=rows, name=f"run {bad}")))
    # Inside a script nothing is markup but "<"
    plain = re.sub(r"<script type=.*?</script>", "", text)
    assert "<img" not in text and "](javascript:" not in plain and "`x`" not in plain
    for line in plain.splitlines():
        assert not line.startswith("|") or line.replace("\\|", "").endswith("|")


def test_reading_a_written_run_makes_the_same_page(tmp_path: Path) -> None:
    run = make_attribution_run(usual_value, FEW)
    rows = [{k: v for k, v in row.items() if k not in ("path", "line")} for row in run.rows]
    written = write_run(tmp_path / "run", rows, dict(run.header))
    (page,) = attribution_pages(Inputs(gather(written)))
    assert page.title == attribution_pages(of(run))[0].title
