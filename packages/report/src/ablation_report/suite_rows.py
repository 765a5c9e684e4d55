"""Runs of the further suites: what their folders may hold, and how they are read.

The header is `run.json`; the rows are `rows.jsonl`, a case, an implementation and a phase a line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ablation_report.columns import (
    Column,
    amount_column,
    bytes_column,
    column_faults,
    count_column,
    flag_column,
    is_int,
    is_list_of,
    is_number,
    is_positive,
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
from ablation_report.metrics import median
from ablation_report.reading import HEADER_NAME, Format, read_run
from ablation_report.schema import RUN_COLUMNS, STATUSES

# Each suite with the implementation that its ratios are to
BASELINES: Mapping[str, str] = {
    "attention-sweep": "torch_sdpa_flash",
    "lm-step": "sdpa",
    "attention-backward": "torch_sdpa_flash",
    "attention-parts": "torch_sdpa_flash",
}
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


def _table(words: str, accepts: Callable[[Any], bool], nullable: bool = False) -> Column:
    def is_table(value: Any) -> bool:
        return isinstance(value, dict) and all(map(accepts, value.values()))

    return Column(words, is_table, pl.Object, nullable)


def _is_ceilings(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_THREADS.fullmatch, value))


_THREADS = re.compile(r"[1-9][0-9]{0,8}")
_RATES = table_column(
    {
        "provider": text_column(nullable=True, is_optional=True),
        "multiply_add_flops_per_s": rate_column(nullable=True, is_optional=True),
        "sgemm_1024_flops_per_s": rate_column(nullable=True, is_optional=True),
    }
)
_SUITE = one_of_column(tuple(BASELINES))
# Microseconds of a GPU's own clock are no whole nanoseconds
_EVENTS = Column(
    "a list of numbers above 0",
    is_list_of(lambda value: is_number(value) and value > 0),
    pl.List(pl.Float64),
    nullable=True,
)

_SCALAR = Column(
    "a number, text, true or false",
    lambda value: isinstance(value, str | bool) or is_number(value),
    pl.Object,
)
# What findings and tables compute with
PARAMETERS: Mapping[str, Column] = {
    "scale": Column("a finite number", is_number, pl.Float64, is_optional=True),
    **dict.fromkeys(("layers", "d_ff", "vocab", "study_warmup"), count_column(is_optional=True)),
}
# What a suite tells of its own, as far as a table or chart has it
_PARTS = table_column(others=times_column(nullable=False), nullable=True, is_optional=True)
_OP_LINE: Mapping[str, Column] = {
    "name": text_column(),
    **{name: number_column(nullable=False) for name in ("self_cpu_share", "cpu_total_share")},
    **{f"{name}_ns": amount_column() for name in ("self_cpu", "cpu_total", "cpu_avg")},
    **{
        f"{name}_bytes": Column("an integer", is_int, pl.Int64, nullable=True)
        for name in ("cpu_mem", "self_cpu_mem")
    },
    "calls": count_column(),
}
DETAILS: Mapping[str, Column] = {
    "parts_ns": _PARTS,
    "forward_parts_ns": _PARTS,
    "op_table": Column(
        f"a list of {{{', '.join(_OP_LINE)}}}",
        is_list_of(lambda line: isinstance(line, dict) and not column_faults(line, _OP_LINE)),
        pl.Object,
        nullable=True,
        is_optional=True,
    ),
    **{
        name: count_column(nullable=True, is_optional=True)
        for name in ("tokens", "model_flops", "n_params", "scratch_formula_bytes")
    },
    **{
        f"{name}_ns": amount_column(nullable=True, is_optional=True)
        for name in ("op_table_with", "op_table_without", "published_style")
    },
    **{
        f"mem_{name}_bytes": bytes_column(is_optional=True)
        for name in ("weights", "grads", "opt", "published_style", "saved_predicted")
    },
    # The net of what was taken and given back
    "published_style_mem_bytes": Column("an integer", is_int, pl.Int64, True, True),
}


def _is_error(value: Any) -> bool:
    return is_number(value) or isinstance(value, float)


ROW_COLUMNS: Mapping[str, Column] = {
    "schema_version": count_column(),
    "run_id": text_column(),
    "session": count_column(),
    "suite": _SUITE,
    **{name: text_column() for name in ("tier", "case", "impl")},
    "published_name": text_column(nullable=True),
    "origin": one_of_column(("torch", "inductor", "triton", "ablation")),
    "phase": text_column(),
    "device": one_of_column(("cpu", "cuda")),
    "device_name": text_column(),
    "threads": positive_column(),
    "seed": count_column(),
    "dtype": one_of_column(("float32", "bfloat16", "float16")),
    "causal": flag_column(),
    "mask_align": one_of_column(("top_left",)),
    "scale": number_column(nullable=False),
    **{name: positive_column() for name in ("B", "H", "Nq", "Nk", "d")},
    "parameters": table_column(PARAMETERS, _SCALAR),
    "status": one_of_column(STATUSES),
    "reason": text_column(nullable=True),
    "reason_text": text_column(nullable=True),
    "signal": count_column(nullable=True),
    "attempted": flag_column(),
    "check": one_of_column(("pass", "fail", "skipped"), nullable=True),
    "timer": text_column(nullable=True),
    "n_warmup": count_column(nullable=True),
    "samples_ns": positive_times_column(),
    "sample_rounds": times_column(),
    "event_samples_ns": _EVENTS,
    "cpu_ns": times_column(),
    "first_call_ns": count_column(nullable=True),
    "compile_ns": count_column(nullable=True),
    "interleaved": flag_column(nullable=True),
    "flops_useful": count_column(nullable=True),
    "flops_fa": count_column(nullable=True),
    "mem_method": text_column(nullable=True),
    **{name: bytes_column() for name in MEMORY_COLUMNS if name.endswith("_bytes")},
    "mem_disagree": flag_column(nullable=True),
    "mem_predicted_bytes": bytes_column(),
    "mem_available_bytes": bytes_column(),
    # An error may be infinite, of a status that is not ok
    "errors": _table("a table of numbers", _is_error, nullable=True),
    "limits": _table("a table of finite numbers", is_number, nullable=True),
    "sdpa_backend": text_column(nullable=True),
    "lowered_to_sdpa": count_column(nullable=True),
    "graph_breaks": count_column(nullable=True),
    "recompiles_timed": count_column(nullable=True),
    "kernels": Column("a list of text", is_list_of(is_text), pl.List(pl.String), nullable=True),
    "details": table_column(DETAILS, nullable=True),
    "calibration_before_ns": positive_times_column(),
    "calibration_after_ns": positive_times_column(),
    "started_utc": text_column(nullable=True),
    "elapsed_s": seconds_column(),
}

_SHARED = (
    *("schema_version", "run_id", "created_utc", "finished_utc", "elapsed_s", "command"),
    *("versions", "machine", "providers", "build_info", "seed", "budget_s", "git_sha", "sessions"),
)
HEADER_COLUMNS: Mapping[str, Column] = {
    **{name: RUN_COLUMNS[name] for name in _SHARED},
    "suite": _SUITE,
    "ceilings": Column(
        "a table of ceilings by number of threads",
        _is_ceilings,
        pl.Object,
        nullable=True,
        others=_RATES,
    ),
    "device": text_column(),
    "tiers": texts_column(),
    "impls": texts_column(),
    "threads": Column(
        "a list of integers above 0",
        is_list_of(is_positive),
        pl.List(pl.Int64),
    ),
    "quick": flag_column(),
    "limits": table_column({"memory_limit_bytes": bytes_column(is_optional=True)}),
    "cases": texts_column(),
}


@dataclass(frozen=True)
class SuiteRun:
    """A recorded run: its header as in run.json, and its rows in order of writing."""

    path: Path
    header: dict[str, Any]
    rows: list[dict[str, Any]]


def load_suite_run(folder: Path) -> SuiteRun:
    """Read one run of a further suite; one that was stopped before its first case has no rows.

    Raises:
        SchemaError: a file is missing, damaged, breaks a rule, or has another schema; lists every
            fault by file, line and column.
    """
    return SuiteRun(folder, *read_run(folder, FORMAT))


def _header_faults(row: Row, header: Mapping[str, Any]) -> dict[str, str]:
    """Return where a sound row is not one of this run, or is faster than its machine."""
    faults: dict[str, str] = {}
    if row["suite"] != header["suite"]:
        faults["suite"] = f"{show(row['suite'])}, {HEADER_NAME} says {show(header['suite'])}"
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


FORMAT = Format(
    ROWS_NAME,
    HEADER_COLUMNS,
    ROW_COLUMNS,
    KEY,
    "impl",
    lambda row: f"{row['impl']}, {row['phase']} of this case",
    row_faults,
    _header_faults,
)
