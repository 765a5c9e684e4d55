"""A sound run is read whole; each way to spoil one is refused, by file, line and column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rows import make_cell, make_failed_cell, make_header, write_run

from ablation_report.load import check, load, load_run
from ablation_report.schema import CELL_COLUMNS, SchemaError


def problems_of(folder: Path) -> list[tuple[str, int | None, str | None, str]]:
    with pytest.raises(SchemaError) as caught:
        load(folder)
    found = caught.value.problems
    assert str(caught.value) == "\n".join(str(problem) for problem in found)
    return [(problem.path.name, problem.line, problem.column, problem.message) for problem in found]


def test_a_column_that_came_later_is_null_in_an_earlier_run(tmp_path: Path) -> None:
    earlier = make_cell()
    del earlier["packed_weights_bytes"]
    write_run(tmp_path / "earlier", [earlier])
    write_run(tmp_path / "later", [make_cell(packed_weights_bytes=64)])
    frame = load(tmp_path / "earlier", tmp_path / "later").collect()
    assert frame["packed_weights_bytes"].to_list() == [None, 64]


def test_every_column_of_a_sound_cell_arrives_unchanged(tmp_path: Path) -> None:
    cells = [make_cell(), make_failed_cell(variant="torch-naive")]
    frame = load(write_run(tmp_path / "run", cells)).collect()
    assert frame.height == 2
    for name in CELL_COLUMNS:
        for cell, value in zip(cells, frame[name].to_list(), strict=True):
            expected = cell[name]
            if name == "providers":
                expected = dict.fromkeys(("simd", "parallel", "blas", "blas_core", "clock"))
                expected |= cell[name]
            assert value == expected, name
    assert frame["origin"].to_list() == ["run", "run"]
    assert frame["line"].to_list() == [1, 2]
    assert frame["path"].to_list() == [str(tmp_path / "run")] * 2


def test_the_frame_has_the_same_types_without_a_single_value(tmp_path: Path) -> None:
    full = load(write_run(tmp_path / "full", [make_cell()])).collect_schema()
    empty = load(write_run(tmp_path / "empty", [])).collect_schema()
    assert full == empty
    assert full["samples_ns"] == pl.List(pl.Int64)
    assert full["signal"] == pl.Int64


def test_runs_below_a_folder_are_read_together(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [make_cell()])
    write_run(tmp_path / "b", [make_cell(), make_failed_cell(variant="torch-naive")])
    frame = load(tmp_path).collect()
    assert [Path(path).name for path in frame["path"].to_list()] == ["a", "b", "b"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("config", "", "'', expected text"),
        ("config", None, "null, expected text"),
        ("d_model", 64.0, "64.0, expected an integer above 0"),
        ("threads", True, "True, expected an integer above 0"),
        ("signal", -9, "-9, expected an integer of 0 or more"),
        ("status", "fine", "'fine', expected one of ok, oom, timeout, incorrect, unsupported, "),
        ("passes", "fold_constants", "'fold_constants', expected a list of text"),
        ("samples_ns", [1000, 0], "[1000, 0], expected a list of integers above 0"),
        ("samples_ns", [1000, 1.5], "[1000, 1.5], expected a list of integers above 0"),
        ("samples_ns", [], "no sample, but status is ok"),
        ("samples_ns", None, "no sample, but status is ok"),
        ("sample_rounds", [0], "1 entries for 2 samples"),
        ("sample_rounds", None, "0 entries for 2 samples"),
        ("reason", "late", "'late', but status is ok"),
        ("profile_linear_ns", None, "null, but other profile columns are not"),
        ("profile_linear_ns", [400], "1 entries, profile_total_ns has 2"),
        ("profile_total_ns", [1000, 1101], "entry 1 is 1101, its parts sum to 1100"),
        ("timing_overhead_ns", float("inf"), "inf, expected a finite number"),
        ("max_abs_error", float("nan"), "nan, expected a finite number"),
        ("providers", {"gpu": "none"}, "expected a table of simd, parallel, blas, blas_core"),
        ("ops", [{"name": "softmax_1"}], "expected a list of {name, op, category, kernel, "),
        ("flops", 1, "1, but the config's block has 3407872"),
        ("run_id", "another", "'another', run.json says '20260102T030405Z-abcdef'"),
    ],
)
def test_a_spoiled_column_is_named(tmp_path: Path, column: str, value: Any, message: str) -> None:
    cells = [make_failed_cell(variant="torch-naive"), make_cell(**{column: value})]
    found = problems_of(write_run(tmp_path / "run", cells))
    file, line, named, said = found[0]
    assert (file, line, named, len(found)) == ("cells.jsonl", 2, column, 1)
    assert message in said


@pytest.mark.parametrize("column", ["samples_ns", "profile_total_ns", "profile_movement_ns"])
def test_a_cell_without_success_has_no_time(tmp_path: Path, column: str) -> None:
    cell = make_failed_cell(status="incorrect")
    cell[column] = make_cell()[column]
    found = problems_of(write_run(tmp_path / "run", [cell]))
    assert ("cells.jsonl", 1, column, "not null, but status is incorrect") in found


def test_a_cell_without_success_says_why(tmp_path: Path) -> None:
    found = problems_of(write_run(tmp_path / "run", [make_failed_cell(reason=None)]))
    assert found == [("cells.jsonl", 1, "reason", "null, but status is oom")]


def test_missing_and_unknown_columns_are_named(tmp_path: Path) -> None:
    cell = make_cell(colour="blue")
    del cell["seed"]
    found = problems_of(write_run(tmp_path / "run", [cell]))
    assert found == [
        ("cells.jsonl", 1, "colour", "unknown column"),
        ("cells.jsonl", 1, "seed", "missing"),
    ]


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (2, "schema 2, this report reads schema 1 (a newer bench wrote it)"),
        (0, "schema 0, this report reads schema 1 (an older bench wrote it)"),
        ("1", "'1', expected 1"),
        (True, "True, expected 1"),
    ],
)
def test_another_schema_is_refused_by_name(tmp_path: Path, version: Any, message: str) -> None:
    # The columns of another schema are unknown, so that no other fault is listed
    folder = write_run(tmp_path / "a", [make_cell()], {"schema_version": version, "new": 1})
    assert problems_of(folder) == [("run.json", None, "schema_version", message)]
    folder = write_run(tmp_path / "b", [{"schema_version": version, "new": 1}])
    assert problems_of(folder) == [("cells.jsonl", 1, "schema_version", message)]


def test_a_header_without_version_is_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [make_cell()], {"run_id": "x"})
    assert problems_of(folder) == [("run.json", None, "schema_version", "None, expected 1")]


@pytest.mark.parametrize("column", ["machine", "versions", "command", "sessions"])
def test_a_spoiled_header_column_is_named(tmp_path: Path, column: str) -> None:
    folder = write_run(tmp_path / "run", [make_cell()], make_header(**{column: {"os": "x"}}))
    found = problems_of(folder)
    assert {problem[:2] for problem in found} == {("run.json", None)}
    assert {str(problem[2]).partition(".")[0] for problem in found} == {column}


@pytest.mark.parametrize("keep", [1, 40, -2])
def test_a_line_cut_short_is_damaged(tmp_path: Path, keep: int) -> None:
    folder = write_run(tmp_path / "run", [make_cell()])
    cells = folder / "cells.jsonl"
    cells.write_text(cells.read_text() + json.dumps(make_cell(variant="torch-naive"))[:keep])
    ((file, line, column, message),) = problems_of(folder)
    assert (file, line, column) == ("cells.jsonl", 2, None)
    assert message.startswith("damaged, no JSON from character ")


@pytest.mark.parametrize("content", ["", "   ", "\x00\x00", "[1]", "null"])
def test_a_line_that_holds_no_object_is_named(tmp_path: Path, content: str) -> None:
    folder = write_run(tmp_path / "run", [make_cell()])
    cells = folder / "cells.jsonl"
    cells.write_text(content + "\n" + cells.read_text())
    assert [problem[:3] for problem in problems_of(folder)] == [("cells.jsonl", 1, None)]


def test_a_line_separator_inside_text_does_not_end_the_line(tmp_path: Path) -> None:
    cell = make_failed_cell(reason="first\u2028second\x85third")
    folder = write_run(tmp_path / "run", [])
    (folder / "cells.jsonl").write_text(json.dumps(cell, ensure_ascii=False) + "\n")
    assert load(folder).collect()["reason"].to_list() == ["first\u2028second\x85third"]


def test_a_damaged_header_is_named(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [make_cell()])
    (folder / "run.json").write_text('{"schema_version": 1,\n"run_id"')
    ((file, line, column, message),) = problems_of(folder)
    assert (file, line, column) == ("run.json", None, None)
    assert message.startswith("damaged, no JSON from line 2 on")


def test_a_cell_may_not_stand_twice(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [make_cell(), make_cell(session=2)])
    assert problems_of(folder) == [
        ("cells.jsonl", 2, "variant", "Toy passes-none stands in line 1 already")
    ]


def test_every_fault_of_every_run_is_listed(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [make_cell(seed="x"), make_cell(variant="torch-naive", batch=-1)])
    write_run(tmp_path / "b", [make_cell()])
    write_run(tmp_path / "c", [make_cell()], make_header(threads=None))
    assert [problem[:3] for problem in problems_of(tmp_path)] == [
        ("cells.jsonl", 1, "seed"),
        ("cells.jsonl", 2, "batch"),
        ("run.json", None, "threads"),
    ]
    sound, problems = check(tmp_path)
    assert sound == [f"{tmp_path / 'b'}: 1 rows"]
    assert len(problems) == 3


def test_missing_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match="holds neither a run folder nor a CSV file"):
        load(tmp_path)
    (write_run(tmp_path / "run", []) / "run.json").unlink()
    assert problems_of(tmp_path / "run") == [("run.json", None, None, "missing")]


def test_a_run_stopped_before_its_first_cell_is_empty(tmp_path: Path) -> None:
    (write_run(tmp_path / "run", []) / "cells.jsonl").unlink()
    assert load_run(tmp_path / "run").cells == []


@pytest.mark.parametrize("names", [(), ("README.md",), (".hidden.csv",)])
def test_a_folder_without_runs_is_told(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).write_text("x")
    with pytest.raises(FileNotFoundError, match="holds neither a run folder nor"):
        load(tmp_path)
