"""Headers and rows that break no rule, to be broken one by one; of both kinds of run."""

from __future__ import annotations

from typing import Any

from ablation_executor.bench import record
from ablation_executor.bench.run_reading import Header, Row
from ablation_executor.bench.suites import rows as suite_rows
from ablation_executor.bench.suites.case import make_case

CASE = make_case("attention-sweep", "cpu", (1, 2, 8, 8, 16), causal=True, gain=2)


def _info(columns: Any, **changes: Any) -> Header:
    known = {
        "schema_version": 1,
        "run_id": "test",
        "created_utc": "2026-01-01T00:00:00Z",
        "elapsed_s": 1.5,
        "command": ["ablation-bench"],
        "versions": dict.fromkeys(record.VERSIONS, "1"),
        "machine": {
            "cpu_model": "a processor",
            "os": "an os",
            "arch": "an arch",
            "cores": 2,
            "memory_bytes": 2**30,
            "isa_flags": ["avx2"],
            "caches": {"L1d": "32K"},
        },
        "providers": {"simd": "avx2"},
        "build_info": {},
        "seed": 0,
        "budget_s": 30.0,
        "sessions": 1,
    }
    return {**dict.fromkeys(columns), **known, **changes}


def block_info(**changes: Any) -> Header:
    """run.json of a block ablation of Toy."""
    own = {"threads": 2, "samples": 10, "configs": ["Toy"], "baselines": []}
    return _info(record.RUN_COLUMNS, **{**own, **changes})


def block_row(variant: str = "passes-none", **changes: Any) -> Row:
    """An ok row of Toy."""
    known = {
        "schema_version": 1,
        "run_id": "test",
        "session": 1,
        "config": "Toy",
        "d_model": 64,
        "n_heads": 4,
        "seq_len": 32,
        "batch": 1,
        "variant": variant,
        "printed_name": "No passes",
        "group": "Incremental fusion",
        "runtime": "kernels",
        "executor": "compiled",
        "passes": [],
        "providers": {},
        "threads": 2,
        "seed": 0,
        "status": "ok",
        "samples_ns": [3, 4],
        "sample_rounds": [0, 1],
        "profile_total_ns": [12],
        **{f"profile_{part}_ns": [2] for part in record.PARTS},
        "flops": 3_407_872,
        "max_abs_error": 1e-6,
        "started_utc": "2026-01-01T00:00:00Z",
        "elapsed_s": 0.5,
    }
    return {**record.SCHEMA.blank_row(), **known, **changes}


def failed_block_row(variant: str = "passes-none", **changes: Any) -> Row:
    """A row of Toy without times."""
    nothing = dict.fromkeys(("samples_ns", "sample_rounds", *record.PROFILE_KEYS))
    told = {"status": "oom", "reason": 'needs "9" GiB\n'}
    return block_row(variant, **{**nothing, **told, **changes})


def suite_info(**changes: Any) -> Header:
    """run.json of a run of one case and two implementations."""
    own = {
        "suite": "attention-sweep",
        "device": "cpu",
        "tiers": ["cpu"],
        "impls": ["one", "two"],
        "threads": [1],
        "quick": True,
        "limits": {"memory_limit_bytes": None, "forces_attempt": False},
        "cases": [CASE.label],
    }
    return _info(suite_rows.RUN_COLUMNS, **{**own, **changes})


def suite_row(**changes: Any) -> Row:
    """An ok row of the case."""
    known = {
        **CASE.to_dict(),
        "case": CASE.label,
        "scale": CASE.scale,
        "schema_version": 1,
        "run_id": "test",
        "session": 1,
        "impl": "one",
        "origin": "torch",
        "phase": "fwd",
        "device_name": "a processor",
        "seed": 0,
        "mask_align": "top_left",
        "status": "ok",
        "attempted": True,
        "check": "pass",
        "samples_ns": [3, 4, 5],
        "sample_rounds": [0, 1, 2],
        "errors": {"o": 1e-6},
        "limits": {"o": 1e-5},
        "elapsed_s": 0.5,
    }
    return {**suite_rows.SCHEMA.blank_row(), **known, **changes}


def failed_suite_row(**changes: Any) -> Row:
    """A row of the case without times."""
    nothing = dict.fromkeys(suite_rows.MEASURED_KEYS)
    told = {"status": "oom", "reason": "predicted", "reason_text": "too large", "check": "skipped"}
    return suite_row(**{**nothing, **told, **changes})
