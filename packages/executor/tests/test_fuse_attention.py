"""fuse_attention on small graphs: what it prints after, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from small_graphs import (
    attention_graph,
    inputs_of,
    nodes_of,
    ops_of,
    random,
    run_pass,
)

from ablation_executor.interpreter import interpret
from ablation_executor.ir import Array, Graph, GraphBuilder

CAUSAL = np.tri(4, 5, dtype=np.float32)
PADDING = np.array([1, 1, 1, 0, 1], np.float32)


def additive(keep: Array, hidden: float = -np.inf) -> Array:
    """An added mask: 0 where a key is kept."""
    return np.where(keep != 0, np.float32(0), np.float32(hidden))


def only_attention(graph: Graph) -> str:
    """The attention's printed arguments behind q, k, v."""
    (node,) = [node for node in graph.nodes if node.op == "attention"]
    assert node.attribute("strict")
    return str(node).split("%v", 1)[1].split(")  #")[0].removesuffix(", strict=True")


@pytest.mark.parametrize(
    ("graph", "arguments"),
    [
        (attention_graph(), ", scale=0.25"),
        (attention_graph(scale_op="mul"), ", scale=0.5"),
        (attention_graph(scale_op=None), ", scale=1.0"),
        (attention_graph(scale_op=None, transpose_b=True), ", scale=0.25"),
        (attention_graph(transpose_b=True), ", scale=0.0625"),
        (attention_graph(mask=random(4, 5)), ", mask=%mask, scale=0.25"),
        (attention_graph(mask=random(2, 1, 4, 5)), ", mask=%mask, scale=0.25"),
        (attention_graph(mask=additive(CAUSAL)), ", mask=%mask, scale=0.25, mask_is_causal=True"),
        (
            attention_graph(mask=additive(CAUSAL, -3e38)),
            ", mask=%mask, scale=0.25, mask_is_causal=True",
        ),
        (attention_graph(mask=additive(CAUSAL, -1e30)), ", mask=%mask, scale=0.25"),
        (attention_graph(mask=additive(PADDING)), ", mask=%mask, scale=0.25"),
        (attention_graph(where=(CAUSAL, -np.inf)), ", scale=0.25, causal=True"),
        (attention_graph(where=(CAUSAL[None, None], -np.inf)), ", scale=0.25, causal=True"),
        (
            attention_graph(where=(CAUSAL, -3e38)),
            ", mask=%mask, scale=0.25, mask_replaces=True, mask_is_causal=True",
        ),
        (attention_graph(where=(CAUSAL, -1e30)), ", mask=%mask, scale=0.25, mask_replaces=True"),
        (attention_graph(where=(CAUSAL, np.nan)), ", mask=%mask, scale=0.25, mask_replaces=True"),
        (attention_graph(where=(PADDING, -np.inf)), ", mask=%mask, scale=0.25, mask_replaces=True"),
        (attention_graph(where=(PADDING, -1e4)), ", mask=%mask, scale=0.25, mask_replaces=True"),
        (
            attention_graph(mask=random(3, 4, 5), where=(CAUSAL, -np.inf)),
            ", mask=%mask, scale=0.25, causal=True",
        ),
        (
            attention_graph(mask=additive(PADDING), where=(CAUSAL, -np.inf)),
            ", mask=%mask, scale=0.25, causal=True",
        ),
    ],
)
def test_attention_fires(graph: Graph, arguments: str) -> None:
    after, log = run_pass("fuse_attention", graph)
    assert log.fired("attention") == 1
    assert ops_of(after) == ["attention"]
    assert only_attention(after) == arguments


@pytest.mark.parametrize("batch", [(), (3,), (2, 3, 2)])
def test_attention_folds_other_ranks_to_four_axes(batch: tuple[int, ...]) -> None:
    graph = attention_graph(batch=batch, mask=random(4, 5))
    after, log = run_pass("fuse_attention", graph)
    assert log.fired("attention") == 1
    assert ops_of(after) == ["reshape"] * 3 + ["attention", "reshape"]


