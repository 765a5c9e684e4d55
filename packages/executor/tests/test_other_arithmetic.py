"""Products of another arithmetic: where compile takes them, and that it does so only when asked."""

from __future__ import annotations

import numpy as np
import pytest

import ablation_executor as ex
from ablation_executor.bench.suites.block import SUITE, gains_by_strassen
from ablation_executor.bench.suites.block.configs import CONFIGS, Config
from ablation_executor.bench.suites.block.ladder import BY_NAME, MERGED
from ablation_executor.compiler import plan_program
from ablation_executor.selection import select_kernels
from ablation_kernels import strassen


def products(rows: int, width: int) -> ex.Graph:
    """x @ weight + bias, then the product of that with x transposed: only the first is by a
    constant."""
    random = np.random.default_rng(7)
    builder = ex.GraphBuilder()
    x = builder.input("x", (1, rows, width))
    weight = builder.constant("weight", random.standard_normal((width, width)).astype(np.float32))
    bias = builder.constant("bias", random.standard_normal(width).astype(np.float32))
    linear = builder.node("matmul", [x, weight, bias, None], {"transpose_b": True}, name="linear")
    turned = builder.node("permute", [x], {"perm": (0, 2, 1)}, name="turn")
    return builder.finish(builder.node("matmul", [linear, turned, None, None], name="scores"))


def test_a_large_product_with_a_constant_takes_it_when_asked() -> None:
    graph = products(4096, 4096)
    plain, other = select_kernels(graph, None), select_kernels(graph, None, True)
    assert not any(map(strassen.levels_of, plain.values()))
    assert other["linear"] == strassen.kernel_for(4096, 4096, 4096)
    assert strassen.levels_of(other["linear"]) > 0
    assert other["scores"] == plain["scores"]


def test_a_small_product_does_not() -> None:
    graph = products(32, 64)
    assert select_kernels(graph, None, True) == select_kernels(graph, None)


@pytest.mark.parametrize("config", CONFIGS[:5], ids=lambda config: config.name)
def test_the_block_has_the_rung_where_a_product_takes_it(config: Config) -> None:
    pytest.importorskip("torch")
    from ablation_executor.bench.suites.attribution.programs import exported_graph

    graph, _ = ex.optimize(exported_graph(config.case(2), 0), passes=MERGED)
    plan = plan_program(graph, threads=2, other_arithmetic=True)
    takes = any(map(strassen.levels_of, plan.kernels.values()))
    assert gains_by_strassen(config) == takes
    refusal = SUITE.supports(BY_NAME["other-strassen"].variant(), config.case(2))
    assert (refusal is None) == takes


def test_a_kernel_that_is_given_stands() -> None:
    graph = products(4096, 4096)
    chosen = select_kernels(graph, {"matmul": "blas"}, True)
    assert chosen["linear"] == "matmul_blas"


def test_a_program_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strassen, "LEAST_GAIN", -100)
    x = np.random.default_rng(8).standard_normal((1, 90, 130)).astype(np.float32)
    expected = ex.compile(products(90, 130), threads=2)(x)
    program = ex.compile(products(90, 130), threads=2, other_arithmetic=True)
    assert strassen.levels_of(program.kernels["linear"]) > 0
    assert program.packed_weights_bytes > 4 * 130 * 130 * 7 / 4
    np.testing.assert_allclose(program(x), expected, rtol=0, atol=2e-3)
    assert not np.array_equal(program(x), expected), "rounded as the packed product"
