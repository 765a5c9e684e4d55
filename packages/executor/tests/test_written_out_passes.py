"""The passes for activations, norms and gates that are written out, each in many spellings.

`run_pass` also checks that the result is valid and computes the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from small_graphs import nodes_of, ops_of, random, run_pass

from ablation_executor.interpreter import interpret
from ablation_executor.ir import Graph, GraphBuilder, Value
from ablation_executor.passes import optimize

ROOT_TWO_OVER_PI = math.sqrt(2.0 / math.pi)


@dataclass(frozen=True)
class Written:
    """A value of a graph with Python's arithmetic; numbers become constants."""

    builder: GraphBuilder
    value: Value

    def node(self, op: str, *others: Any, **attributes: Any) -> Written:
        values = [self.value, *(self.of(other).value for other in others)]
        return Written(self.builder, self.builder.node(op, values, attributes))

    def of(self, other: Any) -> Written:
        if isinstance(other, Written):
            return other
        return Written(self.builder, self.builder.constant("c", other))

    def __add__(self, other: Any) -> Written:
        return self.node("add", other)

    def __radd__(self, other: Any) -> Written:
        return self.of(other) + self

    def __sub__(self, other: Any) -> Written:
        return self.node("sub", other)

    def __mul__(self, other: Any) -> Written:
        return self.node("mul", other)

    def __rmul__(self, other: Any) -> Written:
        return self.of(other) * self

    def __truediv__(self, other: Any) -> Written:
        return self.node("div", other)

    def __rtruediv__(self, other: Any) -> Written:
        return self.of(other) / self

    def __pow__(self, other: Any) -> Written:
        return self.node("pow", other)

    def mean(self) -> Written:
        """A product with a column, as export writes it."""
        size = self.value.shape[-1]
        return self.node("matmul", np.full((size, 1), 1.0 / size))

    def columns(self, start: int, stop: int) -> Written:
        axis = len(self.value.shape) - 1
        return self.node("slice", axis=axis, start=start, stop=stop)


Form = Callable[[Written], Written]


def graph_of(form: Form, *shape: int) -> Graph:
    builder = GraphBuilder()
    return builder.finish(form(Written(builder, builder.input("x", shape))).value)


def tanh(x: Written) -> Written:
    return x.node("tanh")


def erf(x: Written) -> Written:
    return x.node("erf")


def sigmoid(x: Written) -> Written:
    return x.node("sigmoid")


def sqrt(x: Written) -> Written:
    return x.node("sqrt")


def rsqrt(x: Written) -> Written:
    return x.node("rsqrt")


# fuse_gelu

GELUS: dict[str, tuple[Form, str]] = {
    "new": (
        lambda x: 0.5 * x * (1.0 + tanh(ROOT_TWO_OVER_PI * (x + 0.044715 * x**3.0))),
        "gelu(%x, approximate=tanh)",
    ),
    "cube of products": (
        lambda x: 0.5 * x * (1.0 + tanh((x + 0.044715 * (x * x * x)) * ROOT_TWO_OVER_PI)),
        "gelu(%x, approximate=tanh)",
    ),
    "fast": (
        lambda x: 0.5 * x * (1.0 + tanh(x * 0.7978845608 * (1.0 + 0.044715 * x * x))),
        "gelu(%x, approximate=tanh)",
    ),
    "bloom": (
        lambda x: x * 0.5 * (1.0 + tanh(0.79788456 * x * (1 + 0.044715 * x * x))),
        "gelu(%x, approximate=tanh)",
    ),
    "sum of two": (
        lambda x: 0.5 * x + 0.5 * x * tanh(ROOT_TWO_OVER_PI * (x + 0.044715 * x**3.0)),
        "gelu(%x, approximate=tanh)",
    ),
    "erf": (lambda x: x * 0.5 * (1.0 + erf(x / math.sqrt(2.0))), "gelu(%x)"),
    "erf, factor": (lambda x: (erf(x * math.sqrt(0.5)) + 1.0) * 0.5 * x, "gelu(%x)"),
    "quick": (lambda x: x * sigmoid(1.702 * x), "gelu(%x, approximate=sigmoid)"),
    "silu": (lambda x: sigmoid(x) * x, "silu(%x)"),
    "silu by exp": (lambda x: x / (1.0 + (x * -1.0).node("exp")), "silu(%x)"),
}


