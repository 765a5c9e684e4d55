"""Runs and files of one name, of odd names, and of names that no page may have."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from samples import SIZES, make_attention_row, make_header, make_timed, write_run

from ablation_report.load import check, gather
from ablation_report.naming import RESERVED, names_of, slug, slugs
from ablation_report.site import write_pages
from ablation_report.site.inputs import Inputs
from ablation_report.site.pictures import add_pictures
from ablation_report.tables.summary import summarize

ROOT = Path(__file__).parents[3]
PUBLISHED = ROOT / "data/published/block_ablation_m4max.csv"


def make_run(folder: Path, run_id: str, config: str = "Toy", factor: int = 1) -> Path:
    """A run of two variants and eight rounds, under an id of its own."""
    rows = [
        make_timed(name, [factor * (1000 + i)] * 8, run_id=run_id, sizes=SIZES | {"config": config})
        for i, name in enumerate(("torch-naive", "torch-sdpa"))
    ]
    return write_run(folder, rows, make_header(rows, run_id=run_id))


def make_suite_run(folder: Path, run_id: str, factor: int = 1) -> Path:
    """A run of another suite with one row, under an id of its own."""
    rows = [make_attention_row(samples=[1000 * factor] * 6, run_id=run_id)]
    changes = {"run_id": run_id, "baseline": "torch_sdpa_flash", "twins": []}
    return write_run(folder, rows, make_header(rows, **changes))


def pages_with(pages: Path, text: str) -> list[str]:
    """The pages of runs that hold a text."""
    found = [path for path in (pages / "runs").glob("*.md") if text in path.read_text("utf-8")]
    return sorted(path.name for path in found)


def write(out: Path, *paths: Path) -> list[str]:
    """Write the pages of paths; return what lies in their folder of runs."""
    (out.parent / "docs").mkdir(exist_ok=True)
    (out.parent / "docs" / "index.md").write_text("<!-- generated: runs -->\n")
    write_pages(Inputs(gather(*paths)), out.parent / "docs", out)
    return sorted(path.name for path in (out / "runs").iterdir())


def test_two_runs_of_one_name_have_a_page_each(tmp_path: Path) -> None:
    for where in ("a", "b"):
        make_run(tmp_path / where / "run", f"id-{where}")
    make_suite_run(tmp_path / "c" / "run", "id-c")
    pages = write(tmp_path / "out", tmp_path / "a", tmp_path / "b", tmp_path / "c")
    assert pages == ["a-run.md", "b-run.md", "c-run.md"]
    assert pages_with(tmp_path / "out", "id-a") == ["a-run.md"]
    assert pages_with(tmp_path / "out", "id-b") == ["b-run.md"]
    index = (tmp_path / "out/index.md").read_text("utf-8")
    for name in "ac":
        assert f'<a href="runs/{name}-run.html">{name}/run</a>' in index


def test_names_do_not_depend_on_the_order_of_the_paths(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / where / "run", where) for where in "abc"]
    named = [{s.path: s.name for s in gather(*some).runs} for some in (runs, runs[::-1])]
    assert named[0] == named[1] == {run: f"{run.parent.name}/run" for run in runs}


def test_names_that_differ_in_case_alone_are_told_apart(tmp_path: Path) -> None:
    for where in ("x/Run 1", "x/run-1", "x/RUN_1", "y/run-1"):
        make_run(tmp_path / where, where)
    pages = write(tmp_path / "out", tmp_path / "x", tmp_path / "y")
    assert len(pages) == 4
    for where in ("x/Run 1", "x/run-1", "x/RUN_1", "y/run-1"):
        assert len(pages_with(tmp_path / "out", f"Run: {where},")) == 1, where


def test_two_published_files_of_one_name_have_a_page_each(tmp_path: Path) -> None:
    for where in ("a", "b"):
        (tmp_path / where).mkdir()
        (tmp_path / where / "figures.csv").write_bytes(PUBLISHED.read_bytes())
    make_run(tmp_path / "c" / "figures", "id")
    pages = write(tmp_path / "out", *(tmp_path / where for where in "abc"))
    published = sorted(path.name for path in (tmp_path / "out/published").iterdir())
    assert pages == ["c-figures.md"]
    assert published == ["block-a-figures.md", "block-b-figures.md"]


@pytest.mark.parametrize(
    "name",
    ["index", "README", "con", "LPT1", "日本語", "...", "-", "x" * 250, "é" * 100, "a\nb", "<b>"],
)
def test_a_run_of_an_odd_name_has_a_page(tmp_path: Path, name: str) -> None:
    make_run(tmp_path / "runs" / name, "one-id")
    make_run(tmp_path / "runs" / "plain", "another-id")
    pages = write(tmp_path / "out", tmp_path / "runs")
    assert len(pages) == 2
    (page,) = set(pages) - {"plain.md"}
    assert re.fullmatch(r"[a-z0-9-]{1,129}\.md", page)
    assert page.removesuffix(".md") not in RESERVED


def test_a_run_whose_name_is_no_text_has_a_page(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/run-\xff"))
    try:
        make_run(folder, "one-id")
    except OSError:
        pytest.skip("this file system takes no such name")
    assert write(tmp_path / "out", folder) == ["run-udcff.md"]
    assert check(folder)[0] == [f"{tmp_path}/run-\\udcff: 2 rows"]
    gathered = gather(folder)
    assert summarize(gathered.runs)["run"].to_list() == ["run-\\udcff"] * 2


def test_the_current_folder_has_the_name_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(tmp_path / "named", "id")
    monkeypatch.chdir(tmp_path / "named")
    assert [source.name for source in gather(".").runs] == ["named"]
    (tmp_path / "named" / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "named" / "sub")
    assert [source.name for source in gather("..").runs] == ["named"]


def test_one_place_is_read_once(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "one", "id")
    (tmp_path / "linked").symlink_to(run)
    gathered = gather(tmp_path / "runs", run, str(run) + "/", tmp_path / "linked")
    assert [source.path for source in gathered.runs] == [run] and not gathered.notes


def test_a_run_that_was_copied_is_told(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path / name, "one-id") for name in ("first", "second"))
    gathered = gather(first, second)
    assert len(gathered.runs) == 2 and not gathered.problems
    told = f"{second}: run_id 'one-id' is also that of {first}: a copy of one run"
    assert list(map(str, gathered.notes)) == [told]
    assert told in check(first, second)[0]
    write(tmp_path / "out", first, second)
    assert "a copy of one run" in (tmp_path / "out/index.md").read_text("utf-8")


def test_summaries_tell_runs_of_one_name_apart(tmp_path: Path) -> None:
    for where, factor in (("a", 1), ("b", 3)):
        make_run(tmp_path / where / "run", where, factor=factor)
        make_suite_run(tmp_path / where / "suite", f"x{where}", factor)
    frame = summarize(gather(tmp_path / "a", tmp_path / "b").runs)
    runs = ["a/run", "a/run", "a/suite", "b/run", "b/run", "b/suite"]
    assert frame["run"].to_list() == runs
    # The pairs are of one run each
    over = dict(zip(runs, frame["vs_baseline"].to_list(), strict=True))
    assert over["a/run"] == over["b/run"] == 1.001


CONFIGS = ("Toy", "toy", "TOY", "my-config", "My_config", "日本", "index", "../../x", "x" * 300)


def test_every_config_has_a_page_of_its_own(tmp_path: Path) -> None:
    rows = [
        make_timed(name, [1000 + i] * 8, sizes=SIZES | {"config": config})
        for config in CONFIGS
        for i, name in enumerate(("torch-naive", "torch-sdpa"))
    ]
    run = write_run(tmp_path / "run", rows)
    write(tmp_path / "out", run)
    pages = [path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*.md")]
    titles = [(tmp_path / "out" / page).read_text("utf-8").splitlines()[0] for page in pages]
    for config in CONFIGS:
        assert titles.count(f"# {config}") == 1, config
    assert Path("configs/toy.md") in pages and Path("configs/my-config.md") in pages


def test_a_chart_whose_name_another_has_is_drawn_too(tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    make_run(tmp_path / "runs" / "a b", "one", config="c", factor=1)
    make_run(tmp_path / "runs" / "a", "two", config="b-c", factor=5)
    write(tmp_path / "out", tmp_path / "runs")
    count = add_pictures(tmp_path / "out")
    texts = [path.read_text("utf-8") for path in (tmp_path / "out").rglob("*/*.md")]
    named = {name for text in texts for name in re.findall(r'<img src="\.\./([^"]+)"', text)}
    assert len(named) == count and any(name.endswith("-2.svg") for name in named)


def test_a_slug_is_short_and_not_reserved() -> None:
    assert slug("GPT-2 (large)") == "gpt-2-large"
    assert slug("con") == f"con-{slug('con')[-8:]}" and slug("con") not in RESERVED
    assert slug("日本") and slug("日本") != slug("東京")
    assert slug("x" * 500) != slug("x" * 501) and len(slug("x" * 500)) < 140
    assert slugs(["Toy", "toy", "Toy"])["Toy"] == "toy"
    assert len(set(slugs(["a b", "a-b", "a_b"]).values())) == 3


def test_numbers_tell_apart_what_the_folders_do_not(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a b", "a-b", "a_b", "a b 1")]
    names = names_of(paths)
    assert len({slug(name) for name in names.values()}) == 4
    assert names[tmp_path / "a b 1"] == "a b 1"
