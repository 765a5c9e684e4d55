"""Tables with raw values, cards of pages, what the foot of a page names, pairs of runs."""

from __future__ import annotations

import json
import re
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from samples import make_header, make_row, make_run, make_timed, write_run

from ablation_report.compare import compare_runs
from ablation_report.compare.tables import compare_tables
from ablation_report.load import gather
from ablation_report.site.cards import MOST_LETTERS, description, with_front
from ablation_report.site.data_table import Cell, Column, data_table, markdown_table, stored_table
from ablation_report.site.figures import packed, shared_looks, unpacked
from ablation_report.site.inputs import Inputs
from ablation_report.site.navigation import project_facts
from ablation_report.site.pages.compare import FOLDER, PAGE, compare_files
from ablation_report.site.pages.rows import repeat_command
from ablation_report.tables.layout import duration, times

COLUMNS = [
    Column("Case", is_left=True),
    Column("Ours", duration, "ours_ns", tip="time of a call"),
    Column("Ratio", times, "ratio"),
    Column("Run", is_hidden=True),
]
LINES: list[list[Any]] = [
    [Cell("a|b <i>", page="../runs/a.md#x"), 1.25e6, Cell(0.5, mark="better"), "first"],
    ["Toy", Cell(900, text="0.9 µs (default)"), None, 'say "x"'],
]


