"""Makes sound headers, rows and run folders of the present schema, to be spoiled one at a time."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from ablation_report.rows import HEADER_NAME, ROWS_NAME, blank_row, make_label
from ablation_report.run import Run

RUN_ID = "20260102T030405Z-abcdef"
SIZES = {"B": 1, "H": 4, "Nq": 32, "Nk": 32, "d": 16, "causal": False, "config": "Toy"}
FLOPS = 24 * 32 * 64 * 64 + 4 * 32 * 32 * 64
TWINS = [["attention-fused-parallel", "layernorm-parallel"]]


def make_header(rows: list[dict[str, Any]] | None = None, **changes: Any) -> dict[str, Any]:
    """Make the content of run.json for these rows."""
    rows = [make_row()] if rows is None else rows

    def listed(name: str) -> list[Any]:
        return list(dict.fromkeys(row[name] for row in rows))

    header: dict[str, Any] = {
        "schema_version": 2,
        "run_id": RUN_ID,
        "suite": rows[0]["suite"] if rows else "block",
        "created_utc": "2026-01-02T03:04:05Z",
        "finished_utc": "2026-01-02T03:06:05Z",
        "elapsed_s": 120.5,
        "command": ["ablation-bench", "--configs", "Toy"],
        "versions": {
            "python": "3.11.7",
            "numpy": "2.4.6",
            "torch": "2.13.0",
            "ablation_kernels": "0.1.0",
            "ablation_executor": "0.1.0",
        },
        "machine": {
            "cpu_model": "Test CPU",
            "cores": 2,
            "memory_bytes": 24 * 2**30,
            "os": "Linux",
            "arch": "x86_64",
            "isa_flags": ["avx2"],
            "caches": {"L1d": 32768},
        },
        "providers": {
            "simd": "avx2",
            "parallel": "pool",
            "blas": "openblas",
            "blas_core": "Haswell",
            "clock": "monotonic",
        },
        "build_info": {"compiler": "test"},
        "ceilings": None,
        "device": "cpu",
        "tiers": listed("tier"),
        "cases": listed("case"),
        "variants": listed("variant"),
        "phases": listed("phase"),
        "baseline": "torch-naive",
        "twins": TWINS,
        "threads": listed("threads"),
        "seed": 0,
        "quick": False,
        "samples": 10,
        "budget_s": 300.0,
        "time_s": 900.0,
        "limits": {"memory_limit_bytes": None, "forces_attempt": False},
        "git_sha": None,
        "sessions": 1,
    }
    return header | changes


def make_row(**changes: Any) -> dict[str, Any]:
    """Make a sound row of the block's Toy config with four rounds and two profiled calls; the label
    of its case is made from what was changed."""
    row = blank_row() | {
        "run_id": RUN_ID,
        "session": 1,
        "suite": "block",
        "tier": "configs",
        "variant": "passes-none",
        "worker": "kernels",
        "phase": "fwd",
        "parent": "torch-naive",
        "changed": "executor",
        "group": "Incremental fusion",
        "printed_name": "No passes",
        "origin": "ablation",
        "factors": {"executor": "compiled"},
        "sizes": SIZES,
        "dtype": "float32",
        "threads": 2,
        "device": "cpu",
        "device_name": "Test CPU",
        "seed": 0,
        "status": "ok",
        "attempted": True,
        "check": "pass",
        "errors": {"output": 1e-6},
        "limits": {"output": 1e-5},
        "checked_rows": 32,
        "timer": "host",
        "n_warmup": 5,
        "samples_ns": [1000, 1200, 1100, 1000],
        "sample_rounds": [0, 1, 2, 3],
        "cpu_ns": [1900, 2200, 2100, 2000],
        "first_call_ns": 5000,
        "build_ns": 90000,
        "interleaved": True,
        "profile": {
            "total": [1000, 1100],
            "attention": [300, 330],
            "layer_norm": [100, 110],
            "linear": [400, 440],
            "element_wise": [100, 100],
            "movement": [60, 70],
            "dispatch": [40, 50],
        },
        "ops": [
            {
                "name": "softmax_1",
                "op": "softmax",
                "category": "attention",
                "kernel": "softmax_simd",
                "median_ns": 300.0,
            }
        ],
        "n_calls": 20,
        "timing_overhead_ns": 21.5,
        "flops": FLOPS,
        "passes": [],
        "kernels": {"softmax": "softmax_simd", "matmul": "matmul_blas_parallel"},
        "providers": {"simd": "avx2", "blas": None},
        "calibration_before_ns": [500],
        "calibration_after_ns": [510],
        "started_utc": "2026-01-02T03:04:06Z",
        "elapsed_s": 1.5,
        "details": {"worst_ratio": 0.1},
    }
    row["memory"] |= {"predicted": 1000000, "available": 20000000000, "weights": 199936}
    row |= changes
    if "case" not in changes:
        row["case"] = label_of(row)
    return row


def label_of(row: dict[str, Any]) -> str:
    """The label that the columns of a row make."""
    names = ("suite", "tier", "sizes", "dtype", "threads", "device")
    return make_label(*(row[name] for name in names))


def make_attention_row(
    variant: str = "torch_sdpa_flash",
    samples: list[int] | None = None,
    n: int = 1024,
    **changes: Any,
) -> dict[str, Any]:
    """Make a sound row of attention-sweep over n queries and keys, one sample a round."""
    samples = [1000, 1010, 1020, 990, 1000, 1005] if samples is None else samples
    sizes = {"B": 1, "H": 2, "Nq": n, "Nk": n, "d": 64, "causal": False}
    known: dict[str, Any] = {
        "suite": "attention-sweep",
        "tier": "cpu",
        "variant": variant,
        "worker": variant,
        "printed_name": variant,
        "group": None,
        "parent": None,
        "changed": None,
        "origin": "ablation" if variant.startswith("ablation") else "torch",
        "factors": {},
        "sizes": sizes,
        "threads": 1,
        "errors": {"o": 1e-7},
        "limits": {"o": 1e-5},
        "checked_rows": None,
        "samples_ns": samples,
        "sample_rounds": list(range(len(samples))),
        "cpu_ns": samples,
        "profile": None,
        "ops": None,
        "n_calls": None,
        "passes": None,
        "kernels": None,
        "details": None,
        "flops": 4 * 2 * 64 * n * n,
        "flops_convention": 4 * 2 * 64 * n * n,
    }
    return make_row(**(known | changes))


def make_untimed(row: dict[str, Any], status: str = "oom", reason: str = "predicted") -> Any:
    """Make a sound row without a time of one that has it."""
    times = ("timer", "n_warmup", "samples_ns", "sample_rounds", "cpu_ns", "event_ns")
    empty = dict.fromkeys((*times, "first_call_ns", "interleaved", "profile", "ops"))
    told = {"status": status, "reason": reason, "reason_text": f"{reason} in words"}
    checked = {"check": "fail" if status == "incorrect" else "skipped", "errors": None}
    return row | empty | told | checked | {"limits": None, "checked_rows": None}


def make_timed(variant: str, samples: list[int], **changes: Any) -> dict[str, Any]:
    """Make a sound row of this variant with one sample a round."""
    known: dict[str, Any] = {
        "variant": variant,
        "printed_name": variant,
        "parent": None,
        "changed": None,
        "samples_ns": samples,
        "sample_rounds": list(range(len(samples))),
    }
    return make_row(**(known | changes))


def make_noisy_samples(around: int, n: int, seed: int) -> list[int]:
    """Make n times within a tenth of a value."""
    generator = random.Random(seed)
    return [around + generator.randint(-around // 10, around // 10) for _ in range(n)]


def write_run(
    folder: Path, rows: list[dict[str, Any]], header: dict[str, Any] | None = None
) -> Path:
    """Write a run folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    header = make_header(rows) if header is None else header
    (folder / HEADER_NAME).write_text(json.dumps(header))
    (folder / ROWS_NAME).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make_run(rows: list[dict[str, Any]], name: str = "run", **changes: Any) -> Run:
    """Make a run of rows as if it had been read."""
    placed = (
        {**row, "path": f"{name}/{ROWS_NAME}", "line": line}
        for line, row in enumerate(rows, start=1)
    )
    return Run(name, Path(name), make_header(rows, **changes), tuple(placed))
