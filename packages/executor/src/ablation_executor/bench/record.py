"""The run folder: run.json and cells.jsonl, written so that nothing measured is lost.

`cells.jsonl` has one JSON object a line; the lines of one batch are written by one write and
flushed to the disk before the bench goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .configs import UsageError

SCHEMA_VERSION = 1
Row = dict[str, Any]

STATUSES = ("ok", "oom", "timeout", "incorrect", "unsupported", "error", "skipped")
PARTS = ("attention", "layer_norm", "linear", "element_wise", "movement", "dispatch")
PROFILE_KEYS = ("profile_total_ns", *(f"profile_{part}_ns" for part in PARTS))

ROW_KEYS: tuple[str, ...] = (
    *("schema_version", "run_id", "session", "config", "d_model", "n_heads", "seq_len", "batch"),
    *("variant", "printed_name", "group", "parent", "changed", "runtime", "executor", "passes"),
    *("attention_kernel", "layer_norm_kernel", "softmax_kernel", "linear_kernel", "providers"),
    *("threads", "seed", "status", "reason", "signal", "n_warmup", "samples_ns", "sample_rounds"),
    *("first_call_ns", "build_ns", *PROFILE_KEYS, "timing_overhead_ns", "ops", "n_calls"),
    *("max_abs_error", "tolerance", "worst_ratio", "checked_rows", "memory_predicted_bytes"),
    *("memory_available_bytes", "arena_bytes", "attention_scratch_bytes", "weights_bytes"),
    *("packed_weights_bytes", "peak_rss_bytes", "flops"),
    *("calibration_before_ns", "calibration_after_ns", "started_utc", "elapsed_s"),
)

# Rows of the same schema version that were recorded before these keys lack them: read as null.
LATER_KEYS = ("packed_weights_bytes",)

RUN_KEYS: tuple[str, ...] = (
    *("schema_version", "run_id", "created_utc", "finished_utc", "elapsed_s", "command"),
    *("versions", "machine", "providers", "build_info", "ceilings", "threads", "seed", "samples"),
    *("budget_s", "configs", "variants", "git_sha", "sessions"),
)

# Enough for the rows of the largest run; a disk with less is refused before measuring.
DISK_PROBE_BYTES = 1 << 20


def utc_now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_run_id() -> str:
    """A name for a run: the time, and six random characters; nothing about the host."""
    return f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"


def blank_row() -> Row:
    """A row with every key present and nothing known."""
    return dict.fromkeys(ROW_KEYS)


def row_problem(row: object) -> str | None:
    """Why a decoded line is not a whole row of this schema, or None."""
    if not isinstance(row, dict):
        return "not an object"
    version = row.get("schema_version")
    if version != SCHEMA_VERSION:
        return f"schema version {version!r}, this program reads {SCHEMA_VERSION}"
    missing = [key for key in ROW_KEYS if key not in row]
    if missing:
        return f"keys missing: {', '.join(missing)}"
    unknown = [key for key in row if key not in ROW_KEYS]
    if unknown:
        return f"unknown keys: {', '.join(unknown)}"
    if row["status"] not in STATUSES:
        return f"unknown status {row['status']!r}"
    if row["status"] == "ok" and not row["samples_ns"]:
        return "status ok without samples"
    if row["status"] != "ok" and any(row[key] is not None for key in ("samples_ns", *PROFILE_KEYS)):
        return f"times in a cell of status {row['status']}"
    return None


@dataclass(frozen=True)
class DamagedLine:
    """A line of cells.jsonl that is not a row."""

    number: int
    reason: str
    text: str


def read_cells(path: Path) -> tuple[list[Row], list[DamagedLine]]:
    """The whole rows of a cells.jsonl, and the lines that are not; ([], []) without the file."""
    if not path.exists():
        return [], []
    rows: list[Row] = []
    damaged: list[DamagedLine] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        text = line.decode(errors="replace")
        try:
            row = json.loads(text)
        except ValueError:
            damaged.append(DamagedLine(number, "not JSON (cut off?)", text))
            continue
        if isinstance(row, dict):
            row |= {key: None for key in LATER_KEYS if key not in row}
        problem = row_problem(row)
        if problem is None:
            rows.append(row)
        else:
            damaged.append(DamagedLine(number, problem, text))
    return rows, damaged


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until the block ends, so that no write is cut in two."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held = {signal.SIGINT, signal.SIGTERM}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _write_whole(path: Path, data: bytes) -> None:
    """Replace a file at once: after a crash it is the old one or the new one."""
    temporary = path.with_name(path.name + ".partial")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class RunFolder:
    """A run's folder; `info` is what run.json holds, `rows` what cells.jsonl holds."""

    def __init__(self, path: Path, info: dict[str, Any], rows: list[Row]) -> None:
        self.path = path
        self.info = info
        self.rows = rows

    @property
    def cells_path(self) -> Path:
        """The file of rows."""
        return self.path / "cells.jsonl"

    @staticmethod
    def create(path: Path, info: dict[str, Any]) -> RunFolder:
        """Make the folder and write run.json.

        Raises UsageError if the folder cannot be made or written, if the disk is full, or if it
        already holds a run.
        """
        if (path / "run.json").exists() or (path / "cells.jsonl").exists():
            raise UsageError(f"{path} already holds a run; continue it with --resume {path}")
        prove_writable(path)
        folder = RunFolder(path, info, [])
        folder.write_info()
        return folder

    @staticmethod
    def open(path: Path) -> tuple[RunFolder, list[DamagedLine]]:
        """Read a run to go on with it.

        Damaged lines are moved to cells.damaged.jsonl and returned. Raises UsageError if there is
        no run, or one of another schema version.
        """
        info = read_info(path)
        prove_writable(path)
        rows, damaged = read_cells(path / "cells.jsonl")
        foreign = [line for line in damaged if line.reason.startswith("schema version")]
        if foreign:
            raise UsageError(
                f"{path / 'cells.jsonl'} line {foreign[0].number}: {foreign[0].reason}"
            )
        if damaged:
            aside = path / "cells.damaged.jsonl"
            with aside.open("a") as file:
                file.writelines(line.text + "\n" for line in damaged)
                file.flush()
                os.fsync(file.fileno())
            _write_whole(path / "cells.jsonl", _lines(rows))
        return RunFolder(path, info, rows), damaged

    def append(self, rows: Sequence[Row]) -> None:
        """Write finished cells and wait until they are on the disk."""
        for row in rows:
            problem = row_problem(row)
            if problem is not None:
                raise ValueError(f"{row.get('config')} {row.get('variant')}: {problem}")
        with signals_held():
            with self.cells_path.open("ab") as file:
                file.write(_lines(rows))
                file.flush()
                os.fsync(file.fileno())
            self.rows.extend(rows)

    def write_info(self) -> None:
        """Write run.json anew."""
        with signals_held():
            _write_whole(self.path / "run.json", json.dumps(self.info, indent=1).encode() + b"\n")

    def done(self) -> set[tuple[str, str]]:
        """(config, variant) of every recorded cell."""
        return {(row["config"], row["variant"]) for row in self.rows}


def _lines(rows: Sequence[Row]) -> bytes:
    return b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows)


def read_info(path: Path) -> dict[str, Any]:
    """run.json of a run folder; UsageError if it is missing, damaged or of another version."""
    file = path / "run.json"
    if not file.exists():
        raise UsageError(f"{path} holds no run (no run.json)")
    try:
        info = json.loads(file.read_text())
    except ValueError as error:
        raise UsageError(f"{file} is damaged: {error}") from None
    version = info.get("schema_version") if isinstance(info, dict) else None
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{file} has schema version {version!r}, this program reads {SCHEMA_VERSION}"
        )
    missing = [key for key in RUN_KEYS if key not in info]
    if missing:
        raise UsageError(f"{file} is damaged: keys missing: {', '.join(missing)}")
    found: dict[str, Any] = info
    return found


def prove_writable(path: Path) -> None:
    """Make the folder and write, flush and remove a file; UsageError if any of that fails."""
    probe = path / ".probe"
    try:
        path.mkdir(parents=True, exist_ok=True)
        try:
            with probe.open("wb") as file:
                file.write(b"\0" * DISK_PROBE_BYTES)
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror or error}") from None
