"""Each pass on a small graph: what it prints before and after, how often it fires, what it refuses.

`run_pass` also checks that the result is valid and computes the same.
"""

from __future__ import annotations

import numpy as np
import pytest
from small_graphs import (
    GENERATOR,
    attention_graph,
    inputs_of,
    nodes_of,
    ops_of,
    random,
    run_pass,
)

from ablation_executor.interpreter import interpret
from ablation_executor.ir import Array, Graph, GraphBuilder, Value, verify
from ablation_executor.passes import DEFAULT_PASSES, PASSES, optimize
from ablation_executor.rewrite import RewriteLog


def linear_graph(*, relu: bool = False, residual: bool = False) -> Graph:
    """x @ weight.T + bias, as export writes it, with a ReLU or a residual behind it."""
    builder = GraphBuilder()
    x = builder.input("x", (1, 3, 4))
    weight = builder.constant("weight", random(4, 4))
    transposed = builder.node("permute", [weight], {"perm": (1, 0)}, name="transposed")
    out = builder.node("matmul", [x, transposed], name="product")
    out = builder.node("add", [out, builder.constant("bias", random(4))], name="biased")
    if relu:
        out = builder.node("relu", [out])
    if residual:
        out = builder.node("add", [x, out], name="residual")
    return builder.finish(out)


# absorb_into_matmul


def test_absorb_takes_a_weight_transpose() -> None:
    graph = linear_graph()
    assert nodes_of(graph)[:2] == [
        "%transposed = permute(%weight, perm=(1, 0))  # [4, 4]",
        "%product = matmul(%x, %transposed)  # [1, 3, 4]",
    ]
    after, log = run_pass("absorb_into_matmul", graph)
    assert log.fired("absorb_transpose") == 1
    assert nodes_of(after)[0] == "%product = matmul(%x, %weight, transpose_b=True)  # [1, 3, 4]"
    assert ops_of(after) == ["matmul", "add"]


def test_absorb_cancels_two_transposes() -> None:
    builder = GraphBuilder()
    a, b = builder.input("a", (2, 3, 4)), builder.input("b", (2, 4, 5))
    b = builder.node("permute", [b], {"perm": (0, 2, 1)})
    graph = builder.finish(builder.node("matmul", [a, b], {"transpose_b": True}))
    after, log = run_pass("absorb_into_matmul", graph)
    assert log.fired("absorb_transpose") == 1
    assert nodes_of(after) == ["%matmul = matmul(%a, %b)  # [2, 3, 5]"]


def test_absorb_refuses_another_permutation() -> None:
    builder = GraphBuilder()
    a, b = builder.input("a", (2, 3, 4)), builder.constant("b", random(4, 2, 5))
    b = builder.node("permute", [b], {"perm": (1, 0, 2)})
    graph = builder.finish(builder.node("matmul", [a, b]))
    after, log = run_pass("absorb_into_matmul", graph)
    assert log.fired("absorb_into_matmul") == 0
    assert log.refused("absorb_transpose") == [
        ("matmul", "perm (1, 0, 2) is not a swap of the last two axes")
    ]
    assert ops_of(after) == ["permute", "matmul"]


def test_absorb_keeps_a_transpose_that_others_read() -> None:
    builder = GraphBuilder()
    a, b = builder.input("a", (3, 4)), builder.input("b", (5, 4))
    transposed = builder.node("permute", [b], {"perm": (1, 0)})
    product = builder.node("matmul", [a, transposed])
    graph = builder.finish(product, builder.node("relu", [transposed]))
    after, log = run_pass("absorb_into_matmul", graph)
    assert log.fired("absorb_transpose") == 1
    assert sorted(ops_of(after)) == ["matmul", "permute", "relu"]


@pytest.mark.parametrize(
    ("op", "number", "alpha"), [("mul", 0.5, "0.5"), ("div", 8.0, "0.125"), ("div", -2.0, "-0.5")]
)
def test_absorb_takes_a_scalar(op: str, number: float, alpha: str) -> None:
    builder = GraphBuilder()
    a, b = builder.input("a", (3, 4)), builder.input("b", (4, 5))
    out = builder.node("matmul", [a, b], name="product")
    out = builder.node(op, [out, builder.constant("c", number)])
    after, log = run_pass("absorb_into_matmul", builder.finish(out))
    assert log.fired("absorb_into_matmul") == 1
    assert nodes_of(after) == [f"%product = matmul(%a, %b, alpha={alpha})  # [3, 5]"]


