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


def _gelu(x: Array, approximate: str) -> Array:
    if approximate == "tanh":
        inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)
        return np.asarray(0.5 * x * (1.0 + np.tanh(inner)))
    return np.asarray(0.5 * x * (1.0 + np.asarray(_erf(x / math.sqrt(2.0)), dtype=x.dtype)))


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
    activation = attributes["activation"]
    if activation == "relu":
        out = np.maximum(out, 0)
    elif activation is not None:
        out = _gelu(out, "tanh" if activation == "gelu_tanh" else "none")
    return np.asarray(out)


def permute(inputs: Inputs, attributes: Attributes) -> Array:
    """The axes in another order, copied to contiguous memory."""
    return np.array(np.transpose(inputs[0], attributes["perm"]), order="C")


def slice_(inputs: Inputs, attributes: Attributes) -> Array:
    """Elements [start, stop) of one axis, copied."""
    index = [slice(None)] * inputs[0].ndim
    index[attributes["axis"]] = slice(attributes["start"], attributes["stop"])
    return np.array(inputs[0][tuple(index)], order="C")


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


def relu(inputs: Inputs, attributes: Attributes) -> Array:
    """max(x, 0); NaN stays NaN."""
    return np.asarray(np.maximum(inputs[0], 0))


def gelu(inputs: Inputs, attributes: Attributes) -> Array:
    """x * Phi(x), by the error function or the tanh approximation."""
    return _gelu(inputs[0], attributes["approximate"])


def silu(inputs: Inputs, attributes: Attributes) -> Array:
    """x / (1 + exp(-x)), without an exponential that overflows."""
    x = inputs[0]
    power = np.exp(-np.abs(x))
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(x < 0, x * power, x) / (1 + power))


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
    """x / sqrt(mean(x^2) + eps) * weight over the last axis; a large square is infinite."""
    x, weight = inputs
    squares = np.mean(x * x, axis=-1, keepdims=True, dtype=np.float64).astype(x.dtype)
    return np.asarray(x / np.sqrt(squares + attributes["eps"]) * weight)


def rotary(inputs: Inputs, attributes: Attributes) -> Array:
    """Each pair (x[2i], x[2i+1]) turned by the angle of its position, given as cos and sin.

    Layout bhsd: x is (B, H, S, D), bshd: (B, S, H, D); cos and sin are (S, D / 2).
    """
    x, cos, sin = inputs
    if attributes["layout"] == "bshd":
        cos, sin = cos[:, None, :], sin[:, None, :]
    even, odd = x[..., ::2], x[..., 1::2]
    turned = np.stack((even * cos - odd * sin, even * sin + odd * cos), axis=-1)
    return np.asarray(turned.reshape(x.shape))


def attention(inputs: Inputs, attributes: Attributes) -> Array:
    """softmax(scale * q @ k^T + mask) @ v; a row whose every key is masked gives 0, if strict NaN.

    mask_replaces: a score whose mask is not 0 becomes the mask. mask_is_causal: the caller vouches
    that the mask is 0 for the keys up to each query and at most -1e31 for those behind.

    Layout bhsd: q, k, v and the output are (B, H, S, D). bshd: (B, S, H, D). qkv: q is
    (B, S, 3, H, D) and holds all three, k and v are None, the output is (B, S, H, D).
    """
    q, k, v, mask = inputs
    if attributes["layout"] == "qkv":
        q, k, v = np.moveaxis(q, 2, 0)
    if attributes["layout"] != "bhsd":
        q, k, v = (np.swapaxes(x, 1, 2) for x in (q, k, v))
    scale = attributes["scale"]
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = np.matmul(q, np.swapaxes(k, -1, -2)) * scale
    if mask is not None and attributes["mask_replaces"]:
        scores = np.where(mask != 0, mask, scores)
    elif mask is not None:
        scores = scores + mask
    if attributes["causal"]:
        keep = np.tri(scores.shape[-2], scores.shape[-1], dtype=bool)
        scores = np.where(keep, scores, -np.inf)
    maximum = scores.max(axis=-1, keepdims=True)
    # A fully masked row has maximum -inf: shifting by 0 instead keeps its exponentials at 0.
    exponentials = np.exp(scores - np.where(np.isneginf(maximum), 0, maximum))
    total = exponentials.sum(axis=-1, keepdims=True)
    weights = exponentials / np.where(total == 0, np.nan if attributes["strict"] else 1, total)
    out = np.matmul(weights, v)
    if attributes["layout"] != "bhsd":
        out = np.swapaxes(out, 1, 2)
    return np.asarray(out, order="C")
