"""Pages of suites and of their runs: what stands on them, and what bad runs make of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from samples import make_attention_row, make_header, make_untimed, write_run

from ablation_report.legacy import BASELINES
from ablation_report.load import Gathered, gather
from ablation_report.site import write_pages
from ablation_report.site.inputs import Inputs
from ablation_report.site.navigation import pages_of
from ablation_report.site.pages.suites import shown_runs
from ablation_report.site.published_names import NAMES, SUITES

ROOT = Path(__file__).parents[3]
LINK = re.compile(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)")
SWEEP = "attention-sweep"
CEILINGS = {
    threads: {"multiply_add_flops_per_s": 1e16, "sgemm_1024_flops_per_s": 5e15} for threads in "12"
}


TWINS = ["torch_sdpa_flash", "torch_sdpa_flash_again"]


def build(out: Path, *paths: Path) -> list[str]:
    """Write the pages and return those that the navigation names."""
    return pages_of(write_pages(Inputs(gather(*paths)), ROOT / "docs", out, ROOT))


def write_suite(folder: Path, rows: list[dict[str, Any]], **changes: Any) -> Path:
    """Write a run of a suite and return its folder."""
    known = {"baseline": "torch_sdpa_flash", "twins": [TWINS], "ceilings": CEILINGS}
    header = make_header(rows, **(known | changes))
    return write_run(folder, rows, header | {"suite": changes.get("suite", SWEEP)})


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The pages of a small run and the published figures."""
    folder = tmp_path_factory.mktemp("suites")
    rows = [
        *(make_attention_row(name, [2000] * 8) for name in TWINS),
        make_attention_row("ablation_flash", [1000] * 8),
        make_untimed(make_attention_row("triton_flash"), "unsupported", "no_cuda"),
    ]
    write_suite(folder / "runs" / "small", rows)
    pages = build(folder / "pages", folder / "runs", ROOT / "data/published")
    return folder / "pages", pages


def test_the_suites_are_those_of_the_rows() -> None:
    # Nothing was published of attribution and of modules
    assert set(SUITES) - {"block", "attribution", "model"} == set(NAMES) == set(BASELINES)


def test_every_published_name_is_explained() -> None:
    for run in gather(ROOT / "data/published").runs:
        if run.suite == "block" or run.name.startswith(("pytorch", "onnxruntime")):
            continue
        explained = {told for name in NAMES[run.suite] for told in name.published}
        assert {row["published_name"] or row["variant"] for row in run.rows} <= explained


def test_each_suite_has_a_page_in_the_navigation(site: tuple[Path, list[str]]) -> None:
    folder, pages = site
    assert {f"suites/{suite}.md" for suite in SUITES} <= set(pages)
    assert len(pages) == len(set(pages)) and (folder / "runs/small.md").is_file()


def test_links_lead_to_pages(site: tuple[Path, list[str]]) -> None:
    folder, pages = site
    for page in pages:
        for target in LINK.findall((folder / page).read_text("utf-8")):
            assert (folder / page).parent.joinpath(target).is_file(), f"{page}: {target}"


def test_anchors_of_a_page_are_distinct(site: tuple[Path, list[str]]) -> None:
    folder, pages = site
    for page in pages:
        text = (folder / page).read_text("utf-8")
        anchors = re.findall(r"\{ #(\S+)[^}]*\}$", text, re.MULTILINE)
        assert len(anchors) == len(set(anchors)), page


def test_a_suite_page_has_names_findings_facts_and_both_kinds_of_rows(
    site: tuple[Path, list[str]],
) -> None:
    text = (site[0] / f"suites/{SWEEP}.md").read_text("utf-8")
    for told in (
        "[What was published under which name](../published.md#names)",
        '<section data-machine="Test CPU, 2 cores"',
        "**Ours against others: Test CPU, 2 cores",
        ">1.0 µs (ablation_flash)</td>",
        ">2.0 µs (torch_sdpa_flash)</td>",
        "Rows: [small](../runs/small.md)",
        "<summary>Published: attention forward sweep, RTX 3090</summary>",
        "On RTX 3090.",
        '<a href="../runs/small.html">small</a></td>',
        ">3 of 4</td>",
    ):
        assert told in text, told
    assert text.count("<summary>The rows behind the chart</summary>") == text.count("vega-chart")
    assert "#forward-target" not in text


def test_a_run_page_has_facts_findings_charts_and_every_row(site: tuple[Path, list[str]]) -> None:
    text = (site[0] / "runs/small.md").read_text("utf-8")
    assert "ablation_flash" in text and "unsupported (no_cuda)" in text
    assert "Ceilings: 10000000 GFLOP/s" in text and "vega-chart" in text
    runs = (site[0] / "runs.md").read_text("utf-8")
    assert f"**{SWEEP}: 1**" in runs and '<a href="runs/small.html">small</a>' in runs


def test_without_a_run_each_page_says_so(tmp_path: Path) -> None:
    write_pages(Inputs(Gathered(())), ROOT / "docs", tmp_path / "pages", ROOT)
    for suite in SUITES:
        text = (tmp_path / f"pages/suites/{suite}.md").read_text("utf-8")
        assert "No run of this suite has been recorded" in text and "vega-chart" not in text


def test_a_suite_that_is_not_known_has_a_page(tmp_path: Path) -> None:
    rows = [make_attention_row(suite="toy-suite")]
    write_suite(tmp_path / "runs" / "small", rows, suite="toy-suite")
    pages = build(tmp_path / "pages", tmp_path / "runs")
    assert "suites/toy-suite.md" in pages
    assert "../runs/small.md" in (tmp_path / "pages/suites/toy-suite.md").read_text("utf-8")


def test_runs_are_shown_that_say_most_of_a_device_or_a_tier(tmp_path: Path) -> None:
    base = make_attention_row()
    again, ours = make_attention_row(TWINS[1]), make_attention_row("ablation_flash", [500] * 8)
    gpu = make_attention_row(device="cuda", device_name="Test GPU", dtype="float16")
    for name, day, rows in (
        ("old", 1, [base, again, ours]),
        ("new", 2, [base, again, ours]),
        ("newest-with-less", 3, [base]),
        ("timeless", 4, [make_untimed(make_attention_row())]),
        ("gpu", 1, [gpu]),
        ("odd", 1, [make_attention_row(tier="odd")]),
    ):
        created = f"2026-01-0{day}T00:00:00Z"
        rows = [row | {"run_id": name} for row in rows]
        write_suite(tmp_path / name, rows, created_utc=created, run_id=name)
    shown = shown_runs(Inputs(gather(tmp_path)), SWEEP)
    assert [run.name for run in shown] == ["new", "gpu", "odd"]


def test_a_run_that_stopped_early_and_a_damaged_one_are_told(tmp_path: Path) -> None:
    rows = [make_attention_row()]
    write_suite(tmp_path / "runs" / "empty", [])
    write_suite(tmp_path / "runs" / "good", rows)
    write_suite(tmp_path / "runs" / "bad", [rows[0] | {"samples_ns": [0] * 6}])
    build(tmp_path / "pages", tmp_path / "runs")
    assert (
        "The run was stopped before its first case"
        in (tmp_path / "pages/runs/empty.md").read_text()
    )
    text = (tmp_path / "pages/runs.md").read_text("utf-8")
    box = text.partition("!!! failure")[2].partition("!!! note")[0]
    assert "runs/bad/rows.jsonl:1" in box and "runs/good" not in box
    assert "Rows: [good](../runs/good.md)" in (tmp_path / f"pages/suites/{SWEEP}.md").read_text(
        "utf-8"
    )