@pytest.mark.parametrize("form", GELUS)
def test_a_gelu_in_any_spelling_becomes_one_node(form: str) -> None:
    written, node = GELUS[form]
    # Constants are float32 in the graph and float64 in the reference.
    after, log = run_pass("fuse_gelu", graph_of(written, 2, 5), tolerance=1e-7)
    assert log.fired("fuse_gelu") == 1
    assert [line.partition(" = ")[2] for line in nodes_of(after)] == [f"{node}  # [2, 5]"]


def test_a_gelu_stops_at_what_is_activated() -> None:
    """x is a chain of element-wise nodes itself."""
    after, log = run_pass(
        "fuse_gelu", graph_of(lambda x: GELUS["new"][0](tanh(x * 0.3) + 1.0), 3, 4), tolerance=1e-7
    )
    assert log.fired("fuse_gelu") == 1
    assert ops_of(after) == ["mul", "tanh", "add", "gelu"]


@pytest.mark.parametrize(
    "form",
    [
        lambda x: 0.5 * x * (1.0 + tanh(ROOT_TWO_OVER_PI * (x + 0.0447 * x**3.0))),
        lambda x: 0.5 * x * (1.0 + tanh(0.798 * (x + 0.044715 * x**3.0))),
        lambda x: x * sigmoid(1.703 * x),
        lambda x: (x * 1.00001) * sigmoid(x),
        lambda x: tanh(x / 30.0) * 30.0,
        lambda x: x * (sigmoid(x) + 1e-6),
        lambda x: x * (1.0 + erf(x)),
    ],
)
def test_what_is_nearly_a_gelu_stays(form: Form) -> None:
    graph = graph_of(form, 2, 5)
    after, log = run_pass("fuse_gelu", graph)
    assert log.fired("fuse_gelu") == 0 and ops_of(after) == ops_of(graph)
    assert log.refused("fuse_gelu") == []


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        # twice the largest numbers is infinite
        (
            lambda x: x * (1.0 + erf(x / math.sqrt(2.0))) * 0.5,
            "the chain overflows where gelu does not",
        ),
        (
            lambda x: x * 1e30 * 1e-30 * sigmoid(x),
            "the chain overflows where silu does not",
        ),
    ],
)
def test_a_gelu_that_would_differ_is_refused(form: Form, reason: str) -> None:
    graph = graph_of(form, 3)
    after, log = run_pass("fuse_gelu", graph)
    assert ops_of(after) == ops_of(graph)
    assert [given for _, given in log.refused("fuse_gelu")] == [reason]


def test_a_gelu_whose_parts_are_read_is_refused() -> None:
    graph = graph_of(GELUS["erf"][0], 3)
    (core,) = [node for node in graph.nodes if node.op == "erf"]
    graph.outputs.append(core.output)
    _, log = run_pass("fuse_gelu", graph)
    assert log.fired("fuse_gelu") == 0
    graph = graph_of(lambda x: GELUS["new"][0](x), 3)
    (power,) = [node for node in graph.nodes if node.op == "pow"]
    graph.outputs.append(power.output)
    _, log = run_pass("fuse_gelu", graph)
    assert log.refused("fuse_gelu") == [("tanh", "pow is also read by the graph's output")]


@pytest.mark.parametrize(
    ("form", "activation"),
    [("new", "gelu_tanh"), ("erf", "gelu"), ("quick", "gelu_sigmoid"), ("silu", "silu")],
)
def test_an_activation_that_is_written_out_goes_into_its_product(
    form: str, activation: str
) -> None:
    graph = graph_of(lambda x: GELUS[form][0](x.node("matmul", random(4, 6)) + random(6)), 2, 3, 4)
    after, log = optimize(graph)
    assert log.fired("fuse_gelu") == log.fired("fuse_activation") == 1
    (node,) = after.nodes
    assert node.op == "matmul" and node.attribute("activation") == activation
    assert node.inputs[2] is not None


