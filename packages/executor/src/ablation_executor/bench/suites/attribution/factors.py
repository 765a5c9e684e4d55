"""The factors: optimizations that can be switched, each a chain of levels from off to most.

A level says what it adds to a program: passes, or a setting. A point is a level of each factor;
what it runs is all that its levels say. Kernels are given by the point, so that no
chooser runs inside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..kernel_sets import ATTENTION, MATMUL, kernel_set

Point = tuple[int, ...]

PYTHON, COMPILED = "python loop", "compiled"
ONE, ALL = "one", "all"


@dataclass(frozen=True)
class Level:
    """One level of a factor: `passes` that run from this level on, `settings` that it replaces, and
    the least level of other factors that it needs, by their names."""

    name: str
    passes: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    needs: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Factor:
    """An optimization; `what` says in a sentence what its levels do."""

    name: str
    printed_name: str
    what: str
    levels: tuple[Level, ...]


def _passes(name: str, printed: str, what: str, level: str, *passes: str) -> Factor:
    """Return a factor of one step that adds passes."""
    return Factor(name, printed, what, (Level("off"), Level(level, passes)))


FACTORS: tuple[Factor, ...] = (
    Factor(
        "native_loop",
        "Native loop",
        "One native call runs the whole program over planned memory; before, Python calls each "
        "kernel and each result is allocated.",
        (
            Level(PYTHON, settings={"executor": "per_op"}),
            Level(COMPILED, settings={"executor": "compiled"}),
        ),
    ),
    _passes(
        "folding",
        "Folding",
        "Transposes and scale factors go into the products, and constants are computed ahead.",
        "folded",
        "absorb_into_matmul",
        "fold_constants",
    ),
    Factor(
        "adds",
        "Fused adds",
        "A bias and an addend become part of a product's write; then its activation does as well.",
        (
            Level("apart"),
            Level("fused adds", ("fuse_matmul_add",)),
            Level("epilogues", ("fuse_bias_relu", "fuse_activation")),
        ),
    ),
    Factor(
        "attention",
        "Attention",
        "Product, softmax and product become one call; then over tiles that stay in a cache; then "
        "over packed keys and values.",
        (
            Level("unfused"),
            Level("fused", ("fuse_attention",), {"attention": ATTENTION}),
            Level("flash", (), {"attention": "attention_flash_simd_parallel"}, {"simd": 1}),
            Level("packed", (), {"attention": "attention_flash_packed_simd_parallel"}),
        ),
    ),
    Factor(
        "simd",
        "SIMD",
        "Softmax, norms and element-wise calls use vector instructions, by several threads where "
        "there are some.",
        (
            Level("scalar", settings={"vector": "scalar"}),
            Level("simd", settings={"vector": "simd_parallel"}),
        ),
    ),
    Factor(
        "threads",
        "Threads",
        "All threads of the case compute, not one.",
        (Level(ONE, settings={"threads": ONE}), Level(ALL, settings={"threads": ALL})),
    ),
    Factor(
        "packed_weights",
        "Packed weights",
        "Weights lie in the panels that the project's own products read; before, a BLAS "
        "multiplies.",
        (
            Level("as given", settings={"matmul": MATMUL}),
            Level(
                "packed",
                settings={"matmul": "matmul_packed_simd_parallel"},
                needs={"native_loop": 1, "folding": 1},
            ),
        ),
    ),
    Factor(
        "layout",
        "Layout",
        "Attention reads queries, keys and values as they lie; then one product makes all three.",
        (
            Level("as exported"),
            Level("direct", ("direct_layout",), needs={"attention": 1}),
            Level("merged QKV", ("merge_qkv",), needs={"folding": 1}),
        ),
    ),
    Factor(
        "shared_joins",
        "Shared fork-joins",
        "Threads wait once for several short calls whose rows are independent.",
        (
            Level("off"),
            Level("shared", (), {"share_rows": "yes"}, {"native_loop": 1, "threads": 1}),
        ),
    ),
    _passes(
        "rms_norm",
        "Fused norms",
        "The means, root and products of a norm that is written out become one call.",
        "fused",
        "fuse_layer_norm",
        "fuse_rms_norm",
    ),
    _passes("rotary", "Fused rotary", "Pairs are turned in one call.", "fused", "fuse_rotary"),
    _passes(
        "silu_mul",
        "Fused gates",
        "A GELU or SiLU that is written out becomes one sweep, and a gate's product part of it.",
        "fused",
        "fuse_gelu",
        "split_gates",
        "fuse_silu_mul",
    ),
)
NAMES: tuple[str, ...] = tuple(factor.name for factor in FACTORS)


@dataclass(frozen=True)
class Settings:
    """What a point runs."""

    executor: str
    passes: tuple[str, ...]
    kernels: Mapping[str, str]
    is_parallel: bool
    share_rows: bool


def is_feasible(point: Point) -> bool:
    """Return whether every level of a point, and every one below it, has what it needs."""
    return not any(_lacks(point, index) for index in range(len(FACTORS)))


def _lacks(point: Point, index: int) -> bool:
    levels = FACTORS[index].levels[: point[index] + 1]
    needs = ((name, least) for level in levels for name, least in level.needs.items())
    return any(point[NAMES.index(name)] < least for name, least in needs)


def complete(levels: Mapping[str, int]) -> Point | None:
    """Return the point with these levels; factors that are not named are as high as they can be.

    None where the named ones are not feasible.
    """
    point = [levels.get(factor.name, len(factor.levels) - 1) for factor in FACTORS]
    while True:
        lacking = [index for index in range(len(FACTORS)) if _lacks(tuple(point), index)]
        if not lacking:
            return tuple(point)
        if any(FACTORS[index].name in levels for index in lacking):
            free = [index for index in lacking if FACTORS[index].name not in levels]
            if not free:
                return None
            lacking = free
        for index in lacking:
            point[index] -= 1


def level_names(point: Point) -> dict[str, str]:
    """Return the level of each factor by name."""
    return {
        factor.name: factor.levels[reached].name
        for factor, reached in zip(FACTORS, point, strict=True)
    }


def settings_of(point: Point) -> Settings:
    """Return what a feasible point runs."""
    passes: list[str] = []
    settings: dict[str, str] = {}
    for factor, reached in zip(FACTORS, point, strict=True):
        for level in factor.levels[: reached + 1]:
            passes += level.passes
            settings |= level.settings
    vector = settings["vector"]
    attention = settings.get("attention", ATTENTION).format(vector=vector)
    return Settings(
        settings["executor"],
        tuple(passes),
        kernel_set(vector, matmul=settings["matmul"], attention=attention),
        settings["threads"] == ALL,
        "share_rows" in settings,
    )
