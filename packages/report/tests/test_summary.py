"""The summary of many runs against the metrics of single cells, and what it refuses."""

from __future__ import annotations

import json
import math
from pathlib import Path

import polars as pl
import pytest
from rows import make_cell, make_failed_cell, make_header, make_noisy_samples, write_run

from ablation_report.__main__ import main
from ablation_report.metrics import measure, median_interval, rounds_ns
from ablation_report.schema import SchemaError
from ablation_report.sources import gather
from ablation_report.summary import SUMMARY, summarize

DATA = Path(__file__).parents[3] / "data"


def test_committed_runs_have_the_figures_of_metrics() -> None:
    summary = summarize(DATA / "published", DATA / "runs")
    by_cell = {(r["run"], r["config"], r["variant"]): r for r in summary.iter_rows(named=True)}
    gathered = gather(DATA / "published", DATA / "runs")
    assert not gathered.problems
    assert len(by_cell) == sum(len(source.cells) for source in gathered.sources)
    for source in gathered.sources:
        for config, cells in source.by_config.items():
            for row in measure(list(cells.values())).iter_rows(named=True):
                got = by_cell[source.name, config, row["variant"]]
                assert got["status"] == row["status"]
                for ours, theirs in (
                    *(("median_ns", "total_ns"), ("low_ns", "total_low_ns")),
                    *(("high_ns", "total_high_ns"), ("min_ns", "min_ns"), ("gflops", "gflops")),
                    *(("vs_baseline", "vs_baseline"), ("is_noisy", "is_noisy"), ("n", "n")),
                ):
                    assert is_equal(got[ours], row[theirs]), (source.name, ours, row)


def is_equal(a: float | None, b: float | None) -> bool:
    """True for numbers that are equal but for rounding, and where both are missing."""
    return a is b if a is None or b is None else math.isclose(a, b, rel_tol=1e-12)


def test_rounds_are_counted_once(tmp_path: Path) -> None:
    cell = make_cell(samples_ns=[10, 30, 50, 70], sample_rounds=[0, 0, 1, 1])
    summary = summarize(write_run(tmp_path / "run", [cell]))
    assert summary.row(0, named=True)["rounds"] == len(rounds_ns(cell)) == 2
    assert summary.row(0, named=True)["median_ns"] == 40


@pytest.mark.parametrize("n", [1, 2, 5, 6, 1033, 5000])
def test_many_rounds_have_the_figures_of_metrics(tmp_path: Path, n: int) -> None:
    samples = [10**6 + i * i % 1009 for i in range(n)]
    cell = make_cell(samples_ns=samples, sample_rounds=list(range(n)))
    row = summarize(write_run(tmp_path / "run", [cell])).row(0, named=True)
    found = median_interval(samples)
    assert (row["median_ns"], row["low_ns"], row["high_ns"]) == (
        found.median,
        found.low,
        found.high,
    )
    assert row["is_noisy"] == (None if n == 1 else found.width is not None and found.width > 0.05)


def test_missing_times_stay_missing(tmp_path: Path) -> None:
    summary = summarize(write_run(tmp_path / "run", [make_failed_cell()]))
    row = summary.row(0, named=True)
    assert row["status"] == "oom"
    assert all(row[name] is None for name in ("median_ns", "low_ns", "min_ns", "gflops"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "damaged"),
        (json.dumps(make_cell(status="fine")), "status"),
        (json.dumps(make_cell(samples_ns=None)), "samples_ns"),
        (json.dumps(make_cell(schema_version=2)), "a newer bench wrote it"),
        (json.dumps({**make_cell(), "threads": "two"}), "threads"),
    ],
)
def test_a_fault_is_told_by_line_and_column(tmp_path: Path, line: str, message: str) -> None:
    run = write_run(tmp_path / "run", [make_cell()])
    with (run / "cells.jsonl").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(SchemaError, match=rf"cells\.jsonl:2.*{message}"):
        summarize(run)


def test_a_thousand_runs(tmp_path: Path) -> None:
    for number in range(1000):
        name = f"run-{number:04}"
        cells = [
            make_cell(
                run_id=name,
                config=f"config-{i % 5}",
                variant=f"variant-{i}",
                samples_ns=make_noisy_samples(100_000, 10, seed=i),
                sample_rounds=list(range(10)),
            )
            for i in range(2)
        ]
        write_run(tmp_path / name, cells, make_header(run_id=name))
    summary = summarize(tmp_path)
    assert summary.height == 2000
    assert summary.get_column("run").n_unique() == 1000
    assert summary.schema == pl.Schema(SUMMARY)


@pytest.mark.parametrize("layout", ["csv", "md", "parquet"])
def test_export_writes_every_cell(tmp_path: Path, layout: str) -> None:
    run = write_run(tmp_path / "run", [make_cell(), make_failed_cell(variant="passes-fold")])
    out = tmp_path / f"summary.{layout}"
    assert main(["export", str(run), "--format", layout, "--out", str(out)]) == 0
    if layout == "md":
        assert len(out.read_text().splitlines()) == 4
        return
    frame = pl.read_csv(out) if layout == "csv" else pl.read_parquet(out)
    assert frame.get_column("status").to_list() == ["ok", "oom"]
    assert frame.get_column("median_ns").to_list() == [1100.0, None]


def test_parquet_needs_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", [make_cell()])
    assert main(["export", str(run), "--format", "parquet"]) == 2
    assert "--out is missing" in capsys.readouterr().err
