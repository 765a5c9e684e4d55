"""What each op computes, in NumPy; the dtype of the inputs (float32 or float64) is kept.

These functions define the ops: the interpreter runs them, and every pass is checked against them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Inputs = Sequence[Any]
Attributes = Mapping[str, Any]

# Elementwise math.erf: exact to the last bits of float64, and NumPy has none of its own.
_erf = np.frompyfunc(math.erf, 1, 1)


def _sigmoid_gated(x: Array, slope: float) -> Array:
    """x / (1 + exp(-slope x)), without an exponential that overflows."""
    power = np.exp(-np.abs(slope * x))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(x < 0, x * power, x) / (1 + power))


def _gelu(x: Array, approximate: str) -> Array:
    if approximate == "sigmoid":
        return _sigmoid_gated(x, 1.702)
    if approximate == "tanh":
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)
        return np.asarray(0.5 * x * (1.0 + np.tanh(inner)))
    return np.asarray(0.5 * x * (1.0 + np.asarray(_erf(x / math.sqrt(2.0)), dtype=x.dtype)))


def _activate(x: Array, activation: str | None) -> Array:
    if activation is None:
        return x
    if activation == "relu":
        return np.asarray(np.maximum(x, 0))
    if activation == "silu":
        return _sigmoid_gated(x, 1.0)
    return _gelu(x, activation.removeprefix("gelu").removeprefix("_") or "none")


def matmul(inputs: Inputs, attributes: Attributes) -> Array:
    """activation(alpha * a @ b + bias + addend)."""
    a, b, bias, addend = inputs
    if attributes["transpose_b"]:
        b = np.swapaxes(b, -1, -2)
    if b.ndim == 2 and a.ndim > 2:
        out = (a.reshape(-1, a.shape[-1]) @ b).reshape(*a.shape[:-1], b.shape[-1])
    else:
        out = a @ b
    if attributes["alpha"] != 1.0:
        out = out * attributes["alpha"]
    if bias is not None:
        out = out + bias
    if addend is not None:
        out = out + addend
    return np.asarray(_activate(out, attributes["activation"]))


def permute(inputs: Inputs, attributes: Attributes) -> Array:
    """The axes in another order, copied to contiguous memory."""
    return np.array(np.transpose(inputs[0], attributes["perm"]), order="C")


def slice_(inputs: Inputs, attributes: Attributes) -> Array:
    """Elements [start, stop) of one axis, copied."""
    index = [slice(None)] * inputs[0].ndim
    index[attributes["axis"]] = slice(attributes["start"], attributes["stop"])
    return np.array(inputs[0][tuple(index)], order="C")


def take(inputs: Inputs, attributes: Attributes) -> Array:
    """The rows of x along an axis that ids names; IndexError where it names none."""
    x, ids = inputs
    n = x.shape[attributes["axis"]]
    with np.errstate(invalid="ignore"):
        is_wrong = ~((ids >= 0) & (ids < n) & (ids == np.trunc(ids)))
    if is_wrong.any():
        raise IndexError(
            f"take: argument 'ids' has the element {ids[is_wrong].flat[0]:.9g}; accepted: whole"
            f" numbers in [0, {n}), as x has {n} rows along the axis"
        )
    return np.array(np.take(x, ids.astype(np.int64), attributes["axis"]), order="C")


def concat(inputs: Inputs, attributes: Attributes) -> Array:
    """The arrays one after another along an axis."""
    given = [array for array in inputs if array is not None]
    return np.asarray(np.concatenate(given, attributes["axis"]))


def reshape(inputs: Inputs, attributes: Attributes) -> Array:
    """The same elements under another shape."""
    return np.asarray(inputs[0].reshape(attributes["shape"]))


def add(inputs: Inputs, attributes: Attributes) -> Array:
    """a + b with NumPy broadcasting."""
    return np.asarray(inputs[0] + inputs[1])


def sub(inputs: Inputs, attributes: Attributes) -> Array:
    """a - b with NumPy broadcasting."""
    return np.asarray(inputs[0] - inputs[1])


def mul(inputs: Inputs, attributes: Attributes) -> Array:
    """a * b with NumPy broadcasting."""
    return np.asarray(inputs[0] * inputs[1])


def div(inputs: Inputs, attributes: Attributes) -> Array:
    """a / b with NumPy broadcasting."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(inputs[0] / inputs[1])


def maximum(inputs: Inputs, attributes: Attributes) -> Array:
    """The larger of a and b with NumPy broadcasting; NaN if either is."""
    return np.asarray(np.maximum(inputs[0], inputs[1]))


def minimum(inputs: Inputs, attributes: Attributes) -> Array:
    """The lesser of a and b with NumPy broadcasting; NaN if either is."""
    return np.asarray(np.minimum(inputs[0], inputs[1]))


def pow_(inputs: Inputs, attributes: Attributes) -> Array:
    """a to the power of b with NumPy broadcasting."""
    with np.errstate(all="ignore"):
        return np.asarray(np.power(inputs[0], inputs[1]))