def test_attention_undoes_a_permutation_of_the_keys() -> None:
    builder = GraphBuilder()
    q, k = builder.input("q", (2, 3, 4, 8)), builder.input("k", (2, 5, 3, 8))
    v = builder.input("v", (2, 3, 5, 8))
    scores = builder.node("matmul", [q, builder.node("permute", [k], {"perm": (0, 2, 3, 1)})])
    graph = builder.finish(builder.node("matmul", [builder.node("softmax", [scores]), v]))
    after, log = run_pass("fuse_attention", graph)
    assert log.fired("attention") == 1
    assert nodes_of(after)[0] == "%permute_2 = permute(%k, perm=(0, 2, 1, 3))  # [2, 3, 5, 8]"
    assert ops_of(after) == ["permute", "attention"]


def test_attention_finds_a_mask_that_matmul_add_took() -> None:
    builder = GraphBuilder()
    q, k, v = (builder.input(name, (1, 1, 4, 8)) for name in "qkv")
    scores = builder.node("matmul", [q, k], {"transpose_b": True, "alpha": 0.5})
    scores = builder.node("add", [scores, builder.input("mask", (1, 1, 4, 4))])
    graph = builder.finish(builder.node("matmul", [builder.node("softmax", [scores]), v]))
    taken, log = run_pass("fuse_matmul_add", graph)
    assert log.fired("add_to_addend") == 1
    after, log = run_pass("fuse_attention", taken)
    assert log.fired("attention") == 1
    assert only_attention(after) == ", mask=%mask, scale=0.5"


def test_attention_multiplies_scales_and_takes_a_where_of_either_kind() -> None:
    builder = GraphBuilder()
    q, k, v = (builder.input(name, (1, 2, 4, 8)) for name in "qkv")
    scores = builder.node("matmul", [q, k], {"transpose_b": True, "alpha": 0.75})
    scores = builder.node("mul", [builder.constant("c", 0.5), scores])
    scores = builder.node("div", [scores, builder.constant("d", 4.0)])
    hidden = builder.constant("hidden", 1 - np.tri(4))
    scores = builder.node("where", [hidden, builder.constant("low", -np.inf), scores])
    graph = builder.finish(builder.node("matmul", [builder.node("softmax", [scores]), v]))
    after, log = run_pass("fuse_attention", graph)
    assert log.fired("attention") == 1
    assert only_attention(after) == ", scale=0.09375, causal=True"


def test_attention_refuses_a_mask_that_widens_the_scores() -> None:
    builder = GraphBuilder()
    q, k = builder.input("q", (1, 2, 4, 8)), builder.input("k", (1, 2, 4, 8))
    scores = builder.node("matmul", [q, k], {"transpose_b": True})
    scores = builder.node("add", [scores, builder.constant("mask", random(3, 1, 4, 4))])
    v = builder.input("v", (3, 2, 4, 8))
    graph = builder.finish(builder.node("matmul", [builder.node("softmax", [scores]), v]))
    _, log = run_pass("fuse_attention", graph)
    assert log.fired("attention") == 0 and not log.refused("attention")


def test_attention_refuses_a_mask_below_the_scale() -> None:
    builder = GraphBuilder()
    q, k, v = (builder.input(name, (1, 1, 4, 8)) for name in "qkv")
    mask = builder.input("mask", (1, 1, 4, 4))
    scores = builder.node("matmul", [q, k, None, mask], {"transpose_b": True})
    scores = builder.node("mul", [scores, builder.constant("c", 0.5)])
    graph = builder.finish(builder.node("matmul", [builder.node("softmax", [scores]), v]))
    _, log = run_pass("fuse_attention", graph)
    assert [why for _, why in log.refused("attention")] == [
        "a mask is added before the scores are scaled"
    ]