def scaled_product(
    scale: Value | None, builder: GraphBuilder, op: str = "mul", swap: bool = False
) -> Graph:
    a, b = builder.input("a", (3, 4)), builder.input("b", (4, 5))
    product = builder.node("matmul", [a, b], name="product")
    operands = [scale or builder.input("c", (3, 5)), product]
    return builder.finish(builder.node(op, operands if swap else operands[::-1], name="scaled"))


def test_absorb_refuses_what_is_not_a_scalar_factor() -> None:
    builder = GraphBuilder()
    cases = [
        (scaled_product(None, builder), "c is not a scalar constant"),
    ]
    builder = GraphBuilder()
    vector = builder.constant("v", random(5))
    cases.append((scaled_product(vector, builder), "v is not a scalar constant"))
    builder = GraphBuilder()
    number = builder.constant("n", 2.0)
    cases.append((scaled_product(number, builder, "div", True), "the product is the divisor"))
    for graph, reason in cases:
        after, log = run_pass("absorb_into_matmul", graph)
        assert log.refused("absorb_scale_of_product") == [("scaled", reason)]
        assert ops_of(after) == ops_of(graph)


def test_absorb_refuses_a_product_with_a_second_reader() -> None:
    builder = GraphBuilder()
    graph = scaled_product(builder.constant("n", 2.0), builder)
    graph.outputs.append(graph.nodes[0].output)
    _, log = run_pass("absorb_into_matmul", graph)
    assert log.refused("absorb_scale_of_product") == [
        ("scaled", "product is also read by the graph's output")
    ]


def test_absorb_multiplies_factors() -> None:
    builder = GraphBuilder()
    a, b = builder.input("a", (3, 4)), builder.input("b", (4, 5))
    out = builder.node("matmul", [a, b], {"alpha": 0.75}, name="product")
    out = builder.node("mul", [builder.constant("c", 0.5), out])
    out = builder.node("div", [out, builder.constant("d", 4.0)])
    after, log = run_pass("absorb_into_matmul", builder.finish(out))
    assert log.fired("absorb_into_matmul") == 2
    assert nodes_of(after) == ["%product = matmul(%a, %b, alpha=0.09375)  # [3, 5]"]


@pytest.mark.parametrize("where", ["a", "b"])
def test_absorb_leaves_the_scaling_of_an_operand(where: str) -> None:
    """c (a @ b) overflows where (c a) @ b does not."""
    builder = GraphBuilder()
    operands = {"a": builder.input("a", (3, 4)), "b": builder.input("b", (4, 5))}
    scaled = builder.node("mul", [operands[where], builder.constant("c", 0.125)])
    operands[where] = scaled
    graph = builder.finish(builder.node("matmul", [*operands.values()]))
    after, log = run_pass("absorb_into_matmul", graph)
    assert log.fired("absorb_into_matmul") == 0 and ops_of(after) == ["mul", "matmul"]


@pytest.mark.parametrize(
    ("op", "number", "alpha", "reason"),
    [
        *(
            ("mul", number, 1.0, f"the factor {number:g} is not between 2^-24 and 2^24")
            for number in (0.0, np.inf, np.nan, 1e30, -1e-30, 2.0**-140)
        ),
        *(
            ("div", number, 1.0, f"the factor {1 / number:g} is not between 2^-24 and 2^24")
            for number in (np.inf, np.nan, 1e30, -1e-30, 2.0**-140)
        ),
        ("div", 0.0, 1.0, "the divisor is zero"),
        ("mul", 0.5, 3.0, "one of the factors 3 and 0.5 is below 1, the other above"),
        ("div", 0.5, 0.25, "one of the factors 0.25 and 2 is below 1, the other above"),
        ("mul", 2.0**20, 2.0**10, f"the factor {2.0**30:g} is not between 2^-24 and 2^24"),
        ("mul", 1.0, float("nan"), "the factor nan is not between 2^-24 and 2^24"),
    ],
)
def test_absorb_refuses_a_factor_that_may_overflow(
    op: str, number: float, alpha: float, reason: str
) -> None:
    builder = GraphBuilder()
    a, b = builder.input("a", (3, 4)), builder.input("b", (4, 5))
    product = builder.node("matmul", [a, b], {"alpha": alpha})
    graph = builder.finish(
        builder.node(op, [product, builder.constant("c", np.float32(number))], name="scaled")
    )
    log = RewriteLog()
    after = PASSES["absorb_into_matmul"](graph, log)
    assert str(after) == str(graph)
    assert ("scaled", reason) in log.refused("absorb_scale_of_product")