def equal(inputs: Inputs, attributes: Attributes) -> Array:
    """1 where a equals b, else 0."""
    return np.asarray(inputs[0] == inputs[1], dtype=inputs[0].dtype)


def less(inputs: Inputs, attributes: Attributes) -> Array:
    """1 where a < b, else 0; NaN gives 0."""
    return np.asarray(inputs[0] < inputs[1], dtype=inputs[0].dtype)


def less_equal(inputs: Inputs, attributes: Attributes) -> Array:
    """1 where a <= b, else 0; NaN gives 0."""
    return np.asarray(inputs[0] <= inputs[1], dtype=inputs[0].dtype)


def exp(inputs: Inputs, attributes: Attributes) -> Array:
    """e to the power of x."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(inputs[0]))


def log(inputs: Inputs, attributes: Attributes) -> Array:
    """Natural logarithm: -infinity for 0, NaN for x < 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.log(inputs[0]))


def sqrt(inputs: Inputs, attributes: Attributes) -> Array:
    """Square root, NaN for x < 0."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(inputs[0]))


def tanh(inputs: Inputs, attributes: Attributes) -> Array:
    """Hyperbolic tangent."""
    return np.asarray(np.tanh(inputs[0]))


def sigmoid(inputs: Inputs, attributes: Attributes) -> Array:
    """1 / (1 + exp(-x)), without an exponential that overflows."""
    x = inputs[0]
    power = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, power, 1) / (1 + power), dtype=x.dtype)


def erf(inputs: Inputs, attributes: Attributes) -> Array:
    """Error function."""
    return np.asarray(_erf(inputs[0]), dtype=inputs[0].dtype)


def abs_(inputs: Inputs, attributes: Attributes) -> Array:
    """Magnitude."""
    return np.asarray(np.abs(inputs[0]))


def sin(inputs: Inputs, attributes: Attributes) -> Array:
    """Sine of radians; NaN for an infinity."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sin(inputs[0]))


def cos(inputs: Inputs, attributes: Attributes) -> Array:
    """Cosine of radians; NaN for an infinity."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.cos(inputs[0]))


def relu(inputs: Inputs, attributes: Attributes) -> Array:
    """max(x, 0); NaN stays NaN."""
    return np.asarray(np.maximum(inputs[0], 0))


def gelu(inputs: Inputs, attributes: Attributes) -> Array:
    """x * Phi(x), by the error function or an approximation by tanh or the sigmoid."""
    return _gelu(inputs[0], attributes["approximate"])


def silu(inputs: Inputs, attributes: Attributes) -> Array:
    """x / (1 + exp(-x))."""
    return _sigmoid_gated(inputs[0], 1.0)


def silu_mul(inputs: Inputs, attributes: Attributes) -> Array:
    """silu(a) * b."""
    return np.asarray(silu(inputs[:1], attributes) * inputs[1])


def rsqrt(inputs: Inputs, attributes: Attributes) -> Array:
    """1 / sqrt(x): infinity for 0, NaN for x < 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 / np.sqrt(inputs[0]))


def where(inputs: Inputs, attributes: Attributes) -> Array:
    """x where the condition is not zero, else y."""
    condition, x, y = inputs
    return np.asarray(np.where(condition != 0, x, y))


def bias_relu(inputs: Inputs, attributes: Attributes) -> Array:
    """relu(x + bias), the bias along the last axis."""
    return np.asarray(np.maximum(inputs[0] + inputs[1], 0))


def softmax(inputs: Inputs, attributes: Attributes) -> Array:
    """Softmax over the last axis; a row of only -inf gives NaN."""
    x = inputs[0]
    with np.errstate(invalid="ignore"):
        exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def sum_(inputs: Inputs, attributes: Attributes) -> Array:
    """Sum over the last axis, which stays as one of size 1; added up in float64."""
    x = inputs[0]
    return np.asarray(x.sum(axis=-1, keepdims=True, dtype=np.float64).astype(x.dtype))


def amax(inputs: Inputs, attributes: Attributes) -> Array:
    """Largest element of the last axis, which stays as one of size 1; NaN if one is."""
    return np.asarray(inputs[0].max(axis=-1, keepdims=True))


def cumsum(inputs: Inputs, attributes: Attributes) -> Array:
    """Running sums along the last axis; added up in float64."""
    x = inputs[0]
    return np.asarray(np.cumsum(x, axis=-1, dtype=np.float64).astype(x.dtype))


