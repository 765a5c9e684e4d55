"""Runs of the further suites: what their folders may hold, and how they are read.

The header is `run.json`; the rows are `rows.jsonl`, a case, an implementation and a phase a line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ablation_report.metrics import median
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
    is_list_of,
    is_number,
    is_text,
    number_column,
    positive_times_column,
    show,
    text_column,
    texts_column,
    times_column,
    version_fault,
)

# Each suite with the implementation that its ratios are to
BASELINES: Mapping[str, str] = {
    "attention-sweep": "torch_sdpa_flash",
    "lm-step": "sdpa",
    "attention-backward": "torch_sdpa_flash",
    "attention-parts": "torch_sdpa_flash",
}
HEADER_NAME = "run.json"
ROWS_NAME = "rows.jsonl"
# The columns that say which measurement a row is
KEY = ("case", "impl", "phase")
MIN_SAMPLES = 3
# A rate above the measured ceiling by more than this was not measured
RATE_SLACK = 1.05

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
TIME_COLUMNS = (
    *("timer", "n_warmup", "samples_ns", "sample_rounds", "event_samples_ns", "cpu_ns"),
    *("first_call_ns", "compile_ns", "interleaved"),
)
MEMORY_COLUMNS = (
    *("mem_method", "mem_op_peak_bytes", "mem_out_bytes", "mem_scratch_bytes", "mem_saved_bytes"),
    *("mem_before_bwd_bytes", "mem_tracked_peak_bytes", "mem_disagree"),
)

Row = Mapping[str, Any]


def _one_of(words: tuple[str, ...], nullable: bool = False) -> Column:
    return Column(f"one of {', '.join(words)}", lambda v: v in words, pl.String, nullable)


def _positive() -> Column:
    return Column("an integer above 0", lambda v: is_count(v) and v > 0, pl.Int64)


def _flag(nullable: bool = False) -> Column:
    return Column("true or false", lambda v: isinstance(v, bool), pl.Boolean, nullable)


def _table(words: str, accepts: Callable[[Any], bool], nullable: bool = False) -> Column:
    def is_table(value: Any) -> bool:
        return isinstance(value, dict) and all(map(accepts, value.values()))

    return Column(words, is_table, pl.Object, nullable)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool) or is_number(value)


def _is_ceilings(value: Any) -> bool:
    return isinstance(value, dict) and all(
        name.isdecimal() and int(name) > 0 and isinstance(rates, dict)
        for name, rates in value.items()
    )


_SUITE = _one_of(tuple(BASELINES))
# Microseconds of a GPU's own clock are no whole nanoseconds
_EVENTS = Column(
    "a list of numbers above 0",
    is_list_of(lambda value: is_number(value) and value > 0),
    pl.List(pl.Float64),
    nullable=True,
)

ROW_COLUMNS: Mapping[str, Column] = {
    "schema_version": count_column(),
    "run_id": text_column(),
    "session": count_column(),
    "suite": _SUITE,
    **{name: text_column() for name in ("tier", "case", "impl")},
    "published_name": text_column(nullable=True),
    "origin": _one_of(("torch", "inductor", "triton", "ablation")),
    "phase": text_column(),
    "device": _one_of(("cpu", "cuda")),
    "device_name": text_column(),
    "threads": _positive(),
    "seed": count_column(),
    "dtype": _one_of(("float32", "bfloat16", "float16")),
    "causal": _flag(),
    "mask_align": _one_of(("top_left",)),
    "scale": number_column(nullable=False),
    **{name: _positive() for name in ("B", "H", "Nq", "Nk", "d")},
    "parameters": _table("a table of numbers, text, true and false", _is_scalar),
    "status": _one_of(STATUSES),
    "reason": text_column(nullable=True),
    "reason_text": text_column(nullable=True),
    "signal": count_column(nullable=True),
    "attempted": _flag(),
    "check": _one_of(("pass", "fail", "skipped"), nullable=True),
    "timer": text_column(nullable=True),
    "n_warmup": count_column(nullable=True),
    "samples_ns": positive_times_column(),
    "sample_rounds": times_column(),
    "event_samples_ns": _EVENTS,
    "cpu_ns": times_column(),
    "first_call_ns": count_column(nullable=True),
    "compile_ns": count_column(nullable=True),
    "interleaved": _flag(nullable=True),
    "flops_useful": count_column(nullable=True),
    "flops_fa": count_column(nullable=True),
    "mem_method": text_column(nullable=True),
    **{name: count_column(nullable=True) for name in MEMORY_COLUMNS if name.endswith("_bytes")},
    "mem_disagree": _flag(nullable=True),
    "mem_predicted_bytes": count_column(nullable=True),
    "mem_available_bytes": count_column(nullable=True),
    # An error may be infinite, of a status that is not ok
    "errors": _table("a table of numbers", lambda v: isinstance(v, int | float), nullable=True),
    "limits": _table("a table of finite numbers", is_number, nullable=True),
    "sdpa_backend": text_column(nullable=True),
    "lowered_to_sdpa": count_column(nullable=True),
    "graph_breaks": count_column(nullable=True),
    "recompiles_timed": count_column(nullable=True),
    "kernels": Column("a list of text", is_list_of(is_text), pl.List(pl.String), nullable=True),
    "details": _table("a table", lambda value: True, nullable=True),
    "calibration_before_ns": positive_times_column(),
    "calibration_after_ns": positive_times_column(),
    "started_utc": text_column(nullable=True),
    "elapsed_s": number_column(),
}

_SHARED = (
    *("schema_version", "run_id", "created_utc", "finished_utc", "elapsed_s", "command"),
    *("versions", "machine", "providers", "build_info", "seed", "budget_s", "git_sha", "sessions"),
)
HEADER_COLUMNS: Mapping[str, Column] = {
    **{name: RUN_COLUMNS[name] for name in _SHARED},
    "suite": _SUITE,
    "ceilings": Column(
        "a table of ceilings by number of threads", _is_ceilings, pl.Object, nullable=True
    ),
    "device": text_column(),
    "tiers": texts_column(),
    "impls": texts_column(),
    "threads": Column(
        "a list of integers above 0",
        is_list_of(lambda v: is_count(v) and v > 0),
        pl.List(pl.Int64),
    ),
    "quick": _flag(),
    "limits": _table("a table", lambda value: True),
    "cases": texts_column(),
}


@dataclass(frozen=True)
class SuiteRun:
    """A recorded run: its header as in run.json, and its rows in order of writing."""

    path: Path
    header: dict[str, Any]
    rows: list[dict[str, Any]]


def is_suite_run(path: Path) -> bool:
    """True for a folder that holds a run of one of the further suites, sound or not."""
    if not path.is_dir():
        return False
    if (path / ROWS_NAME).exists():
        return True
    try:
        header = json.loads((path / HEADER_NAME).read_text(encoding="utf-8", errors="replace"))
    except (OSError, ValueError):
        return False
    return isinstance(header, dict) and header.get("suite") in BASELINES


def load_suite_run(folder: Path) -> SuiteRun:
    """Read one run of a further suite; one that was stopped before its first case has no rows.

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
    return SuiteRun(folder, header, rows)


