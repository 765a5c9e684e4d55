"""Summarizes the cells of many runs in one pass: only the columns that it needs, all at once.

The figures are those of `metrics.py`, which goes cell by cell; a test holds one to the other. Here
a thousand runs are a few expressions over one lazy frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from ablation_report.attention_rows import is_attention
from ablation_report.ladder import NAIVE
from ablation_report.load import CELLS_NAME, found_paths
from ablation_report.metrics import NOISY_WIDTH, interval_rank
from ablation_report.published import is_suites
from ablation_report.schema import CELL_COLUMNS, SCHEMA_VERSION, STATUSES
from ablation_report.sources import read_source

# What a summary reads of each cell
READ = (
    *("schema_version", "run_id", "session", "config", "variant", "parent", "group"),
    *("threads", "status", "samples_ns", "sample_rounds", "flops"),
)
SUMMARY: dict[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("run", "config", "variant", "parent", "group", "status"), pl.String),
    "threads": pl.Int64,
    "n": pl.UInt32,
    "rounds": pl.UInt32,
    **dict.fromkeys(("median_ns", "low_ns", "high_ns", "min_ns"), pl.Float64),
    "is_noisy": pl.Boolean,
    "gflops": pl.Float64,
    "vs_baseline": pl.Float64,
    "vs_parent": pl.Float64,
}
_CELL = ("path", "config", "variant")


def summarize(*paths: Path | str) -> pl.DataFrame:
    """Summarize every block ablation at or directly below the paths, a row for each cell.

    Returns:
        The columns of `SUMMARY`: `run` is the folder's name, or that of a published file without
        its ending; times are nanoseconds, medians over rounds with the 95% interval of
        `metrics.median_interval`; ratios are paired by round; null where there is no time.

    Raises:
        SchemaError: a file is damaged, breaks a rule, or has another schema; lists every fault.
        FileNotFoundError: a path does not exist, or nothing readable lies under it.
    """
    files: list[Path] = []
    published: list[Path] = []
    for path in found_paths(paths):
        if path.is_dir():
            if not is_attention(path) and (path / CELLS_NAME).exists():
                files.append(path / CELLS_NAME)
        elif not is_suites(path):
            published.append(path)
    cells = pl.concat([_scan(files), *(_read(path) for path in published)]).cache()
    rounds = _rounds(cells).cache()
    times = (
        rounds.group_by(_CELL)
        .agg(pl.col("ns").sort().alias("sorted"), pl.len().cast(pl.UInt32).alias("rounds"))
        .collect()
    )
    ranks = {n: interval_rank(n) for n in times.get_column("rounds").unique().to_list()}
    rank = pl.col("rounds").replace_strict(ranks, return_dtype=pl.UInt32)
    intervals = times.lazy().select(
        *_CELL,
        "rounds",
        pl.col("sorted").list.median().alias("median_ns"),
        pl.col("sorted").list.get(rank).alias("low_ns"),
        pl.col("sorted").list.get(pl.col("rounds") - 1 - rank).alias("high_ns"),
    )
    summary = (
        cells.join(intervals, on=_CELL, how="left")
        .join(_ratio(cells, rounds, pl.lit(NAIVE), "vs_baseline"), on=_CELL, how="left")
        .join(_ratio(cells, rounds, pl.col("parent"), "vs_parent"), on=_CELL, how="left")
        .with_columns(
            _run_name().alias("run"),
            pl.col("samples_ns").list.len().alias("n"),
            pl.col("samples_ns").list.min().cast(pl.Float64).alias("min_ns"),
            (pl.col("flops") / pl.col("median_ns")).alias("gflops"),
            pl.when(pl.col("rounds") > 1)
            .then((pl.col("high_ns") - pl.col("low_ns")) / pl.col("median_ns") > NOISY_WIDTH)
            .alias("is_noisy"),
        )
        .sort("run", "order")
        .select(list(SUMMARY))
    )
    return summary.collect().cast(SUMMARY)  # type: ignore[arg-type]


def _scan(files: Sequence[Path]) -> pl.LazyFrame:
    """Read the needed columns of many cells.jsonl; files with a fault are read again, to name it."""
    schema = {name: CELL_COLUMNS[name].dtype for name in READ}
    if not files:
        return pl.LazyFrame(schema={"path": pl.String, "order": pl.UInt32, **schema})
    try:
        frame = pl.scan_ndjson(files, schema=schema, include_file_paths="path").collect()
    except pl.exceptions.PolarsError:
        suspects = list(map(str, files))
    else:
        suspects = frame.filter(_is_suspect()).get_column("path").unique().to_list()
    # The slow reader raises with file, line and column
    for path in suspects:
        read_source(Path(path).parent)
    return frame.with_row_index("order").select("path", "order", *schema).lazy()


def _is_suspect() -> pl.Expr:
    """True for a row that may break a rule of the schema, as far as these columns tell."""
    is_ok = pl.col("status") == "ok"
    n_samples = pl.col("samples_ns").list.len().fill_null(0)
    required = [name for name in READ if not CELL_COLUMNS[name].nullable]
    return (
        (pl.col("schema_version") != SCHEMA_VERSION)
        | ~pl.col("status").is_in(list(STATUSES))
        | (is_ok != (n_samples > 0))
        | (n_samples != pl.col("sample_rounds").list.len().fill_null(0))
        | pl.any_horizontal(pl.col(required).is_null())
    ).fill_null(True)


def _read(path: Path) -> pl.LazyFrame:
    """Read a published file into the columns of `_scan`."""
    rows = [
        {name: cell[name] for name in READ}
        | {"path": str(path), "session": 0, "threads": None, "sample_rounds": [0]}
        for cell in read_source(path).cells
    ]
    schema = {name: CELL_COLUMNS[name].dtype for name in READ}
    frame = pl.DataFrame(rows, schema={"path": pl.String, **schema}, orient="row")
    return frame.with_row_index("order").select("path", "order", *schema).lazy()


def _rounds(cells: pl.LazyFrame) -> pl.LazyFrame:
    """The median nanoseconds of each cell in each round."""
    return (
        cells.filter(pl.col("samples_ns").list.len() > 0)
        .select(*_CELL, "session", "samples_ns", "sample_rounds")
        .explode("samples_ns", "sample_rounds")
        .group_by(*_CELL, "session", "sample_rounds")
        .agg(pl.col("samples_ns").cast(pl.Float64).median().alias("ns"))
    )


def _ratio(cells: pl.LazyFrame, rounds: pl.LazyFrame, base: pl.Expr, name: str) -> pl.LazyFrame:
    """The median over common rounds of a cell's time over that of another of its config."""
    bases = rounds.select(
        *("path", "config", "session", "sample_rounds"),
        pl.col("variant").alias("base"),
        pl.col("ns").alias("base_ns"),
    )
    return (
        rounds.join(cells.select(*_CELL, base.alias("base")), on=_CELL)
        .join(bases, on=["path", "config", "session", "sample_rounds", "base"])
        .group_by(_CELL)
        .agg((pl.col("ns") / pl.col("base_ns")).median().alias(name))
    )


def _run_name() -> pl.Expr:
    """The folder of a cells.jsonl, or the name of a file without its ending."""
    parts = pl.col("path").str.split("/")
    is_run = parts.list.last() == CELLS_NAME
    name = parts.list.last().str.replace(r"\.csv$", "")
    return pl.when(is_run).then(parts.list.get(-2, null_on_oob=True)).otherwise(name)
