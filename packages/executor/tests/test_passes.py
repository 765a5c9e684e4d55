"""Each pass on a small graph: what it prints before and after, how often it fires, what it refuses.

`run_pass` also checks that the result is valid and computes the same.
"""

from __future__ import annotations

import numpy as np
import pytest
from small_graphs import (
    GENERATOR,
    inputs_of,
    nodes_of,
    ops_of,
    random,
    run_pass,
)

from ablation_executor.interpreter import interpret
from ablation_executor.ir import Graph, GraphBuilder, Value, verify
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
    assert log.fired("absorb_into_matmul") == 0 and not log.refused("absorb_transpose")
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
    cases = [scaled_product(None, GraphBuilder())]
    builder = GraphBuilder()
    cases.append(scaled_product(builder.constant("v", random(5)), builder))
    builder = GraphBuilder()
    cases.append(scaled_product(builder.constant("n", 2.0), builder, "div", True))
    for graph in cases:
        after, log = run_pass("absorb_into_matmul", graph)
        assert not log.refused("absorb_scale_of_product")
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
        ("div", 0.0, 1.0, "the factor inf is not between 2^-24 and 2^24"),
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
        ((True, False), {}, "the factor 2 is above 1, which may overflow before the bias"),
        ((False, True), {}, "the product already has an addend, which alpha does not"),
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
    assert log.fired("fuse_matmul_add") == 0 and not log.refused("add_to_bias")
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
    assert reasons == {"widened": "%c: float32[3, 4] has not the product's shape [1, 4]"}
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
    assert ops_of(after) == ["add", "relu"] and not log.refused("bias_relu")


def test_bias_relu_refuses_an_add_that_is_an_output() -> None:
    graph = linear_graph(relu=True)
    graph.outputs.append(graph.nodes[-2].output)
    _, log = run_pass("fuse_bias_relu", graph)
    assert log.refused("bias_relu") == [("relu", "biased is also read by the graph's output")]


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
    scores = builder.node(
        "add", [scores, builder.constant("mask", np.where(np.tri(4), 0, -np.inf))]
    )
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
