"""The log of all passes: each attention, norm, gate and linear layer once, from the final graph."""

from __future__ import annotations

import numpy as np
import pytest
from attention_forms import Forms, block, timm
from small_graphs import random

from ablation_executor.ir import Graph, GraphBuilder, Value
from ablation_executor.passes import DEFAULT_PASSES, optimize
from ablation_executor.rewrite import Place


def missed_of(graph: Graph, *without: str) -> list[Place]:
    """What is missed by all passes but some."""
    _, log = optimize(graph, [name for name in DEFAULT_PASSES if name not in without])
    return log.missed


def attention_with_weights(scale: bool = False) -> Graph:
    """Attention whose weights are an output too, or whose scores have a factor for each key."""
    builder = GraphBuilder()
    q, k, v = (builder.input(name, (1, 2, 4, 8)) for name in "qkv")
    scores = builder.node("matmul", [q, k], {"transpose_b": True})
    if scale:
        scores = builder.node("mul", [scores, builder.constant("c", random(4))])
    weights = builder.node("softmax", [scores])
    out = builder.node("matmul", [weights, v])
    return builder.finish(out, *[weights] * (not scale))


@pytest.mark.parametrize(
    ("scale", "left", "reason"),
    [
        (
            False,
            ("matmul", "softmax", "matmul"),
            "fuse_attention: softmax is also read by the graph's output",
        ),
        (
            True,
            ("matmul", "mul", "softmax", "matmul"),
            "fuse_attention: the scores are not scaled by a scalar constant",
        ),
    ],
)
def test_an_attention_that_is_not_fused(scale: bool, left: tuple[str, ...], reason: str) -> None:
    (place,) = missed_of(attention_with_weights(scale))
    assert (place.kind, place.how, place.left, place.reason) == ("attention", "", left, reason)
    # Scores (1, 2, 4, 4) for each node, the output (1, 2, 4, 8).
    assert place.left_bytes == 4 * (32 * (len(left) - 1) + 64)


def written_norm(eps: float, x: Value | None = None, builder: GraphBuilder | None = None) -> Graph:
    builder = builder or GraphBuilder()
    x = x or builder.input("x", (2, 3, 8))
    mean = builder.constant("mean", np.full((8, 1), 1 / 8))
    squares = builder.node("matmul", [builder.node("mul", [x, x]), mean])
    inverse = builder.node("rsqrt", [builder.node("add", [squares, builder.constant("eps", eps)])])
    scaled = builder.node("mul", [x, inverse])
    return builder.finish(builder.node("mul", [scaled, builder.constant("weight", random(8))]))


def test_a_norm_that_is_not_fused() -> None:
    _, log = optimize(written_norm(1e-5))
    assert log.places == [Place("norm", "rms_norm", "rms_norm")]
    (place,) = missed_of(written_norm(-0.1))
    assert place.kind == "norm" and sorted(place.left) == [
        "add",
        *["matmul"],
        *["mul"] * 3,
        "rsqrt",
    ]
    assert place.reason == "fuse_rms_norm: eps is -0.1, the kernels take a number of at least 0"
    (place,) = missed_of(written_norm(1e-5), "fuse_rms_norm")
    assert place.reason == "fuse_rms_norm did not run"


def test_a_rotation_that_is_not_fused() -> None:
    """Tables of a whole head that are inputs: nothing says that their halves are equal."""
    builder = GraphBuilder()
    x, cos, sin = (builder.input(name, (1, 2, 5, 8)) for name in ("x", "cos", "sin"))
    halves = [
        builder.node("slice", [x], {"axis": 3, "start": start, "stop": start + 4})
        for start in (0, 4)
    ]
    negated = builder.node("mul", [halves[1], builder.constant("c", -1.0)])
    turned = builder.node("concat", [negated, halves[0]], {"axis": 3})
    cos, sin = (builder.node("slice", [t], {"axis": 1, "start": 0, "stop": 1}) for t in (cos, sin))
    products = [builder.node("mul", pair) for pair in ([x, cos], [turned, sin])]
    (place,) = missed_of(builder.finish(builder.node("add", products, name="end")))
    assert (place.kind, place.name) == ("rotation", "end")
    assert sorted(place.left) == ["add", "concat", "mul", "mul", "mul", "slice", "slice"]
    assert place.reason.startswith("fuse_rotary: the cosines are no table of (S, r / 2)")


def test_a_gate_that_is_not_fused() -> None:
    builder = GraphBuilder()
    a, b = builder.input("a", (2, 8)), builder.input("b", (2, 8))
    gate = builder.node("silu", [a], name="gate")
    graph = builder.finish(builder.node("mul", [gate, b]), gate)
    (place,) = missed_of(graph)
    assert (place.kind, place.left) == ("gate", ("silu", "mul"))
    assert place.reason == "fuse_silu_mul: gate is also read by the graph's output"


def test_a_linear_layer_with_a_sum_too_many() -> None:
    builder = GraphBuilder()
    out = builder.node("matmul", [builder.input("x", (2, 8)), builder.constant("w", random(8, 8))])
    for name in ("residual", "other"):
        out = builder.node("add", [out, builder.input(name, (2, 8))])
    (place,) = missed_of(builder.finish(out))
    assert (place.kind, place.how, place.left, place.left_bytes) == (
        "linear",
        "addend",
        ("add",),
        64,
    )
    assert place.reason == "fuse_matmul_add: the product already has an addend"


def test_products_of_q_k_and_v_that_stay_apart() -> None:
    (place,) = missed_of(block(timm, 2, 4), "merge_qkv")
    assert place.kind == "attention" and place.left == ("slice",) * 3
    graph = block(timm, 2, 4)
    _, log = optimize(graph)
    assert not log.missed and "left" not in str(log)


def test_what_is_the_same_in_all_layers_is_printed_once() -> None:
    forms = Forms()
    x = forms.builder.input("x", (2, 6, 32))
    for layer in range(4):
        path = f"layers.{layer}.linear"
        product = forms.builder.node("matmul", [x, forms.weight(32, 32)], module_path=path)
        x = forms.builder.node("silu", [forms.node("add", product, forms.weight(6, 1))])
    _, log = optimize(forms.builder.finish(x))
    assert len(log.missed) == 4
    lines = [line for line in str(log).splitlines() if "left" in line]
    assert lines == [
        "linear layers.0.linear, layers.1.linear and 2 more: product alone; left: 1 add, 1 silu"
        " (3072 bytes each): fuse_matmul_add: %weight_2: float32[6, 1] has not the product's shape"
        " [2, 6, 32]"
    ]


def test_the_log_of_a_block_has_a_line_for_each_kind_of_place() -> None:
    _, log = optimize(block(timm, 2, 4))
    places = [line for line in str(log).splitlines() if " fired " not in line]
    assert [line.split(": ", 1)[1] for line in places] == [
        "layout qkv", "layer_norm", "bias", "bias, addend", "bias, gelu"
    ]  # fmt: skip
