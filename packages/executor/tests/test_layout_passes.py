"""The passes behind fuse_attention: each on a small graph, and together on the benchmark's block.

`run_pass` also checks that the result is valid and computes the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from small_graphs import inputs_of, nodes_of, ops_of, random, run_pass

from ablation_executor.bench.suites.block.configs import Config
from ablation_executor.bench.suites.block.ladder import BY_NAME
from ablation_executor.bench.suites.block.models import make_module
from ablation_executor.bench.suites.block.weights import make_weights
from ablation_executor.compiler import compile
from ablation_executor.exporter import export
from ablation_executor.interpreter import interpret
from ablation_executor.ir import Graph, GraphBuilder, Value, verify
from ablation_executor.ops import OPS
from ablation_executor.passes import optimize

SWAP = (0, 2, 1, 3)


# fuse_activation


def activated(
    op: str, settings: dict[str, str] | None = None, bias: str = "", **attributes: Any
) -> Graph:
    """op(matmul(x, weight)); `bias` names where a vector is added: product, add, add swapped."""
    builder = GraphBuilder()
    x, weight = builder.input("x", (2, 3, 4)), builder.constant("weight", random(4, 5))
    vector = builder.constant("bias", random(5))
    slots = [x, weight, vector if bias == "product" else None]
    out = builder.node("matmul", slots, attributes, name="product")
    if bias.startswith("add"):
        operands = [vector, out] if bias == "add swapped" else [out, vector]
        out = builder.node("add", operands, name="biased")
    operands = [out, builder.constant("vector", random(5))] if op == "bias_relu" else [out]
    return builder.finish(builder.node(op, operands, settings or {}, name="activated"))


@pytest.mark.parametrize(
    ("op", "settings", "activation"),
    [
        ("relu", {}, "relu"),
        ("gelu", {}, "gelu"),
        ("gelu", {"approximate": "tanh"}, "gelu_tanh"),
    ],
)
def test_activation_joins_its_product(op: str, settings: dict[str, str], activation: str) -> None:
    graph = activated(op, settings, "product")
    shown = "".join(f", {name}={setting}" for name, setting in settings.items())
    assert nodes_of(graph) == [
        "%product = matmul(%x, %weight, bias=%bias)  # [2, 3, 5]",
        f"%activated = {op}(%product{shown})  # [2, 3, 5]",
    ]
    after, log = run_pass("fuse_activation", graph)
    assert log.fired("activation") == log.fired("fuse_activation") == 1
    assert nodes_of(after) == [
        f"%product = matmul(%x, %weight, bias=%bias, activation={activation})  # [2, 3, 5]"
    ]


def test_activation_takes_the_bias_of_bias_relu() -> None:
    after, log = run_pass("fuse_activation", activated("bias_relu", alpha=0.5))
    assert log.fired("bias_and_activation") == log.fired("fuse_activation") == 1
    assert nodes_of(after) == [
        "%product = matmul(%x, %weight, bias=%vector, alpha=0.5, activation=relu)  # [2, 3, 5]"
    ]


@pytest.mark.parametrize("bias", ["add", "add swapped"])
@pytest.mark.parametrize(("op", "activation"), [("relu", "relu"), ("gelu", "gelu")])
def test_activation_takes_an_added_bias_that_no_pass_took(
    op: str, activation: str, bias: str
) -> None:
    after, log = run_pass("fuse_activation", activated(op, bias=bias))
    assert log.fired("bias_and_activation") == log.fired("fuse_activation") == 1
    assert nodes_of(after) == [
        f"%product = matmul(%x, %weight, bias=%bias, activation={activation})  # [2, 3, 5]"
    ]


@pytest.mark.parametrize("with_bias_relu", [True, False])
def test_activation_behind_fuse_matmul_add(with_bias_relu: bool) -> None:
    names = ["fuse_matmul_add", "fuse_activation", *["fuse_bias_relu"] * with_bias_relu]
    after, log = optimize(activated("relu", bias="add"), names)
    assert log.fired("bias_relu") == with_bias_relu
    assert ops_of(after) == ["matmul"] and after.nodes[0].attribute("activation") == "relu"


def test_activation_keeps_an_addend() -> None:
    builder = GraphBuilder()
    x, weight = builder.input("x", (2, 3, 4)), builder.constant("weight", random(4, 5))
    out = builder.node("matmul", [x, weight, None, builder.input("residual", (2, 3, 5))])
    out = builder.node("bias_relu", [out, builder.constant("vector", random(5))])
    after, log = run_pass("fuse_activation", builder.finish(out))
    assert log.fired("fuse_activation") == 1
    assert nodes_of(after) == [
        "%matmul = matmul(%x, %weight, bias=%vector, addend=%residual, activation=relu)"
        "  # [2, 3, 5]"
    ]


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (activated("relu", activation="gelu"), "the product already has an activation"),
        (activated("bias_relu", activation="relu"), "the product already has an activation"),
        (activated("bias_relu", bias="product"), "the product already has a bias"),
    ],
)
def test_activation_refuses(graph: Graph, reason: str) -> None:
    after, log = run_pass("fuse_activation", graph)
    assert log.fired("fuse_activation") == 0
    assert log.refused("fuse_activation") == [("activated", reason)]
    assert ops_of(after) == ops_of(graph)


@pytest.mark.parametrize(
    ("op", "bias", "read"),
    [("relu", "", "product"), ("bias_relu", "", "product"), ("relu", "add", "biased")],
)
def test_activation_refuses_a_product_with_a_second_reader(op: str, bias: str, read: str) -> None:
    graph = activated(op, bias=bias)
    graph.outputs += [node.output for node in graph.nodes if node.name == read]
    _, log = run_pass("fuse_activation", graph)
    assert log.refused("fuse_activation") == [
        ("activated", f"{read} is also read by the graph's output")
    ]


def test_activation_refuses_a_sum_that_is_no_bias() -> None:
    builder = GraphBuilder()
    x, weight = builder.input("x", (2, 3, 4)), builder.constant("weight", random(4, 5))
    out = builder.node("add", [builder.node("matmul", [x, weight]), builder.input("y", (2, 3, 5))])
    _, log = run_pass("fuse_activation", builder.finish(builder.node("relu", [out])))
    assert log.fired("fuse_activation") == 0 and not log.refused("fuse_activation")


# direct_layout


def permuted(
    *,
    perms: dict[str, tuple[int, ...] | None] | None = None,
    masked: bool = False,
    shape: tuple[int, ...] = (2, 3, 3, 4),
    **attributes: Any,
) -> Graph:
    """Attention between permutes; `perms` gives q, k, v or out another permutation, or none."""
    builder, perms = GraphBuilder(), perms or {}
    slots = []
    for name in "qkv":
        value, perm = builder.input(name, shape), perms.get(name, SWAP)
        slots.append(value if perm is None else builder.node("permute", [value], {"perm": perm}))
    if masked:
        slots.append(builder.input("mask", (1, 1, shape[1], shape[1])))
    out = builder.node("attention", slots, attributes, name="attention")
    perm = perms.get("out", SWAP)
    return builder.finish(
        out if perm is None else builder.node("permute", [out], {"perm": perm}, name="out")
    )


def test_layout_takes_the_permutes_away() -> None:
    graph = permuted(masked=True, causal=True, scale=0.25, shape=(2, 5, 3, 4))
    assert nodes_of(graph) == [
        "%permute = permute(%q, perm=(0, 2, 1, 3))  # [2, 3, 5, 4]",
        "%permute_2 = permute(%k, perm=(0, 2, 1, 3))  # [2, 3, 5, 4]",
        "%permute_3 = permute(%v, perm=(0, 2, 1, 3))  # [2, 3, 5, 4]",
        "%attention = attention(%permute, k=%permute_2, v=%permute_3, mask=%mask, causal=True,"
        " scale=0.25)  # [2, 3, 5, 4]",
        "%out = permute(%attention, perm=(0, 2, 1, 3))  # [2, 5, 3, 4]",
    ]
    after, log = run_pass("direct_layout", graph)
    assert log.fired("direct_layout") == 1 and log.refused("direct_layout") == []
    assert nodes_of(after) == [
        "%attention = attention(%q, k=%k, v=%v, mask=%mask, causal=True, scale=0.25,"
        " layout=bshd)  # [2, 5, 3, 4]"
    ]


def test_layout_keeps_a_permute_that_others_read() -> None:
    graph = permuted()
    graph.outputs.append(graph.nodes[1].output)
    after, log = run_pass("direct_layout", graph)
    assert log.fired("direct_layout") == 1
    assert sorted(ops_of(after)) == ["attention", "permute"]


def test_layout_of_keys_that_are_the_values_too() -> None:
    builder = GraphBuilder()
    q, kv = (builder.input(name, (1, 5, 2, 4)) for name in ("q", "kv"))
    q, kv = (builder.node("permute", [value], {"perm": SWAP}) for value in (q, kv))
    out = builder.node("permute", [builder.node("attention", [q, kv, kv])], {"perm": SWAP})
    after, log = run_pass("direct_layout", builder.finish(out))
    assert log.fired("direct_layout") == 1 and ops_of(after) == ["attention"]


@pytest.mark.parametrize(
    ("changed", "copies"),
    [
        ({"k": None}, 1),
        ({"v": (0, 1, 2, 3)}, 1),
        ({"out": (0, 2, 3, 1)}, 1),
        ({"out": None}, 1),
        ({"q": None, "k": None}, 2),
    ],
)
def test_layout_takes_what_leaves_the_fewest_copies(
    changed: dict[str, tuple[int, ...] | None], copies: int
) -> None:
    """One of the four is not what bshd has it: the others are worth more; of two it is a draw."""
    graph = permuted(perms=changed)
    after, log = run_pass("direct_layout", graph)
    assert log.fired("direct_layout") == (copies == 1)
    assert ops_of(after).count("permute") == copies


def test_layout_refuses_what_would_copy_as_much() -> None:
    graph = permuted(perms={"q": None, "out": None})
    after, log = run_pass("direct_layout", graph)
    assert log.refused("direct_layout") == [
        ("attention", "(B, S, H, D) would leave 2 copies, (B, H, S, D) has 2")
    ]
    assert str(after) == str(graph)
    after, log = run_pass("direct_layout", permuted(layout="bshd"))
    assert log.fired("direct_layout") == 0 and log.refused("direct_layout") == []


def test_layout_with_an_output_that_is_read_before_its_permute() -> None:
    graph = permuted()
    graph.outputs.append(graph.nodes[3].output)
    after, log = run_pass("direct_layout", graph)
    assert log.fired("direct_layout") == 1 and ops_of(after) == ["attention", "permute"]


# movements


def test_a_chain_of_movements_becomes_the_shortest_that_does_the_same() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (2, 1, 12, 3))
    out = builder.node("permute", [x], {"perm": (0, 2, 3, 1)})  # moves an axis of size 1
    out = builder.node("reshape", [out], {"shape": (8, 9)})
    out = builder.node("permute", [out], {"perm": (1, 0)})
    out = builder.node("slice", [out], {"axis": 0, "start": 0, "stop": 3})
    out = builder.node("permute", [out], {"perm": (1, 0)})
    after, log = run_pass("direct_layout", builder.finish(out))
    assert log.fired("shorter_movements") >= 1
    assert nodes_of(after) == [
        "%reshape_3 = reshape(%x, shape=(8, 9))  # [8, 9]",
        "%slice_2 = slice(%reshape_3, axis=1, start=0, stop=3)  # [8, 3]",
    ]


def row_of(*, stop: int = 5, residual: bool = False, read: bool = False) -> Graph:
    """The rows from 4 to `stop` of a feed-forward layer and its norm."""
    builder = GraphBuilder()
    x = builder.input("x", (2, 5, 4))
    out = builder.node("matmul", [x, builder.constant("up", random(4, 6))], {"activation": "gelu"})
    addend = x if residual else None
    out = builder.node("matmul", [out, builder.constant("down", random(6, 4)), None, addend])
    weights = [builder.constant(name, random(4)) for name in "gb"]
    out = builder.node("layer_norm", [out, *weights], name="norm")
    last = builder.node("slice", [out], {"axis": 1, "start": 4, "stop": stop}, name="last")
    return builder.finish(last, *[out] * read)


@pytest.mark.parametrize("residual", [False, True])
def test_a_slice_of_a_row_goes_before_all_that_makes_the_row(residual: bool) -> None:
    after, log = run_pass("direct_layout", row_of(residual=residual))
    assert log.fired("slice_before_rows") == 3
    assert ops_of(after) == ["slice", "matmul", "matmul", "layer_norm"]
    assert all(node.output.shape[1] == 1 for node in after.nodes)


def test_a_slice_stays_behind_rows_that_others_need() -> None:
    _, log = run_pass("direct_layout", row_of(read=True))
    assert log.fired("slice_before_rows") == 0
    builder = GraphBuilder()
    x, weight = builder.input("x", (2, 5, 4)), builder.constant("w", random(4, 6))
    product = builder.node("matmul", [x, weight])
    columns = builder.node("slice", [product], {"axis": 2, "start": 0, "stop": 1})
    most = builder.node("matmul", [builder.input("y", (2, 5, 4)), weight])
    rows = builder.node("slice", [most], {"axis": 1, "start": 1, "stop": 5})
    after, log = run_pass("direct_layout", builder.finish(columns, rows))
    assert log.fired("slice_before_rows") == 0 and len(after.nodes) == 4


# merge_qkv


def projected(
    change: str = "", *, bias: bool = True, transpose_b: bool = True, causal: bool = False
) -> Graph:
    """Attention of three linear layers of one input; `change` says what is wrong with v."""
    builder = GraphBuilder()
    x, batch, seq_len, n_heads, head_dim = builder.input("x", (2, 5, 7)), 2, 5, 2, 6
    width = n_heads * head_dim
    heads, columns = [], []
    for name in "qkv":
        wrong = change if name == "v" else ""
        shape = (width, 7) if transpose_b and wrong != "transpose_b" else (7, width)
        a = builder.input("other", (2, 5, 7)) if wrong == "input" else x
        make = builder.input if wrong == "weight" else builder.constant
        leading = (batch,) if wrong == "batched weight" else ()
        array = random(*leading, *shape) * (1e-37 if wrong == "tiny weight" else 1.0)
        weight = make(f"w{name}", shape if wrong == "weight" else array)
        vector = None
        if bias and wrong != "no bias":
            dynamic = wrong == "bias"
            vector = (
                builder.input("b", (width,))
                if dynamic
                else builder.constant(f"b{name}", random(width))
            )
        addend = builder.input("addend", (2, 5, width)) if wrong == "addend" else None
        settings: dict[str, Any] = {"transpose_b": shape[0] == width}
        alphas = {"alpha": 0.5, "large alpha": 2.0, "tiny weight": 1e-3}
        settings |= {"alpha": alphas[wrong]} if wrong in alphas else {}
        settings |= {"activation": "relu"} if wrong == "activation" else {}
        columns.append(
            builder.node("matmul", [a, weight, vector, addend], settings, name=f"{name}_product")
        )
        split = {"shape": (batch, seq_len, n_heads, head_dim)}
        heads.append(builder.node("reshape", [columns[-1]], split, name=f"{name}_heads"))
    if change == "same":
        heads[2] = heads[1]
    settings = {"layout": "bshd", "causal": causal}
    outputs = [builder.node("attention", heads, settings, name="attention")]
    outputs += {"read product": columns[2:], "read heads": heads[2:]}.get(change, [])
    return builder.finish(*outputs)


def test_merge_makes_one_product_of_three() -> None:
    graph = projected(causal=True)
    assert nodes_of(graph) == [
        *(
            line
            for name in "qkv"
            for line in (
                f"%{name}_product = matmul(%x, %w{name}, bias=%b{name}, transpose_b=True)"
                "  # [2, 5, 12]",
                f"%{name}_heads = reshape(%{name}_product, shape=(2, 5, 2, 6))  # [2, 5, 2, 6]",
            )
        ),
        "%attention = attention(%q_heads, k=%k_heads, v=%v_heads, layout=bshd, causal=True)"
        "  # [2, 5, 2, 6]",
    ]
    after, log = run_pass("merge_qkv", graph)
    assert log.fired("merge_qkv") == 1 and log.refused("merge_qkv") == []
    assert nodes_of(after) == [
        "%matmul = matmul(%x, %wq+wk+wv, bias=%bq+bk+bv, transpose_b=True)  # [2, 5, 36]",
        "%reshape = reshape(%matmul, shape=(2, 5, 3, 2, 6))  # [2, 5, 3, 2, 6]",
        "%attention = attention(%reshape, layout=qkv, causal=True)  # [2, 5, 2, 6]",
    ]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transpose_b", [True, False])
def test_merge_lets_go_of_the_weights_it_joined(bias: bool, transpose_b: bool) -> None:
    graph = projected(bias=bias, transpose_b=transpose_b)
    after, log = run_pass("merge_qkv", graph)
    assert log.fired("merge_qkv") == 1
    assert [value.name for value in after.constants] == ["wq+wk+wv", "bq+bk+bv"][: 1 + bias]
    sizes = [sum(array.size for array in each.constants.values()) for each in (graph, after)]
    assert sizes[0] == sizes[1]


def test_merge_keeps_a_weight_that_others_read() -> None:
    graph = projected()
    graph.outputs.append(next(iter(graph.constants)))
    after, log = run_pass("merge_qkv", graph)
    assert log.fired("merge_qkv") == 1
    assert [value.name for value in after.constants] == ["wq", "wq+wk+wv", "bq+bk+bv"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("input", "v is not made from what q is made from"),
        ("weight", "wv of v is not a constant"),
        ("batched weight", "the heads of v are not columns of some rows of its product"),
        ("bias", "b of v is not a constant"),
        ("addend", "the product of v has an addend or an activation"),
        ("activation", "the product of v has an addend or an activation"),
        ("same", "q, k and v share columns of a product"),
        *(
            (each, "the factor of v may make an element of its weight overflow or vanish")
            for each in ("large alpha", "tiny weight")
        ),
        ("read product", "v_product is also read by the graph's output"),
        ("read heads", "v_heads is also read by the graph's output"),
    ],
)
def test_merge_refuses(change: str, reason: str) -> None:
    graph = projected(change)
    after, log = run_pass("merge_qkv", graph)
    assert log.fired("merge_qkv") == 0
    assert log.refused("merge_qkv") == [("attention", reason)]
    assert str(after) == str(graph)


@pytest.mark.parametrize("change", ["no bias", "alpha", "transpose_b"])
def test_merge_makes_products_alike(change: str) -> None:
    """A missing bias is one of zeros, a factor goes into the weight, a weight is transposed."""
    after, log = run_pass("merge_qkv", projected(change))
    assert log.fired("merge_qkv") == 1 and ops_of(after) == ["matmul", "reshape", "attention"]
    weight, bias = after.constants.values()
    assert weight.shape == (36, 7) and bias.shape == (36,)
    assert np.any(bias[24:]) == (change != "no bias") and after.nodes[0].attribute("alpha") == 1.0


def test_merge_refuses_a_reshape_that_mixes_rows() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (1, 4, 6))
    heads: list[Value] = []
    for name in "qkv":
        product = builder.node("matmul", [x, builder.constant(f"w{name}", random(6, 6))])
        heads.append(builder.node("reshape", [product], {"shape": (1, 2, 3, 4)}))
    graph = builder.finish(builder.node("attention", heads, {"layout": "bshd"}))
    _, log = run_pass("merge_qkv", graph)
    assert log.refused("merge_qkv") == [
        ("attention", "the heads of q are not columns of some rows of its product")
    ]


# The benchmark's block

CONFIG = Config(name="Tiny", d_model=24, n_heads=4, seq_len=7)
CALLS = ["layer_norm", "matmul", "attention", "matmul", "layer_norm", "matmul", "matmul"]


def block_of(kind: str, causal: bool) -> Graph:
    """The block of bench/suites/block/models.py as exported."""
    config = replace(CONFIG, causal=causal)
    module = make_module(config, make_weights(config, 0), kind)
    return export(module, (torch.randn(config.batch, config.seq_len, config.d_model),))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["manual", "sdpa"])
def test_all_passes_leave_seven_calls_of_the_block(kind: str, causal: bool) -> None:
    graph = block_of(kind, causal)
    after, log = optimize(graph)
    verify(after)
    calls = [node for node in after.nodes if not OPS[node.op].is_alias]
    assert [node.op for node in calls] == CALLS
    qkv, attention, out, up, down = (calls[index] for index in (1, 2, 3, 5, 6))
    assert qkv.output.shape == (1, 7, 72)
    assert attention.attribute("layout") == "qkv" and attention.inputs[1:3] == [None, None]
    # The manual form adds its mask, so the kernels are told that it is causal.
    is_added = causal and kind == "manual"
    assert attention.attribute("causal") is (causal and not is_added)
    assert attention.attribute("mask_is_causal") is is_added is (attention.inputs[3] is not None)
    assert up.attribute("activation") == "relu" and up.inputs[2] is not None
    for product in (out, down):
        assert product.inputs[2] is not None and product.inputs[3] is not None
    for name in ("fuse_activation", "direct_layout", "merge_qkv"):
        assert log.fired(name) == 1
    inputs = inputs_of(graph)
    want, got = (interpret(each, inputs, np.float64)[0] for each in (graph, after))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["manual", "sdpa"])
@pytest.mark.parametrize(
    "name", ["beyond-epilogues", "beyond-layout", "beyond-qkv", "beyond-default"]
)
def test_the_block_runs_natively(name: str, kind: str, causal: bool) -> None:
    graph, variant = block_of(kind, causal), BY_NAME[name]
    after, _ = optimize(graph, variant.passes)
    inputs = inputs_of(graph)
    want = interpret(graph, inputs, np.float64)[0]
    got = compile(after, kernels=variant.kernels, threads=2)(*inputs)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())