def test_a_soft_cap_gives_its_factor_to_the_product() -> None:
    """c tanh(a @ b / c): one sweep less."""
    graph = graph_of(lambda x: tanh(x.node("matmul", random(4, 6)) / 30.0) * 30.0, 3, 4)
    after, log = optimize(graph)
    assert log.fired("absorb_scale_of_product") == 1
    assert ops_of(after) == ["matmul", "tanh", "mul"]
    assert after.nodes[0].attribute("alpha") == 1.0 / 30.0


# fuse_rms_norm and fuse_layer_norm


def total(x: Written) -> Written:
    return x.node("sum")


RMS: dict[str, Form] = {
    "mean of squares": lambda x: x * rsqrt((x * x).mean() + 1e-5),
    "mean of powers": lambda x: x * rsqrt((x**2.0).mean() + 1e-5),
    "sum over D": lambda x: x * rsqrt(total(x * x) / 8.0 + 1e-5),
    "scaled sum": lambda x: x * rsqrt(1e-5 + 0.125 * total(x * x)),
    "root and division": lambda x: x / sqrt((x * x).mean() + 1e-5),
    "reciprocal of a root": lambda x: (1.0 / sqrt((x * x).mean() + 1e-5)) * x,
    "power of -1/2": lambda x: x * ((x * x).mean() + 1e-5) ** -0.5,
    "power of 1/2": lambda x: x / ((x * x).mean() + 1e-5) ** 0.5,
}


@pytest.mark.parametrize("weight", [None, "after", "before", "1 + w"])
@pytest.mark.parametrize("form", RMS)
def test_an_rms_norm_in_any_spelling_becomes_one_node(form: str, weight: str | None) -> None:
    vector = random(8)

    def written(x: Written) -> Written:
        out = RMS[form](x)
        if weight is None:
            return out
        if weight == "1 + w":
            return out * (1.0 + x.of(vector))
        return out * vector if weight == "after" else x.of(vector) * out

    graph = graph_of(written, 2, 3, 8)
    after, log = run_pass("fuse_rms_norm", graph, tolerance=1e-7)
    assert log.fired("fuse_rms_norm") == 1 and log.refused("fuse_rms_norm") == []
    assert ops_of(after) == [*(["add"] if weight == "1 + w" else []), "rms_norm"]
    assert after.nodes[-1].attribute("eps") == float(np.float32(1e-5))


def centered(x: Written) -> Written:
    return x - x.mean()


LAYER: dict[str, Form] = {
    "rsqrt": lambda x: (d := centered(x)) * rsqrt((d * d).mean() + 1e-5),
    "root": lambda x: (d := centered(x)) / sqrt((d * d).mean() + 1e-5),
    "means twice": lambda x: centered(x) * rsqrt((centered(x) * centered(x)).mean() + 1e-5),
    "power": lambda x: centered(x) / ((centered(x) ** 2.0).mean() + 1e-5) ** 0.5,
    "sums": lambda x: (d := x - total(x) / 8.0) * rsqrt(total(d * d) * 0.125 + 1e-5),
    "no eps": lambda x: (d := centered(x)) / sqrt((d * d).mean()),
}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("form", LAYER)
def test_a_layer_norm_in_any_spelling_becomes_one_node(
    form: str, weighted: bool, biased: bool
) -> None:
    weight, bias = random(8), random(8)

    def written(x: Written) -> Written:
        out = LAYER[form](x)
        out = x.of(weight) * out if weighted else out
        return out + bias if biased else out

    after, log = run_pass("fuse_layer_norm", graph_of(written, 2, 3, 8), tolerance=1e-6)
    assert log.fired("fuse_layer_norm") == 1
    assert ops_of(after) == ["layer_norm"]
    assert after.nodes[0].attribute("eps") == (0.0 if form == "no eps" else float(np.float32(1e-5)))
    _, log = optimize(graph_of(written, 2, 3, 8))
    assert (log.fired("fuse_layer_norm"), log.fired("fuse_rms_norm")) == (1, 0)


