"""Summarizes the rows of many runs of any suite: one frame, a row for each.

The figures are those of `Run`. Times are nanoseconds, `low_ns` and `high_ns` the interval of
`time_ns`; `median_ns` is the median over rounds of each round's median. Ratios are of common
rounds. What is not known is null.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ablation_report.escaping import csv_text, escape
from ablation_report.output import write_file
from ablation_report.run import Row, Run, error_of
from ablation_report.stats import percentile
from ablation_report.tables.layout import NOTHING, markdown_row
from ablation_report.tables.suite import mean_std, of_sgemm
from ablation_report.traffic import least_bytes

_FACTS = ("suite", "tier", "case", "variant", "phase", "parent", "group", "origin")
_STATES = ("threads", "status", "reason", "reason_text")
_MEMORY = ("predicted", "peak", "scratch", "saved", "weights")
# The columns that every summary begins with.
SUMMARY_START = ("run", *_FACTS)
SUMMARY: Mapping[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys((*SUMMARY_START, "config"), pl.String),
    **dict.fromkeys(("layers", "threads"), pl.Int64),
    **dict.fromkeys(("status", "reason", "reason_text"), pl.String),
    **dict.fromkeys(("n", "rounds"), pl.Int64),
    **dict.fromkeys(("time_ns", "low_ns", "high_ns", "median_ns", "min_ns"), pl.Float64),
    **dict.fromkeys(("p05_ns", "p95_ns", "mean_ns", "std_ns"), pl.Float64),
    "is_noisy": pl.Boolean,
    **dict.fromkeys(("gflops", "gflops_convention", "of_ceiling", "of_sgemm"), pl.Float64),
    "least_bytes": pl.Int64,
    **dict.fromkeys(("least_gb_per_s", "floor", "vs_baseline", "vs_parent", "error"), pl.Float64),
    **dict.fromkeys((f"memory_{name}_bytes" for name in _MEMORY), pl.Int64),
}


def summarize(runs: Iterable[Run]) -> pl.DataFrame:
    """Return the columns of `SUMMARY`, a row for each row of the runs, in their order."""
    rows = [_summary(run, row) for run in runs for row in run.rows]
    return pl.DataFrame(rows, schema=dict(SUMMARY), orient="row")


def _summary(run: Run, row: Row) -> dict[str, Any]:
    known = {
        "run": run.name,
        **{name: row[name] for name in (*_FACTS, *_STATES)},
        "config": row["sizes"].get("config"),
        "layers": row["sizes"].get("layers", 1 if "config" in row["sizes"] else None),
        "error": error_of(row),
        "least_bytes": least_bytes(row),
        **{f"memory_{name}_bytes": row["memory"][name] for name in _MEMORY},
    }
    time = run.time(row)
    if time is None:
        return known
    samples = row["samples_ns"]
    mean, std = mean_std(samples)
    moved, floor = known["least_bytes"], run.floor(row["case"])
    return known | {
        "n": len(samples),
        "rounds": time.n,
        "time_ns": time.value,
        "low_ns": time.low,
        "high_ns": time.high,
        "median_ns": run.median(row),
        "min_ns": float(min(samples)),
        "p05_ns": percentile(samples, 0.05),
        "p95_ns": percentile(samples, 0.95),
        "mean_ns": mean,
        "std_ns": std,
        "is_noisy": time.is_noisy,
        "gflops": run.gflops(row),
        "gflops_convention": run.gflops(row, convention=True),
        "of_ceiling": run.of_ceiling(row),
        "of_sgemm": of_sgemm(run, row),
        "least_gb_per_s": None if moved is None else moved / time.value,
        "floor": None if run.is_published else floor,
        "vs_baseline": _over(run, row, run.baseline),
        "vs_parent": _over(run, row, row["parent"]),
    }


def _over(run: Run, row: Row, base: str | None) -> float | None:
    ratio = run.ratio(row, run.row(row["case"], base, row["phase"]))
    return ratio.value if ratio else None


def frame_csv(frame: pl.DataFrame) -> str:
    """Write a frame as CSV in which no text is a formula to a spreadsheet."""
    texts = pl.col(pl.String).map_elements(csv_text, return_dtype=pl.String)
    return frame.with_columns(texts).write_csv()


def frame_markdown(frame: pl.DataFrame) -> str:
    """Write a frame as a Markdown table, with its own column names; null is "-"."""
    lines = [markdown_row(frame.columns), "|" + "---|" * len(frame.columns)]
    for row in frame.iter_rows():
        texts = (NOTHING if value is None else escape(str(value)) for value in row)
        lines.append(markdown_row(texts))
    return "\n".join(lines) + "\n"


def write_summary(frame: pl.DataFrame, out: Path, layout: str) -> None:
    """Write a frame as csv, md or parquet into a file, never a part of it.

    Raises:
        UsageError: the file exists and does not begin with the columns of the frame.
        OSError: it cannot be written.
    """
    if layout == "parquet":
        file = io.BytesIO()
        frame.write_parquet(file)
        data = file.getvalue()
    else:
        data = (frame_csv(frame) if layout == "csv" else frame_markdown(frame)).encode("utf-8")
    write_file(out, data, lambda path: _begins_as(path, frame.columns))


def _begins_as(path: Path, columns: Sequence[str]) -> bool:
    """True for a file that this module wrote of these columns."""
    start = tuple(columns[: len(SUMMARY_START)])
    marks = (",".join(start).encode(), f"| {' | '.join(start)} |".encode())
    with path.open("rb") as file:
        found = file.read(max(map(len, marks)))
    if found.startswith(b"PAR1"):
        try:
            return tuple(pl.read_parquet_schema(path))[: len(start)] == start
        except (pl.exceptions.PolarsError, OSError):
            return False
    return found.startswith(marks)