@pytest.mark.parametrize(
    ("slots", "attributes", "reason"),
    [
        ((True, False), {}, "the product already has a bias or an addend, which alpha does not"),
        ((False, True), {}, "the product already has a bias or an addend, which alpha does not"),
        ((False, False), {"activation": "relu"}, "the product already has an activation"),
    ],
)
def test_absorb_refuses_to_scale_more_than_the_product(
    slots: tuple[bool, bool], attributes: dict[str, str], reason: str
) -> None:
    builder = GraphBuilder()
    inputs: list[Value | None] = [builder.input("a", (3, 4)), builder.input("b", (4, 5))]
    inputs.append(builder.input("bias", (5,)) if slots[0] else None)
    inputs.append(builder.input("addend", (3, 5)) if slots[1] else None)
    product = builder.node("matmul", inputs, attributes)
    graph = builder.finish(builder.node("mul", [product, builder.constant("c", 2.0)]))
    after, log = run_pass("absorb_into_matmul", graph)
    assert log.fired("absorb_into_matmul") == 0 and ops_of(after) == ["matmul", "mul"]
    assert log.refused("absorb_scale_of_product")[0][1].startswith(reason)


# fold_constants


def test_fold_turns_a_transposed_weight_into_a_constant() -> None:
    graph = linear_graph()
    after, log = run_pass("fold_constants", graph)
    assert log.fired("fold") == 1
    assert nodes_of(after)[0] == "%product = matmul(%x, %transposed)  # [1, 3, 4]"
    assert {value.name for value in after.constants} == {"transposed", "bias"}


def test_fold_follows_chains_and_removes_dead_code() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (2, 2))
    chain = builder.node("relu", [builder.constant("c", random(2, 2))])
    chain = builder.node("reshape", [builder.node("gelu", [chain])], {"shape": (4,)})
    chain = builder.node("reshape", [chain], {"shape": (2, 2)})
    builder.node("softmax", [builder.node("relu", [x], name="dead")], name="dead_too")
    graph = builder.finish(builder.node("add", [x, chain]))
    # A folded constant is rounded to float32.
    after, log = run_pass("fold_constants", graph, tolerance=1e-6)
    assert (log.fired("fold"), log.fired("remove_dead_code")) == (4, 2)
    assert ops_of(after) == ["add"]
    assert len(after.constants) == 1


def test_fold_keeps_an_output_that_is_constant() -> None:
    builder = GraphBuilder()
    builder.input("x", (1,))
    graph = builder.finish(builder.node("relu", [builder.constant("c", random(3))]))
    after, log = run_pass("fold_constants", graph)
    assert log.fired("fold") == 1 and after.outputs[0] in after.constants


# fuse_matmul_add


def test_matmul_add_fires_twice_on_one_product() -> None:
    graph = linear_graph(residual=True)
    after, log = run_pass("fuse_matmul_add", graph)
    assert (log.fired("add_to_bias"), log.fired("add_to_addend")) == (1, 1)
    assert nodes_of(after)[1:] == [
        "%product = matmul(%x, %transposed, bias=%bias, addend=%x)  # [1, 3, 4]"
    ]


def test_matmul_add_takes_the_product_on_either_side() -> None:
    for position in (0, 1):
        builder = GraphBuilder()
        product = builder.node("matmul", [builder.input("a", (2, 3)), builder.input("b", (3, 4))])
        operands = [builder.input("c", (2, 4)), builder.input("c", (2, 4))]
        operands[position] = product
        after, log = run_pass("fuse_matmul_add", builder.finish(builder.node("add", operands)))
        assert log.fired("add_to_addend") == 1 and ops_of(after) == ["matmul"]