def layer_norm(inputs: Inputs, attributes: Attributes) -> Array:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis.

    Rows of float32 whose squares or mean it does not hold are normalized in float64.
    """
    x, weight, bias = inputs
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        normalized, mean, variance = _normalized(x, attributes["eps"])
        holds = (variance >= 2.0**-100) & (variance <= np.finfo(np.float32).max)
        holds &= variance >= mean * mean * 2.0**-24
        if x.dtype == np.float32 and not holds.all():
            rows = ~holds[..., 0]
            normalized[rows] = _normalized(x[rows].astype(np.float64), attributes["eps"])[0]
        return np.asarray(normalized * weight + bias)


def _normalized(x: Array, eps: float) -> tuple[Array, Array, Array]:
    """(x - mean) / sqrt(variance + eps), the mean, and variance + eps."""
    mean = x.mean(axis=-1, keepdims=True)
    centered = x - mean
    variance = np.mean(centered * centered, axis=-1, keepdims=True) + eps
    return centered / np.sqrt(variance), mean, variance


def rms_norm(inputs: Inputs, attributes: Attributes) -> Array:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis; a large square is infinite.

    A weight (n, D) is that of the first n heads of x (..., H, D); the others stay as they are. An
    addend is added to the result.
    """
    x, weight, addend = inputs
    heads = slice(len(weight)) if weight.ndim == 2 else slice(None)
    out = np.array(x)
    normed = out[..., heads, :] if weight.ndim == 2 else out
    squares = np.mean(normed * normed, axis=-1, keepdims=True, dtype=np.float64).astype(x.dtype)
    normed[...] = normed / np.sqrt(squares + attributes["eps"]) * weight
    return out if addend is None else out + addend


def rotary(inputs: Inputs, attributes: Attributes) -> Array:
    """Each pair of the first r elements turned by the angle of its position; the rest as it is.

    Only the first n_heads heads are turned, 0: all.

    Layout bhsd: x is (B, H, S, D), bshd: (B, S, H, D); cos and sin are (S, r / 2). pairs
    interleaved: x[2i] and x[2i+1]; halves: x[i] and x[i + r / 2].
    """
    x, cos, sin = inputs
    half = cos.shape[1]
    if attributes["layout"] == "bshd":
        cos, sin = cos[:, None, :], sin[:, None, :]
    if attributes["pairs"] == "halves":
        first, second = slice(0, half), slice(half, 2 * half)
    else:
        first, second = slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    out = np.array(x)
    heads = slice(attributes["n_heads"] or None)
    turned = out[:, :, heads] if attributes["layout"] == "bshd" else out[:, heads]
    a, b = turned[..., first], turned[..., second]
    turned[..., first], turned[..., second] = a * cos - b * sin, a * sin + b * cos
    return out


def attention(inputs: Inputs, attributes: Attributes) -> Array:
    """softmax(scale * q @ k^T + mask) @ v; a row whose every key is masked gives 0, if strict NaN.

    mask_replaces: a score whose mask is not 0 becomes the mask. mask_is_causal: the caller vouches
    that the mask is 0 for the keys up to each query and at most -1e31 for those behind.

    Layout bhsd: q is (B, H, Sq, D), k (B, Hk, Sk, D), v (B, Hk, Sk, Dv), the output (B, H, Sq, Dv);
    Hk divides H, and query head h reads head h // (H / Hk). bshd: the heads after the sequence.
    qkv: q is (B, S, 3, H, D), or with n_heads = H (B, S, H + 2 Hk, D), and holds all three, k and v
    are None, the output is (B, S, H, D). softcap c: a score s is c tanh(s / c), with 0 it is s.
    window: of causal's keys query i sees those j with i - j < window.
    """
    q, k, v, mask = inputs
    if attributes["layout"] == "qkv":
        n_heads = attributes["n_heads"] or q.shape[3]
        together = q.reshape(*q.shape[:2], -1, q.shape[-1])
        kv_heads = (together.shape[2] - n_heads) // 2
        q, k, v = np.split(together, [n_heads, n_heads + kv_heads], axis=2)
    if attributes["layout"] != "bhsd":
        q, k, v = (np.swapaxes(x, 1, 2) for x in (q, k, v))
    scale = attributes["scale"]
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    # (B, Hk, H / Hk, Sq, D): heads that share keys broadcast them.
    shared = q.reshape(q.shape[0], k.shape[1], -1, *q.shape[2:])
    products = np.matmul(shared, np.swapaxes(k, -1, -2)[:, :, None]) * scale
    scores = products.reshape(*q.shape[:3], -1)
    if attributes["softcap"]:
        scores = attributes["softcap"] * np.tanh(scores / attributes["softcap"])
    if mask is not None and attributes["mask_replaces"]:
        scores = np.where(mask != 0, mask, scores)
    elif mask is not None:
        scores = scores + mask
    if attributes["causal"]:
        keep = np.tri(scores.shape[-2], scores.shape[-1], dtype=bool)
        if attributes["window"]:
            keep &= ~np.tri(*keep.shape, -attributes["window"], dtype=bool)
        scores = np.where(keep, scores, -np.inf)
    maximum = scores.max(axis=-1, keepdims=True)
    # A fully masked row has maximum -inf: shifting by 0 instead keeps its exponentials at 0.
    exponentials = np.exp(scores - np.where(np.isneginf(maximum), 0, maximum))
    total = exponentials.sum(axis=-1, keepdims=True)
    weights = exponentials / np.where(total == 0, np.nan if attributes["strict"] else 1, total)
    out = np.matmul(weights.reshape(products.shape), v[:, :, None])
    out = out.reshape(*q.shape[:3], -1)
    if attributes["layout"] != "bhsd":
        out = np.swapaxes(out, 1, 2)
    return np.asarray(out, order="C")
