"""Makes sound run folders for the tests, to be spoiled one column at a time."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

RUN_ID = "20260102T030405Z-abcdef"
PARTS = ("attention", "layer_norm", "linear", "element_wise", "movement", "dispatch")


def make_header(**changes: Any) -> dict[str, Any]:
    """Make the content of run.json."""
    header: dict[str, Any] = {
        "schema_version": 1,
        "run_id": RUN_ID,
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
        "threads": 2,
        "seed": 0,
        "samples": 10,
        "budget_s": None,
        "configs": ["Toy"],
        "variants": None,
        "git_sha": None,
        "sessions": 1,
    }
    return header | changes


def make_cell(**changes: Any) -> dict[str, Any]:
    """Make a sound cell of the Toy config with two rounds and two profiled calls."""
    cell: dict[str, Any] = {
        "schema_version": 1,
        "run_id": RUN_ID,
        "session": 1,
        "config": "Toy",
        "d_model": 64,
        "n_heads": 4,
        "seq_len": 32,
        "batch": 1,
        "variant": "passes-none",
        "printed_name": "No passes",
        "group": "Incremental fusion",
        "parent": "torch-naive",
        "changed": "executor",
        "runtime": "kernels",
        "executor": "compiled",
        "passes": [],
        "attention_kernel": None,
        "layer_norm_kernel": "layer_norm_simd_parallel",
        "softmax_kernel": "softmax_simd",
        "linear_kernel": "matmul_blas_parallel",
        "providers": {"simd": "avx2", "blas": None},
        "threads": 2,
        "seed": 0,
        "status": "ok",
        "reason": None,
        "signal": None,
        "n_warmup": 5,
        "samples_ns": [1000, 1200],
        "sample_rounds": [0, 1],
        "first_call_ns": 5000,
        "build_ns": 90000,
        "profile_total_ns": [1000, 1100],
        "profile_attention_ns": [300, 330],
        "profile_layer_norm_ns": [100, 110],
        "profile_linear_ns": [400, 440],
        "profile_element_wise_ns": [100, 100],
        "profile_movement_ns": [60, 70],
        "profile_dispatch_ns": [40, 50],
        "timing_overhead_ns": 21.5,
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
        "max_abs_error": 1e-6,
        "tolerance": 1e-5,
        "worst_ratio": 0.1,
        "checked_rows": 32,
        "memory_predicted_bytes": 1000000,
        "memory_available_bytes": 20000000000,
        "arena_bytes": 4096,
        "attention_scratch_bytes": 0,
        "packed_weights_bytes": 0,
        "weights_bytes": 199936,
        "peak_rss_bytes": 50000000,
        "flops": 24 * 32 * 64 * 64 + 4 * 32 * 32 * 64,
        "calibration_before_ns": [500],
        "calibration_after_ns": [510],
        "started_utc": "2026-01-02T03:04:06Z",
        "elapsed_s": 1.5,
    }
    return cell | changes


def make_failed_cell(
    status: str = "oom", reason: str | None = "no room", **changes: Any
) -> dict[str, Any]:
    """Make a sound cell that has no time."""
    times = ["samples_ns", "sample_rounds", "profile_total_ns"]
    empty = dict.fromkeys([*times, *(f"profile_{part}_ns" for part in PARTS)])
    return make_cell(**(empty | {"status": status, "reason": reason, "ops": None} | changes))


def make_timed_cell(variant: str, samples: list[int], **changes: Any) -> dict[str, Any]:
    """Make a sound cell of this variant with one sample a round."""
    rounds = list(range(len(samples)))
    named: dict[str, Any] = {"variant": variant, "printed_name": variant, "parent": None}
    return make_cell(**(named | {"samples_ns": samples, "sample_rounds": rounds} | changes))


def make_noisy_samples(around: int, n: int, seed: int) -> list[int]:
    """Make n times within a tenth of a value."""
    generator = random.Random(seed)
    return [around + generator.randint(-around // 10, around // 10) for _ in range(n)]


def write_run(
    folder: Path, cells: list[dict[str, Any]], header: dict[str, Any] | None = None
) -> Path:
    """Write a run folder and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(header or make_header()))
    (folder / "cells.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    return folder
