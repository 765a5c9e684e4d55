"""Makes programs of a lattice and rungs of a ladder that say what they consist of, as the bench
does: passes, kernels, and who runs them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attribution_samples import BLOCK_FACTORS, make_attribution_rows, run_of
from samples import make_run, make_timed

from ablation_report.run import Run

FOLD = ("absorb_into_matmul", "fold_constants")
SIX_FACTORS = {name: BLOCK_FACTORS[name] for name in list(BLOCK_FACTORS) if name != "layout"}
PASSES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "folding": ((), FOLD),
    "adds": ((), ("fuse_matmul_add",), ("fuse_matmul_add", "fuse_bias_relu", "fuse_activation")),
    "attention": ((), ("fuse_attention",), ("fuse_attention",), ("fuse_attention",)),
    "layout": ((), ("direct_layout",), ("direct_layout", "merge_qkv")),
}
Value = Callable[[Mapping[str, int]], float]


def passes_of(point: Mapping[str, int]) -> list[str]:
    """The passes of a point."""
    return [name for factor, levels in PASSES.items() for name in levels[point.get(factor, 0)]]


def kernels_of(point: Mapping[str, int]) -> dict[str, str]:
    """The kernels of a point, of the ops that rows of the block name; on one thread they are those
    of all threads."""
    end = "_simd_parallel" if point.get("simd") else "_scalar"
    forms = (
        *("unfused", f"attention_fused{end}", "attention_flash_simd_parallel"),
        "attention_flash_packed_simd_parallel",
    )
    products = ("matmul_blas_parallel", "matmul_packed_simd_parallel")
    kernels = {
        "attention": forms[point.get("attention", 0)],
        "layer_norm": f"layer_norm{end}",
        "matmul": products[point.get("packed_weights", 0)],
    }
    softmax = {} if point.get("attention") else {"softmax": f"softmax{end}"}
    return kernels | softmax


def lattice_run(
    value: Value,
    factors: Mapping[str, tuple[str, tuple[str, ...]]] = SIX_FACTORS,
    name: str = "lattice",
    **options: Any,
) -> Run:
    """Make a run of attribution whose rows say what their programs consist of."""
    rows = make_attribution_rows(value, factors, **options)
    for row in rows:
        levels = {key: factors[key][1].index(level) for key, level in row["factors"].items()}
        if levels:
            # Factors that do not vary are on
            whole = {key: len(every) - 1 for key, (_, every) in BLOCK_FACTORS.items()} | levels
            row |= {"passes": passes_of(whole), "kernels": kernels_of(levels)}
    return run_of(rows, factors, name)


def rung(
    variant: str,
    parent: str | None,
    time_ns: int,
    point: Mapping[str, int],
    *,
    passes: tuple[str, ...] | None = None,
    kernels: Mapping[str, str] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Make a row of the block that consists of a point; `passes` and `kernels` replace its own."""
    executor = "compiled" if point.get("native_loop", 1) else "per_op"
    told = {
        "passes": passes_of(point) if passes is None else list(passes),
        "kernels": kernels_of(point) | dict(kernels or {}),
        "factors": {"executor": executor, "share_rows": bool(point.get("shared_joins"))},
        "parent": parent,
    }
    return make_timed(variant, [time_ns] * 12, **(told | changes))


def naive(time_ns: int = 40_000_000) -> dict[str, Any]:
    """Make the row of PyTorch below a ladder."""
    torch = {"origin": "torch", "factors": {"executor": "torch", "share_rows": False}}
    return make_timed("torch-naive", [time_ns] * 12, passes=[], kernels={}, **torch)


def ladder_run(*rows: dict[str, Any], name: str = "ladder", **changes: Any) -> Run:
    """Make a run of the block of these rungs."""
    return make_run(list(rows), name, **changes)
