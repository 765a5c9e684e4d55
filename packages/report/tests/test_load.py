"""What is found below a path, and what becomes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from samples import make_attention_row, make_header, make_row, make_untimed, write_run

from ablation_report.load import check, gather, read, read_one
from ablation_report.reading import SchemaError
from ablation_report.rows import ROW_COLUMNS

PUBLISHED = Path(__file__).parents[3] / "data/published"


def problems_of(path: Path) -> list[tuple[str, int | None, str | None, str]]:
    problems = gather(path).problems
    assert problems and list(problems) == check(path)[1]
    return [(each.path.name, each.line, each.column, each.message) for each in problems]


def test_every_column_of_a_sound_row_arrives_unchanged(tmp_path: Path) -> None:
    rows = [make_row(), make_untimed(make_row(variant="torch-naive"))]
    folder = write_run(tmp_path / "run", rows)
    (run,) = read(folder)
    for number, (row, found) in enumerate(zip(rows, run.rows, strict=True), start=1):
        assert {name: found[name] for name in ROW_COLUMNS} == row
        assert (found["path"], found["line"]) == (str(folder / "rows.jsonl"), number)
    assert run.header == make_header(rows)
    assert (run.name, run.suite, run.is_published) == ("run", "block", False)


def test_runs_below_a_folder_are_read_together(tmp_path: Path) -> None:
    write_run(tmp_path / "b", [make_attention_row()])
    write_run(tmp_path / "a", [make_row()])
    gathered = gather(tmp_path, PUBLISHED)
    recorded = [run.name for run in gathered.runs if not run.is_published]
    assert recorded == ["a", "b"]
    assert [run.name for run in gathered.runs[-2:]] == recorded
    assert [run.name for run in gathered.of_suite("block")] == ["block_ablation_m4max", "a"]
    assert gathered.run("b").suite == "attention-sweep"
    with pytest.raises(KeyError, match="c: no such run; the runs are"):
        gathered.run("c")


def test_runs_of_one_name_are_told_apart_and_copies_are_noted(tmp_path: Path) -> None:
    for folder in ("x/run", "y/run"):
        write_run(tmp_path / folder, [make_row()])
    gathered = gather(tmp_path / "x", tmp_path / "y", tmp_path / "x/run")
    assert [run.name for run in gathered.runs] == ["x/run", "y/run"]
    (note,) = gathered.notes
    assert "is also that of" in note.message and "a copy of one run" in note.message


def test_a_damaged_run_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    write_run(tmp_path / "good", [make_row()])
    bad = [make_row(seed="x"), make_row(variant="b", threads=-1, case="c")]
    write_run(tmp_path / "bad", bad, make_header())
    write_run(tmp_path / "worse", [make_row()], make_header(threads=None))
    assert [run.name for run in gather(tmp_path).runs] == ["good"]
    assert [each[:3] for each in problems_of(tmp_path)] == [
        ("rows.jsonl", 1, "seed"),
        ("rows.jsonl", 2, "threads"),
        ("run.json", None, "threads"),
    ]
    assert check(tmp_path)[0] == [f"{tmp_path / 'good'}: 1 rows"]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (3, "schema 3, expected schema 2 (a newer bench wrote it)"),
        (0, "schema 0, expected schema 2 (an older bench wrote it)"),
        ("2", "'2', expected 2"),
        (True, "True, expected 2"),
    ],
)
def test_another_schema_is_refused_by_name(tmp_path: Path, version: Any, message: str) -> None:
    # The columns of another schema are unknown, so that no other fault is listed
    folder = write_run(tmp_path / "a", [make_row()], {"schema_version": version, "new": 1})
    assert problems_of(folder) == [("run.json", None, "schema_version", message)]
    row = {"schema_version": version, "new": 1}
    folder = write_run(tmp_path / "b", [row], make_header())
    assert problems_of(folder) == [("rows.jsonl", 1, "schema_version", message)]


def test_missing_and_unknown_columns_are_named(tmp_path: Path) -> None:
    row = make_row() | {"colour": "blue"}
    del row["seed"]
    assert problems_of(write_run(tmp_path / "run", [row], make_header())) == [
        ("rows.jsonl", 1, "colour", "unknown column"),
        ("rows.jsonl", 1, "seed", "missing"),
    ]


@pytest.mark.parametrize("keep", [1, 40, -2])
def test_a_line_cut_short_is_damaged(tmp_path: Path, keep: int) -> None:
    folder = write_run(tmp_path / "run", [make_row()])
    with (folder / "rows.jsonl").open("a") as file:
        file.write(json.dumps(make_row(variant="torch-naive"))[:keep])
    ((file_name, line, column, message),) = problems_of(folder)
    assert (file_name, line, column) == ("rows.jsonl", 2, None)
    assert message.startswith("damaged, no JSON from character ")


@pytest.mark.parametrize("content", ["", "   ", "\x00\x00", "[1]", "null"])
def test_a_line_that_holds_no_object_is_named(tmp_path: Path, content: str) -> None:
    folder = write_run(tmp_path / "run", [make_row()])
    rows = folder / "rows.jsonl"
    rows.write_text(content + "\n" + rows.read_text())
    assert [problem[:3] for problem in problems_of(folder)] == [("rows.jsonl", 1, None)]


def test_a_line_separator_inside_text_does_not_end_the_line(tmp_path: Path) -> None:
    row = make_untimed(make_row()) | {"reason_text": "first\u2028second\x85third"}
    folder = write_run(tmp_path / "run", [row])
    (folder / "rows.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n")
    assert read(folder)[0].rows[0]["reason_text"] == "first\u2028second\x85third"


def test_a_row_may_not_stand_twice_and_has_to_be_of_the_run(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [make_row(), make_row(session=2)])
    assert problems_of(folder) == [
        ("rows.jsonl", 2, "variant", "passes-none, fwd of this case is already in line 1")
    ]
    other = write_run(tmp_path / "other", [make_row(run_id="x")], make_header())
    ((_, line, column, message),) = problems_of(other)
    assert (line, column) == (1, "run_id") and "run.json says" in message


def test_missing_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        gather(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match="holds neither a run folder nor a CSV file"):
        gather(tmp_path)
    (write_run(tmp_path / "run", [make_row()]) / "run.json").unlink()
    assert problems_of(tmp_path / "run") == [("run.json", None, None, "missing")]
    write_run(tmp_path / "second", [make_row()])
    with pytest.raises(FileNotFoundError, match="holds 2 runs; name one of them"):
        read_one(tmp_path)


@pytest.mark.parametrize("names", [(), ("README.md",), (".hidden.csv",)])
def test_a_folder_without_runs_is_told(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_text("x")
    with pytest.raises(FileNotFoundError, match="holds neither a run folder nor"):
        gather(tmp_path)


def test_a_run_stopped_before_its_first_row_is_empty_and_noted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [make_row()])
    (folder / "rows.jsonl").unlink()
    gathered = gather(folder)
    assert gathered.runs[0].rows == ()
    assert "a run without rows: it was stopped before its first" in gathered.notes[0].message


def test_a_file_of_a_run_is_not_its_folder(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [make_row()])
    with pytest.raises(SchemaError, match="a file of a run: name its folder"):
        read(folder / "rows.jsonl")


def test_reading_needs_the_standard_library_alone() -> None:
    code = (
        "import sys, ablation_report.load; print('polars' in sys.modules, 'numpy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]
