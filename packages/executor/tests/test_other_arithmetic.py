"""Products of another arithmetic: where compile takes them, and that it does so only when asked."""

from __future__ import annotations

import numpy as np
import pytest

import ablation_executor as ex
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
