"""Text of a run is text wherever it goes: the same pages with markup in every name as without."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from hostile import BENIGN, NAME, PAYLOAD, write_all
from samples import SIZES, make_row, write_run

from ablation_report.__main__ import main
from ablation_report.escaping import (
    attribute,
    csv_text,
    escape,
    html_text,
    list_item,
    path_code,
    visible,
)
from ablation_report.load import gather
from ablation_report.site import write_pages
from ablation_report.site.assets import write_assets
from ablation_report.site.inputs import Inputs
from ablation_report.site.navigation import to_toml, write_config
from ablation_report.site.text import run_page

ROOT = Path(__file__).parents[3]


def test_names_that_the_benchmark_uses_stay_as_they_are() -> None:
    for name in (
        "torch_sdpa_flash",
        "LN: SIMD+GCD",
        "0.99x ~",
        "a - b = c",
        "2026-01-02T03:04:05Z",
    ):
        assert escape(name) == name
    assert escape("+ fold/DCE") == "+ fold/DCE"
    assert list_item("+ fold/DCE: oom") == "- &#43; fold/DCE: oom"
    assert list_item("12. of 3") == "- 12&#46; of 3"
    assert path_code("data/runs/a b/cells.jsonl:1,3-5") == "`data/runs/a b/cells.jsonl:1,3-5`"
    assert path_code("a`b") == "<code>a&#96;b</code>"
    assert attribute("a \"b\" 'c'") == "a &quot;b&quot; &#39;c&#39;"
    assert html_text("<b> 'q'") == "&lt;b&gt; &#x27;q&#x27;"


def test_what_a_reader_cannot_see_is_written_out() -> None:
    assert visible("a\x1b[31m\x9b\u202eb\u2028c\nd\te\ud800") == r"a\x1b[31m\x9b\u202eb c d e\ud800"
    assert visible("µs ± 0.5 ×") == "µs ± 0.5 ×"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@f", " =1", "\t=1", "\n@f"])
def test_a_formula_is_text_in_csv(text: str) -> None:
    assert csv_text(text).startswith("'")
    assert csv_text("a" + text) == visible("a" + text)


class Shape(HTMLParser):
    """The elements of a page with the names of their attributes; where its links and files lie."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.addresses: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # A width of a column that the theme computes may stand there or not
        self.elements.append(" ".join([tag, *sorted(name for name, _ in attrs)]))
        for name, value in attrs:
            if name in ("href", "src", "action", "data") and ":" in (value or ""):
                self.addresses.add(value or "")


def shape_of(page: Path) -> Shape:
    """Read a page of HTML."""
    shape = Shape()
    shape.feed(page.read_text(encoding="utf-8"))
    return shape


def build(folder: Path, suffix: str, name: str) -> list[Path]:
    """Build the site of a run of every kind; return its pages in the order of the navigation, then
    those of runs, which it does not name."""
    gathered = gather(write_all(folder, ROOT / "data/published", suffix, name))
    entries = write_pages(Inputs(gathered), ROOT / "docs", folder / "docs", ROOT)
    config = folder / "zensical.toml"
    write_assets(folder / "docs")
    write_config(ROOT / "zensical.toml", config, folder / "docs", entries, {})
    project = tomllib.loads(config.read_text(encoding="utf-8"))["project"]
    # The reference is made from installed packages
    del project["plugins"]["mkdocstrings"]
    config.write_text(f"project = {to_toml(project)}\n", encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--clean", "-f", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    pages = [*_pages(project["nav"]), *dict.fromkeys(map(run_page, gathered.runs))]
    return [folder / "site" / Path(page).with_suffix(".html") for page in pages]


def _pages(entries: list[dict[str, object]]) -> list[str]:
    found: list[str] = []
    for entry in entries:
        for target in entry.values():
            found += [target] if isinstance(target, str) else _pages(target)  # type: ignore[arg-type]
    return found


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Each page of a site whose texts have markup, and the same page without."""
    pytest.importorskip("zensical", reason="zensical is not installed")
    pytest.importorskip("vl_convert", reason="vl-convert-python is not installed")
    folder = tmp_path_factory.mktemp("sites")
    hostile = build(folder / "hostile", PAYLOAD, NAME)
    return list(zip(hostile, build(folder / "benign", BENIGN, BENIGN), strict=True))


def test_markup_in_texts_makes_no_element(sites: list[tuple[Path, Path]]) -> None:
    for hostile, benign in sites:
        assert shape_of(hostile).elements == shape_of(benign).elements, hostile.name
    assert len(sites) > 40


def test_markup_in_texts_makes_no_link(sites: list[tuple[Path, Path]]) -> None:
    for hostile, benign in sites:
        assert shape_of(hostile).addresses == shape_of(benign).addresses, hostile.name


def printed(*arguments: str) -> tuple[str, str]:
    """What a command writes on standard output and standard error."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        main(list(arguments))
    return out.getvalue(), err.getvalue()


def test_no_command_prints_what_a_terminal_takes_as_an_order(tmp_path: Path) -> None:
    runs = write_all(tmp_path, ROOT / "data/published", PAYLOAD, NAME)
    single = sorted(map(str, runs.iterdir()))
    calls = [[command, path] for path in single for command in ("show", "check")]
    calls += [["show", path, "--format", "md"] for path in single]
    calls += [["compare", "--force", single[0], path] for path in single[:2]]
    calls += [["agree", single[0], single[1]], ["check", str(runs)]]
    calls += [["findings", str(runs), "--format", layout] for layout in ("text", "md")]
    plain = sorted(
        map(str, write_all(tmp_path / "plain", ROOT / "data/published", PAYLOAD, BENIGN).iterdir())
    )
    calls += [["export", *plain[:-1], "--format", layout] for layout in ("csv", "md")]
    n_lines = 0
    for arguments in calls:
        for text in printed(*arguments):
            lines = text.split("\n")
            assert [line for line in lines if not line.isprintable()] == [], arguments[0]
            n_lines += len(lines)
            # A name that had line breaks ends none
            assert "# heading" not in lines and "- item" not in lines, arguments
    assert n_lines > 200


def test_a_spreadsheet_runs_no_cell_of_an_export(tmp_path: Path) -> None:
    sizes = SIZES | {"config": "=HYPERLINK(1)"}
    row = make_row(sizes=sizes, variant="@f", group="-1", printed_name="+1")
    run = write_run(tmp_path / "run", [row])
    out, _ = printed("export", str(run))
    for line in pl.read_csv(io.StringIO(out), infer_schema=False).iter_rows():
        assert [text for text in line if text and text[0] in "=+-@"] == []
    assert "'=HYPERLINK(1)" in out
