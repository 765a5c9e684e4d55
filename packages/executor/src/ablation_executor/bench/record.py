"""The files of a block ablation: run.json, and cells.jsonl with a line for each cell."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from ..variants import LEAGUE, VARIANTS
from .columns import (
    ANY_TEXT,
    BYTES,
    COUNT,
    COUNTS,
    INTEGERS,
    NUMBER,
    POSITIVE,
    POSITIVES,
    RATE,
    SECONDS,
    TEXT,
    TEXTS,
    Column,
    Columns,
    is_count,
    is_list_of,
    is_number,
    is_text,
    one_of,
    show,
    table,
)
from .configs import CONFIGS
from .run_folder import Folder
from .run_reading import Header, Row, Schema

SCHEMA_VERSION = 1

STATUSES = ("ok", "oom", "timeout", "incorrect", "unsupported", "error", "skipped")
CATEGORIES = ("attention", "layer_norm", "linear", "element_wise", "movement")
PARTS = (*CATEGORIES, "dispatch")
PROFILE_KEYS = ("profile_total_ns", *(f"profile_{part}_ns" for part in PARTS))
PROVIDERS = ("simd", "parallel", "blas", "blas_core", "clock")


def _is_op(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "op", "category", "kernel", "median_ns"}
        and is_text(value["name"])
        and is_text(value["op"])
        and value["category"] in CATEGORIES
        and (value["kernel"] is None or is_text(value["kernel"]))
        and (value["median_ns"] is None or is_number(value["median_ns"]))
    )


def _is_providers(value: object) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= set(PROVIDERS)
        and all(entry is None or isinstance(entry, str) for entry in value.values())
    )


PROVIDERS_COLUMN = Column(f"a table of {', '.join(PROVIDERS)}", _is_providers)

ROW_COLUMNS: Columns = {
    "schema_version": COUNT,
    "run_id": TEXT,
    "session": COUNT,
    "config": TEXT,
    **dict.fromkeys(("d_model", "n_heads", "seq_len", "batch"), POSITIVE),
    **dict.fromkeys(("variant", "printed_name", "group"), TEXT),
    "parent": TEXT.or_null(),
    # What differs from the parent; a root has nothing to say
    "changed": ANY_TEXT.or_null(),
    "runtime": TEXT,
    "executor": TEXT,
    "passes": TEXTS,
    **{f"{op}_kernel": TEXT.or_null() for op in ("attention", "layer_norm", "softmax", "linear")},
    "providers": PROVIDERS_COLUMN,
    "threads": POSITIVE,
    "seed": COUNT,
    "status": one_of(*STATUSES),
    "reason": TEXT.or_null(),
    "signal": COUNT.or_null(),
    "n_warmup": COUNT.or_null(),
    "samples_ns": POSITIVES.or_null(),
    "sample_rounds": COUNTS.or_null(),
    "first_call_ns": COUNT.or_null(),
    "build_ns": COUNT.or_null(),
    "profile_total_ns": POSITIVES.or_null(),
    **{f"profile_{part}_ns": COUNTS.or_null() for part in CATEGORIES},
    # Never clipped: a clock read that falls inside an op can make the rest negative
    "profile_dispatch_ns": INTEGERS.or_null(),
    "timing_overhead_ns": NUMBER.or_null(),
    "ops": Column(
        "a list of {name, op, category, kernel, median_ns}", is_list_of(_is_op), is_nullable=True
    ),
    "n_calls": COUNT.or_null(),
    **dict.fromkeys(("max_abs_error", "tolerance", "worst_ratio"), NUMBER.or_null()),
    "checked_rows": COUNT.or_null(),
    **{
        f"{name}_bytes": BYTES
        for name in (
            *("memory_predicted", "memory_available", "arena", "attention_scratch"),
            *("weights", "peak_rss"),
        )
    },
    "packed_weights_bytes": BYTES.optional(),
    "flops": POSITIVE,
    **dict.fromkeys(("calibration_before_ns", "calibration_after_ns"), POSITIVES.or_null()),
    "started_utc": TEXT.or_null(),
    "elapsed_s": SECONDS,
}

VERSIONS: Columns = dict.fromkeys(
    ("python", "numpy", "torch", "ablation_kernels", "ablation_executor"), TEXT.or_null()
)
MACHINE: Columns = {
    # What a platform does not tell is empty
    **dict.fromkeys(("cpu_model", "os", "arch"), ANY_TEXT),
    "cores": POSITIVE,
    "memory_bytes": BYTES,
    "isa_flags": TEXTS,
    "caches": table(
        {}, Column("text or a number of bytes", lambda v: isinstance(v, str) or is_count(v))
    ),
}
BUILD_INFO: Columns = {
    "isa_available": TEXTS.optional(),
    "isa_used": TEXT.or_null().optional(),
}
CEILINGS: Columns = {
    "provider": TEXT.or_null(),
    "threads": POSITIVE,
    "multiply_add_flops_per_s": RATE,
    "memory_bytes_per_s": RATE,
    "fork_join_ns": NUMBER.optional(),
}

RUN_COLUMNS: Columns = {
    "schema_version": COUNT,
    "run_id": TEXT,
    "created_utc": TEXT,
    "finished_utc": TEXT.or_null(),
    "elapsed_s": SECONDS,
    "command": TEXTS,
    "versions": table(VERSIONS, TEXT.or_null()),
    "machine": table(MACHINE),
    "providers": PROVIDERS_COLUMN,
    "build_info": table(BUILD_INFO),
    "ceilings": table(CEILINGS).or_null(),
    "threads": POSITIVE,
    "seed": COUNT,
    "samples": COUNT,
    "budget_s": SECONDS,
    "configs": TEXTS,
    "variants": TEXTS.or_null(),
    # A run recorded before there was a league has no baselines
    "baselines": TEXTS.optional([]),
    "git_sha": TEXT.or_null(),
    "sessions": COUNT,
}


def utc_now() -> str:
    """The time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_run_id() -> str:
    """A name for a run: the time, and six random characters; nothing about the host."""
    return f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"


