"""Runs of attention alone: what their folders may hold, and how they are read.

The header is `run.json`; the rows are `attention.jsonl`, a case and an implementation a line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ablation_report.reading import read_header, read_object, read_rows
from ablation_report.schema import (
    RUN_COLUMNS,
    STATUSES,
    Column,
    Problem,
    SchemaError,
    column_faults,
    count_column,
    is_count,
    number_column,
    positive_times_column,
    show,
    text_column,
    texts_column,
    times_column,
    version_fault,
)

SUITE = "attention"
HEADER_NAME = "run.json"
ROWS_NAME = "attention.jsonl"
# The columns that say which measurement a row is
KEY = ("threads", "causal", "B", "H", "Nq", "Nk", "d", "impl")

Row = Mapping[str, Any]


def _positive() -> Column:
    return Column("an integer above 0", lambda v: is_count(v) and v > 0, pl.Int64)


_SUITE = Column(f"'{SUITE}'", lambda value: value == SUITE, pl.String)

ROW_COLUMNS: Mapping[str, Column] = {
    "schema_version": count_column(),
    "run_id": text_column(),
    "suite": _SUITE,
    **{name: _positive() for name in ("B", "H", "Nq", "Nk", "d")},
    "causal": Column("true or false", lambda value: isinstance(value, bool), pl.Boolean),
    "threads": _positive(),
    "seed": count_column(),
    "impl": text_column(),
    "form": text_column(),
    "kernels": texts_column(),
    "status": Column(f"one of {', '.join(STATUSES)}", lambda v: v in STATUSES, pl.String),
    "reason": text_column(nullable=True),
    "signal": count_column(nullable=True),
    "n_warmup": count_column(nullable=True),
    "samples_ns": positive_times_column(),
    "sample_rounds": times_column(),
    "first_call_ns": count_column(nullable=True),
    "flops_useful": _positive(),
    **{name: number_column() for name in ("max_abs_error", "tolerance", "worst_ratio")},
    "checked_rows": count_column(nullable=True),
    "scratch_bytes": count_column(nullable=True),
    "memory_predicted_bytes": count_column(nullable=True),
    "memory_available_bytes": count_column(nullable=True),
    "calibration_before_ns": positive_times_column(),
    "calibration_after_ns": positive_times_column(),
    "started_utc": text_column(),
    "elapsed_s": number_column(),
}

_SHARED = ("schema_version", "run_id", "created_utc", "finished_utc", "elapsed_s", "command")
_SHARED_FACTS = ("versions", "machine", "providers", "build_info", "seed", "budget_s", "git_sha")
HEADER_COLUMNS: Mapping[str, Column] = {
    **{name: RUN_COLUMNS[name] for name in (*_SHARED, *_SHARED_FACTS)},
    "suite": _SUITE,
    "impls": texts_column(),
    "n_cases": _positive(),
    "rounds": _positive(),
    "min_rounds": _positive(),
}


@dataclass(frozen=True)
class AttentionRun:
    """A recorded run: its header as in run.json, and its rows in order of writing; a row that does
    not stand in the line of its place has that under "line"."""

    path: Path
    header: dict[str, Any]
    rows: list[dict[str, Any]]
    rows_name: str = ROWS_NAME


def is_attention(path: Path) -> bool:
    """True for a folder that holds a run of attention alone, sound or not."""
    if not path.is_dir():
        return False
    if (path / ROWS_NAME).exists():
        return True
    try:
        header = json.loads((path / HEADER_NAME).read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return False
    return isinstance(header, dict) and header.get("suite") == SUITE


def load_attention(folder: Path) -> AttentionRun:
    """Read one run of attention alone; one that was stopped before its first case has no rows.

    Raises:
        SchemaError: a file is missing, damaged, breaks a rule, or has another schema; lists every
            fault by file, line and column.
    """
    header_path, rows_path = folder / HEADER_NAME, folder / ROWS_NAME
    if not header_path.is_file():
        raise SchemaError([Problem(header_path, None, None, "missing")])
    header = read_header(header_path, HEADER_COLUMNS)
    rows = read_rows(
        rows_path, KEY, lambda line, content: _row(rows_path, line, content, header), _said
    )
    return AttentionRun(folder, header, rows)


def _said(row: Row) -> str:
    """Say what a row measures of its case."""
    return str(row["impl"])


def _row(path: Path, line: int, content: str, header: Mapping[str, Any]) -> dict[str, Any]:
    """Read and check one line of attention.jsonl."""
    row = read_object(path, line, content)
    if fault := version_fault(row.get("schema_version")):
        raise SchemaError([Problem(path, line, "schema_version", fault)])
    faults = column_faults(row, ROW_COLUMNS) or row_faults(row)
    if not faults and row["run_id"] != header["run_id"]:
        faults["run_id"] = f"{show(row['run_id'])}, {HEADER_NAME} says {show(header['run_id'])}"
    if not faults and row["impl"] not in header["impls"]:
        faults["impl"] = f"{show(row['impl'])}, not among those that {HEADER_NAME} lists"
    if faults:
        raise SchemaError([Problem(path, line, name, fault) for name, fault in faults.items()])
    return row


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
    samples, rounds = row["samples_ns"], row["sample_rounds"]
    if samples and (rounds is None or len(rounds) != len(samples)):
        faults["sample_rounds"] = f"{len(rounds or [])} entries for {len(samples)} samples"
    flops = 4 * row["B"] * row["H"] * row["d"] * unmasked_pairs(row)
    if row["flops_useful"] != flops:
        faults["flops_useful"] = f"{row['flops_useful']}, but the case has {flops}"
    return faults
