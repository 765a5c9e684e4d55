"""Every handler, called with arguments other than the defaults: what torch computes, or refused."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ablation_executor import ExportError, aten, export, optimize
from ablation_executor.compiler import compile
from ablation_executor.interpreter import interpret
from ablation_executor.ir import GraphBuilder

ops: Any = torch.ops.aten
Inputs = tuple[Tensor, Tensor, Tensor, Tensor]
Function = Callable[[Tensor, Tensor, Tensor, Tensor], Any]


def make_inputs() -> Inputs:
    """x (2, 3, 4), y (2, 3, 4), v (4,) and q (1, 2, 3, 4)."""
    generator = torch.Generator().manual_seed(7)
    shapes = ((2, 3, 4), (2, 3, 4), (4,), (1, 2, 3, 4))
    return tuple(torch.randn(*shape, generator=generator) for shape in shapes)


KEEP = torch.tensor([[True, False, True, True], [False, False, True, True], [True] * 4])
CAUSAL = torch.ones(3, 3).tril().bool()
HALF = torch.linspace(-1, 1, 4, dtype=torch.float16)
INF = math.inf

#: Each overload of the table, with functions of x, y, v and q that call it.
ACCEPTED: dict[str, list[Function]] = {
    "_softmax.default": [lambda x, y, v, q: ops._softmax(x, 0, False)],
    "_to_copy.default": [lambda x, y, v, q: ops._to_copy(x, dtype=torch.float32)],
    "_unsafe_view.default": [lambda x, y, v, q: ops._unsafe_view(x, [-1, 2])],
    "add.Scalar": [lambda x, y, v, q: ops.add.Scalar(x, 2, 3)],
    "add.Tensor": [
        lambda x, y, v, q: torch.add(x, v, alpha=-0.5),
        lambda x, y, v, q: torch.add(x, KEEP, alpha=2),
        lambda x, y, v, q: torch.add(HALF.to(x.dtype), x, alpha=0),
    ],
    "addmm.default": [
        lambda x, y, v, q: torch.addmm(v, x[0], torch.ones(4, 4), beta=2, alpha=0.5),
        lambda x, y, v, q: torch.addmm(v * INF, x[0], torch.ones(4, 4), beta=0, alpha=-1),
    ],
    "alias.default": [lambda x, y, v, q: ops.alias(x) * 1.5],
    "baddbmm.default": [
        lambda x, y, v, q: torch.baddbmm(x[:, :, :3], x, y.mT, beta=-1, alpha=2),
        lambda x, y, v, q: torch.baddbmm(x[:, :1, :1], x, y.mT, beta=0.5),
    ],
    "bmm.default": [lambda x, y, v, q: torch.bmm(x, y.mT)],
    "clone.default": [lambda x, y, v, q: torch.clone(x.mT, memory_format=torch.preserve_format)],
    "detach.default": [lambda x, y, v, q: x.detach() * 0.5],
    "div.Scalar": [lambda x, y, v, q: ops.div.Scalar(x, -3)],
    "div.Tensor": [
        lambda x, y, v, q: x / v,
        lambda x, y, v, q: x / torch.tensor([1, 2, 0, -4]),
        lambda x, y, v, q: torch.div(x, 0.0),
    ],
    "dot.default": [lambda x, y, v, q: torch.dot(v, x[0, 0])],
    "expand.default": [
        lambda x, y, v, q: v.expand(2, 3, -1),
        lambda x, y, v, q: x[:, :1].expand(-1, 3, 4),
        lambda x, y, v, q: (v[:1] * INF).expand(2, 5),
        lambda x, y, v, q: x[0, 0, 0].expand(2, 1),
    ],
    "gelu.default": [
        lambda x, y, v, q: ops.gelu(x, approximate="tanh"),
        lambda x, y, v, q: ops.gelu(x),
    ],
    "layer_norm.default": [
        lambda x, y, v, q: ops.layer_norm(x, [4], v, None, 0.5),
        lambda x, y, v, q: ops.layer_norm(x, [3, 4], None, y[0], 1e-3, False),
        lambda x, y, v, q: ops.layer_norm(v, [4], None, None),
    ],
    "linear.default": [
        lambda x, y, v, q: ops.linear(x, y[0], None),
        lambda x, y, v, q: ops.linear(v, y[0], x[0, :, 0]),
    ],
    "masked_fill.Scalar": [
        lambda x, y, v, q: x.masked_fill(KEEP, -INF),
        lambda x, y, v, q: v.masked_fill(KEEP, math.nan),
    ],
    "masked_fill.Tensor": [
        lambda x, y, v, q: x.masked_fill(KEEP, torch.tensor(2)),
        lambda x, y, v, q: x.masked_fill(KEEP, v[0]),
    ],
    "matmul.default": [
        lambda x, y, v, q: v @ v,
        lambda x, y, v, q: x[0] @ v,
        lambda x, y, v, q: v @ x.mT,
        lambda x, y, v, q: v @ x[0].mT,
        lambda x, y, v, q: x @ v,
        lambda x, y, v, q: x @ y[:1].mT,
        lambda x, y, v, q: x[0] @ torch.arange(8.0, dtype=x.dtype).view(1, 4, 2),
    ],
    "mean.dim": [
        lambda x, y, v, q: x.mean((0, -1)),
        lambda x, y, v, q: x.mean(1, keepdim=True),
        lambda x, y, v, q: x.mean(-1),
        lambda x, y, v, q: ops.mean.dim(x, None, True),
        lambda x, y, v, q: ops.mean.dim(x, [], False),
        lambda x, y, v, q: v.mean(0),
    ],
    "mm.default": [lambda x, y, v, q: torch.mm(x[0], y[0].mT)],
    "mul.Scalar": [lambda x, y, v, q: ops.mul.Scalar(x, True)],
    "mul.Tensor": [
        lambda x, y, v, q: x * v,
        lambda x, y, v, q: x * KEEP,
        lambda x, y, v, q: x * torch.arange(4, dtype=torch.uint8),
        lambda x, y, v, q: x * torch.tensor(0.1, dtype=torch.float64),
    ],
    "mv.default": [lambda x, y, v, q: torch.mv(x[0], v)],
    "neg.default": [lambda x, y, v, q: -x],
    "permute.default": [
        lambda x, y, v, q: x.permute(-1, 0, 1),
        lambda x, y, v, q: x[:1].permute(1, 0, 2) * 1.0,
    ],
    "pow.Tensor_Scalar": [lambda x, y, v, q: x**2, lambda x, y, v, q: x**2.0],
    "relu.default": [lambda x, y, v, q: torch.relu(x)],
    "rms_norm.default": [
        lambda x, y, v, q: ops.rms_norm(x, [4], v, 0.1),
        lambda x, y, v, q: ops.rms_norm(x, [3, 4], None, 0.2),
    ],
    "rsqrt.default": [lambda x, y, v, q: torch.rsqrt(x.square() + 0.1)],
    "rsub.Scalar": [lambda x, y, v, q: torch.rsub(x, 3, alpha=2)],
    "rsub.Tensor": [lambda x, y, v, q: torch.rsub(x, v, alpha=-2)],
    "scaled_dot_product_attention.default": [
        lambda x, y, v, q: ops.scaled_dot_product_attention(q, q, q, None, 0.0, True, scale=0.7),
        lambda x, y, v, q: ops.scaled_dot_product_attention(q, q, q, CAUSAL, scale=0.0),
        lambda x, y, v, q: ops.scaled_dot_product_attention(
            q, q, q, torch.zeros(3, 3, dtype=q.dtype).masked_fill(~CAUSAL.flip(0), -INF)
        ),
        lambda x, y, v, q: ops.scaled_dot_product_attention(q, q, q, enable_gqa=True),
        lambda x, y, v, q: ops.scaled_dot_product_attention(x, x[:, :2], y[:, :2], None, 0.0, True),
        lambda x, y, v, q: ops.scaled_dot_product_attention(q, q, q[..., :3] * 2, scale=-1.0),
        lambda x, y, v, q: ops.scaled_dot_product_attention(q, q, q, CAUSAL & ~CAUSAL),
    ],
    "select.int": [lambda x, y, v, q: x.select(-1, -2), lambda x, y, v, q: v.select(0, 3)],
    "silu.default": [lambda x, y, v, q: ops.silu(x)],
    "slice.Tensor": [
        lambda x, y, v, q: x[:, -2:],
        lambda x, y, v, q: x[..., 1:100],
        lambda x, y, v, q: x[:, :-1] * 1.0,
    ],
    "softmax.int": [
        lambda x, y, v, q: x.softmax(-2),
        lambda x, y, v, q: x.softmax(2, dtype=x.dtype),
    ],
    "split.Tensor": [
        lambda x, y, v, q: ops.split.Tensor(x, 3, -1)[1],
        lambda x, y, v, q: ops.split.Tensor(x, 5, 1)[0] * 1.0,
    ],
    "split_with_sizes.default": [lambda x, y, v, q: ops.split_with_sizes(x, [1, 2], 1)[1]],
    "square.default": [lambda x, y, v, q: torch.square(x)],
    "squeeze.default": [lambda x, y, v, q: q[:, :1].squeeze()],
    "squeeze.dim": [
        lambda x, y, v, q: q.squeeze(-4),
        lambda x, y, v, q: q.squeeze(1) * 1.0,
    ],
    "squeeze.dims": [lambda x, y, v, q: q[..., :1].squeeze((0, 1, -1))],
    "stack.default": [
        lambda x, y, v, q: torch.stack([x, y, x * 2], -1),
        lambda x, y, v, q: torch.stack([v, HALF.to(v.dtype)]),
    ],
    "sub.Scalar": [lambda x, y, v, q: ops.sub.Scalar(x, 1.5, 2)],
    "sub.Tensor": [lambda x, y, v, q: torch.sub(v, x, alpha=3)],
    "t.default": [lambda x, y, v, q: ops.t(x[0]), lambda x, y, v, q: ops.t(v) * 1.0],
    "transpose.int": [lambda x, y, v, q: x.transpose(-1, 0)],
    "type_as.default": [lambda x, y, v, q: ops.type_as(x, y)],
    "unbind.int": [lambda x, y, v, q: ops.unbind.int(x, -1)[2]],
    "unsqueeze.default": [lambda x, y, v, q: x.unsqueeze(-1), lambda x, y, v, q: x.unsqueeze(-4)],
    "view.default": [lambda x, y, v, q: x.view(-1, 12), lambda x, y, v, q: x.view(2, 3, 4) * 1.0],
    "where.ScalarOther": [lambda x, y, v, q: torch.where(KEEP, x, -INF)],
    "where.ScalarSelf": [lambda x, y, v, q: torch.where(KEEP, 0, x)],
    "where.self": [
        lambda x, y, v, q: torch.where(KEEP, v, y),
        lambda x, y, v, q: torch.where(KEEP, torch.arange(4), x),
    ],
}

#: Overloads that torch.export of this version takes apart, called with x and these arguments.
DIRECT: list[tuple[str, tuple[Any, ...]]] = [
    ("chunk.default", (3, -1)),
    ("chunk.default", (2, 1)),
    ("contiguous.default", ()),
    ("dropout.default", (0.5, False)),
    ("feature_dropout.default", (0.5, False)),
    ("flatten.using_ints", (-2, -1)),
    ("flatten.using_ints", (0, 1)),
    ("lift_fresh_copy.default", ()),
    ("reshape.default", ([3, -1],)),
    ("to.dtype", (torch.float32, False, True)),
    ("unflatten.int", (-1, [2, -1])),
    ("unflatten.int", (1, [3, 1])),
    ("where.Scalar", (1, -2)),
]

#: Arguments that the op set lacks, and the reason that is given.
REFUSED: list[tuple[Function, str]] = [
    (lambda x, y, v, q: ops._to_copy(x, dtype=torch.float64), "gives torch.float64"),
    (lambda x, y, v, q: ops.to.dtype(x, torch.int64), "gives torch.int64"),
    (lambda x, y, v, q: x.softmax(-1, dtype=torch.float64), "gives torch.float64"),
    (lambda x, y, v, q: ops.mean.dim(x, [1], dtype=torch.float64), "gives torch.float64"),
    (lambda x, y, v, q: x.type_as(KEEP), "gives torch.bool"),
    (lambda x, y, v, q: torch.div(x, 2, rounding_mode="floor"), "not supported"),
    (lambda x, y, v, q: x**-1, "exponent is -1, expected 2"),
    (lambda x, y, v, q: x[:, ::2], "step is 2, expected 1"),
    (lambda x, y, v, q: x + torch.ones(4, dtype=torch.float64), "torch.float64, expected"),
    (lambda x, y, v, q: x * torch.ones(4, dtype=torch.complex64), "torch.complex64, expected"),
    (lambda x, y, v, q: torch.where(KEEP, x, torch.zeros(4).double()), "torch.float64, expected"),
    (lambda x, y, v, q: x[None] @ torch.ones(3, 1, 4, 2), "with the leading axes of a"),
    (lambda x, y, v, q: x[0, 0, 0].softmax(0), "IndexError"),
    (
        lambda x, y, v, q: ops.scaled_dot_product_attention(q, q[:, :1], q[:, :1], enable_gqa=True),
        "have to be the same",
    ),
    (
        lambda x, y, v, q: ops.scaled_dot_product_attention(x, x, x, CAUSAL & ~CAUSAL),
        r"needs q of \(B, H, S, D\)",
    ),
    # Noted where they reach the result.
    (lambda x, y, v, q: torch.dropout(x, 0.5, True), "draws random numbers"),
    (lambda x, y, v, q: torch.feature_dropout(x, 0.5, True), "draws random numbers"),
    (
        lambda x, y, v, q: ops.scaled_dot_product_attention(q, q, q, None, 0.1),
        "draws random numbers",
    ),
]


class All(nn.Module):
    """All functions of a list in one module."""

    def __init__(self, functions: list[Function]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, *inputs: Tensor) -> tuple[Any, ...]:
        return tuple(function(*inputs) for function in self.functions)


def test_every_overload_of_the_table_computes_what_torch_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    called = {f"aten.{name}" for name, _ in DIRECT}

    def spy(name: str, handler: Any) -> Any:
        def spied(*args: Any, **keywords: Any) -> Any:
            called.add(name)
            return handler(*args, **keywords)

        return spied

    for name, handler in aten.HANDLERS.items():
        monkeypatch.setitem(aten.HANDLERS, name, spy(name, handler))
    listed = [(name, function) for name, functions in ACCEPTED.items() for function in functions]
    module, inputs = All([function for _, function in listed]).eval(), make_inputs()
    graph = export(module, inputs)
    assert called == set(aten.HANDLERS) == called | {f"aten.{name}" for name in ACCEPTED}
    torch.set_default_dtype(torch.float64)
    want = module(*(part.double() for part in inputs))
    torch.set_default_dtype(torch.float32)
    exact = interpret(graph, inputs, np.float64)
    native = compile(optimize(graph)[0])(*inputs)
    for (name, function), expected, *results in zip(listed, want, exact, native, strict=True):
        for result in results:
            np.testing.assert_allclose(
                result, expected.numpy(), rtol=1e-5, atol=1e-5, err_msg=f"{name}: {function}"
            )


@pytest.mark.parametrize(("name", "arguments"), DIRECT)
def test_overloads_that_export_takes_apart(name: str, arguments: tuple[Any, ...]) -> None:
    x = make_inputs()[0] if name != "where.Scalar" else torch.eye(3)
    op, overload = name.split(".")
    want = getattr(getattr(ops, op), overload)(x.bool() if "where" in name else x, *arguments)
    context = aten.Context(GraphBuilder())
    value = context.builder.input("x", x.shape)
    result = aten.HANDLERS[f"aten.{name}"](context, value, *arguments)
    parts = list(result) if isinstance(result, tuple) else [result]
    got = interpret(context.builder.finish(*parts), (x,))
    for mine, theirs in zip(got, want if isinstance(want, (list, tuple)) else [want], strict=True):
        np.testing.assert_array_equal(mine, theirs.numpy())


def test_other_arguments_are_refused_with_the_reason() -> None:
    with pytest.raises(ExportError) as caught:
        export(All([function for function, _ in REFUSED]).eval(), make_inputs())
    reasons = [refusal.reason for refusal in caught.value.refusals]
    assert len(reasons) == len(REFUSED)
    for reason, (_, wanted) in zip(reasons, REFUSED, strict=True):
        assert re.search(wanted, reason), (reason, wanted)
    assert f"{len(REFUSED)} calls are refused" in str(caught.value)