@pytest.mark.parametrize(
    ("second", "attributes", "reason"),
    [
        (None, {"transpose_b": True}, "a transposed v"),
        (None, {"alpha": 2.0}, "a factor"),
        ("addend", {}, "an addend"),
        (None, {"activation": "relu"}, "an activation"),
    ],
)
def test_attention_refuses_a_second_product_that_does_more(
    second: str | None, attributes: dict[str, object], reason: str
) -> None:
    builder = GraphBuilder()
    q, k, v = (builder.input(name, (1, 1, 8, 8)) for name in "qkv")
    weights = builder.node("softmax", [builder.node("matmul", [q, k], {"transpose_b": True})])
    addend = builder.input("addend", (1, 1, 8, 8)) if second else None
    graph = builder.finish(builder.node("matmul", [weights, v, None, addend], attributes))
    _, log = run_pass("fuse_attention", graph)
    ((_, why),) = log.refused("attention")
    assert why == f"the product of weights and v also has {reason}"


def one_head(batch: int = 1, rows: tuple[int, ...] = (3,), of_v: tuple[int, ...] = ()) -> Graph:
    """Attention of heads of q that are multiplied by one matrix of keys and one of values."""
    builder = GraphBuilder()
    q, k = builder.input("q", (batch, *rows, 4, 8)), builder.input("k", (8, 5))
    v = builder.input("v", (*of_v, 5, 7))
    scores = builder.node("matmul", [q, k], {"alpha": 0.5})
    return builder.finish(builder.node("matmul", [builder.node("softmax", [scores]), v]))


@pytest.mark.parametrize("rows", [(3,), ()])
def test_attention_of_heads_that_share_a_matrix(rows: tuple[int, ...]) -> None:
    after, log = run_pass("fuse_attention", one_head(rows=rows))
    assert log.fired("attention") == 1
    (attention,) = [node for node in after.nodes if node.op == "attention"]
    heads = rows[0] if rows else 1
    shapes = [value and value.shape for value in attention.inputs]
    assert shapes == [(1, heads, 4, 8), (1, 1, 5, 8), (1, 1, 5, 7), None]
    assert set(ops_of(after)) == {"permute", "reshape", "attention"}


@pytest.mark.parametrize("graph", [one_head(batch=2), one_head(of_v=(1, 3))])
def test_attention_refuses_other_matrices(graph: Graph) -> None:
    """One that all items of a batch share, and keys without heads for values with them."""
    after, log = run_pass("fuse_attention", graph)
    ((_, reason),) = log.refused("attention")
    assert reason.endswith("differ in batch or heads") and ops_of(after) == ops_of(graph)


# Soft caps: c * tanh(scores / c)


def capped(*steps: tuple[str, float | Array], alpha: float = 0.5, masked: bool = False) -> Graph:
    """Attention whose scores go through steps: an op and its second operand, which tanh lacks."""
    builder = GraphBuilder()
    q, k, v = (builder.input(name, (1, 2, 4, 8)) for name in "qkv")
    scores = builder.node("matmul", [q, k], {"transpose_b": True, "alpha": alpha})
    if masked:
        scores = builder.node("add", [scores, builder.input("mask", (4, 4))])
    for op, number in steps:
        operands = [scores] if op == "tanh" else [scores, builder.constant("number", number)]
        scores = builder.node(op, operands)
    return builder.finish(builder.node("matmul", [builder.node("softmax", [scores]), v]))


