"""The folder of a suite's run: run.json and rows.jsonl, a line for each case, implementation and
phase."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..configs import UsageError
from ..record import STATUSES, Row, append_rows, prove_writable, signals_held, write_whole
from .case import parse_label

SCHEMA_VERSION = 1
ROWS_NAME, DAMAGED_NAME = "rows.jsonl", "rows.damaged.jsonl"

# Reason codes by status; "error" has the exception's class, a signal's name, or one of these.
REASONS: Mapping[str, tuple[str, ...]] = {
    "oom": ("predicted", "alloc_failed", "cuda_oom", "killed"),
    "unsupported": (
        *("no_cuda", "no_triton", "no_triton_driver", "triton_interpreter_only"),
        *("flex_cpu_backward", "dtype_not_accelerated", "shape", "isa", "no_kernel"),
        *("no_torch", "no_compiler", "refused"),
    ),
    "timeout": ("first_call", "budget", "compile"),
    "incorrect": ("probe", "check"),
    "skipped": ("policy", "selection"),
}

ID_KEYS = (
    *("schema_version", "run_id", "session", "suite", "tier", "case", "impl", "published_name"),
    *("origin", "phase", "device", "device_name", "threads", "seed"),
)
CASE_KEYS = ("dtype", "causal", "mask_align", "scale", "B", "H", "Nq", "Nk", "d", "parameters")
STATUS_KEYS = ("status", "reason", "reason_text", "signal", "attempted", "check")
TIME_KEYS = (
    *("timer", "n_warmup", "samples_ns", "sample_rounds", "event_samples_ns", "cpu_ns"),
    *("first_call_ns", "compile_ns", "interleaved"),
)
RATE_KEYS = ("flops_useful", "flops_fa")
# What `memory.measure` gives; bytes, None for what was not measured.
MEMORY_KEYS = (
    *("mem_method", "mem_op_peak_bytes", "mem_out_bytes", "mem_scratch_bytes", "mem_saved_bytes"),
    *("mem_before_bwd_bytes", "mem_tracked_peak_bytes", "mem_disagree"),
)
PREDICTION_KEYS = ("mem_predicted_bytes", "mem_available_bytes")
CHECK_KEYS = ("errors", "limits")
# What a program may tell of itself: see `suite.Program.facts`.
FACT_KEYS = (
    *("sdpa_backend", "lowered_to_sdpa", "graph_breaks", "recompiles_timed", "compile_ns"),
    *("kernels", "mem_scratch_bytes", "details"),
)
ROW_KEYS: tuple[str, ...] = (
    *(*ID_KEYS, *CASE_KEYS, *STATUS_KEYS, *TIME_KEYS, *RATE_KEYS, *MEMORY_KEYS, *PREDICTION_KEYS),
    *(*CHECK_KEYS, "sdpa_backend", "lowered_to_sdpa", "graph_breaks", "recompiles_timed"),
    *("kernels", "details", "calibration_before_ns", "calibration_after_ns"),
    *("started_utc", "elapsed_s"),
)
# Null unless the status is ok: zero is never a measurement, and neither is what was not checked.
MEASURED_KEYS = (*TIME_KEYS, *MEMORY_KEYS)
MIN_SAMPLES = 3

RUN_KEYS: tuple[str, ...] = (
    *("schema_version", "suite", "run_id", "created_utc", "finished_utc", "elapsed_s", "command"),
    *("versions", "machine", "providers", "build_info", "ceilings", "device", "tiers", "impls"),
    *("threads", "seed", "quick", "budget_s", "limits", "git_sha", "sessions", "cases"),
)


def blank_row() -> Row:
    """A row with every key present and nothing known."""
    return dict.fromkeys(ROW_KEYS)


def row_problem(row: object) -> str | None:
    """Why a decoded line is no whole row of this schema, or None."""
    if not isinstance(row, dict):
        return "not an object"
    if row.get("schema_version") != SCHEMA_VERSION:
        version = row.get("schema_version")
        return f"schema version {version!r}, this program reads {SCHEMA_VERSION}"
    if set(row) != set(ROW_KEYS):
        missing = [key for key in ROW_KEYS if key not in row]
        unknown = [key for key in row if key not in ROW_KEYS]
        return f"keys missing: {missing}, keys unknown: {unknown}"
    if row["status"] not in STATUSES:
        return f"unknown status {row['status']!r}"
    return _case_problem(row) or (
        _ok_problem(row) if row["status"] == "ok" else _failed_problem(row)
    )


def _case_problem(row: Row) -> str | None:
    """The label must be that of the columns."""
    try:
        case = parse_label(row["case"])
    except ValueError as error:
        return str(error)
    fields = {**case.to_dict(), "scale": case.scale}
    for name, value in fields.items():
        if row[name] != value:
            return f"{name} is {row[name]!r}, the label {row['case']!r} says {value!r}"
    return None


def _ok_problem(row: Row) -> str | None:
    samples = row["samples_ns"]
    if not samples or len(samples) < MIN_SAMPLES or min(samples) <= 0:
        return f"status ok with samples {samples!r}; at least {MIN_SAMPLES}, each above 0"
    if row["sample_rounds"] is None or len(row["sample_rounds"]) != len(samples):
        return f"{len(row['sample_rounds'] or [])} rounds for {len(samples)} samples"
    if row["check"] != "pass" or not row["errors"]:
        return f"status ok, but check is {row['check']!r} with errors {row['errors']!r}"
    for name, error in row["errors"].items():
        limit = row["limits"].get(name)
        if limit is None or not math.isfinite(error) or error > limit:
            return f"status ok, but the error of {name} is {error!r} of {limit!r} allowed"
    if row["reason"] is not None or row["reason_text"] is not None:
        return f"status ok with reason {row['reason']!r}"
    return None


def _failed_problem(row: Row) -> str | None:
    status = row["status"]
    told = [key for key in MEASURED_KEYS if row[key] is not None]
    if told:
        return f"status {status}, but {', '.join(told)} not null"
    if not row["reason"] or not row["reason_text"]:
        return f"status {status} without a reason"
    if status in REASONS and row["reason"] not in REASONS[status]:
        return f"reason {row['reason']!r} of status {status}; accepted: {REASONS[status]}"
    return None


def check_row(row: object) -> None:
    """ValueError with the broken rule for what may not stand in rows.jsonl."""
    problem = row_problem(row)
    if problem is not None:
        where = f"{row.get('case')} {row.get('impl')}: " if isinstance(row, dict) else ""
        raise ValueError(where + problem)


class SuiteFolder:
    """A run's folder; `info` is what run.json holds, `rows` what rows.jsonl holds."""

    def __init__(self, path: Path, info: dict[str, Any], rows: list[Row]) -> None:
        self.path = path
        self.info = info
        self.rows = rows

    @property
    def rows_path(self) -> Path:
        """The file of rows."""
        return self.path / ROWS_NAME

    @staticmethod
    def create(path: Path, info: dict[str, Any]) -> SuiteFolder:
        """Make the folder and write run.json.

        Raises UsageError if the folder cannot be made or written, if the disk is full, or if it
        already holds a run.
        """
        if any((path / name).exists() for name in ("run.json", "cells.jsonl", ROWS_NAME)):
            raise UsageError(f"{path} already holds a run; continue it with --resume {path}")
        if missing := [key for key in RUN_KEYS if key not in info]:
            raise ValueError(f"run.json would lack {missing}")
        prove_writable(path)
        folder = SuiteFolder(path, info, [])
        folder.write_info()
        return folder

    @staticmethod
    def open(path: Path) -> tuple[SuiteFolder, list[str]]:
        """Read a run to go on with it; gives what is wrong with lines that are no rows.

        Such lines are moved to rows.damaged.jsonl, so that their cells are measured again. Raises
        UsageError if there is no run of a suite, or one of another schema version.
        """
        file = path / "run.json"
        try:
            info = json.loads(file.read_text())
        except FileNotFoundError:
            raise UsageError(f"{path} holds no run (no run.json)") from None
        except ValueError as error:
            raise UsageError(f"{file} is damaged: {error}") from None
        if not isinstance(info, dict) or any(key not in info for key in RUN_KEYS):
            raise UsageError(f"{file} is not that of a suite's run")
        if info["schema_version"] != SCHEMA_VERSION:
            raise UsageError(
                f"{file} has schema version {info['schema_version']!r}, "
                f"this program reads {SCHEMA_VERSION}"
            )
        prove_writable(path)
        rows, damaged = _read_rows(path / ROWS_NAME)
        if damaged:
            with (path / DAMAGED_NAME).open("ab") as aside:
                aside.write(b"".join(line + b"\n" for line, _ in damaged))
                aside.flush()
                os.fsync(aside.fileno())
            lines = [json.dumps(row).encode() + b"\n" for row in rows]
            write_whole(path / ROWS_NAME, b"".join(lines))
        return SuiteFolder(path, info, rows), [told for _, told in damaged]

    def append(self, rows: Sequence[Row]) -> None:
        """Write finished rows and wait until they are on the disk; ValueError for a faulty one."""
        for row in rows:
            check_row(row)
        with signals_held():
            append_rows(self.rows_path, rows)
            self.rows.extend(rows)

    def write_info(self) -> None:
        """Write run.json anew."""
        with signals_held():
            write_whole(self.path / "run.json", json.dumps(self.info, indent=1).encode() + b"\n")

    def done(self) -> set[tuple[str, str, str]]:
        """(case, impl, phase) of every recorded row."""
        return {(row["case"], row["impl"], row["phase"]) for row in self.rows}


def _read_rows(path: Path) -> tuple[list[Row], list[tuple[bytes, str]]]:
    """The whole rows, and the other lines with what is wrong with each."""
    rows: list[Row] = []
    damaged: list[tuple[bytes, str]] = []
    lines = path.read_bytes().split(b"\n") if path.exists() else []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            check_row(row)
        except ValueError as error:
            damaged.append((line, f"{path} line {number}: {error}"))
            continue
        rows.append(row)
    return rows, damaged
