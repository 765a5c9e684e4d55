"""The interpreter: dtypes, several outputs, wrong inputs."""

from __future__ import annotations

import numpy as np
import pytest
from small_graphs import attention_graph, inputs_of, random

from ablation_executor.interpreter import interpret
from ablation_executor.ir import GraphBuilder


def test_the_dtype_holds_for_every_step() -> None:
    graph = attention_graph()
    inputs = inputs_of(graph)
    assert interpret(graph, inputs)[0].dtype == np.float32
    double = interpret(graph, inputs, np.float64)[0]
    assert double.dtype == np.float64
    assert np.abs(interpret(graph, inputs)[0] - double).max() > 0


def test_attention_by_hand() -> None:
    graph = attention_graph(batch=(1, 1), queries=2, keys=3, head_dim=4)
    q, k, v = (array[0, 0].astype(np.float64) for array in inputs_of(graph))
    want = []
    for row in q:
        weights = [np.exp(sum(row[i] * key[i] for i in range(4)) / 4.0) for key in k]
        want.append(sum(w * value for w, value in zip(weights, v, strict=True)) / sum(weights))
    got = interpret(graph, [q[None, None], k[None, None], v[None, None]], np.float64)[0]
    np.testing.assert_allclose(got[0, 0], want, rtol=1e-12)


def test_outputs_may_be_inputs_and_constants() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (2,))
    constant = builder.constant("c", [1.0, 2.0])
    graph = builder.finish(x, constant, builder.node("add", [x, constant]))
    given = random(2)
    results = interpret(graph, [given])
    np.testing.assert_array_equal(results[0], given)
    np.testing.assert_array_equal(results[2], given + np.array([1, 2], np.float32))


def test_wrong_inputs_are_refused() -> None:
    graph = attention_graph()
    inputs = inputs_of(graph)
    with pytest.raises(ValueError, match="2 inputs given, the graph has 3"):
        interpret(graph, inputs[:2])
    with pytest.raises(ValueError, match=r"%q: float32\[2, 3, 4, 8\] was given as \[4, 8\]"):
        interpret(graph, [inputs[0][0, 0], *inputs[1:]])