def test_matmul_add_of_two_products_keeps_one() -> None:
    builder = GraphBuilder()
    a, b = builder.input("a", (3, 3)), builder.input("b", (3, 3))
    first, second = builder.node("matmul", [a, b]), builder.node("matmul", [b, a])
    graph = builder.finish(builder.node("add", [first, second]))
    after, log = run_pass("fuse_matmul_add", graph)
    assert log.fired("add_to_addend") == 1 and ops_of(after) == ["matmul", "matmul"]


def test_matmul_add_of_two_branches_and_a_residual() -> None:
    builder = GraphBuilder()
    a, b = builder.input("a", (3, 3)), builder.input("b", (3, 3))
    first, second = builder.node("matmul", [a, b]), builder.node("matmul", [b, a])
    both = builder.node("add", [first, second])
    graph = builder.finish(builder.node("add", [builder.node("relu", [a]), both]))
    after, log = run_pass("fuse_matmul_add", graph)
    assert log.fired("add_to_addend") == 2 and ops_of(after) == ["relu", "matmul", "matmul"]
    assert after.nodes[1].inputs[3] is after.nodes[0].output


def test_matmul_add_leaves_the_relu_its_add() -> None:
    after, log = run_pass("fuse_matmul_add", linear_graph(relu=True))
    assert log.fired("fuse_matmul_add") == 0
    assert log.refused("add_to_bias") == [("biased", "left to fuse_bias_relu")]
    assert ops_of(after) == ["permute", "matmul", "add", "relu"]


def test_matmul_add_refuses() -> None:
    builder = GraphBuilder()
    product = builder.node("matmul", [builder.input("a", (1, 4)), builder.input("b", (4, 4))])
    widened = builder.node("add", [product, builder.input("c", (3, 4))], name="widened")
    doubled = builder.node("add", [product, product], name="doubled")
    graph = builder.finish(widened, doubled)
    after, log = run_pass("fuse_matmul_add", graph)
    assert log.fired("fuse_matmul_add") == 0
    reasons = dict(log.refused("add_to_addend"))
    assert reasons == {
        "widened": "%c: float32[3, 4] has not the product's shape [1, 4]",
        "doubled": "the product is added to itself",
    }
    assert ops_of(after) == ["matmul", "add", "add"]


def test_matmul_add_refuses_a_product_with_a_second_reader() -> None:
    builder = GraphBuilder()
    product = builder.node("matmul", [builder.input("a", (2, 4)), builder.input("b", (4, 4))])
    added = builder.node("add", [product, builder.input("c", (2, 4))])
    graph = builder.finish(added, builder.node("softmax", [product]))
    _, log = run_pass("fuse_matmul_add", graph)
    assert log.refused("add_to_addend") == [("add", "matmul is also read by softmax")]


def test_matmul_add_refuses_a_slot_that_is_taken() -> None:
    builder = GraphBuilder()
    product = builder.node("matmul", [builder.input("a", (2, 4)), builder.input("b", (4, 4))])
    for _ in range(2):
        product = builder.node("add", [product, builder.constant("vector", random(4))])
    for _ in range(2):
        product = builder.node("add", [product, builder.input("full", (2, 4))])
    after, log = run_pass("fuse_matmul_add", builder.finish(product))
    assert (log.fired("add_to_bias"), log.fired("add_to_addend")) == (1, 0)
    assert ("add_2", "the product already has a bias") in log.refused("add_to_bias")
    assert ops_of(after) == ["matmul", "add", "add", "add"]

    builder = GraphBuilder()
    product = builder.node("matmul", [builder.input("a", (2, 4)), builder.input("b", (4, 4))])
    for _ in range(2):
        product = builder.node("add", [product, builder.input("full", (2, 4))])
    after, log = run_pass("fuse_matmul_add", builder.finish(product))
    assert log.fired("add_to_addend") == 1
    assert ("add_2", "the product already has an addend") in log.refused("add_to_addend")
    assert ops_of(after) == ["matmul", "add"]


# fuse_bias_relu


def test_bias_relu_fires_once() -> None:
    after, log = run_pass("fuse_bias_relu", linear_graph(relu=True))
    assert log.fired("bias_relu") == 1
    assert nodes_of(after)[-1] == "%bias_relu = bias_relu(%product, %bias)  # [1, 3, 4]"
    assert ops_of(after) == ["permute", "matmul", "bias_relu"]


