"""The row schema, version 2: what the files of a run hold, whichever suite wrote them.

The header is `run.json`; the rows are `rows.jsonl`, one JSON object a line: a case, a variant and a
phase. All columns are present, null where nothing is known. The bench writes through this module
and the report reads through it. Standard library only.

Units: `_ns` nanoseconds, `flops` operations of one call, everything in `memory` bytes but `method`
and `disagree`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

from ablation_report.fields import (
    AMOUNT,
    AMOUNTS,
    ANY_TEXT,
    BYTES,
    COUNT,
    COUNTS,
    FLAG,
    INTEGER,
    INTEGERS,
    NUMBER,
    POSITIVE,
    POSITIVES,
    RATE,
    SCALAR,
    SECONDS,
    TEXT,
    TEXTS,
    Column,
    Columns,
    column_faults,
    is_count,
    is_list_of,
    is_number,
    is_positive,
    is_scalar,
    is_text,
    one_of,
    show,
    table,
)
from ablation_report.stats import MIN_ROUNDS_OK, row_time

SCHEMA_VERSION = 2
HEADER_NAME = "run.json"
ROWS_NAME = "rows.jsonl"
DAMAGED_NAME = "rows.damaged.jsonl"
# The columns that say which measurement a row is
KEY = ("case", "variant", "phase")

Row = dict[str, Any]
Header = dict[str, Any]

STATUSES = ("ok", "oom", "timeout", "incorrect", "unsupported", "error", "skipped")
# Reason codes by status; "error" has the exception's class, a signal's name, or a word of its own.
REASONS: Mapping[str, tuple[str, ...]] = {
    "oom": ("predicted", "alloc_failed", "cuda_oom", "killed"),
    "unsupported": (
        *("not_installed", "no_cuda", "no_triton", "no_triton_driver", "triton_interpreter_only"),
        *("flex_cpu_backward", "dtype_not_accelerated", "shape", "isa", "no_kernel"),
        *("no_torch", "no_compiler", "refused"),
    ),
    "timeout": ("first_call", "budget", "compile"),
    "incorrect": ("probe", "check"),
    "skipped": ("policy", "selection"),
}
CHECKS = ("pass", "fail", "skipped")
DTYPE_BYTES: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2}
DEVICES = ("cpu", "cuda")
CATEGORIES = ("attention", "layer_norm", "linear", "element_wise", "movement")
PARTS = (*CATEGORIES, "dispatch")
PROVIDERS = ("simd", "parallel", "blas", "blas_core", "clock")
# A rate above the measured ceiling by more than this was not measured.
RATE_SLACK = 1.05

# What only a row that was timed, and was right, may have.
TIME_COLUMNS = (
    *("timer", "n_warmup", "samples_ns", "sample_rounds", "cpu_ns", "event_ns", "first_call_ns"),
    *("interleaved", "profile"),
)
# Entries of `memory` that are known before anything ran; the others are measured.
MEMORY_KNOWN_BEFORE = ("predicted", "available", "arena", "scratch", "weights", "packed")
MEMORY: Columns = {
    # What admission compared: bytes of the program and a call, and those that were free.
    "predicted": BYTES,
    "available": BYTES,
    # Of a native program, as planned: results between calls, scratch of kernels, constants, and
    # copies of constants in a kernel's own layout.
    "arena": BYTES,
    "scratch": BYTES,
    "weights": BYTES,
    "packed": BYTES,
    # Of one call, above what was there before: its highest, its result, and what it keeps for a
    # backward pass. `before_bwd` is what is alive when the backward begins.
    "peak": BYTES,
    "out": BYTES,
    "saved": BYTES,
    "before_bwd": BYTES,
    # The same peak as the allocator counts it; `disagree` where both are far apart.
    "tracked_peak": BYTES,
    "method": TEXT.or_null(),
    "disagree": FLAG.or_null(),
    # The largest resident size of the worker so far.
    "process_peak": BYTES,
}


def _is_op(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "op", "category", "kernel", "median_ns"}
        and is_text(value["name"])
        and is_text(value["op"])
        and value["category"] in CATEGORIES
        and (value["kernel"] is None or is_text(value["kernel"]))
        and (value["median_ns"] is None or is_number(value["median_ns"]))
    )


def _is_table_of(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, dict) and all(map(accepts, value.values()))


COUNTERS = (
    *("launches", "flops", "bytes_read", "bytes_written"),
    *("packed_bytes", "arena_bytes", "scratch_bytes", "allocations"),
)


def _is_factor(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"name", "printed_name", "what", "levels"}
        and all(is_text(value[name]) for name in ("name", "printed_name", "what"))
        and is_list_of(is_text)(value["levels"])
        and 2 <= len(value["levels"]) <= 10
    )


PROVIDERS_TABLE = Column(
    f"a table of {', '.join(PROVIDERS)}",
    lambda value: (
        _is_table_of(lambda v: v is None or isinstance(v, str))(value)
        and value.keys() <= set(PROVIDERS)
    ),
)
# Each profiled call: its total and the parts that sum to it, a list of nanoseconds each. The clock
# read that falls inside an op can make the rest, dispatch, negative.
PROFILE = table(
    {"total": POSITIVES, **dict.fromkeys(CATEGORIES, COUNTS), "dispatch": INTEGERS}, others=None
)
# What tables, charts and findings compute with; a suite may have others.
_PARTS_NS = table(others=COUNTS).or_null().optional()
_OP_LINE: Columns = {
    "name": TEXT,
    **dict.fromkeys(("self_cpu_share", "cpu_total_share"), NUMBER),
    **dict.fromkeys(("self_cpu_ns", "cpu_total_ns", "cpu_avg_ns"), AMOUNT),
    **dict.fromkeys(("cpu_mem_bytes", "self_cpu_mem_bytes"), INTEGER.or_null()),
    "calls": COUNT,
}
DETAILS: Columns = {
    # The points of the header's lattice that are this program: a digit, the level, for each factor.
    "points": TEXTS.optional(),
    # Of a case, with its lowest point: how many programs there are, and the orders drawn of them, a
    # factor's index for each step.
    "n_programs": COUNT.optional(),
    "orders": TEXTS.optional(),
    "parts_ns": _PARTS_NS,
    "forward_parts_ns": _PARTS_NS,
    "op_table": Column(
        f"a list of {{{', '.join(_OP_LINE)}}}",
        is_list_of(lambda line: isinstance(line, dict) and not column_faults(line, _OP_LINE)),
        nullable=True,
        is_optional=True,
    ),
    **dict.fromkeys(
        ("tokens", "model_flops", "n_params", "scratch_formula_bytes"), COUNT.or_null().optional()
    ),
    **dict.fromkeys(
        ("op_table_with_ns", "op_table_without_ns", "published_style_ns"),
        AMOUNT.or_null().optional(),
    ),
    **{
        f"mem_{name}_bytes": BYTES.optional()
        for name in ("weights", "grads", "opt", "published_style", "saved_predicted")
    },
    # The net of what was taken and given back
    "published_style_mem_bytes": INTEGER.or_null().optional(),
    # The largest error over its own tolerance, where each output row has one of its own
    "worst_ratio": NUMBER.or_null().optional(),
    **dict.fromkeys(
        ("lowered_to_sdpa", "graph_breaks", "recompiles_timed"), COUNT.or_null().optional()
    ),
    "sdpa_backend": TEXT.or_null().optional(),
    # Of a module: the largest error of PyTorch's eager float32, of which the limit is a multiple;
    # the path of the module that made each operation; calls of the graph as it was exported.
    "eager_error": NUMBER.or_null().optional(),
    "module_paths": table(others=ANY_TEXT).optional(),
    "exported_calls": COUNT.optional(),
}
SIZES: Columns = {
    **dict.fromkeys(("B", "H", "Nq", "Nk", "d"), POSITIVE.optional()),
    "causal": FLAG.optional(),
    "scale": NUMBER.optional(),
    **dict.fromkeys(("layers", "d_ff", "vocab", "study_warmup"), COUNT.optional()),
    "config": TEXT.optional(),
    # A named model, its size and its attention, or a user's factory, path.py:name.
    **dict.fromkeys(("model", "module", "attention"), TEXT.optional()),
}

ROW_COLUMNS: Columns = {
    "schema_version": COUNT,
    "run_id": TEXT,
    "session": COUNT,
    **dict.fromkeys(("suite", "tier", "case", "variant", "worker", "phase"), TEXT),
    # The rung below and what differs from it; a root has neither.
    "parent": TEXT.or_null(),
    "changed": TEXT.or_null(),
    "group": TEXT.or_null(),
    "printed_name": TEXT,
    "published_name": TEXT.or_null(),
    # Whose code computes: torch, inductor, triton, numpy, ablation, or a runtime's name.
    "origin": TEXT,
    "factors": table(others=SCALAR),
    # The case; `case` is the label that these make.
    "sizes": table(SIZES, SCALAR),
    "dtype": one_of(*DTYPE_BYTES),
    "threads": POSITIVE,
    "device": one_of(*DEVICES),
    "device_name": TEXT,
    "seed": COUNT,
    "status": one_of(*STATUSES),
    "reason": TEXT.or_null(),
    "reason_text": TEXT.or_null(),
    "signal": COUNT.or_null(),
    "attempted": FLAG,
    "check": one_of(*CHECKS),
    # The largest error of each output, and what is allowed; infinite only where it is wrong.
    "errors": Column(
        "a table of numbers", _is_table_of(lambda v: is_number(v) or isinstance(v, float))
    ).or_null(),
    "limits": Column("a table of finite numbers", _is_table_of(is_number)).or_null(),
    "checked_rows": COUNT.or_null(),
    "timer": TEXT.or_null(),
    "n_warmup": COUNT.or_null(),
    # Every sample, and the round that it was taken in.
    "samples_ns": POSITIVES.or_null(),
    "sample_rounds": COUNTS.or_null(),
    # Processor time of all threads of the worker by call, and a GPU's own clock.
    "cpu_ns": COUNTS.or_null(),
    "event_ns": AMOUNTS.or_null(),
    "first_call_ns": COUNT.or_null(),
    "build_ns": COUNT.or_null(),
    "interleaved": FLAG.or_null(),
    "profile": PROFILE.or_null(),
    "ops": Column(
        "a list of {name, op, category, kernel, median_ns}", is_list_of(_is_op), nullable=True
    ),
    "n_calls": COUNT.or_null(),
    "timing_overhead_ns": NUMBER.or_null(),
    # Operations that count, and by the convention of the field where that differs.
    "flops": COUNT.or_null(),
    "flops_convention": COUNT.or_null(),
    # Bytes that a call reads and writes at least.
    "bytes": COUNT.or_null(),
    # What a program does in a call, counted from its shapes: whole numbers, the same on every
    # machine with the same instruction set.
    "counters": table(dict.fromkeys(COUNTERS, COUNT), others=None).or_null().optional(),
    "memory": table(MEMORY, others=None),
    "passes": TEXTS.or_null(),
    "kernels": Column("a table of text", _is_table_of(is_text)).or_null(),
    "providers": PROVIDERS_TABLE,
    "program_hash": TEXT.or_null(),
    "calibration_before_ns": POSITIVES.or_null(),
    "calibration_after_ns": POSITIVES.or_null(),
    "started_utc": TEXT.or_null(),
    "elapsed_s": SECONDS,
    "details": table(DETAILS).or_null(),
}

VERSIONS: Columns = dict.fromkeys(
    ("python", "numpy", "torch", "ablation_kernels", "ablation_executor"), TEXT.or_null()
)
MACHINE: Columns = {
    **dict.fromkeys(("cpu_model", "os", "arch"), ANY_TEXT),
    "cores": POSITIVE,
    "memory_bytes": BYTES,
    "isa_flags": TEXTS,
    "caches": table(
        others=Column("text or a number of bytes", lambda v: isinstance(v, str) or is_count(v))
    ),
}
_THREADS = re.compile(r"[1-9][0-9]{0,8}")
# What the machine does at most, by number of threads.
CEILINGS = Column(
    "a table of ceilings by number of threads",
    lambda value: isinstance(value, dict) and all(map(_THREADS.fullmatch, value)),
    others=table(
        {
            "provider": TEXT.or_null().optional(),
            "multiply_add_flops_per_s": RATE.or_null().optional(),
            "memory_bytes_per_s": RATE.or_null().optional(),
            "fork_join_ns": NUMBER.or_null().optional(),
            "sgemm_1024_flops_per_s": RATE.or_null().optional(),
        }
    ),
)
HEADER_COLUMNS: Columns = {
    "schema_version": COUNT,
    "run_id": TEXT,
    "suite": TEXT,
    "created_utc": TEXT,
    "finished_utc": TEXT.or_null(),
    "elapsed_s": SECONDS,
    "command": TEXTS,
    "versions": table(VERSIONS, TEXT.or_null()),
    "machine": table(MACHINE),
    "providers": PROVIDERS_TABLE,
    "build_info": table({"isa_available": TEXTS.optional(), "isa_used": TEXT.or_null().optional()}),
    "ceilings": CEILINGS.or_null(),
    "device": one_of(*DEVICES),
    "tiers": TEXTS,
    # Labels, and names in the order of the table.
    "cases": TEXTS,
    "variants": TEXTS,
    "phases": TEXTS,
    # The variant that ratios are to, and the pairs of names of one program.
    "baseline": TEXT,
    "twins": Column(
        "a list of pairs of variants",
        is_list_of(lambda pair: is_list_of(is_text)(pair) and len(pair) == 2),
    ),
    # The optimizations that were switched: each a chain of levels, lowest first.
    "factors": Column(
        "a list of {name, printed_name, what, levels}", is_list_of(_is_factor), is_optional=True
    ),
    # What else was asked for, of the options of one suite.
    "options": table(others=SCALAR).optional(),
    "threads": Column("a list of integers above 0", is_list_of(is_positive)),
    "seed": COUNT,
    "quick": FLAG,
    # Rounds at least, seconds that a row may use, seconds that a case should take.
    "samples": COUNT.or_null(),
    "budget_s": SECONDS,
    "time_s": SECONDS,
    "limits": table({"memory_limit_bytes": BYTES, "forces_attempt": FLAG}),
    "git_sha": TEXT.or_null(),
    "sessions": COUNT,
}

# The label of a case: suite/tier, the words of its shape, dtype, threads, device, other sizes.
_SHAPE = (("B", "B"), ("H", "H"), ("Nq", "Q"), ("Nk", "K"), ("d", "d"))
_LABEL = re.compile(
    r"(?P<suite>[a-z][a-z0-9-]*)/(?P<tier>\S+)(?: (?P<mask>causal|full))?"
    + "".join(rf"(?: {letter}(?P<{name}>\d{{1,18}}))?" for name, letter in _SHAPE)
    + r" (?P<dtype>[a-z]+[0-9]+) t(?P<threads>\d{1,9}) (?P<device>[a-z]+)"
    r"(?P<others>(?: [A-Za-z_]\w*=\S+)*)"
)
_NAME = re.compile(r"[A-Za-z_]\w*")
_WORD = re.compile(r"\S+")


def make_label(
    suite: str, tier: str, sizes: Mapping[str, Any], dtype: str, threads: int, device: str
) -> str:
    """Write a case in one line; `parse_label` is the way back.

    Raises:
        ValueError: a size would not come back from the label.
    """
    parts = [f"{suite}/{tier}"]
    if "causal" in sizes:
        parts.append("causal" if sizes["causal"] else "full")
    parts += [f"{letter}{sizes[name]}" for name, letter in _SHAPE if name in sizes]
    parts.append(f"{dtype} t{threads} {device}")
    named = {name for name, _ in _SHAPE} | {"causal"}
    for name in sorted(sizes.keys() - named):
        value = sizes[name]
        text = _text(value) if is_scalar(value) else ""
        if not _NAME.fullmatch(name) or not _WORD.fullmatch(text) or _scalar(text) != value:
            raise ValueError(f"size {name}={value!r} would not come back from a label")
        parts.append(f"{name}={text}")
    return " ".join(parts)


def parse_label(label: str) -> dict[str, Any]:
    """Return suite, tier, sizes, dtype, threads and device of a label.

    Raises:
        ValueError: the text is no label of a case.
    """
    found = _LABEL.fullmatch(label)
    if found is None:
        raise ValueError(f"{show(label)} is no label of a case")
    sizes: dict[str, Any] = {name: int(found[name]) for name, _ in _SHAPE if found[name]}
    if found["mask"]:
        sizes["causal"] = found["mask"] == "causal"
    pairs = (part.split("=", 1) for part in found["others"].split())
    sizes |= {name: _scalar(text) for name, text in pairs}
    return {
        **{name: found[name] for name in ("suite", "tier", "dtype", "device")},
        "threads": int(found["threads"]),
        "sizes": sizes,
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _scalar(text: str) -> Any:
    """Read a size of a label: a JSON number, true, false, or text."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if is_scalar(value) and not isinstance(value, str) else text


