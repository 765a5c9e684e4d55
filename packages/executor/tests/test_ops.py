"""Shape rules, references against torch in float64, and report categories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small_graphs import attention_graph, random
from torch.nn import functional

import ablation_kernels
from ablation_executor.ir import Array, Graph, GraphBuilder
from ablation_executor.ops import CATEGORIES, OPS, categories, category

#: What graphs are made of; the others belong to training, see torch_ops.
GRAPH_OPS = {
    name: info
    for name, info in ablation_kernels.ops().items()
    if name not in ("attention_lse", "attention_backward")
}


def reference(op: str, inputs: list[Array | None], **attributes: Any) -> Array:
    spec = OPS[op]
    slots = [*inputs, *[None] * (len(spec.slots) - len(inputs))]
    out = spec.reference(slots, spec.complete(attributes))
    shapes = [None if array is None else array.shape for array in slots]
    assert spec.infer_shape(shapes, spec.complete(attributes)) == out.shape
    return np.asarray(out)


X, Y = random(2, 3, 5), random(2, 3, 5)
ROW, SMALL, COLUMN = random(5), random(2, 5, 4), random(3, 1)
BATCHED, WEIGHT, BIAS = random(2, 4, 5), random(4, 5), random(4)
ADDEND = random(2, 3, 4)
HIDDEN = np.where(random(2, 3, 5) > 0, np.float32(0), np.float32(-np.inf))
Q, K, V, MASK = random(2, 3, 4, 8), random(2, 3, 5, 8), random(2, 3, 5, 8), random(2, 1, 4, 5)


ANGLES = random(4, 4), random(4, 4)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """The pairs of (B, H, S, D) as complex numbers, turned."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)


def tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float64))


CASES: list[tuple[str, list[Array | None], dict[str, Any], Any]] = [
    ("matmul", [X, SMALL], {}, lambda a, b: a @ b),
    ("matmul", [X, BATCHED], {"transpose_b": True}, lambda a, b: a @ b.mT),
    ("matmul", [X, WEIGHT, BIAS], {"transpose_b": True}, functional.linear),
    (
        "matmul",
        [X, WEIGHT, BIAS, ADDEND],
        {"transpose_b": True, "alpha": 0.5, "activation": "relu"},
        lambda a, b, bias, addend: torch.relu(0.5 * (a @ b.T) + bias + addend),
    ),
    (
        "matmul",
        [X, SMALL],
        {"activation": "gelu_tanh"},
        lambda a, b: functional.gelu(a @ b, approximate="tanh"),
    ),
    ("matmul", [X, SMALL], {"activation": "gelu"}, lambda a, b: functional.gelu(a @ b)),
    ("permute", [X], {"perm": (2, 0, 1)}, lambda x: x.permute(2, 0, 1)),
    ("slice", [X], {"axis": 1, "start": 1, "stop": 3}, lambda x: x[:, 1:3]),
    ("reshape", [X], {"shape": (6, 5)}, lambda x: x.reshape(6, 5)),
    ("add", [X, ROW], {}, torch.add),
    ("sub", [ROW, X], {}, torch.sub),
    ("mul", [X, COLUMN], {}, torch.mul),
    ("div", [X, Y], {}, torch.div),
    ("relu", [X], {}, torch.relu),
    ("gelu", [X], {}, functional.gelu),
    ("gelu", [X], {"approximate": "tanh"}, lambda x: functional.gelu(x, approximate="tanh")),
    ("silu", [X * 30], {}, functional.silu),
    ("silu_mul", [X * 30, Y], {}, lambda a, b: functional.silu(a) * b),
    ("rsqrt", [np.abs(X)], {}, torch.rsqrt),
    ("where", [HIDDEN, X, ROW], {}, lambda c, x, y: torch.where(c != 0, x, y)),
    ("bias_relu", [X, ROW], {}, lambda x, bias: torch.relu(x + bias)),
    ("softmax", [X * 100], {}, lambda x: torch.softmax(x, -1)),
    ("softmax", [X + HIDDEN], {}, lambda x: torch.softmax(x, -1)),
    ("softmax", [np.full((2, 3), -np.inf, np.float32)], {}, lambda x: torch.softmax(x, -1)),
    (
        "layer_norm",
        [X + 50, ROW, ROW * 2],
        {"eps": 1e-3},
        lambda x, weight, bias: functional.layer_norm(x, (5,), weight, bias, 1e-3),
    ),
    (
        "rms_norm",
        [X + 50, ROW],
        {"eps": 1e-3},
        lambda x, weight: functional.rms_norm(x, (5,), weight, 1e-3),
    ),
    ("rotary", [Q, *ANGLES], {}, rotated),
    (
        "rotary",
        [np.swapaxes(Q, 1, 2), *ANGLES],
        {"layout": "bshd"},
        lambda x, cos, sin: rotated(x.transpose(1, 2), cos, sin).transpose(1, 2),
    ),
    ("attention", [Q, K, V], {}, functional.scaled_dot_product_attention),
    (
        "attention",
        [Q, K, V, MASK],
        {"scale": 0.3},
        lambda q, k, v, m: functional.scaled_dot_product_attention(q, k, v, m, scale=0.3),
    ),
    (
        "attention",
        [Q, K, V],
        {"causal": True},
        lambda q, k, v: functional.scaled_dot_product_attention(q, k, v, is_causal=True),
    ),
    (
        "attention",
        [Q, K, V, np.where(np.arange(4)[:, None] == 2, np.float32(-np.inf), np.float32(0))],
        {},
        functional.scaled_dot_product_attention,
    ),
    (
        "attention",
        [*(np.swapaxes(array, 1, 2) for array in (Q, K, V)), MASK],
        {"layout": "bshd"},
        lambda q, k, v, m: functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), m
        ).transpose(1, 2),
    ),
    (
        "attention",
        [random(2, 5, 3, 4, 8)],
        {"layout": "qkv", "causal": True},
        lambda qkv: functional.scaled_dot_product_attention(
            qkv[:, :, 0].transpose(1, 2),
            qkv[:, :, 1].transpose(1, 2),
            qkv[:, :, 2].transpose(1, 2),
            is_causal=True,
        ).transpose(1, 2),
    ),
]