def test_bias_relu_refuses_a_full_addend() -> None:
    builder = GraphBuilder()
    added = builder.node("add", [builder.input("a", (2, 3)), builder.input("b", (2, 3))])
    after, log = run_pass("fuse_bias_relu", builder.finish(builder.node("relu", [added])))
    assert ops_of(after) == ["add", "relu"]
    assert log.refused("bias_relu") == [
        (
            "relu",
            "%a: float32[2, 3] + %b: float32[2, 3] is not a tensor and a vector along its"
            " last axis",
        )
    ]


def test_bias_relu_refuses_an_add_that_is_an_output() -> None:
    graph = linear_graph(relu=True)
    graph.outputs.append(graph.nodes[-2].output)
    _, log = run_pass("fuse_bias_relu", graph)
    assert log.refused("bias_relu") == [("relu", "biased is also read by the graph's output")]


# fuse_attention

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
    assert [why for _, why in log.refused("attention")] == ["the mask widens the scores"]


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
        (None, {"transpose_b": True}, "the second product transposes v or scales"),
        (None, {"alpha": 2.0}, "the second product transposes v or scales"),
        ("addend", {}, "the second product already has a bias or an addend"),
        (None, {"activation": "relu"}, "the second product already has an activation"),
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
    assert [why for _, why in log.refused("attention")] == [reason]


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
        (capped(("tanh", 0), ("mul", -4.0)), "the cap -4 of the scores is not above 0"),
        (capped(("tanh", 0), ("tanh", 0)), "the scores are capped twice"),
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


# The pipeline


def feed_forward(builder: GraphBuilder, x: Value) -> Value:
    up = builder.node("permute", [builder.constant("up", random(16, 8))], {"perm": (1, 0)})
    hidden = builder.node(
        "add", [builder.node("matmul", [x, up]), builder.constant("b", random(16))]
    )
    down = builder.constant("down", random(16, 8))
    out = builder.node("matmul", [builder.node("relu", [hidden]), down])
    return builder.node("add", [x, builder.node("add", [out, builder.constant("b", random(8))])])


def test_every_subset_of_the_passes_computes_the_same() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (1, 2, 4, 8))
    keys = builder.node("permute", [x], {"perm": (0, 1, 3, 2)})
    scores = builder.node("matmul", [x, keys])
    scores = builder.node("div", [scores, builder.constant("c", 4.0)])
    scores = builder.node("add", [scores, builder.constant("mask", additive(np.tri(4)))])
    context = builder.node("matmul", [builder.node("softmax", [scores]), x])
    graph = builder.finish(feed_forward(builder, context))
    inputs = inputs_of(graph)
    want = interpret(graph, inputs, np.float64)[0]
    sizes = set()
    # What language models write out is not there: test_language_model_passes has those subsets
    others = {"fuse_rms_norm", "fuse_rotary", "fuse_silu_mul"}
    names = [name for name in DEFAULT_PASSES if name not in others]
    assert len(names) == len(DEFAULT_PASSES) - len(others)
    for chosen in range(2 ** len(names)):
        passes = [name for bit, name in enumerate(names) if chosen >> bit & 1]
        GENERATOR.shuffle(passes)
        after, _ = optimize(graph, passes)
        verify(after)
        np.testing.assert_allclose(
            interpret(after, inputs, np.float64)[0], want, rtol=1e-10, atol=1e-12
        )
        sizes.add(len(after.nodes))
    assert min(sizes) == 3 and max(sizes) == len(graph.nodes) == 13


def test_passes_run_in_the_pipeline_order_whatever_the_order_given() -> None:
    after, log = optimize(linear_graph(), ["fold_constants", "absorb_into_matmul"])
    assert log.entries[0].pass_name == "absorb_into_matmul"
    assert after.nodes[0].attribute("transpose_b") is True
    assert str(log).splitlines() == [
        "absorb_into_matmul: absorb_transpose fired 1 times",
        "linear product: product alone; left: 1 add (48 bytes): fuse_matmul_add did not run",
    ]


def test_an_unknown_pass_is_named_with_its_nearest() -> None:
    with pytest.raises(ValueError, match="unknown pass 'fuse_atention'; did you mean 'fuse_atten"):
        optimize(linear_graph(), ["fuse_atention"])


def test_no_passes_leave_the_graph_as_it_is() -> None:
    graph = linear_graph()
    after, log = optimize(graph, ())
    assert str(after) == str(graph) and after is not graph and not log.entries
