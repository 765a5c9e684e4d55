"""Right calls of every op, with the reference and the tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import reference
import tolerance
from harness import Float32

from fuzz.case import Chance


@dataclass
class Call:
    """A right call of an op: arrays by slot, attributes, reference and tolerance.

    `other_allowed` is the tolerance of kernels of other arithmetic, where there are any.
    """

    op: str
    arrays: dict[str, Float32]
    expected: Any
    allowed: Any
    attributes: dict[str, Any] = field(default_factory=dict)
    other_allowed: Any = None


def _binary(op: str, function: Callable[..., Any]) -> Callable[[Chance], Call]:
    def make(chance: Chance) -> Call:
        shape = chance.shape()
        other = tuple(1 if chance.is_one_of(4) else size for size in shape)
        other = other[chance.randint(0, len(other)) :]
        a, b = chance.array(shape), chance.array(other)
        if chance.is_one_of(2):
            a, b = b, a
        expected = np.asarray(function(reference.float64(a), reference.float64(b)))
        return Call(op, {"a": a, "b": b}, expected, tolerance.divide(expected))

    return make


def _unary(op: str, lowest: int = 0) -> Callable[[Chance], Call]:
    def make(chance: Chance) -> Call:
        x = chance.array(chance.shape(lowest))
        if op == "rsqrt":
            x = np.abs(x)
        attributes = {}
        if op == "gelu":
            attributes = {"approximate": chance.choice(("none", "tanh"))}
        expected = getattr(reference, op)(x, **attributes)
        allowed = {
            "relu": lambda: tolerance.exact(expected),
            "gelu": lambda: tolerance.gelu(x),
            "silu": lambda: tolerance.silu(expected),
            "rsqrt": lambda: tolerance.divide(expected),
            "softmax": lambda: tolerance.softmax(x, expected),
        }[op]()
        return Call(op, {"x": x}, expected, allowed, attributes)

    return make


def _where(chance: Chance) -> Call:
    shape = chance.shape()
    condition, x, y = (chance.array(shape[chance.randint(0, len(shape)) :]) for _ in range(3))
    condition = (condition > 0).astype(np.float32)
    expected = reference.where(condition, x, y)
    arrays = {"condition": condition, "x": x, "y": y}
    return Call("where", arrays, expected, tolerance.exact(expected))


def _silu_mul(chance: Chance) -> Call:
    shape = chance.shape()
    a, b = chance.array(shape), chance.array(shape)
    expected = reference.silu(a) * reference.float64(b)
    return Call("silu_mul", {"a": a, "b": b}, expected, tolerance.silu(expected, b))


def _bias_relu(chance: Chance) -> Call:
    x = chance.array(chance.shape(1))
    bias = chance.array(x.shape[-1:])
    expected = reference.bias_relu(x, bias)
    return Call("bias_relu", {"x": x, "bias": bias}, expected, tolerance.exact(expected))


def _norm(op: str) -> Callable[[Chance], Call]:
    def make(chance: Chance) -> Call:
        x = chance.array(chance.shape(1))
        weight, bias = chance.array(x.shape[-1:]), chance.array(x.shape[-1:])
        arrays = {"x": x, "weight": weight}
        eps = chance.choice((1e-5, 1e-3, 1.0))
        if op == "layer_norm":
            arrays["bias"] = bias
            expected = reference.layer_norm(x, weight, bias, eps)
            allowed = tolerance.layer_norm(x, weight, bias, expected, eps)
        else:
            expected = reference.rms_norm(x, weight, eps)
            allowed = tolerance.rms_norm(x, expected)
        return Call(op, arrays, expected, allowed, {"eps": eps})

    return make


def _rotary(chance: Chance) -> Call:
    batch, heads, length = (chance.choice((1, 2, 3, 5)) for _ in range(3))
    half = chance.choice((1, 2, 4, 7, 8, 16, 20))
    x = chance.array((batch, heads, length, 2 * half))
    cos, sin = chance.array((length, half)), chance.array((length, half))
    expected = reference.rotary(x, cos, sin)
    allowed = tolerance.rotary(x, cos, sin)
    return Call("rotary", {"x": x, "cos": cos, "sin": sin}, expected, allowed)


def _matmul(chance: Chance) -> Call:
    m, n, k = chance.size(), chance.size(), chance.size()
    batch = chance.choice(((), (), (2,), (1, 3)))
    a = chance.array((*batch, m, k))
    is_transposed = chance.is_one_of(2)
    b_batch = batch if chance.is_one_of(3) else ()
    b = chance.array((*b_batch, *((n, k) if is_transposed else (k, n))))
    attributes: dict[str, Any] = {
        "transpose_b": is_transposed,
        "alpha": chance.choice((1.0, 0.5, -2.0)),
        "activation": chance.choice((None, None, "relu", "gelu", "gelu_tanh")),
    }
    arrays = {"a": a, "b": b}
    if chance.is_one_of(2):
        arrays["bias"] = chance.array((n,))
    if chance.is_one_of(3):
        arrays["addend"] = chance.array((*batch, m, n))
    extra: dict[str, Any] = {name: arrays.get(name) for name in ("bias", "addend")}
    expected = reference.matmul(a, b, **extra, **attributes)
    allowed = tolerance.matmul(k, expected.magnitude)
    call = Call("matmul", arrays, expected.value, allowed, attributes)
    call.other_allowed = tolerance.product(
        "matmul_strassen_twice", a, b, expected.magnitude, is_transposed, attributes["alpha"]
    )
    return call


def _permute(chance: Chance) -> Call:
    x = chance.array(chance.shape(0, 5))
    axes = list(range(x.ndim))
    chance.shuffle(axes)
    expected = reference.float64(x.transpose(axes))
    perm = [axis - x.ndim if chance.is_one_of(4) else axis for axis in axes]
    return Call("permute", {"x": x}, expected, tolerance.exact(expected), {"perm": perm})


def _slice(chance: Chance) -> Call:
    x = chance.array(chance.shape(1))
    axis = chance.randrange(x.ndim)
    start = chance.randrange(x.shape[axis])
    stop = chance.randint(start + 1, x.shape[axis])
    expected = reference.float64(np.take(x, range(start, stop), axis))
    attributes = {"axis": axis, "start": start, "stop": stop}
    return Call("slice", {"x": x}, expected, tolerance.exact(expected), attributes)


def qkv_of(chance: Chance) -> tuple[Float32, Float32, Float32]:
    """Arrays of attention."""
    batch, heads = chance.choice((1, 1, 2)), chance.choice((1, 2, 3))
    queries, keys = min(chance.size(), 400), min(chance.size(), 400)
    size = chance.choice((1, 2, 3, 8, 15, 16, 33, 64))
    return (
        chance.array((batch, heads, queries, size)),
        chance.array((batch, heads, keys, size)),
        chance.array((batch, heads, keys, size)),
    )


def _attention(op: str) -> Callable[[Chance], Call]:
    def make(chance: Chance) -> Call:
        q, k, v = qkv_of(chance)
        size = q.shape[-1]
        attributes: dict[str, Any] = {
            "causal": chance.is_one_of(2),
            "scale": chance.choice((None, None, 0.3, -0.1)),
        }
        arrays = {"q": q, "k": k, "v": v}
        if op == "attention":
            mask = None
            if chance.is_one_of(3):
                mask = chance.array((q.shape[2], k.shape[2])[chance.randrange(2) :])
                arrays["mask"] = mask
            expected = reference.attention(q, k, v, mask=mask, **attributes)
            attributes |= {
                "tile_q": chance.choice((0, 0, 1, 7)),
                "tile_k": chance.choice((0, 0, 3, 64)),
            }
            allowed = tolerance.attention(expected, v, size)
            return Call(op, arrays, expected.value, allowed, attributes)
        if op == "attention_lse":
            lse = reference.attention_lse(q, k, v, **attributes)
            return Call(op, arrays, lse.flat, tolerance.attention_lse(lse, v, size), attributes)
        grad = chance.array(q.shape)
        backward = reference.attention_backward(q, k, v, grad, **attributes)
        arrays |= {"output": backward.saved[0], "lse": backward.saved[1], "grad_output": grad}
        return Call(op, arrays, backward.flat, tolerance.attention_backward(backward), attributes)

    return make


CALLS: dict[str, Callable[[Chance], Call]] = {
    "matmul": _matmul,
    "permute": _permute,
    "slice": _slice,
    "add": _binary("add", np.add),
    "sub": _binary("sub", np.subtract),
    "mul": _binary("mul", np.multiply),
    "div": _binary("div", np.divide),
    "where": _where,
    "relu": _unary("relu"),
    "gelu": _unary("gelu"),
    "silu": _unary("silu"),
    "silu_mul": _silu_mul,
    "rsqrt": _unary("rsqrt"),
    "bias_relu": _bias_relu,
    "softmax": _unary("softmax", 1),
    "layer_norm": _norm("layer_norm"),
    "rms_norm": _norm("rms_norm"),
    "rotary": _rotary,
    "attention": _attention("attention"),
    "attention_lse": _attention("attention_lse"),
    "attention_backward": _attention("attention_backward"),
}
