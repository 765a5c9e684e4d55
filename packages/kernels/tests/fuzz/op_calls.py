"""Right calls of every op, with the reference and the tolerance."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import reference
import tolerance
from harness import FUNCTIONS, Float32

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


def _comparison(op: str) -> Callable[[Chance], Call]:
    def make(chance: Chance) -> Call:
        shape = chance.shape()
        a, b = np.round(chance.array(shape)), np.round(chance.array(shape[chance.size() % 3 :]))
        expected = reference.float64(getattr(np, op)(a, b))
        return Call(op, {"a": a, "b": b}, expected, tolerance.exact(expected))

    return make


def _pow(chance: Chance) -> Call:
    shape = chance.shape()
    a, b = np.abs(chance.array(shape)), chance.array(shape[chance.size() % 3 :])
    expected = np.asarray(reference.float64(a) ** reference.float64(b))
    return Call("pow", {"a": a, "b": b}, expected, tolerance.function(expected, 2))


def _function(op: str) -> Callable[[Chance], Call]:
    def make(chance: Chance) -> Call:
        x = chance.array(chance.shape())
        if op in ("log", "sqrt"):
            x = np.abs(x)
        by_definition = getattr(reference, op, None) or getattr(np, op)
        expected = np.asarray(by_definition(reference.float64(x)))
        return Call(op, {"x": x}, expected, tolerance.function(expected, FUNCTIONS[op]))

    return make


def _reduction(op: str) -> Callable[[Chance], Call]:
    def make(chance: Chance) -> Call:
        x = chance.array(chance.shape(1))
        wide = reference.float64(x)
        if op == "cumsum":
            expected = np.cumsum(wide, axis=-1)
            return Call(op, {"x": x}, expected, tolerance.function(expected, 1))
        reduced = wide.sum(axis=-1, keepdims=True) if op == "sum" else wide.max(-1, keepdims=True)
        allowed = tolerance.sums(np.abs(wide).sum(axis=-1, keepdims=True))
        return Call(op, {"x": x}, reduced, allowed if op == "sum" else tolerance.exact(reduced))

    return make


def _take(chance: Chance) -> Call:
    x = chance.array(chance.shape(1))
    axis = chance.randrange(x.ndim)
    ids = chance.array(chance.shape(0, 3)) % np.float32(1) * np.float32(x.shape[axis])
    ids = np.asarray(np.minimum(np.floor(ids), x.shape[axis] - 1), np.float32)
    expected = reference.take(x, ids, axis)
    return Call("take", {"x": x, "ids": ids}, expected, tolerance.exact(expected), {"axis": axis})


def _concat(chance: Chance) -> Call:
    shape = list(chance.shape(1))
    axis = chance.randrange(len(shape))
    arrays = {}
    for name in "abcdefgh"[: chance.randint(2, 8)]:
        shape[axis] = chance.choice((1, 2, 3, 17))
        arrays[name] = chance.array(tuple(shape))
    expected = reference.float64(np.concatenate(list(arrays.values()), axis))
    attributes = {"axis": axis - len(shape) if chance.is_one_of(4) else axis}
    return Call("concat", arrays, expected, tolerance.exact(expected), attributes)


def _unary(op: str, lowest: int = 0) -> Callable[[Chance], Call]:
    def make(chance: Chance) -> Call:
        x = chance.array(chance.shape(lowest))
        if op == "rsqrt":
            x = np.abs(x)
        attributes = {}
        if op == "gelu":
            attributes = {"approximate": chance.choice(("none", "tanh", "sigmoid"))}
        expected = getattr(reference, op)(x, **attributes)
        allowed = {
            "relu": lambda: tolerance.exact(expected),
            "gelu": lambda: tolerance.gelu(x, **attributes),
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
            if x.ndim > 1 and chance.is_one_of(3):
                rows = 1 + chance.randrange(x.shape[-2])
                arrays["weight"] = weight = chance.array((rows, x.shape[-1]))
            expected = reference.rms_norm(x, weight, eps)
            allowed = tolerance.rms_norm(x, expected)
            if chance.is_one_of(3):
                arrays["addend"] = chance.array(x.shape)
                expected = expected + arrays["addend"]
                allowed = allowed + tolerance.UNIT * np.abs(expected)
        return Call(op, arrays, expected, allowed, {"eps": eps})

    return make


def _rotary(chance: Chance) -> Call:
    batch, heads, length = (chance.choice((1, 2, 3, 5)) for _ in range(3))
    half, rest = chance.choice((1, 2, 4, 7, 8, 16, 20)), chance.choice((0, 0, 1, 6))
    x = chance.array((batch, heads, length, 2 * half + rest))
    cos, sin = chance.array((length, half)), chance.array((length, half))
    pairs = chance.choice(("interleaved", "halves"))
    expected = reference.rotary(x, cos, sin, pairs=pairs)
    allowed = tolerance.rotary(x, cos, sin, pairs)
    arrays = {"x": x, "cos": cos, "sin": sin}
    return Call("rotary", arrays, expected, allowed, {"pairs": pairs})


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
        "activation": chance.choice((None, None, *reference.ACTIVATIONS)),
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


def _shared_keys(chance: Chance, k: Float32, v: Float32) -> tuple[Float32, Float32]:
    """At times values with a head size of their own, and one head of keys and values for all."""
    if chance.is_one_of(3):
        v = chance.array((*v.shape[:3], chance.choice((1, 5, 16, 40))))
    if chance.is_one_of(3):
        k, v = (np.ascontiguousarray(x[:, :1]) for x in (k, v))
    return k, v


def _attention(op: str) -> Callable[[Chance], Call]:
    def make(chance: Chance) -> Call:
        q, k, v = qkv_of(chance)
        if op == "attention":
            k, v = _shared_keys(chance, k, v)
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
            if attributes["causal"] and chance.is_one_of(2):
                attributes["window"] = chance.choice((1, 5, 64, 1000))
            attributes["softcap"] = chance.choice((0.0, 0.0, 0.5, 30.0))
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
    "take": _take,
    "concat": _concat,
    "add": _binary("add", np.add),
    "sub": _binary("sub", np.subtract),
    "mul": _binary("mul", np.multiply),
    "div": _binary("div", np.divide),
    "maximum": _binary("maximum", np.maximum),
    "minimum": _binary("minimum", np.minimum),
    "pow": _pow,
    **{op: _comparison(op) for op in ("equal", "less", "less_equal")},
    "where": _where,
    "relu": _unary("relu"),
    "gelu": _unary("gelu"),
    "silu": _unary("silu"),
    "silu_mul": _silu_mul,
    "rsqrt": _unary("rsqrt"),
    **{op: _function(op) for op in FUNCTIONS},
    "bias_relu": _bias_relu,
    **{op: _reduction(op) for op in ("sum", "amax", "cumsum")},
    "softmax": _unary("softmax", 1),
    "layer_norm": _norm("layer_norm"),
    "rms_norm": _norm("rms_norm"),
    "rotary": _rotary,
    "attention": _attention("attention"),
    "attention_lse": _attention("attention_lse"),
    "attention_backward": _attention("attention_backward"),
}