def test_a_layer_norm_is_an_rms_norm_of_differences_where_its_pass_did_not_run() -> None:
    graph = graph_of(LAYER["rsqrt"], 3, 8)
    after, log = run_pass("fuse_rms_norm", graph, tolerance=1e-7)
    assert log.fired("fuse_rms_norm") == 1 and ops_of(after) == ["matmul", "sub", "rms_norm"]


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        (lambda x: centered(x) / (sqrt((centered(x) ** 2.0).mean()) + 1e-5), "eps is added to the"),
        (lambda x: x / sqrt(total(x * x)).node("maximum", 1e-12), "the root is clamped from below"),
        (lambda x: x / sqrt(total(x * x) / 7.0 + 1e-5), "what the root is taken of is not a mean"),
        (lambda x: x * sqrt((x * x).mean() + 1e-5), ""),
        (lambda x: sqrt((x * x).mean() + 1e-5) / x, ""),
        (lambda x: x * rsqrt((x * x).mean() + -1e-5), "eps is -1e-05, the kernels take a number"),
        (lambda x: x * rsqrt(x.mean() + 1e-5), ""),
        (lambda x: (x - 1.0) * rsqrt((x * x).mean()), "the squares are those of x, which is not"),
    ],
)
def test_what_is_nearly_a_norm_is_refused(form: Form, reason: str) -> None:
    graph = graph_of(form, 4, 8)
    after, log = optimize(graph, ["fuse_layer_norm", "fuse_rms_norm"])
    assert ops_of(after) == ops_of(graph)
    assert [entry.rule for entry in log.entries] == ["layer_norm", "rms_norm", "add_to_norm"]
    given = [text for entry in log.entries for _, text in entry.refused]
    assert [text[: len(reason)] for text in given] == ([reason] if reason else [])


# split_gates

GATES: dict[str, Form] = {
    "silu": lambda h: h.columns(0, 6).node("silu") * h.columns(6, 12),
    "silu of the second": lambda h: h.columns(0, 6) * h.columns(6, 12).node("silu"),
    "gelu": lambda h: h.columns(0, 6).node("gelu", approximate="tanh") * h.columns(6, 12),
    "sigmoid": lambda h: h.columns(0, 6) * sigmoid(h.columns(6, 12)),
    "none": lambda h: h.columns(0, 6) * h.columns(6, 12),
}
LEFT = {
    "silu": ["matmul", "matmul", "silu_mul"],
    "silu of the second": ["matmul", "matmul", "silu_mul"],
    "gelu": ["matmul", "matmul", "mul"],
    "sigmoid": ["matmul", "matmul", "sigmoid", "mul"],
    "none": ["matmul", "matmul", "mul"],
}


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("form", GATES)
def test_halves_of_a_product_become_two(form: str, biased: bool, transposed: bool) -> None:
    def written(x: Written) -> Written:
        shape = (12, 4) if transposed else (4, 12)
        out = x.node("matmul", random(*shape), transpose_b=transposed)
        return GATES[form](out + random(12) if biased else out)

    graph = graph_of(written, 2, 3, 4)
    after, log = optimize(graph)
    assert log.fired("split_gates") == 1 and sorted(ops_of(after)) == sorted(LEFT[form])
    assert sum(value.size for value in after.constants) == (60 if biased else 48)
    x = random(2, 3, 4)
    want, got = (interpret(each, [x], np.float64)[0] for each in (graph, after))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_a_product_that_is_read_elsewhere_stays_whole() -> None:
    def written(x: Written) -> Written:
        out = x.node("matmul", random(4, 12))
        return GATES["silu"](out) + out.columns(2, 8)

    after, log = run_pass("split_gates", graph_of(written, 3, 4))
    assert log.fired("split_gates") == 0 and "slice" in ops_of(after)
    assert log.refused("split_gates") == [("mul", "matmul is also read by slice_3")]


def test_a_product_of_two_activations_stays_whole() -> None:
    builder = GraphBuilder()
    x, y = (Written(builder, builder.input("x", shape)) for shape in ((3, 4), (4, 12)))
    graph = builder.finish(GATES["silu"](x.node("matmul", y)).value)
    _, log = run_pass("split_gates", graph)
    assert log.refused("split_gates") == [("mul", "x_2 of matmul is not a constant")]