def config_name(sizes: Mapping[str, Any]) -> str | None:
    """Write the name of a case that has one: its config, its layers where these are a size, and a
    batch above 1.

    The same config with other layers, or another batch, is another case.
    """
    if "config" not in sizes:
        return None
    layers = f", {sizes['layers']} layers" if "layers" in sizes else ""
    batch = f", batch {sizes['B']}" if sizes.get("B", 1) != 1 else ""
    return f"{sizes['config']}{layers}{batch}"


def case_name(sizes: Mapping[str, Any]) -> str | None:
    """Write the name of a case that has one: that of its config, or of its model or module."""
    for key in ("model", "module"):
        if key in sizes:
            layers = f", {sizes['layers']} layers" if sizes.get("layers", 1) != 1 else ""
            return f"{sizes[key]}{layers}"
    return config_name(sizes)


def blank_row() -> Row:
    """Return a row with every column present and nothing known."""
    row: Row = dict.fromkeys(ROW_COLUMNS)
    return row | {"schema_version": SCHEMA_VERSION, "memory": dict.fromkeys(MEMORY)}


def version_fault(version: Any) -> str | None:
    """Say why a schema version is refused, or return None."""
    if version == SCHEMA_VERSION and type(version) is int:
        return None
    return f"schema version {show(version)}, this program reads {SCHEMA_VERSION}"