@pytest.mark.parametrize(("op", "inputs", "attributes", "by_torch"), CASES)
def test_reference_equals_torch(
    op: str, inputs: list[Array | None], attributes: dict[str, Any], by_torch: Any
) -> None:
    doubles = [None if array is None else array.astype(np.float64) for array in inputs]
    got = reference(op, doubles, **attributes)
    want = by_torch(*[tensor(array) for array in inputs if array is not None]).numpy()
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    assert reference(op, inputs, **attributes).dtype == np.float32


def test_every_op_has_a_reference_case() -> None:
    assert {case[0] for case in CASES} == set(OPS)


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "message"),
    [
        ("matmul", [(2, 3), (4, 5)], {}, "K is 3 and 4"),
        ("matmul", [(2, 3), (4, 3), (3,)], {"transpose_b": True}, r"bias is \[3\], expected \[4\]"),
        ("matmul", [(2, 3), (3, 4), None, (4,)], {}, r"addend is \[4\], expected \[2, 4\]"),
        ("matmul", [(2, 4, 3), (3, 3, 4)], {}, "batch axes differ"),
        ("matmul", [(3,), (3, 4)], {}, "two axes"),
        ("permute", [(2, 3)], {"perm": (0, 0)}, "does not fit"),
        ("permute", [(2, 3)], {}, "needs the attribute 'perm'"),
        ("slice", [(2, 3)], {"axis": 2, "start": 0, "stop": 1}, "not an axis"),
        ("slice", [(2, 3)], {"axis": 1, "start": 2, "stop": 4}, "outside axis 1"),
        ("reshape", [(2, 3)], {"shape": (4,)}, "differ in size"),
        ("add", [(2, 3), (2,)], {}, "do not broadcast"),
        ("layer_norm", [(2, 3), (2,), (3,)], {}, r"a vector of \[3\]"),
        ("softmax", [()], {}, "no last axis"),
        ("silu_mul", [(2, 3), (3,)], {}, r"shapes \[2, 3\] and \[3\] differ"),
        ("rms_norm", [(2, 3), (2,)], {}, r"a vector of \[3\]"),
        ("rotary", [(3, 4), (3, 2), (3, 2)], {}, r"\(B, H, S, D\) with an even D"),
        ("rotary", [(1, 2, 3, 5), (3, 2), (3, 2)], {"layout": "bshd"}, r"\(B, S, H, D\)"),
        ("rotary", [(1, 2, 3, 4), (3, 2), (2, 2)], {}, r"cos and sin are \[3, 2\]"),
        ("rotary", [(1, 2, 3, 4), (3, 2), (3, 2)], {"layout": "bshd"}, r"are \[2, 2\]"),
        ("rotary", [(1, 2, 3, 4), (3, 2), (3, 2)], {"layout": "qkv"}, "layout is 'qkv', not in"),
        ("attention", [(2, 3), (2, 3), (2, 3)], {}, r"\(B, H, S, D\)"),
        ("attention", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 6)], {}, "do not fit"),
        ("attention", [(1, 1, 3, 4), (1, 1, 5, 4), (1, 1, 5, 4), (2, 1, 3, 5)], {}, "mask"),
        ("attention", [*[(1, 1, 5, 4)] * 3, (1, 1, 1, 5, 5)], {}, "mask"),
        ("attention", [(1, 2, 3, 4), None, (1, 2, 3, 4)], {}, "'bhsd', so k and v must be given"),
        ("attention", [(1, 2, 3, 4)], {"layout": "bshd"}, "'bshd', so k and v must be given"),
        ("attention", [(1, 5, 2, 4), (1, 6, 3, 4), (1, 6, 3, 4)], {"layout": "bshd"}, "not fit"),
        ("attention", [(2, 3), (2, 3), (2, 3)], {"layout": "bshd"}, r"\(B, S, H, D\)"),
        ("attention", [(1, 5, 3, 2, 4), (1, 5, 2, 4)], {"layout": "qkv"}, "leave both out"),
        ("attention", [(1, 5, 2, 2, 4)], {"layout": "qkv"}, r"\(B, S, 3, H, D\)"),
        ("attention", [(1, 5, 2, 4)], {"layout": "qkv"}, r"\(B, S, 3, H, D\)"),
        (
            "attention",
            [(1, 5, 3, 2, 4), None, None, (1, 3, 5, 5)],
            {"layout": "qkv"},
            r"mask \[1, 3, 5, 5\] does not broadcast to \[1, 2, 5, 5\]",
        ),
        ("attention", [(1, 5, 3, 2, 4)], {"layout": "sbhd"}, "layout is 'sbhd', not in"),
    ],
)
def test_shape_rules_refuse(
    op: str, shapes: list[Any], attributes: dict[str, Any], message: str
) -> None:
    spec = OPS[op]
    slots = [*shapes, *[None] * (len(spec.slots) - len(shapes))]
    with pytest.raises(ValueError, match=message):
        spec.infer_shape(slots, spec.complete(attributes))


