"""The summary of many runs against the figures of single rows, and what export writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from samples import (
    make_attention_row,
    make_header,
    make_noisy_samples,
    make_row,
    make_run,
    make_timed,
    make_untimed,
    write_run,
)

from ablation_report.__main__ import main
from ablation_report.load import gather
from ablation_report.stats import quartile_interval
from ablation_report.tables.summary import SUMMARY, summarize

DATA = Path(__file__).parents[3] / "data"


def summary_of(*rows: dict[str, Any], **changes: Any) -> list[dict[str, Any]]:
    return summarize([make_run(list(rows), **changes)]).to_dicts()


def test_recorded_and_published_runs_have_the_figures_of_their_runs() -> None:
    gathered = gather(DATA / "published", DATA / "runs")
    frame = summarize(gathered.runs)
    assert frame.schema == pl.Schema(SUMMARY)
    assert frame.height == sum(len(run.rows) for run in gathered.runs)
    places = ((run, row) for run in gathered.runs for row in run.rows)
    for (run, row), line in zip(places, frame.iter_rows(named=True), strict=True):
        assert (line["run"], line["variant"], line["status"]) == (
            run.name,
            row["variant"],
            row["status"],
        )
        time = run.time(row)
        if time is None:
            assert line["time_ns"] is None and line["median_ns"] is None
            continue
        assert line["median_ns"] == run.median(row)
        assert (line["time_ns"], line["low_ns"], line["high_ns"]) == (
            time.value,
            time.low,
            time.high,
        )
        ratio = run.ratio(row, run.row(row["case"], run.baseline, row["phase"]))
        assert line["vs_baseline"] == (ratio.value if ratio else None)


def test_rounds_are_counted_once() -> None:
    (line,) = summary_of(make_row(samples_ns=[10, 30, 50, 70], sample_rounds=[0, 0, 1, 1]))
    assert (line["n"], line["rounds"], line["min_ns"]) == (4, 2, 10)
    # First quartile of 10 and 50, median of 20 and 60
    assert (line["time_ns"], line["median_ns"]) == (20, 40)
    assert (line["config"], line["phase"], line["threads"]) == ("Toy", "fwd", 2)


@pytest.mark.parametrize("n", [1, 2, 5, 6, 1033, 5000])
def test_many_rounds_have_their_interval(n: int) -> None:
    samples = [10**6 + i * i % 1009 for i in range(n)]
    (line,) = summary_of(make_timed("passes-none", samples))
    found = quartile_interval(samples)
    assert (line["time_ns"], line["low_ns"], line["high_ns"]) == (
        found.value,
        found.low,
        found.high,
    )
    assert line["is_noisy"] == (None if n == 1 else found.width is not None and found.width > 0.05)


def test_missing_times_stay_missing() -> None:
    (line,) = summary_of(make_untimed(make_row()))
    assert (line["status"], line["reason"]) == ("oom", "predicted")
    assert all(line[name] is None for name in ("median_ns", "low_ns", "min_ns", "gflops", "floor"))


def test_rows_of_all_suites_have_one_form() -> None:
    suite = make_run(
        [
            make_attention_row(),
            make_attention_row("mine", [500] * 6, flops=1_000_000),
            make_untimed(make_attention_row("naive")),
        ],
        baseline="torch_sdpa_flash",
        ceilings={"1": {"multiply_add_flops_per_s": 4e12}},
    )
    block = make_run([make_row()])
    lines = summarize([block, suite]).to_dicts()
    assert [line["suite"] for line in lines] == ["block", *["attention-sweep"] * 3]
    mine = lines[2]
    assert mine["vs_baseline"] == pytest.approx(0.5, rel=0.02) and mine["config"] is None
    assert (mine["p95_ns"], mine["of_ceiling"]) == (500, 0.5)
    assert lines[3]["reason_text"] == "predicted in words"


def test_the_floor_and_the_least_traffic() -> None:
    first = make_timed("attention-fused-parallel", [1030] * 6)
    lines = summary_of(first, make_timed("layernorm-parallel", [1000] * 6, parent=first["variant"]))
    assert lines[0]["floor"] == pytest.approx(0.03)
    assert lines[1]["vs_parent"] == pytest.approx(1 / 1.03)
    moved = 199936 + 2 * 4 * 32 * 64
    assert lines[1]["least_bytes"] == moved
    assert lines[1]["least_gb_per_s"] == moved / 1000


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "damaged"),
        (json.dumps(make_row(status="fine")), "status"),
        (json.dumps(make_row(samples_ns=None)), "samples_ns"),
        (json.dumps(make_row(schema_version=3)), "schema"),
        (json.dumps({**make_row(), "threads": "two"}), "threads"),
    ],
)
def test_export_of_a_faulty_run_is_refused_by_line_and_column(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    run = write_run(tmp_path / "run", [make_row()])
    with (run / "rows.jsonl").open("a") as file:
        file.write(line + "\n")
    assert main(["export", str(run)]) == 1
    told = capsys.readouterr().err
    assert "rows.jsonl:2" in told and message in told


def test_a_thousand_runs(tmp_path: Path) -> None:
    for number in range(1000):
        name = f"run-{number:04}"
        rows = [
            make_timed(f"variant-{i}", make_noisy_samples(100_000, 10, seed=i), run_id=name)
            for i in range(2)
        ]
        write_run(tmp_path / name, rows, make_header(rows, run_id=name))
    frame = summarize(gather(tmp_path).runs)
    assert frame.height == 2000
    assert frame.get_column("run").n_unique() == 1000


def test_runs_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for where, factor in (("a", 1), ("b", 3)):
        rows = [
            make_timed(name, [factor * (1000 + i)] * 6, run_id=where)
            for i, name in enumerate(("torch-naive", "passes-none"))
        ]
        write_run(tmp_path / where / "run", rows, make_header(rows, run_id=where))
    frame = summarize(gather(tmp_path / "a", tmp_path / "b").runs)
    assert frame["run"].to_list() == ["a/run", "a/run", "b/run", "b/run"]
    # The pairs are of one run each
    assert frame["vs_baseline"].to_list() == [1.0, 1.001, 1.0, 1.001]


@pytest.mark.parametrize("layout", ["csv", "md", "parquet"])
def test_export_writes_every_row_and_replaces_its_own(tmp_path: Path, layout: str) -> None:
    rows = [make_row(), make_untimed(make_row(variant="passes-fold"))]
    run = write_run(tmp_path / "run", rows)
    out = tmp_path / f"summary.{layout}"
    for _ in range(2):
        assert main(["export", str(run), "--format", layout, "--out", str(out)]) == 0
    if layout == "md":
        assert len(out.read_text().splitlines()) == 4
        return
    frame = pl.read_csv(out) if layout == "csv" else pl.read_parquet(out)
    assert frame.get_column("status").to_list() == ["ok", "oom"]
    assert frame.get_column("median_ns").to_list() == [1050.0, None]
    assert frame.get_column("time_ns").to_list() == [1000.0, None]


def test_export_keeps_a_file_that_is_no_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = write_run(tmp_path / "run", [make_row()]), tmp_path / "notes.csv"
    out.write_text("run,config,variant\n")
    assert main(["export", str(run), "--out", str(out)]) == 2
    assert "exists, and ablation-report did not write it" in capsys.readouterr().err
    assert out.read_text() == "run,config,variant\n"


def test_parquet_needs_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [make_row()])
    assert main(["export", str(run), "--format", "parquet"]) == 2
    assert "--out is missing" in capsys.readouterr().err
