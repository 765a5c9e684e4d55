"""The files of a suite's run: run.json, and rows.jsonl with a line for each case, implementation
and phase."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..columns import (
    BYTES,
    COUNT,
    COUNTS,
    FLAG,
    NUMBER,
    POSITIVE,
    POSITIVES,
    RATE,
    SECONDS,
    TEXT,
    TEXTS,
    Column,
    Columns,
    is_int,
    is_list_of,
    is_number,
    is_positive,
    is_table_of,
    one_of,
    show,
    table,
)
from ..record import RUN_COLUMNS as BLOCK_COLUMNS
from ..record import STATUSES, names_fault
from ..run_folder import Folder
from ..run_reading import Header, Row, Schema
from ..stats import median
from .case import DEVICES, DTYPE_BYTES, parse_label
from .peaks import Peaks
from .suite import ORIGINS, SUITES

SCHEMA_VERSION = 1

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

TIME_KEYS = (
    *("timer", "n_warmup", "samples_ns", "sample_rounds", "event_samples_ns", "cpu_ns"),
    *("first_call_ns", "compile_ns", "interleaved"),
)
# What `memory.measure` gives; bytes, None for what was not measured.
MEMORY_KEYS = (
    *("mem_method", "mem_op_peak_bytes", "mem_out_bytes", "mem_scratch_bytes", "mem_saved_bytes"),
    *("mem_before_bwd_bytes", "mem_tracked_peak_bytes", "mem_disagree"),
)
# What a program may tell of itself: see `suite.Program.facts`.
FACT_KEYS = (
    *("sdpa_backend", "lowered_to_sdpa", "graph_breaks", "recompiles_timed", "compile_ns"),
    *("kernels", "mem_scratch_bytes", "details"),
)
# Null unless the status is ok: zero is never a measurement, and neither is what was not checked.
MEASURED_KEYS = (*TIME_KEYS, *MEMORY_KEYS)
MIN_SAMPLES = 3
# The most by which a rate may pass the measured peak of the multiply-adds, whose measurement has an
# error too.
RATE_SLACK = 1.05

# Microseconds of a GPU's own clock are no whole nanoseconds
_EVENTS = Column(
    "a list of numbers above 0", is_list_of(lambda v: is_number(v) and v > 0), is_nullable=True
)

_SCALAR = Column(
    "a number, text, true or false", lambda v: isinstance(v, str | bool) or is_number(v)
)

ROW_COLUMNS: Columns = {
    "schema_version": COUNT,
    "run_id": TEXT,
    "session": COUNT,
    # Which one is judged by the header
    **dict.fromkeys(("suite", "tier", "case", "impl"), TEXT),
    "published_name": TEXT.or_null(),
    "origin": one_of(*ORIGINS),
    "phase": TEXT,
    "device": one_of(*DEVICES),
    "device_name": TEXT,
    "threads": POSITIVE,
    "seed": COUNT,
    "dtype": one_of(*DTYPE_BYTES),
    "causal": FLAG,
    "mask_align": one_of("top_left"),
    "scale": NUMBER,
    **dict.fromkeys(("B", "H", "Nq", "Nk", "d"), POSITIVE),
    "parameters": table(
        {
            "scale": NUMBER.optional(),
            **dict.fromkeys(("layers", "d_ff", "vocab", "study_warmup"), COUNT.optional()),
        },
        Column(
            "a number, text, true or false", lambda v: isinstance(v, str | bool) or is_number(v)
        ),
    ),
    "status": one_of(*STATUSES),
    "reason": TEXT.or_null(),
    "reason_text": TEXT.or_null(),
    "signal": COUNT.or_null(),
    "attempted": FLAG,
    "check": one_of("pass", "fail", "skipped").or_null(),
    "timer": TEXT.or_null(),
    "n_warmup": COUNT.or_null(),
    "samples_ns": POSITIVES.or_null(),
    "sample_rounds": COUNTS.or_null(),
    "event_samples_ns": _EVENTS,
    "cpu_ns": COUNTS.or_null(),
    "first_call_ns": COUNT.or_null(),
    "compile_ns": COUNT.or_null(),
    "interleaved": FLAG.or_null(),
    "flops_useful": COUNT.or_null(),
    "flops_fa": COUNT.or_null(),
    "mem_method": TEXT.or_null(),
    **{name: BYTES for name in MEMORY_KEYS if name.endswith("_bytes")},
    "mem_disagree": FLAG.or_null(),
    "mem_predicted_bytes": BYTES,
    "mem_available_bytes": BYTES,
    # An error may be infinite, of a status that is not ok
    "errors": Column(
        "a table of numbers", is_table_of(lambda v: is_number(v) or isinstance(v, float))
    ).or_null(),
    "limits": Column("a table of finite numbers", is_table_of(is_number)).or_null(),
    "sdpa_backend": TEXT.or_null(),
    "lowered_to_sdpa": COUNT.or_null(),
    "graph_breaks": COUNT.or_null(),
    "recompiles_timed": COUNT.or_null(),
    "kernels": TEXTS.or_null(),
    "details": table({}).or_null(),
    "calibration_before_ns": POSITIVES.or_null(),
    "calibration_after_ns": POSITIVES.or_null(),
    "started_utc": TEXT.or_null(),
    "elapsed_s": SECONDS,
}

_SHARED = (
    *("schema_version", "run_id", "created_utc", "finished_utc", "elapsed_s", "command"),
    *("versions", "machine", "providers", "build_info", "seed", "budget_s", "git_sha", "sessions"),
)


_THREADS = re.compile(r"[1-9][0-9]{0,8}")
_RATES = table(
    {
        "provider": TEXT.or_null().optional(),
        "multiply_add_flops_per_s": RATE.or_null().optional(),
        "sgemm_1024_flops_per_s": RATE.or_null().optional(),
    }
)


def _is_ceilings(value: object) -> bool:
    return isinstance(value, dict) and all(map(_THREADS.fullmatch, value))


RUN_COLUMNS: Columns = {
    **{name: BLOCK_COLUMNS[name] for name in _SHARED},
    "suite": TEXT,
    "ceilings": Column(
        "a table of ceilings by number of threads", _is_ceilings, others=_RATES
    ).or_null(),
    "device": one_of(*DEVICES),
    "tiers": TEXTS,
    "impls": TEXTS,
    "threads": Column("a list of integers above 0", is_list_of(is_positive)),
    "quick": FLAG,
    "limits": table({"memory_limit_bytes": BYTES, "forces_attempt": FLAG}),
    "cases": TEXTS,
}


def _row_fault(row: Row) -> str | None:
    """The first fault between the columns of a row."""
    return _case_fault(row) or (_ok_fault(row) if row["status"] == "ok" else _failed_fault(row))


def _case_fault(row: Row) -> str | None:
    """The label must be that of the columns."""
    try:
        case = parse_label(row["case"])
        fields = {**case.to_dict(), "scale": case.scale}
    except (ValueError, OverflowError) as error:
        return f"column case: {error}"
    for name, value in fields.items():
        if row[name] != value:
            told = f"{show(row[name])}, the label {row['case']!r} says {show(value)}"
            return f"column {name}: {told}"
    return None


def _ok_fault(row: Row) -> str | None:
    samples, rounds = row["samples_ns"] or [], row["sample_rounds"] or []
    if len(samples) < MIN_SAMPLES:
        least = f"at least {MIN_SAMPLES}"
        return f"column samples_ns: {len(samples)} samples, but status is ok: {least}"
    if len(rounds) != len(samples):
        return f"column sample_rounds: {len(rounds)} rounds for {len(samples)} samples"
    if row["check"] != "pass":
        return f"column check: {show(row['check'])}, but status is ok"
    if not row["errors"]:
        return "column errors: none, but status is ok: it was not checked"
    for name, error in row["errors"].items():
        limit = (row["limits"] or {}).get(name)
        if limit is None or not is_number(error) or error > limit:
            return f"column errors: {name} is {error!r} of {limit!r} allowed, but status is ok"
    for name in ("reason", "reason_text"):
        if row[name] is not None:
            return f"column {name}: {show(row[name])}, but status is ok"
    return None


def _failed_fault(row: Row) -> str | None:
    status = row["status"]
    for name in MEASURED_KEYS:
        if row[name] is not None:
            return f"column {name}: not null, but status is {status}"
    for name in ("reason", "reason_text"):
        if row[name] is None:
            return f"column {name}: null, but status is {status}"
    if status in REASONS and row["reason"] not in REASONS[status]:
        accepted = ", ".join(REASONS[status])
        return f"column reason: {show(row['reason'])}, of {status} expected {accepted}"
    return None


def _header_fault(header: Header) -> str | None:
    """Why a run could not be gone on with by its header."""
    if header["suite"] not in SUITES:
        return f"column suite: unknown {show(header['suite'])}"
    if header["sessions"] < 1:
        return f"column sessions: {header['sessions']}, expected 1 and more"
    if header["budget_s"] is None or header["budget_s"] <= 0:
        return f"column budget_s: {header['budget_s']}, expected a number above 0"
    for label in header["cases"]:
        try:
            case = parse_label(label)
        except ValueError as error:
            return f"column cases: {error}"
        if not all(map(is_int, (*case.q_shape, case.Nk, case.threads))):
            return f"column cases: {show(label)} has a size beyond 64 bits"
        if (case.suite, case.device) != (header["suite"], header["device"]):
            return f"column cases: {show(label)} is no case of {header['suite']} on this device"
    return names_fault("cases", header["cases"], header["cases"])


def _place_fault(row: Row, header: Header) -> str | None:
    """Why a sound row is none of this run, or faster than its machine."""
    if row["suite"] != header["suite"]:
        return f"column suite: {show(row['suite'])}, run.json says {show(header['suite'])}"
    for name, listed in (("impl", "impls"), ("case", "cases")):
        if row[name] not in header[listed]:
            return f"column {name}: {show(row[name])}, not among those that run.json lists"
    return rate_fault(row, Peaks(header["ceilings"] or {}))


def rate_fault(row: Row, peaks: Peaks) -> str | None:
    """Why an ok row cannot have been measured: more float32 work than the machine can do."""
    is_float32 = row["dtype"] == "float32" and row["parameters"].get("autocast") in (None, "none")
    if row["status"] != "ok" or row["device"] != "cpu" or not is_float32:
        return None
    peak = peaks.flops_per_s(row["threads"])
    rate = (row["flops_useful"] or 0) / median(row["samples_ns"]) * 1e9
    if peak is None or rate <= RATE_SLACK * peak:
        return None
    return (
        f"column samples_ns: {rate / 1e9:.1f} GFLOP/s, the multiply-adds of {row['threads']} "
        f"threads reach {peak / 1e9:.1f}"
    )


SCHEMA = Schema(
    SCHEMA_VERSION,
    "rows.jsonl",
    RUN_COLUMNS,
    ROW_COLUMNS,
    ("case", "impl", "phase"),
    _row_fault,
    _header_fault,
    _place_fault,
)


def check_row(row: Any) -> None:
    """ValueError with the broken rule for what may not stand in rows.jsonl."""
    problem = SCHEMA.row_problem(row)
    if problem is not None:
        where = f"{row.get('case')} {row.get('impl')}: " if isinstance(row, dict) else ""
        raise ValueError(where + problem)


class SuiteFolder(Folder):
    """The folder of a suite's run."""

    schema = SCHEMA