@pytest.mark.parametrize(
    ("graph", "arguments"),
    [
        (capped(("div", 4.0), ("tanh", 0), ("mul", 4.0)), ", scale=0.5, softcap=4.0"),
        (capped(("tanh", 0)), ", scale=0.5, softcap=1.0"),
        (capped(("tanh", 0), ("mul", 4.0), ("mul", 2.0), alpha=0.125), ", scale=1.0, softcap=8.0"),
        (
            capped(("tanh", 0), ("mul", 8.0), ("add", np.where(np.tri(4), 0, -np.inf))),
            ", mask=%number_2, scale=4.0, softcap=8.0, mask_is_causal=True",
        ),
    ],
)
def test_attention_takes_a_soft_cap(graph: Graph, arguments: str) -> None:
    after, log = run_pass("fuse_attention", graph)
    assert log.fired("attention") == 1 and ops_of(after) == ["attention"]
    assert only_attention(after) == arguments


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (capped(("tanh", 0), ("mul", -4.0)), "the softmax is taken of tanh, not of a product"),
        (capped(("tanh", 0), ("tanh", 0)), "the softmax is taken of tanh, not of a product"),
        (capped(("tanh", 0), masked=True), "a mask is added before the scores are capped"),
        (capped(("tanh", 0), ("mul", random(4))), "the scores are not scaled by a scalar constant"),
        (
            capped(("tanh", 0), ("mul", 2.0**25)),
            "the factor 3.35544e+07 is not between 2^-24 and 2^24",
        ),
    ],
)
def test_attention_refuses_other_caps(graph: Graph, reason: str) -> None:
    after, log = run_pass("fuse_attention", graph)
    assert [why for _, why in log.refused("attention")] == [reason]
    assert ops_of(after) == ops_of(graph)


def unlike_attention(change: str) -> Graph:
    """Attention written out with one thing that cannot be fused."""
    builder = GraphBuilder()
    q, k = builder.input("q", (1, 2, 4, 8)), builder.input("k", (1, 2, 8, 4))
    v = builder.input("v", (1, 2, 4, 8))
    scores = builder.node("matmul", [q, k], name="scores")
    if change == "vector scale":
        scores = builder.node("mul", [scores, builder.constant("c", random(4))])
    if change == "dynamic fill":
        condition, low = builder.constant("condition", np.tri(4)), builder.input("low", ())
        scores = builder.node("where", [condition, scores, low])
    if change == "relu":
        scores = builder.node("relu", [scores])
    weights = builder.node("softmax", [scores])
    out = builder.node("matmul", [weights, v], name="out")
    if change == "second reader":
        return builder.finish(out, weights)
    if change == "scores read":
        return builder.finish(out, scores)
    return builder.finish(out)


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (unlike_attention("vector scale"), "the scores are not scaled by a scalar constant"),
        (
            unlike_attention("dynamic fill"),
            "neither side of the mask is a scalar constant",
        ),
        (unlike_attention("relu"), "the softmax is taken of relu, not of a product"),
        (unlike_attention("second reader"), "softmax is also read by the graph's output"),
        (unlike_attention("scores read"), "scores is also read by the graph's output"),
        (
            attention_graph(where=(CAUSAL, 0.0)),
            "masked scores are 0, which a mask says of those that stay",
        ),
        (
            attention_graph(mask=random(4, 5), where=(PADDING, -np.inf)),
            "one mask replaces scores, another one is added to them",
        ),
        (
            attention_graph(mask=random(4, 5), where=(CAUSAL, -3e38)),
            "one mask replaces scores, another one is added to them",
        ),
        (
            attention_graph(batch=(2, 3, 2), mask=random(3, 1, 4, 5)),
            "a mask of [3, 1, 4, 5] cannot be folded to four axes",
        ),
    ],
)
def test_attention_refuses(graph: Graph, reason: str) -> None:
    after, log = run_pass("fuse_attention", graph)
    assert log.fired("attention") == 0
    assert [why for _, why in log.refused("attention")] == [reason]
    assert ops_of(after) == ops_of(graph)


@pytest.mark.parametrize("how", ["mask", "where", "both", "bias"])
def test_attention_keeps_a_row_without_keys_nan(how: str) -> None:
    """Softmax makes it NaN, and so does a strict attention."""
    rows = np.tri(4, 5, dtype=np.float32) if how == "both" else np.ones((4, 5), np.float32)
    rows[2] = rows[2] if how == "both" else 0
    first = np.array([0, 0, 0, 1, 1], np.float32)
    masks = {
        "mask": additive(rows),
        "both": additive(first),
        "bias": additive(rows) + random(4, 5),
    }
    where = (rows, -np.inf) if how in ("where", "both") else None
    graph = attention_graph(mask=masks.get(how), where=where)
    after, log = run_pass("fuse_attention", graph)
    assert log.fired("attention") == 1
    got = interpret(after, inputs_of(after))[0]
    assert np.isnan(got[:, :, 2]).all() and not np.isnan(got[:, :, 3]).any()


