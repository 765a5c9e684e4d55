"""Runs of attention alone: what their folders may hold, and how they are read.

The header is `run.json`; the rows are `attention.jsonl`, a case and an implementation a line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ablation_report.columns import (
    Column,
    bytes_column,
    count_column,
    flag_column,
    number_column,
    one_of_column,
    positive_column,
    positive_times_column,
    seconds_column,
    show,
    text_column,
    texts_column,
    times_column,
)
from ablation_report.naming import name_of
from ablation_report.reading import HEADER_NAME, Format, read_run
from ablation_report.schema import RUN_COLUMNS, STATUSES

SUITE = "attention"
ROWS_NAME = "attention.jsonl"
# The columns that say which measurement a row is
KEY = ("threads", "causal", "B", "H", "Nq", "Nk", "d", "impl")

Row = Mapping[str, Any]


_SUITE = Column(f"'{SUITE}'", lambda value: value == SUITE, pl.String)

ROW_COLUMNS: Mapping[str, Column] = {
    "schema_version": count_column(),
    "run_id": text_column(),
    "suite": _SUITE,
    **{name: positive_column() for name in ("B", "H", "Nq", "Nk", "d")},
    "causal": flag_column(),
    "threads": positive_column(),
    "seed": count_column(),
    "impl": text_column(),
    "form": text_column(),
    "kernels": texts_column(),
    "status": one_of_column(STATUSES),
    "reason": text_column(nullable=True),
    "signal": count_column(nullable=True),
    "n_warmup": count_column(nullable=True),
    "samples_ns": positive_times_column(),
    "sample_rounds": times_column(),
    "first_call_ns": count_column(nullable=True),
    "flops_useful": positive_column(),
    **{name: number_column() for name in ("max_abs_error", "tolerance", "worst_ratio")},
    "checked_rows": count_column(nullable=True),
    **{f"{name}_bytes": bytes_column() for name in ("scratch", "memory_predicted")},
    "memory_available_bytes": bytes_column(),
    "calibration_before_ns": positive_times_column(),
    "calibration_after_ns": positive_times_column(),
    "started_utc": text_column(),
    "elapsed_s": seconds_column(),
}

_SHARED = ("schema_version", "run_id", "created_utc", "finished_utc", "elapsed_s", "command")
_SHARED_FACTS = ("versions", "machine", "providers", "build_info", "seed", "budget_s", "git_sha")
HEADER_COLUMNS: Mapping[str, Column] = {
    **{name: RUN_COLUMNS[name] for name in (*_SHARED, *_SHARED_FACTS)},
    "suite": _SUITE,
    "impls": texts_column(),
    "n_cases": positive_column(),
    "rounds": positive_column(),
    "min_rounds": positive_column(),
}


@dataclass(frozen=True)
class AttentionRun:
    """A recorded run: its header as in run.json, and its rows in order of writing; a row that does
    not stand in the line of its place has that under "line"."""

    path: Path
    header: dict[str, Any]
    rows: list[dict[str, Any]]
    rows_name: str = ROWS_NAME
    own_name: str = ""

    @property
    def name(self) -> str:
        """What pages call it: its folder, or the name that tells it from another of this name."""
        return self.own_name or name_of(self.path)


def load_attention(folder: Path) -> AttentionRun:
    """Read one run of attention alone; one that was stopped before its first case has no rows.

    Raises:
        SchemaError: a file is missing, damaged, breaks a rule, or has another schema; lists every
            fault by file, line and column.
    """
    return AttentionRun(folder, *read_run(folder, FORMAT))


def unmasked_pairs(row: Row) -> int:
    """Return the pairs of a query and a key that it sees, in one head; causal from the top left."""
    queries, keys = row["Nq"], row["Nk"]
    if not row["causal"]:
        return int(queries * keys)
    within = min(queries, keys)
    return int(within * (within + 1) // 2 + (queries - within) * keys)


def row_faults(row: Row) -> dict[str, str]:
    """Return the faults between the columns of a row whose columns are each sound."""
    faults: dict[str, str] = {}
    is_ok = row["status"] == "ok"
    if is_ok and not row["samples_ns"]:
        faults["samples_ns"] = "no sample, but status is ok"
    if is_ok and row["worst_ratio"] is None:
        faults["worst_ratio"] = "null, but status is ok: it was not checked"
    if is_ok and row["worst_ratio"] is not None and row["worst_ratio"] > 1:
        faults["worst_ratio"] = f"{row['worst_ratio']}, above 1, but status is ok"
    for name in ("samples_ns", "sample_rounds"):
        if not is_ok and row[name] is not None:
            faults[name] = f"not null, but status is {row['status']}"
    if is_ok != (row["reason"] is None):
        faults["reason"] = f"{show(row['reason'])}, but status is {row['status']}"
    samples, rounds = row["samples_ns"] or [], row["sample_rounds"] or []
    if is_ok and samples and len(rounds) != len(samples):
        faults["sample_rounds"] = f"{len(rounds)} entries for {len(samples)} samples"
    flops = 4 * row["B"] * row["H"] * row["d"] * unmasked_pairs(row)
    if row["flops_useful"] != flops:
        faults["flops_useful"] = f"{row['flops_useful']}, but the case has {flops}"
    return faults


def header_faults(row: Row, header: Mapping[str, Any]) -> dict[str, str]:
    """Return where a sound row is not one of the run of this header."""
    if row["impl"] in header["impls"]:
        return {}
    return {"impl": f"{show(row['impl'])}, not among those that {HEADER_NAME} lists"}


FORMAT = Format(
    ROWS_NAME,
    HEADER_COLUMNS,
    ROW_COLUMNS,
    KEY,
    "impl",
    lambda row: f"{row['impl']} of this case",
    row_faults,
    header_faults,
)
