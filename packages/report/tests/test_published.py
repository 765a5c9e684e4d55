"""The published files pass, and say what the CSV says; each way to spoil one is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ablation_report.load import check, gather, read
from ablation_report.reading import SchemaError
from ablation_report.run import Run

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
    (run,) = read(BLOCK)
    lines = read_lines(BLOCK)
    assert run.is_published and len(run.rows) == len(lines) == 112
    for row, text in zip(run.rows, lines, strict=True):
        assert row["samples_ns"] == [int(text["total_ns"])]
        profile = row["profile"]
        assert profile["attention"] == [int(text["attention_ns"])]
        assert profile["layer_norm"] == [int(text["layernorm_ns"])]
        parts = profile["attention"][0] + profile["layer_norm"][0]
        assert profile["total"] == [parts + int(text["other_ns"])] and "linear" not in profile
        assert "+".join(row["passes"] or []) == text["passes"]
        assert row["sizes"]["config"] == text["config"]
        for name in ("variant", "printed_name", "group"):
            assert row[name] == text[name]
    assert [row["line"] for row in run.rows] == list(range(2, 114))


def test_a_published_ratio_is_that_of_the_printed_times() -> None:
    (run,) = read(BLOCK)
    for row, text in zip(run.rows, read_lines(BLOCK), strict=True):
        found = run.compare(row, run.baseline)
        printed = float(text["ratio_vs_torch_naive"])
        assert found is not None and found.ratio.value == pytest.approx(printed, abs=0.011)
        # No rounds, so no interval: only a large difference is one
        assert found.ratio.n == 1 and (found.verdict == "not resolved") == (
            abs(found.ratio.value - 1) <= 0.05
        )


def suite_run(suite: str, name: str) -> Run:
    """What one source published of a suite."""
    return next(r for r in gather(SUITES).runs if (r.suite, r.name) == (suite, name))


def test_published_figures_become_a_run_of_each_suite_and_source() -> None:
    sweep = suite_run("attention-sweep", "attention forward sweep, RTX 3090")
    first = sweep.rows[0]
    assert first["details"]["time_kind"] == "mean" and first["samples_ns"] == [14.0893e6]
    assert first["details"]["min_ns"] == pytest.approx(13.9472e6)
    assert (first["device"], first["device_name"]) == ("cuda", "RTX 3090")
    failed = [row for row in sweep.rows if row["status"] == "oom"]
    assert len(failed) == 4 and all(sweep.time(row) is None for row in failed)
    backward = next(run for run in gather(SUITES).runs if run.suite == "attention-backward")
    longest = [
        row
        for row in backward.rows
        if row["sizes"]["Nk"] == 8192 and "published_memory_bytes" in row["details"]
    ]
    details = longest[0]["details"]
    assert details["published_memory_bytes"] == round(12385.75 * 2**20)
    assert "12385.75" in SUITES.read_text().splitlines()[details["memory_line"] - 1]


@pytest.mark.parametrize(
    ("line", "old", "new", "column", "message"),
    [
        (1, "total_ns", "total_ms", "total_ns", "missing"),
        (1, "seq_len,batch", "seq_len,seq_len,batch", "seq_len", "appears twice in the header"),
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
        (4, "percall-numpy", "torch-sdpa", "variant", "Toy torch-sdpa is already in line 3"),
        (4, "Toy", "Tiny", "config", "Tiny has no row torch-naive"),
    ],
)
def test_a_spoiled_block_ablation_is_named(
    tmp_path: Path, line: int, old: str, new: str, column: str | None, message: str
) -> None:
    path = spoil(tmp_path, BLOCK, line, old, new)
    assert faults_of(path) == [(line, column, message)]
    with pytest.raises(SchemaError):
        read(path)


@pytest.mark.parametrize(
    ("line", "old", "new", "column", "message"),
    [
        (2, "14.0893", "0", "value", "'0', expected a number from 10^-9 to 10^18"),
        (2, "14.0893", "", "value", "null, but status is ok"),
        (4, ",,,,oom", ",1.5,,,oom", "value", "not null, but status is oom"),
        (4, "oom", "out", "status", "'out', expected one of ok, oom, timeout, incorrect, "),
        (3, "P-0002", "P-0001", "row_id", "P-0001 is already in line 2"),
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


@pytest.mark.parametrize("word", ["none of these", "true", "1.5"])
def test_a_word_that_no_label_carries_is_refused(tmp_path: Path, word: str) -> None:
    path = spoil(tmp_path, SUITES, 2, ",1,,none,", f",1,{word},none,")
    assert faults_of(path) == [(2, "autocast", f"{word!r}, expected a word")]
