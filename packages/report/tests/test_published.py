"""The published files pass, and say what the CSV says; each way to spoil one is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ablation_report.load import check, load
from ablation_report.schema import SchemaError

PUBLISHED = Path(__file__).parents[3] / "data" / "published"
BLOCK = PUBLISHED / "block_ablation_m4max.csv"
SUITES = PUBLISHED / "suites.csv"


def read_lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def spoil(tmp_path: Path, source: Path, line: int, old: str, new: str) -> Path:
    """Copy a file with one text replaced in one line."""
    lines = source.read_text().splitlines()
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new, 1)
    copy = tmp_path / source.name
    copy.write_text("\n".join(lines) + "\n")
    return copy


def faults_of(path: Path) -> list[tuple[int | None, str | None, str]]:
    _, problems = check(path)
    assert problems
    return [(problem.line, problem.column, problem.message) for problem in problems]


def test_the_published_files_pass() -> None:
    sound, problems = check(PUBLISHED)
    assert problems == []
    assert sound == [f"{BLOCK}: 112 rows", f"{SUITES}: 232 rows"]


def test_a_published_row_says_what_the_file_says() -> None:
    frame = load(BLOCK).collect()
    lines = read_lines(BLOCK)
    assert frame.height == len(lines) == 112
    for row, text in zip(frame.to_dicts(), lines, strict=True):
        assert row["origin"] == "published"
        assert row["samples_ns"] == [int(text["total_ns"])]
        (attention,), (layer_norm,) = row["profile_attention_ns"], row["profile_layer_norm_ns"]
        assert attention == int(text["attention_ns"])
        assert layer_norm == int(text["layernorm_ns"])
        assert row["profile_total_ns"] == [attention + layer_norm + int(text["other_ns"])]
        assert (row["status"], row["profile_linear_ns"]) == ("ok", None)
        assert "+".join(row["passes"] or []) == text["passes"]
        for name in ("config", "variant", "printed_name", "group"):
            assert row[name] == text[name]
    assert frame["line"].to_list() == list(range(2, 114))


def test_a_published_and_a_recorded_frame_have_the_same_columns(tmp_path: Path) -> None:
    from rows import make_cell, write_run

    run = write_run(tmp_path / "run", [make_cell()])
    assert load(run).collect_schema() == load(BLOCK).collect_schema()
    assert load(run, BLOCK).collect().height == 113


@pytest.mark.parametrize(
    ("line", "old", "new", "column", "message"),
    [
        (1, "total_ns", "total_ms", "total_ns", "missing"),
        (1, "seq_len,batch", "seq_len,seq_len,batch", "seq_len", "stands in the header twice"),
        (1, "config,", "config,extra,", "extra", "unknown column"),
        (3, "158700", "fast", "total_ns", "'fast', expected an integer from 1 to 10^18"),
        (3, "158700", "0", "total_ns", "'0', expected an integer from 1 to 10^18"),
        (3, "158700", "", "total_ns", "empty, expected an integer from 1 to 10^18"),
        (
            3,
            ",0.80",
            ",nan",
            "ratio_vs_torch_naive",
            "'nan', expected a number from 10^-9 to 10^18",
        ),
        (3, ",0.80", ",0.70", "ratio_vs_torch_naive", "0.7, the times give 0.804"),
        (3, ",0.80", "", None, "damaged, 15 fields where the header has 16"),
        (4, "percall-numpy", "torch-sdpa", "variant", "Toy torch-sdpa stands in line 3 already"),
        (4, "Toy", "Tiny", "config", "Tiny has no row torch-naive"),
    ],
)
def test_a_spoiled_block_ablation_is_named(
    tmp_path: Path, line: int, old: str, new: str, column: str | None, message: str
) -> None:
    path = spoil(tmp_path, BLOCK, line, old, new)
    assert faults_of(path) == [(line, column, message)]
    with pytest.raises(SchemaError):
        load(path)


@pytest.mark.parametrize(
    ("line", "old", "new", "column", "message"),
    [
        (2, "14.0893", "0", "value", "'0', expected a number from 10^-9 to 10^18"),
        (2, "14.0893", "", "value", "null, but status is ok"),
        (4, ",,,,oom", ",1.5,,,oom", "value", "not null, but status is oom"),
        (4, "oom", "out", "status", "'out', expected one of ok, oom, timeout, incorrect, "),
        (3, "P-0002", "P-0001", "row_id", "P-0001 stands in line 2 already"),
        (2, ",1,,none,time", ",2,,none,time", "causal", "'2', expected 0 or 1"),
        (2, ",0.151,", ",-0.151,", "std", "'-0.151', expected a number from 0 to 10^18"),
    ],
)
def test_a_spoiled_suites_file_is_named(
    tmp_path: Path, line: int, old: str, new: str, column: str, message: str
) -> None:
    ((found_line, found_column, found),) = faults_of(spoil(tmp_path, SUITES, line, old, new))
    assert (found_line, found_column) == (line, column)
    assert found.startswith(message)


def test_the_suites_are_no_block_ablation() -> None:
    with pytest.raises(SchemaError, match="the further suites"):
        load(SUITES)