class Cells(HTMLParser):
    """Collects the tags, attributes and text of the cells of a table."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("th", "td"):
            self.found.append((tag, dict(attrs), ""))
        elif tag == "a":
            self.found[-1][1]["href"] = dict(attrs)["href"]

    def handle_data(self, data: str) -> None:
        if self.found and data.strip():
            tag, attributes, text = self.found[-1]
            self.found[-1] = tag, attributes, text + data


def cells(html: str) -> list[tuple[str, dict[str, str | None], str]]:
    """The cells of a table of HTML."""
    parser = Cells()
    parser.feed(html)
    return parser.found


def test_a_table_has_texts_to_read_and_raw_values_to_sort() -> None:
    html = data_table(COLUMNS, LINES)
    assert "\n\n" not in html
    head, body = cells(html)[:4], cells(html)[4:]
    assert [cell[1].get("data-name") for cell in head] == [None, "ours_ns", "ratio", None]
    assert [cell[2] for cell in body] == [
        *("a|b <i>", "1.25 ms", "0.50x", "first"),
        *("Toy", "0.9 µs (default)", "-", 'say "x"'),
    ]
    raw = [cell[1].get("data-value") for cell in body]
    assert raw == [None, "1250000.0", "0.5", None, None, "900", "", None]
    assert body[0][1]["href"] == "../runs/a.html#x" and body[2][1]["class"] == "better"
    assert ["hidden" in cell[1] for cell in (*head, *body)] == [False, False, False, True] * 3


def test_lines_in_groups_stand_in_a_body_each_below_its_name() -> None:
    html = data_table(COLUMNS, {"float32": LINES, "half": LINES[:1]})
    assert html.count("<tbody>") == 2
    heads = [cell for cell in cells(html) if cell[1].get("scope") == "rowgroup"]
    assert [(cell[2], cell[1]["colspan"]) for cell in heads] == [("float32", "3"), ("half", "3")]


def test_the_same_table_is_markdown_for_a_readme() -> None:
    assert markdown_table(COLUMNS, {"": LINES[1:], "half": LINES[:1]}).splitlines() == [
        "| Case | Ours | Ratio |",
        "| --- | ---: | ---: |",
        "| Toy | 0.9 µs (default) | - |",
        "| **half** |  |  |",
        "| [a&#124;b &lt;i&gt;](../runs/a.md#x) | 1.25 ms | 0.50x |",
    ]


def test_a_line_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a line of 1 values for 4 columns: Case, Ours"):
        data_table(COLUMNS, [["Toy"]])


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("# Title\n\nOne *two* [three](x.md) `four`.\n\nMore.", "One two three four."),
        ("---\ntitle: x\n---\n\n# Title\n\n| a |\n|---|\n\n- b\n\n<b>c</b>\n\nProse.", "Prose."),
        ("# Title\n\na &lt; b &#124; c", "a < b | c"),
        ("# Title\n\n!!! warning\n    x", ""),
        (f"# Title\n\n{'word ' * 60}", f"{' '.join(['word'] * 32)} ..."),
    ],
)
def test_a_page_is_described_by_its_first_paragraph(page: str, expected: str) -> None:
    assert description(page) == expected
    assert len(expected) <= MOST_LETTERS + 4


def test_a_page_keeps_the_front_matter_that_it_has() -> None:
    told = {"title": "new", "description": 'a "b"'}
    written = with_front('---\ntitle: "old"\n---\n\n# A\n', told)
    assert written == '---\ntitle: "old"\ndescription: "a \\"b\\""\n---\n\n# A\n'
    assert with_front("# A\n", {"description": "b"}) == '---\ndescription: "b"\n---\n\n# A\n'


URLS = '[project]\nname = "x"\n[project.urls]\nSource = "https://example.org/x"\n'


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, {}),
        ({"LICENSE": "MIT License\n\nCopyright"}, {"copyright": "MIT License"}),
        ({"packages/report/pyproject.toml": '[project]\nname = "x"\n'}, {}),
        ({"packages/report/pyproject.toml": URLS}, {"repo_url": "https://example.org/x"}),
    ],
)
def test_the_foot_of_a_page_names_what_the_metadata_has(
    tmp_path: Path, files: dict[str, str], expected: dict[str, str]
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert project_facts(tmp_path) == expected
    assert not files or tomllib.loads(URLS)["project"]["urls"]


def pair_of_runs(tmp_path: Path, **changes: Any) -> Inputs:
    """Two runs of the same rows, the second by a day younger and with a changed header."""
    for day, name in ((1, "old"), (2, "new")):
        rows = [
            row | {"run_id": name}
            for row in (make_timed("torch-naive", [1000] * 8), make_timed("passes-none", [900] * 8))
        ]
        header = make_header(rows, run_id=name, created_utc=f"2026-01-0{day}T00:00:00Z")
        write_run(tmp_path / name, rows, header | (changes if name == "new" else {}))
    return Inputs(gather(tmp_path))


def test_a_pair_is_written_in_the_words_of_compare(tmp_path: Path) -> None:
    inputs = pair_of_runs(tmp_path)
    (page, text), (name, script) = compare_files(inputs)
    assert page == PAGE and '"pairs":["0-1"]' in text and name == f"{FOLDER}/0-1.js"
    old, new = sorted(inputs.gathered.runs, key=lambda run: run.name, reverse=True)
    assert (old.name, new.name) == ("old", "new")
    for table in compare_tables(old, new, compare_runs(old, new)):
        for row in table.rows:
            assert "[" + ",".join(f'"{cell}"' for cell in row) + "]" in script
    assert "<" not in script


def test_runs_of_other_conditions_are_named_and_not_compared(tmp_path: Path) -> None:
    versions = make_header()["versions"] | {"torch": "9.9"}
    ((_, text),) = compare_files(pair_of_runs(tmp_path, versions=versions))
    assert '"pairs":[]' in text and '"version of torch":"9.9"' in text


def test_one_run_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    rows = [make_timed("torch-naive", [1000] * 8)]
    write_run(tmp_path / "run", rows)
    ((_, text),) = compare_files(Inputs(gather(tmp_path)))
    assert "Fewer than two runs" in text and not re.search("<script", text)


def test_a_chart_stands_in_its_page_in_short_and_comes_back() -> None:
    rows: list[dict[str, Any]]
    rows = [
        {"case": "Toy", "ns": 1.23456789, "phase": "fwd"},
        {"case": "GPT-2", "ns": None, "phase": "fwd"},
        {"case": "Toy", "ns": 2, "phase": "fwd"},
        {"case": "Toy", "ns": 3, "phase": "fwd"},
    ]
    looks = shared_looks()
    drawn = {"mark": "bar", "config": looks, "datasets": {"x": rows, "none": [], "one": rows[:1]}}
    short = packed(drawn)
    assert short == {
        "mark": "bar",
        "datasets": {
            "x": {
                "n": 4,
                "columns": {
                    "case": [["Toy", "GPT-2"], [0, 1, 0, 0]],
                    "ns": [[1.23457, None, 2, 3]],
                    "phase": [["fwd"]],
                },
            },
            "none": {"n": 0, "columns": {}},
            "one": {"n": 1, "columns": {"case": [["Toy"]], "ns": [[1.23457]], "phase": [["fwd"]]}},
        },
    }
    first = rows[0] | {"ns": 1.23457}
    assert unpacked(short) == drawn | {
        "datasets": {"x": [first, *rows[1:]], "none": [], "one": [first]}
    }
    assert packed({"mark": "bar"}) == {"mark": "bar"}
    own = {"mark": "bar", "config": {"font": "x"}}
    assert unpacked(packed(own)) == own


def test_a_folded_table_is_stored_as_json() -> None:
    html = stored_table(COLUMNS, {"half": LINES})
    (content,) = re.findall(r"<script [^>]*data-table>(.*)</script>", html)
    assert "\n\n" not in html and "<" not in content
    assert json.loads(content) == {
        "columns": [
            {"title": "Case", "class": "left"},
            {"title": "Ours", "name": "ours_ns", "tip": "time of a call"},
            {"title": "Ratio", "name": "ratio"},
            {"title": "Run", "hidden": True},
        ],
        "groups": [
            [
                "half",
                [
                    [
                        ["a|b <i>", "a|b <i>", None, "../runs/a.html#x"],
                        ["1.25 ms", 1.25e6],
                        ["0.50x", 0.5, "better"],
                        "first",
                    ],
                    ["Toy", ["0.9 µs (default)", 900], None, 'say "x"'],
                ],
            ]
        ],
    }
    with pytest.raises(ValueError, match="a line of 1 values"):
        stored_table(COLUMNS, [["Toy"]])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "--variants torch-naive,VARIANT"),
        ({"suite": "attribution"}, "--suite attribution --tiers configs"),
        ({"suite": "model"}, None),
        ({"suite": "of another project"}, None),
    ],
)
def test_a_row_has_the_command_that_repeats_it(
    changes: dict[str, Any], expected: str | None
) -> None:
    run = make_run([make_row(**changes)])
    command = repeat_command(run, run.rows[0])
    assert (command is None) == (expected is None)
    assert expected is None or expected in str(command)
    assert changes or f"--cases '{run.rows[0]['case']}'" in str(command)
