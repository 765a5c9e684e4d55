"""What a run folder may hold: every column, its type, where null is allowed, what ties columns.

The run's header is `run.json`; its rows are `cells.jsonl`, one cell a line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ablation_report.columns import (
    Column,
    bytes_column,
    count_column,
    is_count,
    is_int,
    is_list_of,
    is_number,
    is_text,
    number_column,
    one_of_column,
    positive_column,
    positive_times_column,
    rate_column,
    seconds_column,
    show,
    table_column,
    text_column,
    texts_column,
    times_column,
)
from ablation_report.escaping import visible

SCHEMA_VERSION = 1

STATUSES = ("ok", "oom", "timeout", "incorrect", "unsupported", "error", "skipped")
CATEGORIES = ("attention", "layer_norm", "linear", "element_wise", "movement")
PARTS = (*CATEGORIES, "dispatch")
PROFILE_COLUMNS = ("profile_total_ns", *(f"profile_{part}_ns" for part in PARTS))
# What only a cell that ran to the end, and was right, may have
TIME_COLUMNS = ("samples_ns", *PROFILE_COLUMNS)


@dataclass(frozen=True)
class Problem:
    """One fault of a file and its place; line and column are None for the whole of it."""

    path: Path
    line: int | None
    column: str | None
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line is not None else str(self.path)
        column = f"column {self.column[:60]}: " if self.column is not None else ""
        return visible(f"{place}: {column}{self.message}")


class SchemaError(ValueError):
    """Files that cannot be read as rows; `problems` has one entry for each fault."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


def is_op(value: Any) -> bool:
    """True for one entry of the column `ops`."""
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "op", "category", "kernel", "median_ns"}
        and is_text(value["name"])
        and is_text(value["op"])
        and value["category"] in CATEGORIES
        and (value["kernel"] is None or is_text(value["kernel"]))
        and (value["median_ns"] is None or is_number(value["median_ns"]))
    )


PROVIDERS = ("simd", "parallel", "blas", "blas_core", "clock")


def is_providers(value: Any) -> bool:
    """True for the column `providers`: known roles, each with a name or null."""
    return (
        isinstance(value, dict)
        and value.keys() <= set(PROVIDERS)
        and all(entry is None or isinstance(entry, str) for entry in value.values())
    )


def providers_column() -> Column:
    """The column `providers`."""
    roles = pl.Struct(dict.fromkeys(PROVIDERS, pl.String))
    return Column(f"a table of {', '.join(PROVIDERS)}", is_providers, roles)


CELL_COLUMNS: Mapping[str, Column] = {
    "schema_version": count_column(),
    "run_id": text_column(),
    "session": count_column(),
    "config": text_column(),
    **{name: positive_column() for name in ("d_model", "n_heads", "seq_len", "batch")},
    **{name: text_column() for name in ("variant", "printed_name", "group")},
    "parent": text_column(nullable=True),
    # What differs from the parent; a root has nothing to say
    "changed": Column("text", lambda value: isinstance(value, str), pl.String, nullable=True),
    "runtime": text_column(),
    "executor": text_column(),
    "passes": texts_column(),
    **{
        f"{op}_kernel": text_column(nullable=True)
        for op in ("attention", "layer_norm", "softmax", "linear")
    },
    "providers": providers_column(),
    "threads": positive_column(),
    "seed": count_column(),
    "status": one_of_column(STATUSES),
    "reason": text_column(nullable=True),
    "signal": count_column(nullable=True),
    "n_warmup": count_column(nullable=True),
    "samples_ns": positive_times_column(),
    "sample_rounds": times_column(),
    "first_call_ns": count_column(nullable=True),
    "build_ns": count_column(nullable=True),
    "profile_total_ns": positive_times_column(),
    **{f"profile_{part}_ns": times_column() for part in CATEGORIES},
    # Never clipped: a clock read that falls inside an op can make the rest negative
    "profile_dispatch_ns": Column(
        "a list of integers", is_list_of(is_int), pl.List(pl.Int64), nullable=True
    ),
    "timing_overhead_ns": number_column(),
    "ops": Column(
        "a list of {name, op, category, kernel, median_ns}",
        is_list_of(is_op),
        pl.List(
            pl.Struct(
                {
                    "name": pl.String,
                    "op": pl.String,
                    "category": pl.String,
                    "kernel": pl.String,
                    "median_ns": pl.Float64,
                }
            )
        ),
        nullable=True,
    ),
    "n_calls": count_column(nullable=True),
    **{name: number_column() for name in ("max_abs_error", "tolerance", "worst_ratio")},
    "checked_rows": count_column(nullable=True),
    **{
        f"{name}_bytes": bytes_column()
        for name in (
            *("memory_predicted", "memory_available", "arena"),
            *("attention_scratch", "weights", "peak_rss"),
        )
    },
    "packed_weights_bytes": bytes_column(is_optional=True),
    "flops": positive_column(),
    "calibration_before_ns": positive_times_column(),
    "calibration_after_ns": positive_times_column(),
    "started_utc": text_column(nullable=True),
    "elapsed_s": seconds_column(),
}


