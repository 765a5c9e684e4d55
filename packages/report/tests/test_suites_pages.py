"""Pages of the further suites: what stands on them, and what bad runs make of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from suite_samples import (
    SWEEP,
    make_failed_suite_row,
    make_suite_header,
    make_suite_row,
    write_suite,
)

from ablation_report.site import write_pages
from ablation_report.site.navigation import pages_of
from ablation_report.site.suite_pages import shown_runs
from ablation_report.sources import Gathered, gather
from ablation_report.suite_names import NAMES, SUITES
from ablation_report.suite_rows import BASELINES

ROOT = Path(__file__).parents[3]
LINK = re.compile(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)")


def build(out: Path, *paths: Path) -> list[str]:
    """Write the pages and return those that the navigation names."""
    return pages_of(write_pages(gather(*paths), ROOT / "docs", out, None, ROOT))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The pages of a small run and the published figures."""
    folder = tmp_path_factory.mktemp("suites")
    rows = [
        make_suite_row(samples=[2000] * 8),
        make_suite_row("ablation_flash", [1000] * 8),
        make_failed_suite_row("triton_flash", "unsupported", "no_cuda"),
    ]
    write_suite(folder / "runs" / "small", rows)
    pages = build(folder / "pages", folder / "runs", ROOT / "data/published")
    return folder / "pages", pages


def test_the_suites_are_those_of_the_rows() -> None:
    assert set(SUITES) == set(NAMES) == set(BASELINES)


def test_every_published_name_is_explained() -> None:
    for source in gather(ROOT / "data/published").suite_sources:
        if source.name.startswith(("pytorch", "onnxruntime")):
            continue
        explained = {told for name in NAMES[source.suite] for told in name.published}
        assert {measure["impl"] for measure in source.measures} <= explained


def test_each_suite_and_each_run_has_a_page_in_the_navigation(
    site: tuple[Path, list[str]],
) -> None:
    folder, pages = site
    wanted = {*(f"suites/{suite}.md" for suite in SUITES), "runs/small.md"}
    assert wanted <= set(pages) and len(pages) == len(set(pages))
    assert sorted(pages) == sorted(str(p.relative_to(folder)) for p in folder.rglob("*.md"))


def test_links_lead_to_pages(site: tuple[Path, list[str]]) -> None:
    folder, pages = site
    for page in pages:
        for target in LINK.findall((folder / page).read_text("utf-8")):
            assert (folder / page).parent.joinpath(target).is_file(), f"{page}: {target}"


def test_anchors_of_a_page_are_distinct(site: tuple[Path, list[str]]) -> None:
    folder, _ = site
    for suite in SUITES:
        text = (folder / f"suites/{suite}.md").read_text("utf-8")
        anchors = re.findall(r"\{ #(\S+) \}$", text, re.MULTILINE)
        assert len(anchors) == len(set(anchors)), suite


def test_a_suite_page_has_names_findings_facts_and_both_kinds_of_rows(
    site: tuple[Path, list[str]],
) -> None:
    text = (site[0] / f"suites/{SWEEP}.md").read_text("utf-8")
    for told in (
        "| <code>scaled_dot_prod_attention</code> | <code>torch_unfused_einsum</code> |",
        "PyTorch's SDPA was never run",
        '<span class="verdict verdict-holds">holds</span> [small](../runs/small.md): Reached: 2.0x',
        "## Recorded: small",
        "A run on cpu Test CPU",
        ", 2.0 minutes",
        "## Published: attention forward sweep, RTX 3090",
        "On cuda RTX 3090, `",
        "| [small](../runs/small.md) | cpu Test CPU | 1, 2 | full | 2 of 3 | 1 | 2.0 minutes |",
    ):
        assert told in text, told
    assert text.count("<summary>The rows behind the chart</summary>") == text.count("vega-chart")


def test_a_run_page_has_every_row(site: tuple[Path, list[str]]) -> None:
    text = (site[0] / "runs/small.md").read_text("utf-8")
    assert "| ablation_flash |" in text and "unsupported (no_cuda)" in text
    assert "Ceilings: 100000 GFLOP/s" in text
    runs = (site[0] / "runs.md").read_text("utf-8")
    assert f"[small](runs/small.md) ([{SWEEP}](suites/{SWEEP}.md))" in runs


def test_without_a_run_each_page_says_so(tmp_path: Path) -> None:
    write_pages(Gathered((), (), (), ()), ROOT / "docs", tmp_path / "pages", None, ROOT)
    for suite in SUITES:
        text = (tmp_path / f"pages/suites/{suite}.md").read_text("utf-8")
        assert "No run of this suite has been recorded" in text and "vega-chart" not in text


def test_runs_are_shown_that_add_a_device_or_a_tier(tmp_path: Path) -> None:
    row = make_suite_row()
    gpu = make_suite_row(device="cuda", device_name="Test GPU", dtype="float16")
    for name, day, rows, is_quick in (
        ("old", 1, [row], False),
        ("new", 2, [row], False),
        ("quick", 3, [row], True),
        ("timeless", 4, [make_failed_suite_row("naive")], False),
        ("gpu", 1, [gpu], True),
        ("quick-odd", 1, [row, make_suite_row(tier="odd")], True),
    ):
        created = f"2026-01-0{day}T00:00:00Z"
        header = make_suite_header(rows, created_utc=created, quick=is_quick)
        write_suite(tmp_path / name, rows, header)
    shown = shown_runs(gather(tmp_path), SWEEP)
    assert [run.name for run in shown] == ["new", "gpu", "quick-odd"]


def test_a_run_that_stopped_early_and_a_damaged_one_are_told(tmp_path: Path) -> None:
    write_suite(tmp_path / "runs" / "empty", [])
    write_suite(tmp_path / "runs" / "good", [make_suite_row()])
    write_suite(tmp_path / "runs" / "bad", [make_suite_row() | {"samples_ns": [0] * 6}])
    build(tmp_path / "pages", tmp_path / "runs")
    assert "It was stopped before its first case" in (tmp_path / "pages/runs/empty.md").read_text()
    text = (tmp_path / "pages/runs.md").read_text("utf-8")
    box = text.partition("!!! failure")[2].partition("!!! note")[0]
    assert "runs/bad/rows.jsonl:1" in box and "runs/good" not in box
    assert "## Recorded: good" in (tmp_path / f"pages/suites/{SWEEP}.md").read_text("utf-8")