def masked_twice(outer: str, inner: str, fill: float = -np.inf, dynamic: bool = False) -> Graph:
    """softmax(outer(inner(q @ k^T))) @ v of constant masks; `dynamic` makes the added an input."""
    builder = GraphBuilder()
    q, k, v = (builder.input(name, (1, 2, 4, 8)) for name in "qkv")
    scores = builder.node("matmul", [q, k], {"transpose_b": True})
    keep = {"causal": np.tri(4), "padding": np.array([1, 1, 0, 1])}
    for kind in (inner, outer):
        if kind == "added":
            mask = builder.input("mask", (4, 4)) if dynamic else builder.constant("m", random(4, 4))
            scores = builder.node("add", [scores, mask])
        elif kind == "hiding":
            mask = builder.constant("m", additive(np.array([1, 1, 1, 0])))
            scores = builder.node("add", [scores, mask])
        else:
            low = builder.constant("low", fill)
            scores = builder.node("where", [builder.constant("c", keep[kind]), scores, low])
    return builder.finish(builder.node("matmul", [builder.node("softmax", [scores]), v]))


@pytest.mark.parametrize(
    ("graph", "arguments"),
    [
        (masked_twice("causal", "padding"), ", mask=%mask, causal=True, mask_replaces=True"),
        (masked_twice("padding", "causal"), ", mask=%mask, causal=True, mask_replaces=True"),
        (masked_twice("padding", "causal", -1e4), ", mask=%mask, mask_replaces=True"),
        (masked_twice("causal", "added"), ", mask=%m, causal=True"),
        (masked_twice("added", "causal"), ", mask=%m, causal=True"),
        (masked_twice("causal", "added", dynamic=True), ", mask=%mask, causal=True"),
        (masked_twice("hiding", "hiding"), ", mask=%mask"),
        (masked_twice("added", "hiding"), ", mask=%mask"),
        (masked_twice("added", "hiding", dynamic=True), ", mask=%add_3"),
    ],
)
def test_attention_joins_masks(graph: Graph, arguments: str) -> None:
    after, log = run_pass("fuse_attention", graph)
    assert log.fired("attention") == 1
    assert only_attention(after).replace(", scale=1.0", "") == arguments


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (masked_twice("added", "padding"), "one mask replaces scores, another one is added"),
        (
            masked_twice("added", "causal", dynamic=True),
            "a mask that may be NaN or infinity is added to hidden scores",
        ),
    ],
)
def test_attention_refuses_masks_that_are_not_one(graph: Graph, reason: str) -> None:
    after, log = run_pass("fuse_attention", graph)
    assert ops_of(after) == ops_of(graph)
    assert [why[: len(reason)] for _, why in log.refused("attention")] == [reason]


def test_attention_with_a_mask_that_is_an_input() -> None:
    builder = GraphBuilder()
    q, k, v = (builder.input(name, (1, 2, 4, 8)) for name in "qkv")
    scores = builder.node("matmul", [q, k], {"transpose_b": True})
    scores = builder.node("add", [scores, builder.input("mask", (1, 1, 4, 4))])
    graph = builder.finish(builder.node("matmul", [builder.node("softmax", [scores]), v]))
    after, log = run_pass("fuse_attention", graph)
    assert log.fired("attention") == 1
    assert only_attention(after) == ", mask=%mask, scale=1.0"