VERSIONS = ("python", "numpy", "torch", "ablation_kernels", "ablation_executor")
# What a platform does not tell is empty
_TOLD = Column("text", lambda value: isinstance(value, str), pl.String)
_CACHE = Column("text or a number of bytes", lambda v: isinstance(v, str) or is_count(v), pl.Object)
MACHINE: Mapping[str, Column] = {
    "cpu_model": _TOLD,
    "cores": positive_column(),
    "memory_bytes": bytes_column(),
    "os": _TOLD,
    "arch": _TOLD,
    "isa_flags": texts_column(),
    "caches": table_column(others=_CACHE),
}
BUILD_INFO: Mapping[str, Column] = {
    "isa_available": texts_column(is_optional=True),
    "isa_used": text_column(nullable=True, is_optional=True),
}
CEILINGS: Mapping[str, Column] = {
    "provider": text_column(nullable=True),
    "threads": positive_column(),
    "multiply_add_flops_per_s": rate_column(),
    "memory_bytes_per_s": rate_column(),
}

# The dtype matters to rows only: the header stays a dictionary.
RUN_COLUMNS: Mapping[str, Column] = {
    "schema_version": count_column(),
    "run_id": text_column(),
    "created_utc": text_column(),
    "finished_utc": text_column(nullable=True),
    "elapsed_s": seconds_column(),
    "command": texts_column(),
    "versions": table_column(
        dict.fromkeys(VERSIONS, text_column(nullable=True)), text_column(nullable=True)
    ),
    "machine": table_column(MACHINE),
    "providers": providers_column(),
    "build_info": table_column(BUILD_INFO),
    "ceilings": table_column(CEILINGS, nullable=True),
    "threads": positive_column(),
    "seed": count_column(),
    "samples": count_column(),
    "budget_s": seconds_column(),
    "configs": texts_column(),
    "variants": texts_column(nullable=True),
    # The runtimes of the league that were asked for
    "baselines": texts_column(is_optional=True),
    "git_sha": text_column(nullable=True),
    "sessions": count_column(),
}


def version_fault(version: Any) -> str | None:
    """Say why this schema version is refused, or return None."""
    if version == SCHEMA_VERSION and is_int(version):
        return None
    if not is_int(version):
        return f"{show(version)}, expected {SCHEMA_VERSION}"
    age = "a newer bench wrote it" if version > SCHEMA_VERSION else "an older bench wrote it"
    return f"schema {version}, this report reads schema {SCHEMA_VERSION} ({age})"


def cell_faults(cell: Mapping[str, Any]) -> dict[str, str]:
    """Return the faults between the columns of a cell whose columns are each sound."""
    faults: dict[str, str] = {}
    if cell["status"] == "ok":
        if not cell["samples_ns"]:
            faults["samples_ns"] = "no sample, but status is ok"
        if cell["reason"] is not None:
            faults["reason"] = f"{show(cell['reason'])}, but status is ok"
    else:
        for name in TIME_COLUMNS:
            if cell[name] is not None:
                faults[name] = f"not null, but status is {cell['status']}"
        if cell["reason"] is None:
            faults["reason"] = f"null, but status is {cell['status']}"
    samples, rounds = cell["samples_ns"] or [], cell["sample_rounds"] or []
    if len(rounds) != len(samples) and "samples_ns" not in faults:
        faults["sample_rounds"] = f"{len(rounds)} entries for {len(samples)} samples"
    faults |= _profile_faults(cell)
    s, d = cell["seq_len"], cell["d_model"]
    flops = cell["batch"] * (24 * s * d * d + 4 * s * s * d)
    if cell["flops"] != flops:
        faults["flops"] = f"{cell['flops']}, but the config's block has {flops}"
    return faults


def _profile_faults(cell: Mapping[str, Any]) -> dict[str, str]:
    """Check that the six parts of each profiled call add up to its total."""
    columns = [cell[name] for name in PROFILE_COLUMNS]
    if all(column is None for column in columns):
        return {}
    for name, column in zip(PROFILE_COLUMNS, columns, strict=True):
        if column is None:
            return {name: "null, but other profile columns are not"}
        if len(column) != len(columns[0]):
            return {name: f"{len(column)} entries, profile_total_ns has {len(columns[0])}"}
    for index, (total, *parts) in enumerate(zip(*columns, strict=True)):
        if sum(parts) != total:
            return {"profile_total_ns": f"entry {index} is {total}, its parts sum to {sum(parts)}"}
    return {}
