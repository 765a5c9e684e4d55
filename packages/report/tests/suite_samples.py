"""Makes sound run folders of the further suites for the tests, to be spoiled column by column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rows import RUN_ID, make_header

from ablation_report.suite_rows import label_of, load_suite_run
from ablation_report.suite_sources import SuiteSource, recorded_source

SWEEP, STEP = "attention-sweep", "lm-step"
BACKWARD, PARTS = "attention-backward", "attention-parts"
CEILINGS = {
    str(threads): {
        "provider": "avx2",
        "threads": threads,
        "multiply_add_flops_per_s": 1e14,
        "memory_bytes_per_s": 1e10,
        "sgemm_1024_flops_per_s": 5e13,
    }
    for threads in (1, 2)
}
# What a row has null where it has no time
UNTIMED = (
    *("timer", "n_warmup", "samples_ns", "sample_rounds", "event_samples_ns", "cpu_ns"),
    *("first_call_ns", "compile_ns", "interleaved"),
    *("mem_method", "mem_op_peak_bytes", "mem_out_bytes", "mem_scratch_bytes", "mem_saved_bytes"),
    *("mem_before_bwd_bytes", "mem_tracked_peak_bytes", "mem_disagree"),
)


def make_suite_header(rows: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    """Make the content of run.json for these rows."""
    header = make_header()
    for name in ("samples", "configs", "variants"):
        del header[name]
    header |= {
        "suite": rows[0]["suite"] if rows else SWEEP,
        "ceilings": CEILINGS,
        "device": "cpu",
        "tiers": list(dict.fromkeys(row["tier"] for row in rows)),
        "impls": list(dict.fromkeys(row["impl"] for row in rows)),
        "cases": list(dict.fromkeys(row["case"] for row in rows)),
        "threads": [1, 2],
        "quick": False,
        "limits": {"memory_limit_bytes": None, "forces_attempt": False},
    }
    return header | changes


def make_suite_row(
    impl: str = "torch_sdpa_flash",
    samples: Sequence[int] = (1000,) * 6,
    n: int = 1024,
    **changes: Any,
) -> dict[str, Any]:
    """Make a sound row of a case of attention with n queries and keys, one sample a round."""
    row: dict[str, Any] = {
        "schema_version": 1,
        "run_id": RUN_ID,
        "session": 1,
        "suite": SWEEP,
        "tier": "cpu",
        "impl": impl,
        "published_name": None,
        "origin": "torch" if impl.startswith("torch") else "ablation",
        "phase": "fwd",
        "device": "cpu",
        "device_name": "Test CPU",
        "threads": 1,
        "seed": 0,
        "dtype": "float32",
        "causal": False,
        "mask_align": "top_left",
        "B": 1,
        "H": 2,
        "Nq": n,
        "Nk": n,
        "d": 64,
        "parameters": {},
        "status": "ok",
        "reason": None,
        "reason_text": None,
        "signal": None,
        "attempted": True,
        "check": "pass",
        "timer": "host",
        "n_warmup": 3,
        "samples_ns": list(samples),
        "sample_rounds": list(range(len(samples))),
        "event_samples_ns": None,
        "cpu_ns": list(samples),
        "first_call_ns": 5000,
        "compile_ns": None,
        "interleaved": True,
        "flops_useful": 10_000,
        "flops_fa": 20_000,
        "mem_method": None,
        "mem_op_peak_bytes": None,
        "mem_out_bytes": None,
        "mem_scratch_bytes": None,
        "mem_saved_bytes": None,
        "mem_before_bwd_bytes": None,
        "mem_tracked_peak_bytes": None,
        "mem_disagree": None,
        "mem_predicted_bytes": 1_000_000,
        "mem_available_bytes": 20_000_000_000,
        "errors": {"o": 1e-6},
        "limits": {"o": 1e-5},
        "sdpa_backend": None,
        "lowered_to_sdpa": None,
        "graph_breaks": None,
        "recompiles_timed": None,
        "kernels": None,
        "details": None,
        "calibration_before_ns": [500],
        "calibration_after_ns": None,
        "started_utc": "2026-01-02T03:04:06Z",
        "elapsed_s": 0.5,
    }
    row |= changes
    row["scale"] = float(row["parameters"].get("scale", row["d"] ** -0.5))
    return {**row, "case": label_of(row)}


def make_failed_suite_row(
    impl: str, status: str = "oom", reason: str = "predicted", n: int = 1024, **changes: Any
) -> dict[str, Any]:
    """Make a sound row that has no time."""
    told: dict[str, Any] = {
        "status": status,
        "reason": reason,
        "reason_text": f"{status} of {impl}",
    }
    empty: dict[str, Any] = dict.fromkeys(UNTIMED) | {"errors": None, "limits": None, "check": None}
    return make_suite_row(impl, n=n, **(told | empty | changes))


def write_suite(
    folder: Path, rows: Sequence[dict[str, Any]], header: dict[str, Any] | None = None
) -> Path:
    """Write a run folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(header or make_suite_header(rows)))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def suite_source(folder: Path, *rows: dict[str, Any]) -> SuiteSource:
    """Write these rows, read them back and return them as a source."""
    return recorded_source(load_suite_run(write_suite(folder, rows)))
