"""A header and rows that break no rule, to be broken one by one."""

from __future__ import annotations

from typing import Any

from ablation_executor.bench.suites.block.configs import find_config
from ablation_report.rows import (
    HEADER_COLUMNS,
    PARTS,
    TIME_COLUMNS,
    VERSIONS,
    Header,
    Row,
    blank_row,
)

CASE = find_config("Toy").case(2)


def sound_info(**changes: Any) -> Header:
    """run.json of a block ablation of Toy."""
    known = {
        "schema_version": 2,
        "run_id": "test",
        "suite": "block",
        "created_utc": "2026-01-01T00:00:00Z",
        "elapsed_s": 1.5,
        "command": ["ablation-bench"],
        "versions": dict.fromkeys(VERSIONS, "1"),
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
        "device": "cpu",
        "tiers": ["configs"],
        "cases": [CASE.label],
        "variants": ["passes-none", "passes-fold", "passes-absorb"],
        "phases": ["fwd"],
        "baseline": "torch-naive",
        "twins": [],
        "threads": [2],
        "seed": 0,
        "quick": False,
        "samples": 10,
        "budget_s": 30.0,
        "time_s": 900.0,
        "limits": {"memory_limit_bytes": None, "forces_attempt": False},
        "sessions": 1,
    }
    needed = [name for name, column in HEADER_COLUMNS.items() if not column.is_optional]
    return {**dict.fromkeys(needed), **known, **changes}


def sound_row(variant: str = "passes-none", **changes: Any) -> Row:
    """An ok row of Toy."""
    known = {
        "run_id": "test",
        "session": 1,
        "suite": "block",
        "tier": CASE.tier,
        "case": CASE.label,
        "variant": variant,
        "worker": "kernels",
        "phase": "fwd",
        "group": "Incremental fusion",
        "printed_name": "No passes",
        "origin": "ablation",
        "factors": {"executor": "compiled"},
        "sizes": dict(CASE.sizes),
        "dtype": "float32",
        "threads": 2,
        "device": "cpu",
        "device_name": "a processor",
        "seed": 0,
        "status": "ok",
        "attempted": True,
        "check": "pass",
        "errors": {"output": 1e-6},
        "limits": {"output": 1e-4},
        "passes": [],
        "providers": {},
        "samples_ns": [30000, 40000, 50000],
        "sample_rounds": [0, 1, 2],
        "profile": {"total": [12], **{part: [2] for part in PARTS}},
        "flops": 3_407_872,
        "started_utc": "2026-01-01T00:00:00Z",
        "elapsed_s": 0.5,
    }
    return {**blank_row(), **known, **changes}


def failed_row(variant: str = "passes-none", **changes: Any) -> Row:
    """A row of Toy without times."""
    nothing = dict.fromkeys(TIME_COLUMNS)
    told = {"status": "oom", "reason": "predicted", "reason_text": 'needs "9" GiB\n'}
    return sound_row(variant, **{**nothing, **told, "check": "skipped", **changes})