def _said(row: Row) -> str:
    """Say what a row measures of its case."""
    return f"{row['impl']}, {row['phase']}"


def _row(path: Path, line: int, content: str, header: Mapping[str, Any]) -> dict[str, Any]:
    """Read and check one line of rows.jsonl."""
    row = read_object(path, line, content)
    if fault := version_fault(row.get("schema_version")):
        raise SchemaError([Problem(path, line, "schema_version", fault)])
    faults = column_faults(row, ROW_COLUMNS) or row_faults(row) or _header_faults(row, header)
    if faults:
        raise SchemaError([Problem(path, line, name, fault) for name, fault in faults.items()])
    return row


def _header_faults(row: Row, header: Mapping[str, Any]) -> dict[str, str]:
    """Return where a sound row is not one of this run, or is faster than its machine."""
    faults = {
        name: f"{show(row[name])}, {HEADER_NAME} says {show(header[name])}"
        for name in ("run_id", "suite")
        if row[name] != header[name]
    }
    for name, listed in (("impl", "impls"), ("case", "cases")):
        if row[name] not in header[listed]:
            faults[name] = f"{show(row[name])}, not among those that {HEADER_NAME} lists"
    peak = peak_flops_per_s(header, row["threads"])
    if faults or peak is None or row["status"] != "ok" or not row["flops_useful"]:
        return faults
    rate = row["flops_useful"] / median(row["samples_ns"]) * 1e9
    # Autocast leaves float32, and with it the peak
    is_float32 = row["dtype"] == "float32" and row["parameters"].get("autocast") in (None, "none")
    if row["device"] == "cpu" and is_float32 and rate > RATE_SLACK * peak:
        faults["samples_ns"] = (
            f"{rate / 1e9:.1f} GFLOP/s, but the multiply-adds of {row['threads']} threads reach "
            f"{peak / 1e9:.1f}: an impossible rate"
        )
    return faults


