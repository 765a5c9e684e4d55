"""The pages of the site: what stands on them, and what meager or bad input makes of them."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from page_tables import page_tables
from samples import make_header, make_row, make_timed, make_untimed, write_run

from ablation_report.charts import charts_of
from ablation_report.load import Gathered, gather, read
from ablation_report.rows import ROWS_NAME
from ablation_report.site import write_pages
from ablation_report.site.blocks import BLOCKS, MARK, fill
from ablation_report.site.figures import MISSING, fragment
from ablation_report.site.inputs import Inputs
from ablation_report.site.navigation import pages_of, to_toml, write_config
from ablation_report.site.pictures import add_pictures
from ablation_report.site.text import table

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)#\s]+\.md)(?:#[^)]*)?\)")
KERNELS: list[dict[str, Any]] = [
    {
        "name": f"softmax_{form}",
        "op": "softmax",
        "form": "",
        "simd": form == "simd",
        "parallel": False,
        "gemm": "none",
        "provider": "avx2",
        "idea": "three passes | over a row",
    }
    for form in ("scalar", "simd")
]
AA = ("attention-fused-parallel", "layernorm-parallel")


PASSES = ROOT / "packages/executor/src/ablation_executor/passes"


def timed_rows(*variants: str, n: int = 8) -> list[dict[str, Any]]:
    """Rows whose times differ by variant."""
    return [
        make_timed(name, [1000 + 100 * i + j for j in range(n)]) for i, name in enumerate(variants)
    ]


def build(out: Path, *paths: Path, kernels: list[dict[str, Any]] | None = None) -> list[str]:
    """Write the pages and return those that the navigation names."""
    return pages_of(write_pages(Inputs(gather(*paths), kernels, PASSES), DOCS, out, ROOT))


@pytest.fixture(scope="module")
def good_site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The pages of a small run and the published figures."""
    folder = tmp_path_factory.mktemp("good")
    run = write_run(folder / "runs" / "small", timed_rows("torch-naive", "torch-sdpa", *AA))
    pages = build(folder / "pages", run.parent, ROOT / "data/published", kernels=KERNELS)
    return folder / "pages", pages


def test_the_navigation_names_every_page_once_but_those_of_runs(
    good_site: tuple[Path, list[str]],
) -> None:
    folder, pages = good_site
    written = (path.relative_to(folder).as_posix() for path in folder.rglob("*.md"))
    runs = re.compile(r"(runs|published)/")
    assert sorted(pages) == sorted(page for page in written if not runs.match(page))
    for page in folder.glob("*/*.md"):
        if runs.match(page.relative_to(folder).as_posix()):
            name = page.relative_to(folder).with_suffix("").as_posix()
            links = f"]({name}.md)", f'"{name}.html"'
            assert any(link in (folder / "runs.md").read_text("utf-8") for link in links), name