def test_slots_and_in_place_slots_are_those_of_the_kernels() -> None:
    assert set(GRAPH_OPS) == {name for name, spec in OPS.items() if not spec.is_alias}
    for name, info in GRAPH_OPS.items():
        spec = OPS[name]
        assert info.slots == tuple(slot.name for slot in spec.slots)
        assert info.optional == {slot.name for slot in spec.slots if slot.optional}
        assert {spec.slots[position].name for position in spec.in_place_slots} <= info.in_place


def block_graph() -> Graph:
    """LayerNorm, a linear layer with its bias, attention with scale and mask, a residual."""
    builder = GraphBuilder()
    x = builder.input("x", (1, 1, 4, 8))
    norm = builder.node("layer_norm", [x, *[builder.constant("w", random(8)) for _ in range(2)]])
    weight = builder.node("permute", [builder.constant("weight", random(8, 8))], {"perm": (1, 0)})
    linear = builder.node("matmul", [norm, weight], name="linear")
    biased = builder.node("add", [linear, builder.constant("bias", random(8))], name="bias_add")
    keys = builder.node("permute", [biased], {"perm": (0, 1, 3, 2)}, name="keys")
    scores = builder.node("matmul", [biased, keys], name="scores")
    scaled = builder.node("div", [scores, builder.constant("c", 2.0)], name="scale")
    masked = builder.node("add", [scaled, builder.constant("m", random(4, 4))], name="mask")
    weights = builder.node("softmax", [masked], name="weights")
    context = builder.node("matmul", [weights, biased], name="context")
    return builder.finish(builder.node("add", [x, context], name="residual"))


def test_categories() -> None:
    graph = block_graph()
    named = {node.name: name for node, name in categories(graph).items()}
    assert named == {
        "layer_norm": "layer_norm",
        "permute": "movement",
        "linear": "linear",
        "bias_add": "element_wise",
        "keys": "movement",
        "scores": "attention",
        "scale": "attention",
        "mask": "attention",
        "weights": "attention",
        "context": "attention",
        "residual": "element_wise",
    }
    assert set(named.values()) <= set(CATEGORIES)
    assert all(category(node, graph) == named[node.name] for node in graph.nodes)


def test_category_of_a_graph_of_attention_alone() -> None:
    graph = attention_graph(mask=random(4, 5))
    assert [category(node, graph) for node in graph.nodes] == ["movement"] + ["attention"] * 5


@pytest.mark.parametrize("name", list(GRAPH_OPS))
def test_slots_are_those_of_the_kernel_table(name: str) -> None:
    mine, theirs = OPS[name], GRAPH_OPS[name]
    assert tuple(slot.name for slot in mine.slots) == theirs.slots
    assert {slot.name for slot in mine.slots if slot.optional} == theirs.optional
    # The planner may do less in place than the kernels allow, never more.
    assert {mine.slots[index].name for index in mine.in_place_slots} <= theirs.in_place


def test_every_op_but_an_alias_has_kernels() -> None:
    assert {name for name, spec in OPS.items() if not spec.is_alias} == set(GRAPH_OPS)
