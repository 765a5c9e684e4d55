"""Shape rules, references against torch in float64, and report categories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from small_graphs import attention_graph, random
from torch.nn import functional

import ablation_kernels
from ablation_executor.compiler import compile
from ablation_executor.ir import Array, Graph, GraphBuilder
from ablation_executor.ops import CATEGORIES, OPS, categories, category
from ablation_executor.per_op import PerOp


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
IDS = np.array([[2, 0], [1, 1]], np.float32)
HIDDEN = np.where(random(2, 3, 5) > 0, np.float32(0), np.float32(-np.inf))
Q, K, V, MASK = random(2, 3, 4, 8), random(2, 3, 5, 8), random(2, 3, 5, 8), random(2, 1, 4, 5)
#: Of 4 queries and 5 keys: each query sees its own key and the one before.
WINDOW_OF_2 = torch.tensor(
    [[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0]], dtype=torch.bool
)


ANGLES = random(4, 4), random(4, 4)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """The pairs of (B, H, S, D) as complex numbers, turned."""
    pairs = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * torch.complex(cos, sin)).flatten(-2)


def capped(parts: Sequence[torch.Tensor], mask: torch.Tensor, cap: float) -> torch.Tensor:
    """Attention (B, S, H, D) of (B, H, S, D) with a soft cap, keys shared by groups of heads."""
    q = parts[0]
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in parts[1:])
    scores = cap * torch.tanh(q @ k.mT / q.shape[-1] ** 0.5 / cap) + mask
    return (scores.softmax(-1) @ v).transpose(1, 2)


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
    (
        "matmul",
        [X, SMALL],
        {"activation": "gelu_sigmoid"},
        lambda a, b: (a @ b) * torch.sigmoid(1.702 * (a @ b)),
    ),
    ("matmul", [X, SMALL], {"activation": "silu"}, lambda a, b: functional.silu(a @ b)),
    ("permute", [X], {"perm": (2, 0, 1)}, lambda x: x.permute(2, 0, 1)),
    ("slice", [X], {"axis": 1, "start": 1, "stop": 3}, lambda x: x[:, 1:3]),
    ("take", [X, IDS], {"axis": 1}, lambda x, ids: x[:, ids.long()]),
    ("take", [X, np.array(4, np.float32)], {"axis": 2}, lambda x, ids: x[..., ids.long()]),
    ("concat", [X, Y], {"axis": 2}, lambda a, b: torch.cat([a, b], 2)),
    ("concat", [X, X, Y, X, X, Y, Y, X], {"axis": 0}, lambda *arrays: torch.cat(arrays)),
    ("reshape", [X], {"shape": (6, 5)}, lambda x: x.reshape(6, 5)),
    ("add", [X, ROW], {}, torch.add),
    ("sub", [ROW, X], {}, torch.sub),
    ("mul", [X, COLUMN], {}, torch.mul),
    ("div", [X, Y], {}, torch.div),
    ("maximum", [X, ROW], {}, torch.maximum),
    ("minimum", [COLUMN, X], {}, torch.minimum),
    ("pow", [np.abs(X), ROW], {}, torch.pow),
    ("equal", [np.round(X), np.round(Y)], {}, lambda a, b: torch.eq(a, b).double()),
    ("less", [np.round(X), np.round(ROW)], {}, lambda a, b: torch.lt(a, b).double()),
    ("less_equal", [np.round(X), np.round(Y)], {}, lambda a, b: torch.le(a, b).double()),
    ("exp", [X], {}, torch.exp),
    ("log", [np.abs(X)], {}, torch.log),
    ("sqrt", [np.abs(X)], {}, torch.sqrt),
    ("tanh", [X], {}, torch.tanh),
    ("sigmoid", [X * 30], {}, torch.sigmoid),
    ("erf", [X], {}, torch.erf),
    ("abs", [X], {}, torch.abs),
    ("sin", [X], {}, torch.sin),
    ("cos", [X], {}, torch.cos),
    ("relu", [X], {}, torch.relu),
    ("gelu", [X], {}, functional.gelu),
    ("gelu", [X], {"approximate": "tanh"}, lambda x: functional.gelu(x, approximate="tanh")),
    ("gelu", [X], {"approximate": "sigmoid"}, lambda x: x * torch.sigmoid(1.702 * x)),
    ("silu", [X * 30], {}, functional.silu),
    ("silu_mul", [X * 30, Y], {}, lambda a, b: functional.silu(a) * b),
    ("rsqrt", [np.abs(X)], {}, torch.rsqrt),
    ("where", [HIDDEN, X, ROW], {}, lambda c, x, y: torch.where(c != 0, x, y)),
    ("bias_relu", [X, ROW], {}, lambda x, bias: torch.relu(x + bias)),
    ("sum", [X], {}, lambda x: x.sum(-1, keepdim=True)),
    ("amax", [X], {}, lambda x: x.amax(-1, keepdim=True)),
    ("cumsum", [X], {}, lambda x: x.cumsum(-1)),
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
        [random(2, 6, 4, 8), random(2, 3, 5, 8), random(2, 3, 5, 10), random(2, 6, 4, 5)],
        {},
        lambda q, k, v, m: functional.scaled_dot_product_attention(q, k, v, m, enable_gqa=True),
    ),
    (
        "attention",
        [random(2, 4, 6, 8), random(2, 5, 1, 8), random(2, 5, 1, 3)],
        {"layout": "bshd", "causal": True, "window": 2},
        lambda q, k, v: functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), WINDOW_OF_2, enable_gqa=True
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
    (
        "attention",
        [random(2, 5, 6 + 2 * 3, 8), None, None, random(2, 6, 5, 5)],
        {"layout": "qkv", "n_heads": 6, "softcap": 0.7},
        lambda qkv, m: capped(qkv.transpose(1, 2).split([6, 3, 3], 1), m, 0.7),
    ),
    (
        "rms_norm",
        [random(3, 4, 5), random(2, 5)],
        {"eps": 1e-3},
        lambda x, weight: torch.cat(
            [functional.rms_norm(x[:, :2], (5,), None, 1e-3) * weight, x[:, 2:]], 1
        ),
    ),
    (
        "rms_norm",
        [X, ROW, Y],
        {"eps": 1e-3},
        lambda x, weight, y: functional.rms_norm(x, (5,), weight, 1e-3) + y,
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


@pytest.mark.parametrize(("op", "inputs", "attributes", "by_torch"), CASES)
def test_a_program_and_a_loop_of_the_kernels_equal_the_reference(
    op: str, inputs: list[Array | None], attributes: dict[str, Any], by_torch: Any
) -> None:
    builder = GraphBuilder()
    arrays = [np.array(array, order="C") for array in inputs if array is not None]
    slots = [
        None if array is None else builder.input(f"x{index}", array.shape)
        for index, array in enumerate(inputs)
    ]
    graph = builder.finish(builder.node(op, slots, attributes))
    want = reference(op, inputs, **attributes)
    for run in (compile(graph, threads=1), PerOp(graph)):
        np.testing.assert_allclose(run(*arrays), want, rtol=1e-4, atol=1e-5)


def test_a_token_that_no_row_has_reaches_the_caller() -> None:
    builder = GraphBuilder()
    ids, table = builder.input("ids", (2, 3)), builder.constant("table", random(5, 4))
    graph = builder.finish(builder.node("take", [table, ids], {"axis": 0}, name="embedding"))
    wrong = np.array([[0, 1, 2], [3, 4, 5]], np.float32)
    for run in (compile(graph), PerOp(graph), PerOp(graph, "numpy")):
        with pytest.raises(IndexError, match=r"has the element 5\b.*\[0, 5\)"):
            run(wrong)
        np.testing.assert_array_equal(run(wrong - wrong), graph.constants[table][[[0] * 3] * 2])


@pytest.mark.parametrize("value", [3, -1, 0.5, np.nan, np.inf])
def test_an_id_of_no_row(value: float) -> None:
    ids = np.array([0, value], np.float32)
    with pytest.raises(IndexError, match=rf"element {value:.9g}; accepted: .* \[0, 3\)"):
        reference("take", [X, ids], axis=1)


def test_every_op_has_a_reference_case() -> None:
    assert {case[0] for case in CASES} == set(OPS)


@pytest.mark.parametrize(
    ("op", "shapes", "attributes", "message"),
    [
        ("matmul", [(2, 3), (4, 5)], {}, "'b' .* K = 3"),
        (
            "matmul",
            [(2, 3), (4, 3), (3,)],
            {"transpose_b": True},
            r"\'bias\' has shape \(3,\); accepted: \(4,\)",
        ),
        (
            "matmul",
            [(2, 3), (3, 4), None, (4,)],
            {},
            r"\'addend\' has shape \(4,\); accepted: \(2, 4\)",
        ),
        ("matmul", [(2, 4, 3), (3, 3, 4)], {}, "the leading axes of a"),
        ("matmul", [(3,), (3, 4)], {}, "'a' .* at least 2 axes"),
        ("permute", [(2, 3)], {"perm": (0, 0)}, r"\'perm\' is \(0, 0\).* x once"),
        ("permute", [(2, 3)], {}, "needs the attribute 'perm'"),
        ("permute", [(2, 3)], {"perm": (0, -1)}, "permute: axis -1 counts from the end"),
        ("slice", [(2, 3)], {"axis": -1, "start": 0, "stop": 1}, "slice: axis -1 counts from"),
        (
            "slice",
            [(2, 3)],
            {"axis": 2, "start": 0, "stop": 1},
            "'axis' is 2; accepted: an axis of x",
        ),
        ("slice", [(2, 3)], {"axis": 1, "start": 2, "stop": 4}, "'stop' is 4; .* within axis 1"),
        ("take", [(2, 3), (4,)], {"axis": -1}, "take: axis -1 counts from the end"),
        ("take", [(2, 3), (4,)], {"axis": 2}, "'axis' is 2; accepted: an axis of x"),
        ("concat", [(2, 3), (2, 4)], {"axis": 0}, r"'b' has shape \(2, 4\); accepted: \(2, 3\)"),
        ("sum", [()], {}, "'x' .* at least 1 axis"),
        ("reshape", [(2, 3)], {"shape": (4,)}, "differ in size"),
        ("add", [(2, 3), (2,)], {}, r"\'b\' has shape \(2,\).* broadcasts with \(2, 3\)"),
        ("layer_norm", [(2, 3), (2,), (3,)], {}, r"'weight' .* accepted: \(3,\)"),
        ("softmax", [()], {}, "'x' .* at least 1 axis"),
        ("silu_mul", [(2, 3), (3,)], {}, r"'b' has shape \(3,\); accepted: \(2, 3\)"),
        ("rms_norm", [(2, 3), (2,)], {}, r"'weight' .* accepted: \(3,\)"),
        ("rotary", [(3, 4), (3, 2), (3, 2)], {}, r"heads, seq_len, head_dim\), head_dim at"),
        (
            "rotary",
            [(1, 2, 3, 5), (2, 3), (2, 3)],
            {"layout": "bshd"},
            r"'cos' .* accepted: \(2, 1 to 2\)",
        ),
        ("rotary", [(1, 2, 3, 4), (3, 2), (2, 2)], {}, r"'sin' .* accepted: \(3, 2\)"),
        (
            "rotary",
            [(1, 2, 3, 4), (3, 2), (3, 2)],
            {"layout": "bshd"},
            r"'cos' .* accepted: \(2, 1 to 2\)",
        ),
        (
            "rotary",
            [(1, 2, 3, 4), (3, 2), (3, 2)],
            {"layout": "qkv"},
            "'layout' is 'qkv'; accepted: 'bhsd', 'bshd'",
        ),
        ("attention", [(2, 3), (2, 3), (2, 3)], {}, r"\(batch, heads, seq_len, head_dim\)"),
        ("attention", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 1, 5, 6)], {}, r"'v' .* \(1, 2, 5, 6\)"),
        ("attention", [(1, 4, 3, 8), (1, 3, 5, 8), (1, 3, 5, 8)], {}, r"'k' .* divide those of q"),
        ("attention", [(1, 2, 3, 4)] * 3, {"window": 2}, "'window' is 2 without causal"),
        ("attention", [(1, 1, 3, 4), (1, 1, 5, 4), (1, 1, 5, 4), (2, 1, 3, 5)], {}, "mask"),
        ("attention", [*[(1, 1, 5, 4)] * 3, (1, 1, 1, 5, 5)], {}, "mask"),
        ("attention", [(1, 2, 3, 4), None, (1, 2, 3, 4)], {}, "'k' is missing"),
        ("attention", [(1, 2, 3, 4)], {"layout": "bshd"}, "'k' is missing.* 'bshd'"),
        (
            "attention",
            [(1, 5, 2, 4), (1, 6, 3, 4), (1, 6, 3, 4)],
            {"layout": "bshd"},
            r"'k' .* \(1, 6, 2, 4\)",
        ),
        ("attention", [(2, 3), (2, 3), (2, 3)], {"layout": "bshd"}, r"\(batch, seq_len, heads"),
        (
            "attention",
            [(1, 5, 3, 2, 4), (1, 5, 2, 4)],
            {"layout": "qkv"},
            "'k' is given; accepted: None",
        ),
        (
            "attention",
            [(1, 5, 2, 2, 4)],
            {"layout": "qkv"},
            r"\(batch, seq_len, 3, heads, head_dim\)",
        ),
        ("attention", [(1, 5, 2)], {"layout": "qkv"}, r"\(batch, seq_len, 3, heads, head_dim\)"),
        ("attention", [(1, 5, 8, 4)], {"layout": "qkv"}, "'n_heads' is 0 of 8 heads"),
        ("attention", [(1, 5, 8, 4)], {"layout": "qkv", "n_heads": 5}, "'n_heads' is 5 of 8"),
        ("attention", [(1, 2, 3, 4)] * 3, {"n_heads": 2}, "'n_heads' is 2; accepted: 0, but for 4"),
        ("attention", [(1, 2, 3, 4)] * 3, {"softcap": -1.0}, "'softcap' is -1"),
        ("rms_norm", [(4, 2, 3), (3, 3)], {}, r"'weight' .* for each of the first heads"),
        (
            "attention",
            [(1, 5, 3, 2, 4), None, None, (1, 3, 5, 5)],
            {"layout": "qkv"},
            r"'mask' has shape \(1, 3, 5, 5\).* \(1, 2, 5, 5\)",
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


def test_every_op_but_an_alias_has_kernels() -> None:
    training = {"attention_lse", "attention_backward"}  # see torch_ops
    graph_ops = set(ablation_kernels.ops()) - training
    assert {name for name, spec in OPS.items() if not spec.is_alias} == graph_ops


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("relu", {"slope": 1.0}, r"relu has no attribute 'slope' \(it has: none\)"),
        ("layer_norm", {"eps": 1}, "layer_norm: eps is 1, expected float"),
        ("matmul", {"activation": "tanh"}, r"matmul: activation is 'tanh', not in \(None, 'relu'"),
        ("attention", {"scale": "auto"}, "attention: scale is 'auto', expected float or None"),
        ("gelu", {"approximate": None}, "gelu: approximate is None, expected str"),
        ("slice", {"axis": 0, "start": None, "stop": 1}, "slice: start is None, expected int"),
        ("slice", {"axis": 0, "start": 0}, "slice needs the attribute 'stop'"),
    ],
)
def test_attributes_refuse(op: str, attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OPS[op].complete(attributes)
