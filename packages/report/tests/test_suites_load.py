"""Runs of the further suites: what is refused, by file, line and column, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rows import make_cell, write_run
from suite_samples import (
    CEILINGS,
    PARTS,
    UNTIMED,
    make_failed_suite_row,
    make_suite_header,
    make_suite_row,
    write_suite,
)

from ablation_report.load import Run, check, load, read
from ablation_report.schema import SchemaError
from ablation_report.sources import gather
from ablation_report.suite_rows import SuiteRun, label_of, load_suite_run, peak_flops_per_s

PUBLISHED = Path(__file__).parents[3] / "data/published"


def refused(folder: Path) -> str:
    """What the loader says of a folder that it refuses."""
    with pytest.raises(SchemaError) as error:
        load_suite_run(folder)
    return str(error.value)


def test_a_sound_run_is_read_and_counted(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "run", [make_suite_row(), make_failed_suite_row("naive")])
    run = load_suite_run(folder)
    assert [row["status"] for row in run.rows] == ["ok", "oom"]
    assert check(folder) == ([f"{folder}: 2 rows"], [])


@pytest.mark.parametrize(
    ("changes", "column", "told"),
    [
        ({"samples_ns": [1000, 1000], "sample_rounds": [0, 1]}, "samples_ns", "2 samples"),
        ({"samples_ns": [0] * 6}, "samples_ns", "expected a list of integers above 0"),
        ({"samples_ns": None, "sample_rounds": None}, "samples_ns", "0 samples, but status is ok"),
        ({"sample_rounds": [0]}, "sample_rounds", "1 entries for 6 samples"),
        ({"samples_ns": [1] * 6, "flops_useful": 10**9}, "samples_ns", "an impossible rate"),
        ({"check": "fail"}, "check", "'fail', but status is ok"),
        ({"check": None}, "check", "None, but status is ok"),
        ({"errors": None}, "errors", "it was not checked"),
        ({"errors": {}}, "errors", "it was not checked"),
        ({"errors": {"o": 1e-4}}, "errors", "o is 0.0001, 1e-05 allowed"),
        ({"errors": {"lse": 1e-7}}, "errors", "lse is 1e-07, None allowed"),
        ({"errors": {"o": float("nan")}}, "errors", "o is nan"),
        ({"reason": "predicted"}, "reason", "'predicted', but status is ok"),
        ({"Nq": 512}, "case", "but the columns make"),
        ({"tier": "paper"}, "case", "but the columns make"),
        ({"scale": 1.0}, "scale", "1.0, but the case has 0.125"),
        ({"suite": "other"}, "suite", "expected one of attention-sweep"),
        ({"device": "tpu"}, "device", "expected one of cpu, cuda"),
        ({"status": "fine"}, "status", "expected one of ok"),
        ({"threads": 0}, "threads", "expected an integer above 0"),
        ({"run_id": "other"}, "run_id", "run.json says"),
        ({"surprise": 1}, "surprise", "unknown column"),
        ({"schema_version": 2}, "schema_version", "this report reads schema 1"),
    ],
)
def test_a_faulty_row_is_refused_by_file_line_and_column(
    tmp_path: Path, changes: dict[str, Any], column: str, told: str
) -> None:
    sound = make_suite_row()
    bad = make_suite_row(n=2048) | changes
    header = make_suite_header([sound, make_suite_row(n=2048)])
    folder = write_suite(tmp_path / "run", [sound, bad], header)
    message = refused(folder)
    assert f"{folder / 'rows.jsonl'}:2: column {column}: " in message
    assert told in message


@pytest.mark.parametrize("column", UNTIMED)
def test_what_was_not_measured_is_null(tmp_path: Path, column: str) -> None:
    told: dict[str, Any] = {name: 0 for name in UNTIMED if name.endswith("_bytes")}
    told |= {"mem_method": "hwm", "mem_disagree": False, "compile_ns": 1}
    sound = make_suite_row(event_samples_ns=[0.5], **told)
    row = make_failed_suite_row("naive") | {column: sound[column]}
    folder = write_suite(tmp_path / "run", [row])
    assert f"column {column}: " in refused(folder) and "expected null" in refused(folder)


@pytest.mark.parametrize(
    ("changes", "column", "told"),
    [
        ({"reason": None}, "reason", "null, but status is oom"),
        ({"reason_text": None}, "reason_text", "null, but status is oom"),
        ({"reason": "tired"}, "reason", "'tired', of oom expected predicted, alloc_failed"),
    ],
)
def test_a_status_has_its_reason(
    tmp_path: Path, changes: dict[str, Any], column: str, told: str
) -> None:
    folder = write_suite(tmp_path / "run", [make_failed_suite_row("naive") | changes])
    assert f"column {column}: {told}" in refused(folder)


def test_an_error_may_have_any_reason_and_an_infinite_error(tmp_path: Path) -> None:
    rows = [
        make_failed_suite_row("a", "error", "ValueError"),
        make_failed_suite_row("b", "incorrect", "check", errors={"o": float("inf")}, check="fail"),
    ]
    assert len(load_suite_run(write_suite(tmp_path / "run", rows)).rows) == 2


def test_a_rate_is_impossible_only_beyond_a_known_ceiling(tmp_path: Path) -> None:
    fast = make_suite_row(samples=[1] * 6, flops_useful=10**9)
    unknown = write_suite(tmp_path / "a", [fast], make_suite_header([fast], ceilings=None))
    assert load_suite_run(unknown).rows[0]["flops_useful"] == 10**9
    short = make_suite_row(samples=[1] * 6, flops_useful=10**9, dtype="bfloat16")
    assert load_suite_run(write_suite(tmp_path / "b", [short])).rows
    autocast = {"autocast": "bfloat16"}
    cast = make_suite_row(samples=[1] * 6, flops_useful=10**9, parameters=autocast)
    assert load_suite_run(write_suite(tmp_path / "d", [cast])).rows
    # Within the slack of a measured ceiling
    peak = CEILINGS["1"]["multiply_add_flops_per_s"]
    near = make_suite_row(samples=[1000] * 6, flops_useful=int(1.04 * float(str(peak)) / 1e6))
    assert load_suite_run(write_suite(tmp_path / "c", [near])).rows


def test_the_ceiling_is_the_most_that_fewer_threads_promise() -> None:
    rates = {"1": 40.0, "2": 26.0, "4": None}
    ceilings = {n: {"multiply_add_flops_per_s": rate} for n, rate in rates.items()}
    header = {"ceilings": ceilings}
    found = [peak_flops_per_s(header, threads) for threads in (1, 2, 4)]
    assert found == [40.0, 80.0, 160.0]
    assert peak_flops_per_s({"ceilings": None}, 2) is None


def test_other_faults_of_a_folder(tmp_path: Path) -> None:
    row = make_suite_row()
    twice = write_suite(tmp_path / "twice", [row, row])
    assert "torch_sdpa_flash, fwd of this case stands in line 1 already" in refused(twice)
    for name, told in (("impls", "column impl"), ("cases", "column case")):
        unlisted = write_suite(tmp_path / name, [row], make_suite_header([row], **{name: ["x"]}))
        assert told in refused(unlisted) and "not among those that run.json lists" in refused(
            unlisted
        )
    cut = write_suite(tmp_path / "cut", [row])
    (cut / "rows.jsonl").write_text('{"schema_version": 1, "run')
    assert "rows.jsonl:1: damaged" in refused(cut)
    (cut / "run.json").unlink()
    assert "run.json: missing" in refused(cut)
    other = write_suite(tmp_path / "other", [row], make_suite_header([row], suite=PARTS))
    assert "column suite: 'attention-sweep', run.json says 'attention-parts'" in refused(other)


def test_the_label_is_made_from_the_columns() -> None:
    row = make_suite_row(
        suite=PARTS,
        tier="course",
        causal=True,
        parameters={"scale": 1, "softmax": "safe", "flag": True, "beta": 0.5},
    )
    assert label_of(row) == (
        "attention-parts/course causal B1 H2 Q1024 K1024 d64 float32 t1 cpu "
        "beta=0.5 flag=true scale=1 softmax=safe"
    )


def test_suites_and_block_ablations_are_told_apart(tmp_path: Path) -> None:
    suite = write_suite(tmp_path / "suite", [make_suite_row()])
    block = write_run(tmp_path / "block", [make_cell()])
    assert isinstance(read(suite), SuiteRun) and isinstance(read(block), Run)
    assert load(tmp_path).collect()["path"].unique().to_list() == [str(block)]
    with pytest.raises(SchemaError, match="a run of another suite, no block ablation"):
        load(suite)
    assert len(check(tmp_path)[0]) == 2


def test_a_damaged_run_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    write_suite(tmp_path / "good", [make_suite_row()])
    bad = write_suite(tmp_path / "bad", [make_suite_row() | {"samples_ns": [0, 0, 0]}])
    gathered = gather(tmp_path)
    assert [source.name for source in gathered.suite_sources] == ["good"]
    assert [problem.path for problem in gathered.problems] == [bad / "rows.jsonl"]


def test_a_run_without_rows_is_a_run(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "run", [])
    (folder / "rows.jsonl").unlink()
    assert isinstance(read(folder), SuiteRun) and load_suite_run(folder).rows == []


def test_published_figures_become_sources_of_their_own() -> None:
    gathered = gather(PUBLISHED)
    found = {(s.suite, s.name): s for s in gathered.suite_sources}
    sweep = found["attention-sweep", "attention forward sweep, RTX 3090"]
    first = sweep.measures[0]
    assert first.timing and first.timing.kind == "mean" and first.time_ns == 14.0893e6
    assert first["device"] == "cuda" and first["device_name"] == "RTX 3090"
    assert [m["status"] for m in sweep.measures].count("oom") == 4
    assert all(m.timing is None for m in sweep.measures if m["status"] == "oom")
    backward = next(s for s in gathered.suite_sources if s.suite == "attention-backward")
    longest = [m for m in backward.measures if m["published_memory_bytes"] and m["Nk"] == 8192]
    assert longest[0]["published_memory_bytes"] == round(12385.75 * 2**20)
    lines = (PUBLISHED / "suites.csv").read_text().splitlines()
    assert "12385.75" in lines[longest[0]["memory_line"] - 1]
    assert json.loads(json.dumps(first.row))["parameters"] == {}
