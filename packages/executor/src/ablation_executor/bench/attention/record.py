"""The folder of an attention run: run.json and attention.jsonl, a line for each case and
implementation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..configs import UsageError
from ..record import STATUSES, Row, append_rows, prove_writable, signals_held, write_whole

SCHEMA_VERSION = 1
SUITE = "attention"
ROWS_NAME = "attention.jsonl"

ROW_KEYS: tuple[str, ...] = (
    *("schema_version", "run_id", "suite", "B", "H", "Nq", "Nk", "d", "causal", "threads", "seed"),
    *("impl", "form", "kernels", "status", "reason", "signal", "n_warmup", "samples_ns"),
    *("sample_rounds", "first_call_ns", "flops_useful", "max_abs_error", "tolerance"),
    *("worst_ratio", "checked_rows", "scratch_bytes", "memory_predicted_bytes"),
    *("memory_available_bytes", "calibration_before_ns", "calibration_after_ns"),
    *("started_utc", "elapsed_s"),
)


def row_problem(row: Row) -> str | None:
    """Why a row may not be written, or None."""
    if tuple(row) != ROW_KEYS:
        return f"keys are {list(row)}, expected {list(ROW_KEYS)}"
    if row["status"] not in STATUSES:
        return f"unknown status {row['status']!r}"
    is_ok = row["status"] == "ok"
    if is_ok != bool(row["samples_ns"]) or is_ok != (row["reason"] is None):
        return f"status {row['status']} with samples {row['samples_ns']!r}, {row['reason']!r}"
    return None


class AttentionFolder:
    """A new run's folder; `info` is what run.json holds."""

    def __init__(self, path: Path, info: dict[str, Any]) -> None:
        """Make the folder and write run.json.

        Raises UsageError if the folder cannot be made or written, if the disk is full, or if it
        already holds a run.
        """
        if any((path / name).exists() for name in ("run.json", "cells.jsonl", ROWS_NAME)):
            raise UsageError(f"{path} already holds a run; name another folder with --out")
        prove_writable(path)
        self.path = path
        self.info = info
        self.write_info()

    @property
    def rows_path(self) -> Path:
        """The file of rows."""
        return self.path / ROWS_NAME

    def append(self, rows: Sequence[Row]) -> None:
        """Write finished rows and wait until they are on the disk; ValueError for a faulty one."""
        for row in rows:
            problem = row_problem(row)
            if problem is not None:
                raise ValueError(f"{row.get('impl')}: {problem}")
        with signals_held():
            append_rows(self.rows_path, rows)

    def write_info(self) -> None:
        """Write run.json anew."""
        with signals_held():
            write_whole(self.path / "run.json", json.dumps(self.info, indent=1).encode() + b"\n")
