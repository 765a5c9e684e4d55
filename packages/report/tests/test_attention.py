"""Runs of attention alone: what is refused, and the tables over rows whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rows import RUN_ID, make_cell, make_header, write_run

from ablation_report.__main__ import main
from ablation_report.attention_rows import AttentionRun, load_attention
from ablation_report.attention_tables import attention_tables, cases_of, crossover_map
from ablation_report.load import Run, check, load, read
from ablation_report.schema import SchemaError

IMPLS = ("torch-sdpa", "kernels-materialized", "flash")
FORMS = {"torch-sdpa": "sdpa", "kernels-materialized": "materialized", "flash": "flash"}


def make_attention_header(**changes: Any) -> dict[str, Any]:
    """Make the content of run.json."""
    header = make_header()
    for name in ("ceilings", "threads", "samples", "configs", "variants", "sessions"):
        del header[name]
    header |= {
        "suite": "attention",
        "impls": list(IMPLS),
        "n_cases": 1,
        "rounds": 10,
        "min_rounds": 5,
    }
    return header | changes


def make_row(
    impl: str = "flash", samples: list[int] | None = None, **changes: Any
) -> dict[str, Any]:
    """Make a sound row with one sample a round, of 100 queries and keys and 2 heads."""
    samples = samples or [1000] * 6
    row: dict[str, Any] = {
        "schema_version": 1,
        "run_id": RUN_ID,
        "suite": "attention",
        "B": 1,
        "H": 2,
        "Nq": 100,
        "Nk": 100,
        "d": 8,
        "causal": False,
        "threads": 1,
        "seed": 0,
        "impl": impl,
        "form": FORMS[impl],
        "kernels": [] if impl == "torch-sdpa" else [impl],
        "status": "ok",
        "reason": None,
        "signal": None,
        "n_warmup": 4,
        "samples_ns": samples,
        "sample_rounds": list(range(len(samples))),
        "first_call_ns": 3000,
        "max_abs_error": 1e-6,
        "tolerance": 1e-5,
        "worst_ratio": 0.1,
        "checked_rows": 100,
        "scratch_bytes": None,
        "memory_predicted_bytes": 10000,
        "memory_available_bytes": 20000,
        "calibration_before_ns": [500],
        "calibration_after_ns": None,
        "started_utc": "2026-01-02T03:04:06Z",
        "elapsed_s": 0.5,
    }
    row |= changes
    pairs = 100 * 101 // 2 if row["causal"] else 100 * 100
    return {"flops_useful": 4 * 2 * 8 * pairs} | row


def make_refused(impl: str, **changes: Any) -> dict[str, Any]:
    """Make a sound row of an implementation that did not fit."""
    row = make_row(impl, status="oom", reason="needs more", **changes)
    return row | {"samples_ns": None, "sample_rounds": None, "worst_ratio": None}


def write_attention(
    folder: Path, rows: list[dict[str, Any]], header: dict[str, Any] | None = None
) -> Path:
    """Write a run folder and return it."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(header or make_attention_header()))
    (folder / "attention.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def three_ways(flash: int, **changes: Any) -> list[dict[str, Any]]:
    """SDPA at 1000 ns, whole scores at 2000 ns, and flash, six rounds each."""
    times = {"torch-sdpa": 1000, "kernels-materialized": 2000, "flash": flash}
    return [make_row(impl, [time_ns] * 6, **changes) for impl, time_ns in times.items()]


def test_a_sound_run_is_read_and_counted(tmp_path: Path) -> None:
    folder = write_attention(tmp_path / "run", three_ways(500))
    assert len(load_attention(folder).rows) == 3
    assert check(folder) == ([f"{folder}: 3 rows"], [])


@pytest.mark.parametrize(
    ("changes", "column", "told"),
    [
        ({"flops_useful": 1}, "flops_useful", "1, but the case has 640000"),
        ({"causal": True, "flops_useful": 640000}, "flops_useful", "but the case has 323200"),
        ({"samples_ns": None, "sample_rounds": None}, "samples_ns", "no sample"),
        ({"samples_ns": [0] * 6}, "samples_ns", "expected a list of integers above 0"),
        ({"sample_rounds": [0]}, "sample_rounds", "1 entries for 6 samples"),
        ({"status": "oom", "reason": "x"}, "samples_ns", "not null, but status is oom"),
        ({"worst_ratio": 1.5}, "worst_ratio", "above 1"),
        ({"worst_ratio": None}, "worst_ratio", "not checked"),
        ({"reason": "x"}, "reason", "but status is ok"),
        ({"suite": "other"}, "suite", "expected 'attention'"),
        ({"threads": 0}, "threads", "expected an integer above 0"),
        ({"run_id": "other"}, "run_id", "run.json says"),
        ({"surprise": 1}, "surprise", "unknown column"),
        ({"schema_version": 2}, "schema_version", "this report reads schema 1"),
    ],
)
def test_a_faulty_row_is_refused_by_file_line_and_column(
    tmp_path: Path, changes: dict[str, Any], column: str, told: str
) -> None:
    rows = [make_row("torch-sdpa"), make_row() | changes]
    folder = write_attention(tmp_path / "run", rows)
    with pytest.raises(SchemaError) as refused:
        load_attention(folder)
    assert f"{folder / 'attention.jsonl'}:2: column {column}: " in str(refused.value)
    assert told in str(refused.value)
    assert check(folder)[1] == refused.value.problems


def test_other_faults_of_a_folder(tmp_path: Path) -> None:
    twice = write_attention(tmp_path / "twice", [make_row(), make_row()])
    with pytest.raises(SchemaError, match="stands in line 1 already"):
        load_attention(twice)
    unlisted = write_attention(
        tmp_path / "unlisted", [make_row()], make_attention_header(impls=["torch-sdpa"])
    )
    with pytest.raises(SchemaError, match="column impl: 'flash', not among those"):
        load_attention(unlisted)
    cut = write_attention(tmp_path / "cut", [make_row()])
    (cut / "attention.jsonl").write_text('{"schema_version": 1, "run')
    with pytest.raises(SchemaError, match=r"attention.jsonl:1: damaged"):
        load_attention(cut)
    headless = write_attention(tmp_path / "headless", [])
    (headless / "run.json").unlink()
    with pytest.raises(SchemaError, match=r"run.json: missing"):
        load_attention(headless)


def test_a_block_ablation_and_attention_alone_are_told_apart(tmp_path: Path) -> None:
    write_attention(tmp_path / "attention", three_ways(500))
    block = write_run(tmp_path / "block", [make_cell()])
    assert isinstance(read(tmp_path / "attention"), AttentionRun)
    assert isinstance(read(block), Run)
    assert load(tmp_path).collect()["path"].unique().to_list() == [str(block)]
    assert len(check(tmp_path)[0]) == 2
    with pytest.raises(SchemaError, match="a run of attention alone"):
        load(tmp_path / "attention")
    with pytest.raises(SchemaError, match="column suite: missing"):
        load_attention(block)


def test_the_table_against_sdpa() -> None:
    rows = three_ways(500) + three_ways(500, threads=2, samples_ns=[400] * 6)
    tables = attention_tables(rows, IMPLS)
    assert tables[0].title == "Attention alone: full, batch 1, heads 2, head_dim 8"
    ((length, lines),) = tables[0].groups
    assert length == "seq_len 100"
    two_threads = ["0.4 µs", "1600.0", "1.00x", "1.00-1.00"]
    assert lines[2] == [
        *("flash", "0.5 µs", "1280.0", "0.50x", "0.50-0.50"),
        *two_threads,
        "1.25x",
    ]
    assert lines[0] == [
        *("torch-sdpa", "1.0 µs", "640.0", "-", "-", "0.4 µs", "1600.0", "-", "-", "2.50x"),
    ]


def test_useful_flops_make_the_rate_of_a_causal_case() -> None:
    (table, *_) = attention_tables(three_ways(500, causal=True), IMPLS)
    assert table.groups[0][1][2][2] == f"{4 * 2 * 8 * 5050 / 500:.1f}"


@pytest.mark.parametrize(
    ("flash", "cell"),
    [
        ([1000] * 6, "flash 2.00x"),
        ([1000] * 3, "flash 2.00x~"),
        ([3000] * 6, "materialized 1.50x"),
        ([1900, 2100] * 3, "= 1.00x"),
    ],
)
def test_the_map_names_the_winner_and_by_how_much(flash: list[int], cell: str) -> None:
    rows = [make_row("kernels-materialized", [2000] * 6), make_row("flash", flash)]
    table = crossover_map(cases_of(rows), "flash", "materialized", "map")
    assert table.groups == [("full, 1 thread", [["heads 2, head_dim 8", cell]])]
    assert table.header == ["seq_len", "100"]


def test_the_map_takes_the_faster_of_a_form() -> None:
    rows = [
        make_row("kernels-materialized", [2000] * 6),
        make_row("flash", [3000] * 6),
        make_row("flash", [1000] * 6) | {"impl": "other", "form": "flash_packed"},
    ]
    table = crossover_map(cases_of(rows), "flash", "materialized", "map")
    assert table.groups[0][1][0][1] == "flash 2.00x"


def test_a_status_stands_where_a_form_has_no_time() -> None:
    long: dict[str, Any] = {"Nq": 200, "Nk": 200}
    rows = [make_row("flash"), make_refused("kernels-materialized")]
    rows += [make_refused("flash", **long), make_row("kernels-materialized", **long)]
    table = crossover_map(cases_of(rows), "flash", "materialized", "map")
    assert table.groups[0][1] == [
        ["heads 2, head_dim 8", "flash (oom)", "materialized (oom)"],
    ]
    tables = attention_tables(rows, IMPLS)
    assert "kernels-materialized, seq_len 100, 1 threads: oom, needs more" in tables[0].notes
    assert tables[0].groups[0][1][1][:3] == ["kernels-materialized", "oom", "-"]


def test_the_command_prints_tables_and_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_attention(tmp_path / "run", three_ways(500))
    assert main(["attention", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "Attention alone: full" in text
    assert "Flash against materialized" in text
    assert "Flash against fused" not in text
    assert main(["show", str(folder)]) == 0
    assert capsys.readouterr().out == text
    assert main(["attention", str(folder), "--format", "md"]) == 0
    assert "| flash | 0.5 µs |" in capsys.readouterr().out
    block = write_run(tmp_path / "block", [make_cell()])
    assert main(["attention", str(block)]) == 2
    assert "a block ablation, no run of attention alone" in capsys.readouterr().err