def row_faults(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the faults of a row by column: those of single columns, or those between columns."""
    return column_faults(row, ROW_COLUMNS) or relation_faults(row)


def relation_faults(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the faults between the columns of a row whose columns are each sound."""
    is_timed = row["status"] == "ok"
    return {
        **_case_faults(row),
        **(_timed_faults(row) if is_timed else _untimed_faults(row)),
        **_profile_faults(row["profile"]),
        **_flops_faults(row),
    }


def _case_faults(row: Mapping[str, Any]) -> dict[str, str]:
    names = ("suite", "tier", "dtype", "threads", "device")
    key = tuple(row[name] for name in names), tuple(sorted(row["sizes"].items()))
    name, fault = _label_fault(key, row["case"])
    return {name: fault} if fault else {}


@lru_cache(1 << 14, typed=True)
def _label_fault(key: tuple[Any, ...], case: str) -> tuple[str, str]:
    """Return the column and the fault of a case whose label is not that of its columns."""
    (suite, tier, dtype, threads, device), pairs = key
    sizes = dict(pairs)
    try:
        label = make_label(suite, tier, sizes, dtype, threads, device)
        if case != label:
            return "case", f"{show(case)}, but the columns make {show(label)}"
        read = parse_label(label)["sizes"]
    except ValueError as error:
        return "sizes", str(error)
    if read != sizes:
        return "sizes", f"{show(sizes)}, but the label says {show(read)}"
    return "case", ""


def _timed_faults(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the faults of a row whose status is ok."""
    faults: dict[str, str] = {}
    samples, rounds = row["samples_ns"] or [], row["sample_rounds"] or []
    if len(samples) < MIN_ROUNDS_OK:
        least = f"at least {MIN_ROUNDS_OK}"
        faults["samples_ns"] = f"{len(samples)} samples, but status is ok: {least}"
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


def _untimed_faults(row: Mapping[str, Any]) -> dict[str, str]:
    """Return the faults of a row whose status is not ok: nothing measured, and a reason."""
    status = row["status"]
    faults = {
        name: f"{show(row[name])}, but status is {status}: expected null"
        for name in TIME_COLUMNS
        if row[name] is not None
    }
    for name, value in row["memory"].items():
        if value is not None and name not in (*MEMORY_KNOWN_BEFORE, "process_peak"):
            faults[f"memory.{name}"] = f"{show(value)}, but status is {status}: expected null"
    for name in ("reason", "reason_text"):
        if row[name] is None:
            faults[name] = f"null, but status is {status}"
    accepted = REASONS.get(status)
    if row["reason"] is not None and accepted and row["reason"] not in accepted:
        faults["reason"] = f"{show(row['reason'])}, of {status} expected {', '.join(accepted)}"
    return faults


def _profile_faults(profile: Mapping[str, Any] | None) -> dict[str, str]:
    """Check that the six parts of each profiled call add up to its total."""
    if profile is None:
        return {}
    columns = [profile[name] for name in ("total", *PARTS)]
    for name, column in zip(PARTS, columns[1:], strict=True):
        if len(column) != len(columns[0]):
            limit_text = f"{len(column)} entries, profile.total has {len(columns[0])}"
            return {f"profile.{name}": limit_text}
    for index, (total, *parts) in enumerate(zip(*columns, strict=True)):
        if sum(parts) != total:
            return {"profile.total": f"entry {index} is {total}, its parts sum to {sum(parts)}"}
    return {}


def _block_flops(sizes: Mapping[str, Any]) -> int:
    """24 S d^2 + 4 S^2 d for each layer, with d of all heads."""
    width, length = sizes["H"] * sizes["d"], sizes["Nq"]
    of_layer = sizes["B"] * (24 * length * width**2 + 4 * length**2 * width)
    return int(sizes.get("layers", 1) * of_layer)


def attention_pairs(sizes: Mapping[str, Any]) -> int:
    """Return the pairs of a query and a key that it sees in one head; causal from the top left."""
    queries, keys = sizes["Nq"], sizes["Nk"]
    if not sizes["causal"]:
        return int(queries * keys)
    seen = min(queries, keys)
    return int(seen * (seen + 1) // 2 + (queries - seen) * keys)


# The operations of a call that a suite's sizes fix, by suite and phase.
_FLOPS: Mapping[tuple[str, str], Callable[[Mapping[str, Any]], int]] = {
    ("block", "fwd"): _block_flops,
    ("attention-sweep", "fwd"): lambda s: 4 * s["B"] * s["H"] * s["d"] * attention_pairs(s),
}


def _flops_faults(row: Mapping[str, Any]) -> dict[str, str]:
    formula = _FLOPS.get((row["suite"], row["phase"]))
    if formula is None or row["flops"] is None:
        return {}
    try:
        expected = formula(row["sizes"])
    except KeyError as error:
        return {"sizes": f"no {error.args[0]}, which a case of {row['suite']} has"}
    if row["flops"] != expected:
        return {"flops": f"{row['flops']}, but the case has {expected}"}
    return {}


def header_faults(header: Mapping[str, Any]) -> dict[str, str]:
    """Return the faults of a header by column."""
    faults = column_faults(header, HEADER_COLUMNS)
    if faults:
        return faults
    for name in ("cases", "variants", "phases", "tiers"):
        twice = [entry for entry in header[name] if header[name].count(entry) > 1]
        if twice:
            faults[name] = f"{show(twice[0])} twice"
    for label in header["cases"]:
        try:
            parse_label(label)
        except ValueError as error:
            faults["cases"] = str(error)
    return faults


def place_faults(row: Mapping[str, Any], header: Mapping[str, Any]) -> dict[str, str]:
    """Return why a sound row is none of the run of a sound header, or faster than its machine."""
    faults: dict[str, str] = {}
    for name in ("run_id", "suite"):
        if row[name] != header[name]:
            faults[name] = f"{show(row[name])}, {HEADER_NAME} says {show(header[name])}"
    for name, listed in (("case", "cases"), ("variant", "variants"), ("phase", "phases")):
        if row[name] not in header[listed]:
            faults[name] = f"{show(row[name])}, not among those that {HEADER_NAME} lists"
    return faults or rate_faults(row, header["ceilings"])


def peak_flops_per_s(ceilings: Mapping[str, Any] | None, threads: int) -> float | None:
    """Return the most float32 operations a second of some threads: as measured, or so many times
    those of fewer, whichever is more; None where nothing is known.

    Another program takes time from many threads more than from one.
    """
    found = {
        int(count): (rates or {}).get("multiply_add_flops_per_s")
        for count, rates in (ceilings or {}).items()
    }
    known = [rate * threads / n for n, rate in found.items() if rate and n <= threads]
    return max(known, default=None)


def is_float32(row: Mapping[str, Any]) -> bool:
    """True where the ceiling of float32 bounds a row: autocast leaves that type."""
    autocast = row["sizes"].get("autocast") in (None, "none")
    return row["dtype"] == "float32" and row["device"] == "cpu" and autocast


def is_nominal(row: Mapping[str, Any]) -> bool:
    """True where a call does fewer operations than are counted, as Strassen's products do: its rate
    is nominal, and no ceiling bounds it."""
    return bool(row["factors"].get("arithmetic", "same") != "same")


def rate_faults(row: Mapping[str, Any], ceilings: Mapping[str, Any] | None) -> dict[str, str]:
    """Return why an ok row cannot have been measured: more float32 work than the machine can do."""
    peak = peak_flops_per_s(ceilings, row["threads"])
    if row["status"] != "ok" or peak is None or not row["flops"]:
        return {}
    if is_nominal(row) or not is_float32(row):
        return {}
    # The shortest sample is a bound of the time that costs nothing
    if row["flops"] * 1e9 <= RATE_SLACK * peak * min(row["samples_ns"]):
        return {}
    rate = row["flops"] / row_time(row["samples_ns"], row["sample_rounds"]) * 1e9
    if rate <= RATE_SLACK * peak:
        return {}
    limit_text = f"the multiply-adds of {row['threads']} threads reach {peak / 1e9:.1f}"
    return {"samples_ns": f"{rate / 1e9:.1f} GFLOP/s, {limit_text}: an impossible rate"}