def peak_flops_per_s(header: Mapping[str, Any], threads: int) -> float | None:
    """Return the most multiply-adds of so many threads: as measured, or so many times those of
    fewer, whichever is more; None where the run measured none.

    Another program takes time from many threads more than from one.
    """
    counts = [int(count) for count in header["ceilings"] or {}]
    rates = {n: ceiling_of(header, n, "multiply_add_flops_per_s") for n in counts if n <= threads}
    return max((rate * threads / n for n, rate in rates.items() if rate), default=None)


def ceiling_of(header: Mapping[str, Any], threads: int, name: str) -> float | None:
    """Return a rate that the run measured on so many threads; None where it did not."""
    found: Any = ((header["ceilings"] or {}).get(str(threads)) or {}).get(name)
    return float(found) if is_number(found) and found > 0 else None


def label_of(row: Row) -> str:
    """Write the case of a row in one line, from its columns alone."""
    parts = [
        f"{row['suite']}/{row['tier']}",
        "causal" if row["causal"] else "full",
        f"B{row['B']} H{row['H']} Q{row['Nq']} K{row['Nk']} d{row['d']}",
        f"{row['dtype']} t{row['threads']} {row['device']}",
    ]
    for name, value in sorted(row["parameters"].items()):
        parts.append(f"{name}={value if isinstance(value, str) else json.dumps(value)}")
    return " ".join(parts)


def row_faults(row: Row) -> dict[str, str]:
    """Return the faults between the columns of a row whose columns are each sound."""
    faults: dict[str, str] = {}
    if row["case"] != label_of(row):
        faults["case"] = f"{show(row['case'])}, but the columns make {show(label_of(row))}"
    scale = float(row["parameters"].get("scale", row["d"] ** -0.5))
    if row["scale"] != scale:
        faults["scale"] = f"{row['scale']}, but the case has {scale}"
    return faults | (_timed_faults(row) if row["status"] == "ok" else _untimed_faults(row))


def _timed_faults(row: Row) -> dict[str, str]:
    """Return the faults of a row whose status is ok."""
    faults: dict[str, str] = {}
    samples, rounds = row["samples_ns"] or [], row["sample_rounds"] or []
    if len(samples) < MIN_SAMPLES:
        faults["samples_ns"] = f"{len(samples)} samples, but status is ok: at least {MIN_SAMPLES}"
    if len(rounds) != len(samples):
        faults["sample_rounds"] = f"{len(rounds)} entries for {len(samples)} samples"
    for name in ("reason", "reason_text"):
        if row[name] is not None:
            faults[name] = f"{show(row[name])}, but status is ok"
    if row["check"] != "pass":
        faults["check"] = f"{show(row['check'])}, but status is ok"
    if not row["errors"]:
        faults["errors"] = "none, but status is ok: it was not checked"
    for name, error in (row["errors"] or {}).items():
        limit = (row["limits"] or {}).get(name)
        if limit is None or not is_number(error) or error > limit:
            faults["errors"] = f"{name} is {error}, {limit} allowed, but status is ok"
    return faults


def _untimed_faults(row: Row) -> dict[str, str]:
    """Return the faults of a row whose status is not ok: it has nothing measured, and a reason."""
    status = row["status"]
    faults = {
        name: f"{show(row[name])}, but status is {status}: expected null"
        for name in (*TIME_COLUMNS, *MEMORY_COLUMNS)
        if row[name] is not None
    }
    for name in ("reason", "reason_text"):
        if row[name] is None:
            faults[name] = f"null, but status is {status}"
    accepted = REASONS.get(status)
    if row["reason"] is not None and accepted and row["reason"] not in accepted:
        faults["reason"] = f"{show(row['reason'])}, of {status} expected {', '.join(accepted)}"
    return faults