def _row_fault(row: Row) -> str | None:
    """The first fault between the columns of a cell."""
    status, samples, rounds = row["status"], row["samples_ns"], row["sample_rounds"]
    if status == "ok":
        if not samples:
            return "column samples_ns: no sample, but status is ok"
        if row["reason"] is not None:
            return f"column reason: {show(row['reason'])}, but status is ok"
    else:
        for name in ("samples_ns", *PROFILE_KEYS):
            if row[name] is not None:
                return f"column {name}: not null, but status is {status}"
        if row["reason"] is None:
            return f"column reason: null, but status is {status}"
    if len(rounds or []) != len(samples or []):
        told = f"{len(rounds or [])} entries for {len(samples or [])} samples"
        return f"column sample_rounds: {told}"
    s, d = row["seq_len"], row["d_model"]
    flops = row["batch"] * (24 * s * d * d + 4 * s * s * d)
    if row["flops"] != flops:
        return f"column flops: {row['flops']}, but the config's block has {flops}"
    return _profile_fault([row[name] for name in PROFILE_KEYS])


def _profile_fault(columns: list[list[int] | None]) -> str | None:
    """The parts of each profiled call add up to its total."""
    filled = [column for column in columns if column is not None]
    if not filled:
        return None
    for name, column in zip(PROFILE_KEYS, columns, strict=True):
        if column is None:
            return f"column {name}: null, but other profile columns are not"
        if len(column) != len(filled[0]):
            return f"column {name}: {len(column)} entries, {PROFILE_KEYS[0]} has {len(filled[0])}"
    for index, (total, *parts) in enumerate(zip(*filled, strict=True)):
        if sum(parts) != total:
            return (
                f"column {PROFILE_KEYS[0]}: entry {index} is {total}, its parts sum to {sum(parts)}"
            )
    return None


def _header_fault(header: Header) -> str | None:
    """Why a run could not be gone on with by its header."""
    for name in ("samples", "sessions"):
        if header[name] < 1:
            return f"column {name}: {header[name]}, expected 1 and more"
    if header["budget_s"] is None or header["budget_s"] <= 0:
        return f"column budget_s: {header['budget_s']}, expected a number above 0"
    known = {
        "configs": [config.name for config in CONFIGS],
        "variants": [variant.name for variant in VARIANTS],
        "baselines": [variant.name for variant in LEAGUE],
    }
    for name, names in known.items():
        if (fault := names_fault(name, header[name] or (), names)) is not None:
            return fault
    return None


def names_fault(column: str, given: Sequence[str], known: Collection[str]) -> str | None:
    """The first fault of a header's list of names: one that is unknown, or there twice."""
    for index, name in enumerate(given):
        if name not in known:
            return f"column {column}: unknown {show(name)}"
        if name in given[:index]:
            return f"column {column}: {show(name)} twice"
    return None


SCHEMA = Schema(
    SCHEMA_VERSION,
    "cells.jsonl",
    RUN_COLUMNS,
    ROW_COLUMNS,
    ("config", "variant"),
    _row_fault,
    _header_fault,
    lambda row, header: None,
)


class RunFolder(Folder):
    """The folder of a block ablation."""

    schema = SCHEMA
