"""The ladder: the published rows, and one changed axis from parent to child."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

import ablation_kernels
from ablation_executor.bench.suites.block.ladder import (
    BY_NAME,
    LARGE_VARIANTS,
    LEAGUE,
    LEAGUE_SELECTION,
    SAME_PROGRAM_PAIRS,
    VARIANTS,
    Rung,
    changed_axes,
)
from ablation_executor.ops import OPS
from ablation_executor.passes import DEFAULT_PASSES

PUBLISHED = Path(__file__).parents[4] / "data/published/block_ablation_m4max.csv"


@pytest.mark.parametrize("variant", (*VARIANTS, *LEAGUE), ids=lambda variant: variant.name)
def test_a_variant_is_its_parent_with_one_axis_changed(variant: Rung) -> None:
    if variant.parent is None:
        assert variant.name == "torch-naive" and variant.changed == ""
        return
    assert changed_axes(variant, BY_NAME[variant.parent]) == [variant.changed]


def test_every_variant_descends_from_the_baseline() -> None:
    for variant in (*VARIANTS, *LEAGUE):
        steps = 0
        while variant.parent is not None:
            variant, steps = BY_NAME[variant.parent], steps + 1
            assert steps < len(BY_NAME)
        assert variant.name == "torch-naive"


def test_changed_axes_sees_two_changes() -> None:
    assert changed_axes(BY_NAME["flash-layernorm"], BY_NAME["layernorm-simd"]) == [
        "attention",
        "layer_norm",
    ]
    assert changed_axes(BY_NAME["passes-absorb"], BY_NAME["torch-naive"]) == ["executor", "passes"]
    assert changed_axes(BY_NAME["attention-unfused-scalar"], BY_NAME["passes-none"]) == [
        "passes",
        "softmax",
    ]


def test_pairs_of_one_program_differ_in_name_alone() -> None:
    for first, second in SAME_PROGRAM_PAIRS:
        a, b = BY_NAME[first], BY_NAME[second]
        assert a.name != b.name
        assert (a.passes, a.kernels, a.executor, a.module) == (
            b.passes,
            b.kernels,
            b.executor,
            b.module,
        )


def test_every_kernel_of_the_ladder_is_in_the_table() -> None:
    ops = {info.name: info.op for info in ablation_kernels.op_table()}
    for variant in VARIANTS:
        for op, kernel in variant.kernels.items():
            assert ops[kernel] == op
        if variant.kernels:
            assert set(variant.kernels) == {op for op, spec in OPS.items() if not spec.is_alias}


def test_compile_chooses_the_kernels_of_the_default_alone() -> None:
    native = [variant for variant in VARIANTS if variant.runtime == "kernels"]
    chosen = [variant.name for variant in native if not variant.kernels]
    assert chosen == ["beyond-default", "other-strassen"]
    products = {variant.kernels["matmul"]: variant.group for variant in native if variant.kernels}
    assert products["matmul_packed_simd_parallel"] == "Beyond"
    assert len(products) == 2


def test_another_arithmetic_is_a_group_of_its_own_that_is_never_chosen() -> None:
    other = [variant.name for variant in VARIANTS if variant.arithmetic == "other"]
    assert other == [variant.name for variant in VARIANTS if variant.group == "Other arithmetic"]
    assert other == ["other-strassen"] and set(other) <= set(LARGE_VARIANTS)
    assert set(other) <= set(LEAGUE_SELECTION)
    assert not any("strassen" in kernel for v in VARIANTS for kernel in v.kernels.values())
    assert BY_NAME["other-strassen"].variant().factors["arithmetic"] == "other"


def test_passes_are_prefixes_of_the_pipeline_but_for_absorb() -> None:
    for variant in VARIANTS:
        assert list(variant.passes) == [name for name in DEFAULT_PASSES if name in variant.passes]
    assert BY_NAME["passes-fold"].passes == ("fold_constants",)
    assert BY_NAME["layernorm-scalar"].passes == DEFAULT_PASSES[:5]
    assert DEFAULT_PASSES[4] == "fuse_attention"
    # Each rung adds what it is named after: those for what models write out find nothing there.
    left_out = set(DEFAULT_PASSES) - set(BY_NAME["beyond-default"].passes)
    assert left_out == {
        "fuse_gelu",
        "split_gates",
        "fuse_silu_mul",
        "fuse_layer_norm",
        "fuse_rms_norm",
        "fuse_rotary",
    }
    added = set(BY_NAME["beyond-qkv"].passes) - set(BY_NAME["beyond-layout"].passes)
    assert added == {"merge_qkv"}


def published_rows() -> list[dict[str, str]]:
    with PUBLISHED.open(newline="") as file:
        return list(csv.DictReader(file))


needs_published = pytest.mark.skipif(
    not PUBLISHED.exists(), reason="data/published is outside the package, and not here"
)


@needs_published
def test_names_and_groups_are_the_published_ones() -> None:
    rows = [row for row in published_rows() if row["config"] == "Toy"]
    assert [(row["variant"], row["printed_name"], row["group"]) for row in rows] == [
        (variant.name, variant.printed_name_apple, variant.group)
        for variant in VARIANTS
        if variant.group in {row["group"] for row in rows}
    ]
    assert not any("GCD" in variant.printed_name for variant in VARIANTS)


@needs_published
def test_large_variants_are_the_published_selection() -> None:
    large = {row["config"] for row in published_rows() if int(row["d_model"]) >= 2048}
    assert large
    for config in large:
        rows = [row for row in published_rows() if row["config"] == config]
        groups = {row["group"] for row in rows}
        large_names = [name for name in LARGE_VARIANTS if BY_NAME[name].group in groups]
        assert sorted(row["variant"] for row in rows) == sorted(large_names)


def test_the_group_beyond_runs_at_every_size() -> None:
    beyond = [variant.name for variant in VARIANTS if variant.group == "Beyond"]
    assert len(beyond) == 7 and set(beyond) <= set(LARGE_VARIANTS)
