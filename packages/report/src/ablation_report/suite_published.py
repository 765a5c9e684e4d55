"""The published figures of the further suites as sources, in the columns of recorded rows."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ablation_report.escaping import visible
from ablation_report.published import PUBLISHED_SUITES
from ablation_report.suite_rows import Row
from ablation_report.suite_sources import Measure, SuiteSource, Timing


def published_sources(path: Path, rows: Iterable[tuple[int, Row]]) -> list[SuiteSource]:
    """Return the published figures, by line of their file, as a source for each suite and origin.

    A figure of memory stands with the first time of its case, implementation and phase.
    """
    groups: dict[tuple[str, str, str], list[tuple[int, Row]]] = {}
    for line, row in rows:
        key = (row["suite"], PUBLISHED_SUITES[row["suite"]], row["source"])
        groups.setdefault(key, []).append((line, row))
    return [
        SuiteSource(source, suite, path, None, tuple(_published_measures(path, suite, found)))
        for (_, suite, source), found in groups.items()
    ]


def _published_measures(path: Path, suite: str, rows: Iterable[tuple[int, Row]]) -> list[Measure]:
    timed: list[dict[str, Any]] = []
    timings: list[Timing | None] = []
    first: dict[tuple[str, str, str], dict[str, Any]] = {}
    for line, row in rows:
        made = _published_row(path, line, suite, row)
        key = (made["case"], made["impl"], made["phase"])
        if row["unit"] == "ms":
            timed.append(made)
            timings.append(_published_timing(row))
            first.setdefault(key, made)
        elif key in first and row["value"] is not None:
            scale = 2**20 if row["unit"] == "MiB" else 1
            first[key]["published_memory_bytes"] = round(row["value"] * scale)
            first[key]["memory_line"] = line
    return [Measure(row, timing, True) for row, timing in zip(timed, timings, strict=True)]


def _published_timing(row: Row) -> Timing | None:
    if row["value"] is None:
        return None
    value_ns = row["value"] * 1e6
    if row["metric"] == "profiler_range_time":
        return Timing("one cold run", value_ns)
    std, least = row["std"], row["min"]
    return Timing(
        "mean",
        value_ns,
        min_ns=None if least is None else least * 1e6,
        mean_ns=value_ns,
        std_ns=None if std is None else std * 1e6,
    )


def _published_row(path: Path, line: int, suite: str, row: Row) -> dict[str, Any]:
    """Return a published row in the columns of a recorded one."""
    parameters = {
        name: row[name] for name in ("autocast", "layers", "d_ff", "vocab") if row[name] is not None
    }
    is_compiled = row["compile"] == "inductor"
    name = row["impl"]
    if is_compiled and not name.endswith("_compiled"):
        name += "_compiled"
    mask = "causal" if row["causal"] else "full"
    case = (
        f"{suite}/published {mask} B{row['batch']} H{row['heads']} Q{row['q_len']} "
        f"K{row['kv_len']} d{row['head_dim']} {row['dtype']}"
    )
    words = " ".join(f"{key}={value}" for key, value in sorted(parameters.items()))
    return {
        "suite": suite,
        "tier": "published",
        "case": f"{case} {words}".rstrip(),
        "impl": name,
        "published_name": name,
        "origin": "published",
        "phase": row["phase"],
        "device": row["device_true"].partition(":")[0],
        "device_name": row["device_true"].partition(":")[2],
        "threads": None,
        "dtype": row["dtype"],
        "causal": row["causal"],
        "B": row["batch"],
        "H": row["heads"],
        "Nq": row["q_len"],
        "Nk": row["kv_len"],
        "d": row["head_dim"],
        "parameters": parameters,
        "status": row["status"],
        "reason": row["reason"],
        "reason_text": row["note"],
        "samples_ns": None,
        "flops_useful": None,
        "flops_fa": None,
        "errors": None,
        "details": None,
        "published_memory_bytes": None,
        "mem_op_peak_bytes": None,
        "mem_saved_bytes": None,
        "mem_scratch_bytes": None,
        "mem_predicted_bytes": None,
        "path": visible(path),
        "line": line,
    }