def padded(repeated: bool) -> Graph:
    """Keys hidden by a condition that is an input, repeated for each query or not."""
    builder = GraphBuilder()
    q, k, v = (builder.input(name, (2, 3, 4, 8)) for name in "qkv")
    condition = builder.input("padding", (2, 1, 1, 4))
    if repeated:
        ids = builder.constant("ids", np.zeros(4))
        condition = builder.node("take", [condition, ids], {"axis": 2})
    scores = builder.node("matmul", [q, k], {"transpose_b": True})
    low = builder.constant("low", -np.inf)
    for keep in (condition, builder.constant("causal", np.tri(4))):
        scores = builder.node("where", [keep, scores, low])
    return builder.finish(builder.node("matmul", [builder.node("softmax", [scores]), v]))


@pytest.mark.parametrize("repeated", [False, True])
def test_padding_stays_as_small_as_it_is(repeated: bool) -> None:
    after, log = run_pass("fuse_attention", padded(repeated))
    assert log.fired("attention") == 1
    where, attention = after.nodes
    assert where.op == "where" and where.output.shape == (2, 1, 1, 4)
    assert str(attention).endswith(
        "mask=%where_3, scale=1.0, causal=True, mask_replaces=True, strict=True)  # [2, 3, 4, 8]"
    )


NEAR = np.tri(4, 5) * (np.tri(4, 5, -2) == 0)  # each key and the one before


@pytest.mark.parametrize(
    ("graph", "arguments"),
    [
        (attention_graph(where=(NEAR, -np.inf)), ", scale=0.25, causal=True, window=2"),
        (
            attention_graph(where=(NEAR, -np.inf), mask=random(4, 5)),
            ", mask=%mask, scale=0.25, causal=True, window=2",
        ),
        (
            attention_graph(mask=additive(NEAR, -3e38)),
            ", mask=%mask, scale=0.25, mask_is_causal=True, window=2",
        ),
        (attention_graph(mask=additive(NEAR, -1e4)), ", mask=%mask, scale=0.25"),
        (
            attention_graph(where=(np.fliplr(NEAR), -np.inf)),
            ", mask=%mask, scale=0.25, mask_replaces=True",
        ),
    ],
)
def test_attention_finds_a_sliding_window(graph: Graph, arguments: str) -> None:
    after, log = run_pass("fuse_attention", graph)
    assert log.fired("attention") == 1 and only_attention(after) == arguments


def test_a_mask_that_hides_nothing_is_left_out() -> None:
    for mask in (np.zeros((1, 1, 4, 4)), np.full((4,), -0.0)):
        graph = masked(mask)
        after, log = run_pass("fuse_attention", graph)
        assert log.fired("attention") == 1 and only_attention(after) == ", scale=1.0"


def masked(*masks: Array) -> Graph:
    """Attention of (2, 3, 4, 8) with constant masks added."""
    builder = GraphBuilder()
    q, k, v = (builder.input(name, (2, 3, 4, 8)) for name in "qkv")
    scores = builder.node("matmul", [q, k], {"transpose_b": True})
    for mask in masks:
        scores = builder.node("add", [scores, builder.constant("m", mask)])
    return builder.finish(builder.node("matmul", [builder.node("softmax", [scores]), v]))


@pytest.mark.parametrize("low", [-np.inf, -3e38])
def test_a_causal_mask_that_is_the_same_for_each_sequence(low: float) -> None:
    mask = np.broadcast_to(additive(np.tri(4), low), (2, 1, 4, 4))
    after, _ = run_pass("fuse_attention", masked(mask))
    (attention,) = after.nodes
    assert attention.attribute("mask_is_causal") and attention.inputs[3] is not None
    assert attention.inputs[3].shape == (1, 1, 4, 4)


def test_a_constant_mask_is_cut_to_what_differs() -> None:
    row = additive(np.array([1, 1, 0, 1], np.float32))
    after, _ = run_pass("fuse_attention", masked(np.broadcast_to(row, (2, 1, 4, 4))))
    (attention,) = after.nodes
    assert attention.inputs[3] is not None and attention.inputs[3].shape == (1, 1, 1, 4)
