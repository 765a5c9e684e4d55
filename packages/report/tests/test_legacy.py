"""Runs that were recorded before the present schema: all are read, none is edited, and what is
wrong with one is said in the words of its own files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from samples import write_run

from ablation_report import rows
from ablation_report.load import gather, read
from ablation_report.reading import SchemaError
from ablation_report.run import Run

RUNS = Path(__file__).parents[3] / "data/runs"
OLD = ("cells.jsonl", "attention.jsonl", "rows.jsonl")
BLOCK = "2026-11-21-zen5-quick-a"
SUITE = "2026-11-25-zen4-attention-sweep-quick"
ATTENTION = "2026-11-20-zen4-attention"


def recorded() -> list[Path]:
    """The folders of runs of the first schema."""
    headers = ((path, json.loads(path.read_text())) for path in RUNS.glob("*/run.json"))
    return sorted(path.parent for path, header in headers if header["schema_version"] == 1)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    (path,) = (folder / name for name in OLD if (folder / name).exists())
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_recorded(folder: Path) -> Run:
    (run,) = read(folder)
    return run


@pytest.mark.parametrize("folder", recorded(), ids=lambda folder: folder.name)
def test_every_recorded_run_is_read_whole(folder: Path) -> None:
    run, lines = read_recorded(folder), lines_of(folder)
    assert len(run.rows) == len(lines)
    for row, line in zip(run.rows, lines, strict=True):
        plain = {name: row[name] for name in rows.ROW_COLUMNS}
        assert rows.row_faults(plain) == {}
        # What was measured is there as it was
        for name in ("samples_ns", "sample_rounds", "status", "seed", "n_warmup"):
            assert row[name] == line[name], name
        assert row["variant"] == (line.get("variant") or line["impl"])
        assert row["flops"] == (line.get("flops") or line["flops_useful"])
    known = {name: run.header[name] for name in rows.HEADER_COLUMNS if name in run.header}
    assert rows.header_faults(known) == {}


def test_there_are_as_many_as_were_recorded() -> None:
    assert len(recorded()) == 48
    gathered = gather(RUNS)
    assert gathered.problems == () and len(gathered.runs) >= 48


def test_a_lifted_run_written_anew_reads_the_same(tmp_path: Path) -> None:
    """The schema carries all that the lifted rows say: nothing is kept beside it."""
    for name in (BLOCK, SUITE, ATTENTION):
        run = read_recorded(RUNS / name)
        plain = [{column: row[column] for column in rows.ROW_COLUMNS} for row in run.rows]
        header = {name: run.header[name] for name in rows.HEADER_COLUMNS if name in run.header}
        again = read_recorded(write_run(tmp_path / name, plain, header))
        assert [{**row, "path": ""} for row in again.rows] == [
            {**row, "path": ""} for row in run.rows
        ]
        assert again.by_case.keys() == run.by_case.keys()


def test_a_block_is_lifted_with_its_ladder() -> None:
    run = read_recorded(RUNS / BLOCK)
    (line,) = (each for each in lines_of(run.path) if _is(each, "Toy", "beyond-qkv"))
    label = "block/configs full B1 H4 Q32 K32 d16 float32 t2 cpu config=Toy"
    row = run.row(label, "beyond-qkv")
    assert row is not None and row["parent"] == "beyond-layout" and row["group"] == "Beyond"
    assert row["profile"]["attention"] == line["profile_attention_ns"]
    assert row["memory"]["packed"] == line["packed_weights_bytes"]
    assert row["kernels"]["matmul"] == line["linear_kernel"]
    assert row["errors"] == {"output": line["max_abs_error"]}
    assert (row["origin"], row["factors"]) == ("ablation", {"executor": "compiled"})
    assert run.baseline == "torch-naive" and len(run.twins) == 2
    assert run.floor(label) is not None and "assumed_floor" not in run.header


def test_a_suite_is_lifted_with_an_assumed_floor() -> None:
    run = read_recorded(RUNS / SUITE)
    row, line = run.rows[0], lines_of(run.path)[0]
    assert row["memory"]["predicted"] == line["mem_predicted_bytes"]
    assert row["flops_convention"] == line["flops_fa"]
    assert run.baseline == "torch_sdpa_flash" and run.floor(run.cases[0]) == 0.05


def test_a_ceiling_that_its_own_rows_exceed_is_none() -> None:
    run = read_recorded(RUNS / "2026-11-25-zen4-league-7B-4K")
    assert run.ceilings == {} and run.header["refuted_ceilings"]


def _is(line: dict[str, Any], config: str, variant: str) -> bool:
    return (line["config"], line["variant"]) == (config, variant)


def spoiled(tmp_path: Path, name: str, **changes: Any) -> list[str]:
    """The faults of a recorded run with its second row changed; None deletes a column."""
    folder = tmp_path / name
    shutil.copytree(RUNS / name, folder)
    (path,) = (folder / each for each in OLD if (folder / each).exists())
    found = lines_of(folder)
    found[1] |= changes
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    with pytest.raises(SchemaError) as refused:
        read(folder)
    place = f"{path}:2: "
    assert all(str(problem).startswith(place) for problem in refused.value.problems)
    return [str(problem).removeprefix(place) for problem in refused.value.problems]


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        (BLOCK, {"surprise": 1}, "column surprise: unknown column"),
        (BLOCK, {"d_model": 64.0}, "column d_model: 64.0, expected an integer above 0"),
        (BLOCK, {"d_model": 65}, "column d_model: 65, no multiple of n_heads 4"),
        (BLOCK, {"reason": "late"}, "column reason: 'late', but status is ok"),
        (BLOCK, {"samples_ns": []}, "column samples_ns: 0 samples, but status is ok: at least 3"),
        (BLOCK, {"profile_linear_ns": None}, "column profile_linear_ns: null, but other profile"),
        (BLOCK, {"profile_linear_ns": [1]}, "column profile_linear_ns: 1 entries, profile.total"),
        (BLOCK, {"max_abs_error": float("nan")}, "column max_abs_error: nan, expected a finite"),
        (BLOCK, {"max_abs_error": 9.0}, "column errors: output is 9.0, "),
        (BLOCK, {"flops": 1}, "column flops: 1, but the case has "),
        (BLOCK, {"status": "fine"}, "column status: 'fine', expected one of ok, oom"),
        (SUITE, {"scale": 1.0}, "column scale: 1.0, but the case has 0.125"),
        (SUITE, {"Nq": 512}, "column case: "),
        (SUITE, {"suite": "other"}, "column suite: 'other', expected one of attention-sweep"),
        (SUITE, {"suite": "lm-step"}, "column case: "),
        (SUITE, {"check": "fail"}, "column check: 'fail', but status is ok"),
        (SUITE, {"errors": {"o": 1.0}}, "column errors: o is 1.0, "),
        (SUITE, {"impl": "other"}, "column impl: 'other', not among those that run.json lists"),
        (SUITE, {"mem_op_peak_bytes": -1}, "column mem_op_peak_bytes: -1, expected an integer"),
        (SUITE, {"kernels": "x"}, "column kernels: 'x', expected a list of text"),
        (SUITE, {"parameters": {"scale": "x"}}, "column parameters"),
        (ATTENTION, {"worst_ratio": "x"}, "column worst_ratio: 'x', expected a finite number"),
        (ATTENTION, {"flops_useful": 1}, "column flops_useful: 1, but the case has "),
        (ATTENTION, {"run_id": "x"}, "column run_id: 'x', run.json says"),
        (ATTENTION, {"schema_version": 2}, "column schema_version: schema 2, expected schema 1"),
    ],
)
def test_what_is_wrong_is_said_in_the_words_of_the_file(
    tmp_path: Path, name: str, changes: dict[str, Any], told: str
) -> None:
    found = spoiled(tmp_path, name, **changes)[0]
    assert found.startswith(told), found


def test_a_row_may_not_stand_twice(tmp_path: Path) -> None:
    for name, column in ((BLOCK, "variant"), (SUITE, "impl"), (ATTENTION, "impl")):
        first = lines_of(RUNS / name)[0]
        (found,) = spoiled(tmp_path, name, **first)
        assert found.startswith(f"column {column}: ") and "is already in line 1" in found
