"""The crossover tier of a run of attention-sweep, as a run of attention alone.

Runs from before there were suites have a format of their own; maps, charts and targets of attention
alone read both through this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ablation_report.attention_rows import AttentionRun
from ablation_report.attention_tables import SDPA
from ablation_report.metrics import rounds_ns
from ablation_report.suite_rows import ROWS_NAME, Row, SuiteRun

SUITE, TIER = "attention-sweep", "crossover"
MATERIALIZED = "materialized"
# Implementation of the suite to the name and the form that it has here; those of single kernels are
# called by their kernel, and the others are on the suite's own pages
_NAMES: Mapping[str, tuple[str, str]] = {
    "torch_sdpa_flash": (SDPA, "sdpa"),
    "torch_unfused_lse": ("torch_unfused_lse", MATERIALIZED),
    "ablation_unfused": ("kernels-materialized", MATERIALIZED),
    "ablation_unfused_packed": ("kernels-materialized-packed", MATERIALIZED),
}
_OURS = {"ablation_flash": "attention_flash_packed_simd_parallel"}
_KERNEL = "attention_"


def crossover_run(run: SuiteRun) -> AttentionRun | None:
    """Return the rows of the tier, or None where the run is of another suite or has none."""
    if run.header["suite"] != SUITE:
        return None
    rows = [
        _row(row, line, *known)
        for line, row in enumerate(run.rows, start=1)
        if row["tier"] == TIER and (known := _name(row["impl"]))
    ]
    if not rows:
        return None
    rounds = [len(times) for row in rows if (times := rounds_ns(row))]
    names = dict.fromkeys(known[0] for impl in run.header["impls"] if (known := _name(impl)))
    header: dict[str, Any] = {
        **run.header,
        "impls": list(names),
        "n_cases": len({row["case"] for row in rows}),
        "rounds": max(rounds, default=0),
        "min_rounds": min(rounds, default=0),
    }
    return AttentionRun(run.path, header, rows, ROWS_NAME)


def _row(row: Row, line: int, name: str, form: str) -> dict[str, Any]:
    """Return a row under its name here, with the line that it stands in."""
    rounds = row["sample_rounds"]
    if rounds and not row["interleaved"]:
        # It ran alone, and shares no round with the others of its case
        rounds = [f"line {line}, {index}" for index in rounds]
    kernels = row["kernels"] or []
    known = {"impl": name, "form": form, "kernels": kernels, "sample_rounds": rounds, "line": line}
    return {**row, **known}


def _name(impl: str) -> tuple[str, str] | None:
    """Return what an implementation is called here, and its form; None for those left out."""
    if impl in _NAMES:
        return _NAMES[impl]
    kernel = _OURS.get(impl, impl)
    if not kernel.startswith(_KERNEL) or not kernel.endswith("_parallel"):
        return None
    return kernel, kernel.removeprefix(_KERNEL).removesuffix("_simd_parallel")
