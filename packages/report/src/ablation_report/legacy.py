"""Lifts runs that were recorded before the row schema v2 into it when they are read; the folders
stay as they were recorded.

Three formats came before: the block ablation (`cells.jsonl`), the other suites (`rows.jsonl` with
schema version 1) and attention alone (`attention.jsonl`). A table says for each column of a file
where its value goes; what it may hold is what the column of v2 may hold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ablation_report import rows
from ablation_report.fields import (
    COUNT,
    FLAG,
    NUMBER,
    POSITIVE,
    RATE,
    TEXT,
    TEXTS,
    Column,
    Columns,
    column_faults,
    one_of,
    table,
)
from ablation_report.reading import Format
from ablation_report.rows import Header, Row

VERSION = 1
# Those runs ran no program twice; this part of the time stands in for their floor.
ASSUMED_FLOOR = 0.05
BASELINES: Mapping[str, str] = {
    "attention-sweep": "torch_sdpa_flash",
    "lm-step": "sdpa",
    "attention-backward": "torch_sdpa_flash",
    "attention-parts": "torch_sdpa_flash",
}
# The variants of the block that were the same program.
BLOCK_TWINS = [
    ["attention-fused-parallel", "layernorm-parallel"],
    ["attention-flash-parallel", "flash-layernorm"],
]
_ORIGINS = {"kernels": "ablation", "torch-compile": "inductor", "torch-compile-max": "inductor"}

# Column of the file to the place in a row of v2; a second entry is its own column there.
_SAME = (
    *("run_id", "session", "variant", "printed_name", "group", "parent", "passes", "providers"),
    *("threads", "seed", "status", "signal", "n_warmup", "samples_ns", "sample_rounds"),
    *("first_call_ns", "timing_overhead_ns", "ops", "n_calls", "checked_rows", "flops"),
    *("calibration_before_ns", "calibration_after_ns", "started_utc", "elapsed_s", "build_ns"),
)
_BLOCK: Mapping[str, str] = {
    **{name: name for name in _SAME},
    "config": "sizes.config",
    "n_heads": "sizes.H",
    "seq_len": "sizes.Nq",
    "batch": "sizes.B",
    "changed": "changed",
    "runtime": "worker",
    "executor": "factors.executor",
    **{f"{op}_kernel": f"kernels.{op}" for op in ("attention", "layer_norm", "softmax")},
    "linear_kernel": "kernels.matmul",
    "reason": "reason_text",
    **{f"profile_{part}_ns": f"profile.{part}" for part in ("total", *rows.PARTS)},
    "max_abs_error": "errors.output",
    "tolerance": "limits.output",
    "worst_ratio": "details.worst_ratio",
    "memory_predicted_bytes": "memory.predicted",
    "memory_available_bytes": "memory.available",
    "arena_bytes": "memory.arena",
    "attention_scratch_bytes": "memory.scratch",
    "weights_bytes": "memory.weights",
    "packed_weights_bytes": "memory.packed",
    "peak_rss_bytes": "memory.process_peak",
}
_SUITE: Mapping[str, str] = {
    **{
        name: name
        for name in (
            *("run_id", "session", "suite", "tier", "case", "published_name", "origin", "phase"),
            *("device", "device_name", "threads", "seed", "dtype", "status", "reason"),
            *("reason_text", "signal", "attempted", "check", "timer", "n_warmup", "samples_ns"),
            *("sample_rounds", "cpu_ns", "first_call_ns", "interleaved", "errors", "limits"),
            *("details", "calibration_before_ns", "calibration_after_ns", "started_utc"),
            "elapsed_s",
        )
    },
    "impl": "variant",
    **{name: f"sizes.{name}" for name in ("B", "H", "Nq", "Nk", "d", "causal")},
    "parameters": "sizes",
    "event_samples_ns": "event_ns",
    "compile_ns": "build_ns",
    "flops_useful": "flops",
    "flops_fa": "flops_convention",
    "mem_method": "memory.method",
    "mem_disagree": "memory.disagree",
    "mem_op_peak_bytes": "memory.peak",
    **{
        f"mem_{name}_bytes": f"memory.{name}"
        for name in (
            *("out", "scratch", "saved", "before_bwd", "tracked_peak", "predicted", "available"),
        )
    },
    **{
        name: f"details.{name}"
        for name in ("sdpa_backend", "lowered_to_sdpa", "graph_breaks", "recompiles_timed")
    },
}
_ATTENTION: Mapping[str, str] = {
    **{
        name: name
        for name in (
            *("run_id", "suite", "threads", "seed", "status", "signal", "n_warmup", "samples_ns"),
            *("sample_rounds", "first_call_ns", "checked_rows", "calibration_before_ns"),
            *("calibration_after_ns", "started_utc", "elapsed_s"),
        )
    },
    **{name: f"sizes.{name}" for name in ("B", "H", "Nq", "Nk", "d", "causal")},
    "impl": "variant",
    "form": "factors.form",
    "reason": "reason_text",
    "flops_useful": "flops",
    "max_abs_error": "errors.output",
    "tolerance": "limits.output",
    "worst_ratio": "details.worst_ratio",
    "scratch_bytes": "memory.scratch",
    "memory_predicted_bytes": "memory.predicted",
    "memory_available_bytes": "memory.available",
}
_NUMBERS = dict.fromkeys(("max_abs_error", "tolerance", "worst_ratio"), NUMBER.or_null())
_PROFILES: Columns = {
    f"profile_{name}_ns": column.or_null() for name, column in (rows.PROFILE.fields or {}).items()
}
# What is no column of its own in v2, and what had another null rule.
_BLOCK_OWN: Columns = {
    "d_model": POSITIVE,
    "packed_weights_bytes": rows.MEMORY["packed"].optional(),
    "changed": Column("text", lambda value: isinstance(value, str)).or_null(),
    "executor": TEXT,
    "config": TEXT,
    "group": TEXT,
    "passes": TEXTS,
    **dict.fromkeys(("n_heads", "seq_len", "batch", "flops"), POSITIVE),
    **dict.fromkeys(
        (f"{op}_kernel" for op in ("attention", "layer_norm", "softmax", "linear")), TEXT.or_null()
    ),
    **_NUMBERS,
    **_PROFILES,
}
_SUITE_OWN: Columns = {
    "suite": one_of(*BASELINES),
    "mask_align": one_of("top_left"),
    "scale": NUMBER,
    "causal": FLAG,
    "check": one_of(*rows.CHECKS).or_null(),
    **dict.fromkeys(("B", "H", "Nq", "Nk", "d"), POSITIVE),
    "kernels": TEXTS.or_null(),
    **{
        name: replace(rows.DETAILS[name], is_optional=False)
        for name in ("sdpa_backend", "lowered_to_sdpa", "graph_breaks", "recompiles_timed")
    },
}
_ATTENTION_OWN: Columns = {
    "suite": one_of("attention"),
    "kernels": TEXTS,
    "form": TEXT,
    "causal": FLAG,
    **dict.fromkeys(("B", "H", "Nq", "Nk", "d", "flops_useful"), POSITIVE),
    **_NUMBERS,
}


def _columns(places: Mapping[str, str], own: Columns) -> Columns:
    """Return what the columns of a file may hold: their own, or that of their place in v2."""
    found: dict[str, Column] = {"schema_version": COUNT}
    for name, place in places.items():
        outer, _, inner = place.partition(".")
        column = rows.ROW_COLUMNS[outer]
        found[name] = own[name] if name in own else (column.fields or {}).get(inner, column)
    return found | {name: column for name, column in own.items() if name not in found}


_BLOCK_COLUMNS = _columns(_BLOCK, _BLOCK_OWN)
_SUITE_COLUMNS = _columns(_SUITE, _SUITE_OWN)


def _lifted(row: Mapping[str, Any], places: Mapping[str, str]) -> Row:
    """Put each value in its place of a blank row."""
    lifted = rows.blank_row()
    for name in ("factors", "sizes", "providers", "memory"):
        lifted[name] = dict(lifted[name] or {})
    for name, place in places.items():
        value = row.get(name)
        outer, _, inner = place.partition(".")
        if not inner and isinstance(lifted[outer], dict):
            lifted[outer].update(value)
        elif not inner:
            lifted[outer] = value
        elif value is not None:
            lifted[outer] = {**(lifted[outer] or {}), inner: value}
    return lifted


def _outcome(lifted: Row) -> None:
    """Fill in what those files say only in a sentence: reason code, check, attempted."""
    status, text = lifted["status"], lifted["reason_text"] or ""
    codes = {
        "oom": "predicted" if text.startswith("needs ") else "killed",
        "unsupported": "not_installed" if " not installed" in text else "refused",
        "timeout": "first_call" if text.startswith("first ") else "budget",
        "incorrect": "probe" if text.startswith("probe") else "check",
        "error": text.partition(":")[0].partition(" ")[0] or "error",
        "skipped": "policy",
    }
    lifted["reason"] = None if status == "ok" else codes[status]
    checks = {"ok": "pass", "incorrect": "fail"}
    lifted["check"] = checks.get(status, "skipped")
    lifted["attempted"] = status not in ("unsupported", "skipped") and not (
        status == "oom" and lifted["reason"] == "predicted"
    )
    if status == "ok":
        lifted["timer"] = "host"
        lifted["interleaved"] = True
    else:
        for name in rows.TIME_COLUMNS:
            if name not in ("samples_ns", "profile"):
                lifted[name] = None


def _place(lifted: Row) -> None:
    """Write the label of the case from its sizes."""
    lifted["case"] = rows.make_label(
        *(lifted[name] for name in ("suite", "tier", "sizes", "dtype", "threads", "device"))
    )


def _lift_block(row: Row, header: Header) -> Row:
    lifted = _lifted(row, _BLOCK)
    sizes = lifted["sizes"]
    sizes |= {"Nk": sizes["Nq"], "d": row["d_model"] // row["n_heads"], "causal": False}
    runtime = row["runtime"]
    lifted |= {
        "suite": "block",
        "tier": "configs",
        "phase": "fwd",
        "origin": _ORIGINS.get(runtime, runtime),
        "dtype": "float32",
        "device": "cpu",
        "device_name": header["machine"]["cpu_model"] or "CPU" if header else "CPU",
        "changed": row["changed"] or None,
    }
    if lifted["errors"] is None or lifted["limits"] is None:
        lifted |= {"errors": None, "limits": None}
    _place(lifted)
    _outcome(lifted)
    return lifted


_OPS = (
    *("attention_backward", "attention_bf16", "attention_lse", "attention", "layer_norm"),
    *("rms_norm", "silu_mul", "bias_relu", "softmax", "rotary", "matmul", "permute", "slice"),
    *("where", "add", "sub", "mul", "div", "rsqrt", "relu", "gelu", "silu"),
)


def _kernels(names: Sequence[str] | None) -> dict[str, str] | None:
    """Return kernels by their op, which their names begin with."""
    if not names:
        return None
    ops = ((next((op for op in _OPS if name.startswith(op)), name), name) for name in names)
    return dict(ops)


def _lift_suite(row: Row, header: Header) -> Row:
    lifted = _lifted(row, _SUITE)
    lifted |= {
        "worker": row["impl"],
        "printed_name": row["impl"],
        "kernels": _kernels(row["kernels"]),
        "check": row["check"] or "skipped",
        "providers": dict(header["providers"]) if header and row["origin"] == "ablation" else {},
    }
    return lifted


def _lift_attention(row: Row, header: Header) -> Row:
    lifted = _lifted(row, _ATTENTION)
    lifted |= {
        "session": 1,
        "suite": "attention-sweep",
        "tier": "crossover",
        "worker": row["impl"],
        "phase": "fwd",
        "printed_name": row["impl"],
        "origin": "torch" if row["impl"].startswith("torch") else "ablation",
        "dtype": "float32",
        "device": "cpu",
        "device_name": header["machine"]["cpu_model"] or "CPU" if header else "CPU",
        "kernels": _kernels(row["kernels"]),
    }
    if lifted["errors"] is None or lifted["limits"] is None:
        lifted |= {"errors": None, "limits": None}
    _place(lifted)
    _outcome(lifted)
    return lifted


_SHARED_HEADER = (
    *("schema_version", "run_id", "created_utc", "finished_utc", "elapsed_s", "command"),
    *("versions", "machine", "providers", "build_info", "seed", "budget_s", "git_sha"),
)
_SHARED: Columns = {name: rows.HEADER_COLUMNS[name] for name in _SHARED_HEADER}
_RATES: Columns = {
    "provider": TEXT.or_null(),
    "threads": POSITIVE,
    "multiply_add_flops_per_s": RATE,
    "memory_bytes_per_s": RATE,
}
_BLOCK_HEADER: Columns = {
    **_SHARED,
    "ceilings": table(_RATES).or_null(),
    "threads": POSITIVE,
    "samples": COUNT,
    "configs": TEXTS,
    "variants": TEXTS.or_null(),
    # The runtimes of others that were asked for
    "baselines": TEXTS.optional(),
    "sessions": COUNT,
}
_SUITE_HEADER: Columns = {
    **_SHARED,
    "suite": one_of(*BASELINES),
    "ceilings": rows.CEILINGS.or_null(),
    "device": one_of(*rows.DEVICES),
    **dict.fromkeys(("tiers", "impls", "cases"), TEXTS),
    "threads": rows.HEADER_COLUMNS["threads"],
    "quick": FLAG,
    "limits": table({"memory_limit_bytes": rows.MEMORY["peak"].optional()}),
    "sessions": COUNT,
}
_ATTENTION_HEADER: Columns = {
    **_SHARED,
    "suite": one_of("attention"),
    "impls": TEXTS,
    **dict.fromkeys(("n_cases", "rounds", "min_rounds"), POSITIVE),
}


def _lifted_header(header: Header, found: Sequence[Row], **known: Any) -> Header:
    """Return a header of v2 with what all three formats share, and other known facts."""

    def listed(name: str) -> list[Any]:
        return list(dict.fromkeys(row[name] for row in found))

    return {
        **{name: header[name] for name in _SHARED_HEADER},
        "schema_version": rows.SCHEMA_VERSION,
        "lifted_from": header["schema_version"],
        "ceilings": None,
        "device": "cpu",
        "tiers": listed("tier"),
        "cases": listed("case"),
        "variants": listed("variant"),
        "phases": listed("phase"),
        "twins": [],
        "threads": listed("threads"),
        "quick": "--quick" in header["command"],
        "samples": None,
        "time_s": None,
        "limits": {"memory_limit_bytes": None, "forces_attempt": False},
        "sessions": header.get("sessions", 1),
        **known,
    }


def _lift_block_header(header: Header, found: Sequence[Row]) -> Header:
    ceilings = header["ceilings"]
    known: dict[str, Any] = {
        "suite": "block",
        "baseline": "torch-naive",
        "twins": BLOCK_TWINS,
        "threads": [header["threads"]],
        "samples": header["samples"],
        "ceilings": None if ceilings is None else {str(ceilings["threads"]): ceilings},
    }
    if _is_refuted(known["ceilings"], found):
        known |= {"ceilings": None, "refuted_ceilings": known["ceilings"]}
    return _lifted_header(header, found, **known)


def _is_refuted(ceilings: Mapping[str, Any] | None, found: Sequence[Row]) -> bool:
    """True where rows exceed what a run measured of its machine.

    On a shared machine the cores can be those of one for as long as a measurement takes: a rate
    of multiply-adds that a row exceeds is no ceiling, and what was measured with it is not to be
    trusted either.
    """
    return any(rows.rate_faults(row, ceilings) for row in found)


def _lift_suite_header(header: Header, found: Sequence[Row]) -> Header:
    return _lifted_header(
        header,
        found,
        suite=header["suite"],
        baseline=BASELINES[header["suite"]],
        assumed_floor=ASSUMED_FLOOR,
        ceilings=header["ceilings"],
        device=header["device"],
        tiers=header["tiers"],
        cases=header["cases"],
        variants=header["impls"],
        threads=header["threads"],
        quick=header["quick"],
        limits={"forces_attempt": False, **header["limits"]},
    )


def _lift_attention_header(header: Header, found: Sequence[Row]) -> Header:
    return _lifted_header(
        header,
        found,
        suite="attention-sweep",
        baseline="torch-sdpa",
        assumed_floor=ASSUMED_FLOOR,
        tiers=["crossover"],
        variants=header["impls"],
        samples=header["min_rounds"],
    )


def _namer(places: Mapping[str, str]) -> Callable[[str], str]:
    """Return what says how a file calls a column of v2."""
    names = {place: name for name, place in places.items()}

    def name_of(column: str) -> str:
        outer, _, inner = column.partition(".")
        if outer == "sizes" and "parameters" in places:
            return names.get(column, f"parameters.{inner}" if inner else "parameters")
        return names.get(column, column)

    return name_of


def _judge(columns: Columns) -> Callable[[Mapping[str, Any]], dict[str, str]]:
    return lambda values: column_faults(values, columns)


def _suite_faults(row: Mapping[str, Any]) -> dict[str, str]:
    if faults := column_faults(row, _SUITE_COLUMNS):
        return faults
    scale = float(row["parameters"].get("scale", row["d"] ** -0.5))
    if row["scale"] != scale:
        return {"scale": f"{row['scale']}, but the case has {scale}"}
    return {}


def _block_faults(row: Mapping[str, Any]) -> dict[str, str]:
    if faults := column_faults(row, _BLOCK_COLUMNS):
        return faults
    if row["d_model"] % row["n_heads"]:
        return {"d_model": f"{row['d_model']}, no multiple of n_heads {row['n_heads']}"}
    profile = [name for name in _PROFILES if row[name] is not None]
    if profile and len(profile) < len(_PROFILES):
        missing = next(name for name in _PROFILES if row[name] is None)
        return {missing: "null, but other profile columns are not"}
    return {}


BLOCK = Format(
    VERSION,
    "cells.jsonl",
    _judge(_BLOCK_HEADER),
    _block_faults,
    _lift_block_header,
    _lift_block,
    _namer(_BLOCK),
)
SUITE = Format(
    VERSION,
    rows.ROWS_NAME,
    _judge(_SUITE_HEADER),
    _suite_faults,
    _lift_suite_header,
    _lift_suite,
    _namer(_SUITE),
)
ATTENTION = Format(
    VERSION,
    "attention.jsonl",
    _judge(_ATTENTION_HEADER),
    _judge(_columns(_ATTENTION, _ATTENTION_OWN)),
    _lift_attention_header,
    _lift_attention,
    _namer(_ATTENTION),
)