def test_a_page_that_the_navigation_does_not_know_stands_below_more(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for name in ("index.md", "league.md", "my-notes.md"):
        (docs / name).write_text("# Title\n")
    entries = write_pages(Inputs(Gathered(())), docs, tmp_path / "pages")
    assert entries[0] == {"Home": "index.md"}
    assert entries[1] == {"Answers": [{"Ours against others": "league.md"}]}
    assert entries[-1] == {"More": [{"My notes": "my-notes.md"}]}


def test_every_link_between_pages_leads_to_a_page(good_site: tuple[Path, list[str]]) -> None:
    folder, pages = good_site
    broken = [
        f"{page}: {target}"
        for page in pages
        for target in LINK.findall((folder / page).read_text(encoding="utf-8"))
        if not (folder / page).parent.joinpath(target).is_file()
    ]
    assert broken == []


def test_every_block_is_asked_for_and_filled(good_site: tuple[Path, list[str]]) -> None:
    asked = "".join(path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md"))
    assert all(f"<!-- generated: {name} -->" in asked for name in BLOCKS)
    folder, pages = good_site
    assert not any(MARK.search((folder / page).read_text("utf-8")) for page in pages)


def test_an_unknown_block_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run", timed_rows("torch-naive"))
    with pytest.raises(ValueError, match="no generated block 'nonsense'; there are home"):
        fill("<!-- generated: nonsense -->", Inputs(gather(tmp_path / "run")))


def test_charts_have_their_rows_and_pages_their_origin(good_site: tuple[Path, list[str]]) -> None:
    folder, _ = good_site
    page = (folder / "configs/toy.md").read_text("utf-8")
    contents = re.findall(r'<script type="application/json" data-chart="\S+">(.*)</script>', page)
    assert contents and all("mark" in content for content in map(str, map(json.loads, contents)))
    assert page.count("<summary>The rows behind the chart</summary>") == len(contents)
    assert "runs/small`, Test CPU, 2 cores, 2 threads, 2026-01-02." in page
    assert "block_ablation_m4max.csv`" in page


def test_nothing_is_loaded_from_another_host(good_site: tuple[Path, list[str]]) -> None:
    folder, pages = good_site
    loads = re.compile(r"""<(?:script|img|link|iframe)[^>]+(?:src|href)=["']?(?:https?:)?//""")
    assert not any(loads.search((folder / page).read_text("utf-8")) for page in pages)


DEGENERATE = {
    "no_twins": (timed_rows("torch-naive", "passes-none"), "No A/A pair was measured"),
    "one_variant": (timed_rows("passes-none"), "Only one variant has a time"),
    "one_round": (
        [row | {"sample_rounds": [0] * 8} for row in timed_rows("torch-naive", *AA)],
        "One round was measured",
    ),
    "all_oom": ([make_untimed(make_row())], "No variant has a time here (oom)"),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_a_meager_run_builds_and_says_what_it_cannot(tmp_path: Path, name: str) -> None:
    cells, sentence = DEGENERATE[name]
    run = write_run(tmp_path / "runs" / name, cells)
    pages = build(tmp_path / "pages", run, kernels=KERNELS)
    assert sentence in (tmp_path / "pages/configs/toy.md").read_text("utf-8")
    assert all((tmp_path / "pages" / page).is_file() for page in pages)


def test_all_oom_draws_no_chart_and_says_why(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [make_untimed(make_row())])
    build(tmp_path / "pages", run)
    page = (tmp_path / "pages/configs/toy.md").read_text("utf-8")
    (folded,) = re.findall(rf"<summary>{MISSING}</summary>\n\n(.*?)\n\n</details>", page, re.DOTALL)
    titles = [spec.title for spec in charts_of(read(run)[0]) if spec.per_case]
    assert [line.partition(":")[0] for line in folded.splitlines()] == [f"- {t}" for t in titles]
    assert "vega-chart" not in page and not any(f"### {title}" in page for title in titles)


def test_without_any_source_every_page_says_so(tmp_path: Path) -> None:
    write_pages(Inputs(Gathered(())), DOCS, tmp_path / "pages", ROOT)
    for page, sentence in {
        "index.md": "No recorded run compares ours",
        "findings.md": "No run has been recorded",
        "ladder.md": "No usable run has been recorded",
        "league.md": "No recorded run compares ours",
        "runs.md": "No run has been recorded",
        "configs.md": "No source has a config",
        "kernels.md": "built without the kernels wheel",
    }.items():
        assert sentence in (tmp_path / "pages" / page).read_text("utf-8"), page


def damage(folder: Path) -> None:
    """Cut the last row in half."""
    rows = folder / ROWS_NAME
    rows.write_text(rows.read_text()[:-200])


def make_foreign(folder: Path) -> None:
    """Put a file of something else in the place of the header."""
    (folder / "run.json").write_text('{"tool": "another <bench>"}')


def make_newer(folder: Path) -> None:
    """Let a newer bench have written it."""
    (folder / "run.json").write_text(json.dumps(make_header(schema_version=3)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage, "damaged, no JSON"),
        (make_foreign, "column schema_version"),
        (make_newer, "a newer bench wrote it"),
    ],
)
def test_a_bad_run_is_told_and_the_others_are_shown(
    tmp_path: Path, spoil: Any, message: str
) -> None:
    spoil(write_run(tmp_path / "runs" / "bad", timed_rows("torch-naive")))
    write_run(tmp_path / "runs" / "good", timed_rows("torch-naive", *AA))
    build(tmp_path / "pages", tmp_path / "runs")
    runs = (tmp_path / "pages/runs.md").read_text("utf-8")
    box = runs.partition("!!! failure")[2].partition("\n## ")[0]
    assert "runs/bad" in box and message in box
    assert '<a href="runs/good.html">good</a>' in runs
    assert "<summary>Every variant</summary>" in (tmp_path / "pages/configs/toy.md").read_text(
        "utf-8"
    )


def test_a_run_without_rows_is_noted_and_no_fault(tmp_path: Path) -> None:
    (write_run(tmp_path / "runs" / "killed", []) / ROWS_NAME).unlink()
    write_run(tmp_path / "runs" / "good", timed_rows("torch-naive", *AA))
    build(tmp_path / "pages", tmp_path / "runs")
    runs = (tmp_path / "pages/runs.md").read_text("utf-8")
    box = runs.partition("!!! note")[2].partition("\n## ")[0]
    assert "runs/killed: a run without rows" in box and "!!! failure" not in runs


def test_the_passes_stand_in_their_order_with_before_and_after(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", timed_rows("torch-naive"))
    build(tmp_path / "pages", run)
    page = (tmp_path / "pages/passes.md").read_text("utf-8")
    names = re.findall(r"^## \d+\. (\w+) ", page, re.MULTILINE)
    files = {path.stem for path in PASSES.glob("[!_]*.py")}
    assert names[0] == "absorb_into_matmul" and names[-1] == "merge_qkv" and {*names} == files
    assert page.count(" -> ") >= len(names)
    assert "relu(add(x, vector)) -> bias_relu(x, vector)" in page


def test_a_pass_is_worth_what_the_rung_that_adds_it_is(tmp_path: Path) -> None:
    rows = timed_rows("passes-none", "passes-fold", *AA)
    rows[1] |= {"parent": "passes-none", "passes": ["fold_constants"]}
    run = write_run(tmp_path / "run", rows)
    build(tmp_path / "pages", run)
    page = (tmp_path / "pages/passes.md").read_text("utf-8")
    section = page.partition("2. fold_constants")[2].partition("\n## ")[0]
    (line,) = page_tables(section)[0].lines
    assert line[:4] == ["Toy", "passes-fold", "passes-none", "1.10x"]


def test_a_chart_cannot_end_its_own_script() -> None:
    html = fragment("chart-x", "A title", "A caption", {"title": "</script><script>"})
    content = html.partition('data-chart="chart-x">')[2].partition("</script>")[0]
    assert json.loads(content) == {"title": "</script><script>"}


def test_every_open_chart_has_a_picture_for_pages_without_scripts(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    run = write_run(tmp_path / "run", timed_rows("torch-naive", "torch-sdpa", *AA))
    pages = build(tmp_path / "pages", run)
    count = add_pictures(tmp_path / "pages")
    named = set()
    for page in pages:
        text = (tmp_path / "pages" / page).read_text("utf-8")
        sources = re.findall(r'<noscript><img src="([^"]+)" alt="[^"]+"></noscript>', text)
        unfolded = re.sub(r"<details.*?</details>", "", text, flags=re.DOTALL)
        assert len(sources) == unfolded.count("data-chart=")
        for source in sources:
            picture = (tmp_path / "pages" / page).parent / source
            assert picture.read_text("utf-8").startswith("<svg"), source
            named.add(picture.resolve())
    assert len(named) == count > 1


def test_the_configuration_has_the_base_and_the_navigation(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [{"A": "a.md"}, {'B "b"': [{"µ": "b.md"}]}]
    base, out = ROOT / "zensical.toml", tmp_path / "zensical.toml"
    write_config(base, out, tmp_path / "pages", entries, {"copyright": "A license"})
    project = tomllib.loads((tmp_path / "zensical.toml").read_text("utf-8"))["project"]
    known = tomllib.loads(base.read_text("utf-8"))["project"]
    assert project["nav"] == entries and project["docs_dir"] == "pages"
    assert project["theme"].items() >= known["theme"].items()
    assert project["extra"] == known["extra"] and project["copyright"] == "A license"
    # Read from where the packages are installed
    assert "paths" not in project["plugins"]["mkdocstrings"]["handlers"]["python"]


def test_toml_is_read_back_as_it_was() -> None:
    value = {"text": 'a "b" \\ µ', "flag": True, "rows": [{"n": 1}, ["x"]]}
    assert tomllib.loads(f"value = {to_toml(value)}") == {"value": value}


def test_a_table_is_not_torn_by_what_a_row_says(tmp_path: Path) -> None:
    assert table(["A", "B"], [["x", "1"]]) == "| A | B |\n| --- | ---: |\n| x | 1 |"
    row = make_untimed(make_row(), "error", "raised") | {"reason_text": "a|b <tag>\nsecond line"}
    build(tmp_path / "pages", write_run(tmp_path / "run", [row]))
    page = (tmp_path / "pages/configs/toy.md").read_text("utf-8")
    assert "a&#124;b &lt;tag&gt; second line" in page


def test_without_the_repository_the_pages_are_written_all_the_same(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", timed_rows("torch-naive"))
    shutil.copytree(DOCS, tmp_path / "docs")
    pages = pages_of(write_pages(Inputs(gather(run)), tmp_path / "docs", tmp_path / "pages"))
    assert not any(page.startswith("changelogs/") for page in pages)
    assert "without the executor's sources" in (tmp_path / "pages/passes.md").read_text("utf-8")


def test_notes_of_a_run_stand_on_its_page_as_text(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", timed_rows("torch-naive"))
    (run / "NOTES.md").write_text("Stopped <b>early</b>.\n\nThe machine\nwas shared.\n")
    build(tmp_path / "pages", run)
    page = (tmp_path / "pages/runs/run.md").read_text("utf-8")
    notes = "- Stopped &lt;b&gt;early&lt;/b&gt;.\n- The machine was shared."
    assert f"<summary>Notes</summary>\n\n{notes}\n\n</details>" in page


def test_own_runs_have_pages_and_no_other_page_is_made_from_them(tmp_path: Path) -> None:
    own = write_run(tmp_path / "own", timed_rows("torch-naive", "torch-sdpa", *AA))
    rows = [row | {"run_id": "other"} for row in timed_rows("torch-naive", *AA)]
    theirs = write_run(tmp_path / "theirs", rows, make_header(rows, run_id="other"))
    inputs = Inputs(gather(own, theirs), mine=frozenset({"own"}))
    entries = write_pages(inputs, DOCS, tmp_path / "pages", ROOT)
    assert "runs/own.md" not in pages_of(entries)
    text = {path.name: path.read_text("utf-8") for path in (tmp_path / "pages").rglob("*.md")}
    assert "## Your machine" in text["runs.md"] and "own.md" in text["toy.md"]
    for page in ("index.md", "findings.md", "ladder.md", "league.md", "configs.md"):
        assert "own" not in re.findall(r"runs/([\w-]+)\.(?:md|html)", text[page]), page
    assert "theirs" in text["configs.md"]
