"""Summarizes the cells of many runs in one pass: only the columns that it needs, all at once.

The figures are those of `metrics.py`, which goes cell by cell; a test holds one to the other. Here
a thousand runs are a few expressions over one lazy frame.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from ablation_report.ladder import NAIVE
from ablation_report.metrics import NOISY_WIDTH, interval_rank
from ablation_report.schema import CELL_COLUMNS, SchemaError
from ablation_report.sources import Gathered, gather
from ablation_report.traffic import FLOAT32_BYTES

# What a summary takes of each cell
READ = (
    *("session", "config", "variant", "parent", "group"),
    *("threads", "status", "samples_ns", "sample_rounds", "flops"),
    *("batch", "seq_len", "d_model", "weights_bytes"),
)
SUMMARY: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("run", "config", "variant", "parent", "group", "status"), pl.String),
    "threads": pl.Int64,
    "n": pl.UInt32,
    "rounds": pl.UInt32,
    **dict.fromkeys(("median_ns", "low_ns", "high_ns", "min_ns"), pl.Float64),
    "is_noisy": pl.Boolean,
    "gflops": pl.Float64,
    "least_bytes": pl.Int64,
    "least_gb_per_s": pl.Float64,
    "vs_baseline": pl.Float64,
    "vs_parent": pl.Float64,
}


def summarize(*paths: Path | str) -> pl.DataFrame:
    """Summarize every block ablation at or directly below the paths, a row for each cell.

    Returns:
        The columns of `SUMMARY`: `run` is the name of `gather`; times are nanoseconds, medians over
        rounds with the 95% interval of `metrics.median_interval`; `least_bytes` is that of
        `traffic.least_bytes`; ratios are paired
        by round; null where there is no time.

    Raises:
        SchemaError: a file is damaged, breaks a rule, or has another schema; lists every fault.
        FileNotFoundError: a path does not exist, or nothing readable lies under it.
    """
    gathered = gather(*paths)
    if gathered.problems:
        raise SchemaError(gathered.problems)
    return summary_of(gathered)


def summary_of(gathered: Gathered) -> pl.DataFrame:
    """As `summarize`, of what has been read."""
    cells = _cells(gathered)
    rounds = _rounds(cells)
    summary = (
        cells.join(_intervals(rounds), on="cell", how="left")
        .join(_ratio(cells, rounds, pl.lit(NAIVE), "vs_baseline"), on="cell", how="left")
        .join(_ratio(cells, rounds, pl.col("parent"), "vs_parent"), on="cell", how="left")
        .with_columns(
            pl.col("samples_ns").list.len().alias("n"),
            pl.col("samples_ns").list.min().cast(pl.Float64).alias("min_ns"),
            (pl.col("flops") / pl.col("median_ns")).alias("gflops"),
            _least_bytes().alias("least_bytes"),
            (_least_bytes() / pl.col("median_ns")).alias("least_gb_per_s"),
            pl.when(pl.col("rounds") > 1)
            .then((pl.col("high_ns") - pl.col("low_ns")) / pl.col("median_ns") > NOISY_WIDTH)
            .alias("is_noisy"),
        )
        .sort("run", "cell")
        .select(pl.col(name).cast(dtype) for name, dtype in SUMMARY.items())
    )
    return summary


def _cells(gathered: Gathered) -> pl.DataFrame:
    """What the summary takes of each cell, numbered, with the name of its run."""
    rows = [
        {"run": source.name, **{name: cell[name] for name in READ}}
        | ({"session": 0, "sample_rounds": [0]} if source.is_published else {})
        for source in gathered.sources
        for cell in source.cells
    ]
    schema = {name: CELL_COLUMNS[name].dtype for name in READ}
    frame = pl.DataFrame(rows, schema={"run": pl.String, **schema}, orient="row")
    return frame.with_row_index("cell")


def _rounds(cells: pl.DataFrame) -> pl.DataFrame:
    """The median nanoseconds of each cell in each round; a cell is its number, for short joins."""
    return (
        cells.lazy()
        .filter(pl.col("samples_ns").list.len() > 0)
        .select("cell", "samples_ns", pl.col("sample_rounds").alias("round"))
        .explode("samples_ns", "round")
        .group_by("cell", "round")
        .agg(pl.col("samples_ns").median().alias("ns"))
        .collect()
    )


def _intervals(rounds: pl.DataFrame) -> pl.DataFrame:
    """The median of each cell over its rounds, with its interval."""
    times = rounds.group_by("cell").agg(
        pl.col("ns").sort().alias("sorted"), pl.len().alias("rounds")
    )
    ranks = {n: interval_rank(n) for n in times.get_column("rounds").unique().to_list()}
    rank = pl.col("rounds").replace_strict(ranks, return_dtype=pl.UInt32)
    return times.select(
        *("cell", "rounds"),
        pl.col("sorted").list.median().alias("median_ns"),
        pl.col("sorted").list.get(rank).alias("low_ns"),
        pl.col("sorted").list.get(pl.col("rounds") - 1 - rank).alias("high_ns"),
    )


def _ratio(cells: pl.DataFrame, rounds: pl.DataFrame, base: pl.Expr, name: str) -> pl.DataFrame:
    """The median over common rounds of a cell's time over that of another of its config."""
    place = ["run", "config", "session"]
    bases = cells.select(*place, pl.col("variant").alias("base"), pl.col("cell").alias("base_cell"))
    pairs = cells.select("cell", *place, base.alias("base")).join(bases, on=[*place, "base"])
    return (
        rounds.lazy()
        .join(pairs.lazy().select("cell", "base_cell"), on="cell")
        .join(
            rounds.lazy().select(
                pl.col("cell").alias("base_cell"), "round", pl.col("ns").alias("base_ns")
            ),
            on=["base_cell", "round"],
        )
        .group_by("cell")
        .agg((pl.col("ns") / pl.col("base_ns")).median().alias(name))
        .collect()
    )


def _least_bytes() -> pl.Expr:
    """As `traffic.least_bytes`."""
    values = pl.col("batch") * pl.col("seq_len") * pl.col("d_model")
    return pl.col("weights_bytes") + 2 * FLOAT32_BYTES * values
