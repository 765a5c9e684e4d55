"""The ops in float64, written as their definitions: better arithmetic than the kernels'."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
AnyArray = NDArray[np.float32] | NDArray[np.float64]

_erf = np.vectorize(math.erf, otypes=[np.float64])


def float64(x: AnyArray) -> Array:
    """The same numbers in double precision."""
    return np.asarray(x, dtype=np.float64)


def relu(x: AnyArray) -> Array:
    """max(x, 0); NaN stays NaN."""
    wide = float64(x)
    return np.asarray(np.where(wide < 0, 0.0, wide))


def gelu(x: AnyArray, approximate: str = "none") -> Array:
    """x * Phi(x), or its approximation by tanh or by the logistic function."""
    wide = float64(x)
    if approximate == "sigmoid":
        return _gated(wide, 1.702)
    with np.errstate(invalid="ignore", over="ignore"):
        if approximate == "tanh":
            gate = np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))
        else:
            gate = _erf(wide / math.sqrt(2))
        return np.asarray(0.5 * wide * (1 + gate))


def sigmoid(x: AnyArray) -> Array:
    """The logistic function, by the exponential of -|x|, which is 1 at most."""
    wide = float64(x)
    with np.errstate(invalid="ignore"):
        power = np.exp(-np.abs(wide))
        return np.asarray(np.where(wide < 0, power, 1.0) / (1 + power))


def _gated(wide: Array, slope: float) -> Array:
    with np.errstate(invalid="ignore"):
        return np.asarray(wide * sigmoid(slope * wide))


def silu(x: AnyArray) -> Array:
    """x times the logistic function of x."""
    return _gated(float64(x), 1.0)


def erf(x: AnyArray) -> Array:
    """The error function."""
    return np.asarray(_erf(float64(x)))


def rsqrt(x: AnyArray) -> Array:
    """x to the power of -1/2."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(1 / np.sqrt(float64(x)))


def bias_relu(x: AnyArray, bias: AnyArray) -> Array:
    """max(x + bias, 0)."""
    return relu(float64(x) + float64(bias))


def where(condition: AnyArray, x: AnyArray, y: AnyArray) -> Array:
    """x where the condition is not zero (NaN is not zero), else y."""
    return np.where(condition != 0, float64(x), float64(y))


def take(x: AnyArray, ids: AnyArray, axis: int) -> Array:
    """x.shape[:axis] + ids.shape + x.shape[axis + 1:]: the rows that ids names."""
    return np.asarray(float64(x).take(ids.astype(np.int64), axis))


class Matmul(NamedTuple):
    """The product and the sum of the magnitudes of its terms, by which rounding errors scale."""

    value: Array
    magnitude: Array


def matmul(
    a: AnyArray,
    b: AnyArray,
    *,
    transpose_b: bool = False,
    alpha: float = 1.0,
    bias: AnyArray | None = None,
    addend: AnyArray | None = None,
    activation: str | None = None,
) -> Matmul:
    """activation(alpha * a @ b + bias + addend)."""
    left, right = float64(a), float64(b)
    if transpose_b:
        right = np.swapaxes(right, -1, -2)
    with np.errstate(invalid="ignore"):
        value = alpha * (left @ right)
        magnitude = abs(alpha) * (np.abs(left) @ np.abs(right))
    for term in (bias, addend):
        if term is not None:
            value = value + float64(term)
            magnitude = magnitude + np.abs(float64(term))
    if activation is not None:
        value = ACTIVATIONS[activation](value)
    return Matmul(value, magnitude)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": relu,
    "gelu": gelu,
    "gelu_tanh": lambda x: gelu(x, "tanh"),
    "gelu_sigmoid": lambda x: gelu(x, "sigmoid"),
    "silu": silu,
}


def softmax(x: AnyArray) -> Array:
    """exp(x) / sum(exp(x)) over the last axis."""
    wide = float64(x)
    with np.errstate(invalid="ignore"):
        weights = np.exp(wide - wide.max(axis=-1, keepdims=True))
        return np.asarray(weights / weights.sum(axis=-1, keepdims=True))


def layer_norm(x: AnyArray, weight: AnyArray, bias: AnyArray, eps: float = 1e-5) -> Array:
    """(x - mean) / sqrt(variance + eps) * weight + bias over the last axis."""
    wide = float64(x)
    with np.errstate(invalid="ignore"):
        centered = wide - wide.mean(axis=-1, keepdims=True)
        variance = np.mean(centered**2, axis=-1, keepdims=True)
        return np.asarray(centered / np.sqrt(variance + eps) * float64(weight) + float64(bias))


def rms_norm(x: AnyArray, weight: AnyArray, eps: float = 1e-5) -> Array:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis.

    A weight (n, D) is that of the first n heads of x (..., heads, D), the others stay.
    """
    wide = float64(x)
    if weight.ndim == 2:
        n_heads = len(weight)
        parts = [rms_norm(wide[..., h, :], weight[h], eps) for h in range(n_heads)]
        return np.concatenate([np.stack(parts, axis=-2), wide[..., n_heads:, :]], axis=-2)
    with np.errstate(invalid="ignore"):
        scale = np.sqrt(np.mean(wide**2, axis=-1, keepdims=True) + eps)
        return np.asarray(wide / scale * float64(weight))


def rotary(
    x: AnyArray,
    cos: AnyArray,
    sin: AnyArray,
    layout: str = "bhsd",
    pairs: str = "interleaved",
    n_heads: int = 0,
) -> Array:
    """The pairs of the last axis as complex numbers, times cos + i sin of their position."""
    out = float64(x).copy()
    if n_heads:
        heads = (slice(None),) * (1 if layout == "bhsd" else 2) + (slice(n_heads),)
        out[heads] = rotary(out[heads], cos, sin, layout, pairs)
        return out
    factors = float64(cos) + 1j * float64(sin)
    half = factors.shape[1]
    if layout == "bshd":
        factors = factors[:, None, :]
    first, second = pair_members(half, pairs)
    with np.errstate(invalid="ignore"):
        turned = (out[..., first] + 1j * out[..., second]) * factors
    out[..., first], out[..., second] = turned.real, turned.imag
    return out


def pair_members(half: int, pairs: str) -> tuple[slice, slice]:
    """The elements of a head that are the first and the second of their pair."""
    if pairs == "interleaved":
        return slice(0, 2 * half, 2), slice(1, 2 * half, 2)
    return slice(0, half), slice(half, 2 * half)


class Attention(NamedTuple):
    """The output and what its rounding errors scale by, all in float64."""

    value: Array
    #: (B, H, Sq, Sk) softmax weights; rows with every key masked are zero
    weights: Array
    #: (B, H, Sq, Sk) distance of a score from the largest of its row, 0 where masked
    distance: Array
    #: (B, H, Sq, Sk) sum of the magnitudes of a score's terms, 0 where masked
    score_magnitude: Array
    #: (B, H, Sq, D) weights @ |v|
    value_magnitude: Array


def _scale(q: AnyArray, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


def _scores(q: AnyArray, k: AnyArray) -> Array:
    with np.errstate(invalid="ignore"):
        return float64(q) @ np.swapaxes(float64(k), -1, -2)


def _hide_later_keys(scores: Array, window: int = 0) -> Array:
    """Of causal: query i sees keys 0 to i, with a window the last `window` of them."""
    query, key = np.arange(scores.shape[-2])[:, None], np.arange(scores.shape[-1])
    visible = (key <= query) & (query - key < window) if window else key <= query
    return np.where(visible, scores, -np.inf)


def for_each_head(q: AnyArray, shared: Any) -> Any:
    """(B, Hk, Sk, D) keys or values as (B, H, Sk, D): each read by H / Hk query heads in turn."""
    return np.repeat(shared, q.shape[1] // shared.shape[1], axis=1)


def attention(
    q: AnyArray,
    k: AnyArray,
    v: AnyArray,
    *,
    mask: AnyArray | None = None,
    causal: bool = False,
    scale: float | None = None,
    window: int = 0,
    softcap: float = 0.0,
) -> Attention:
    """softmax(scale * q @ k^T + mask) @ v; causal: query i sees keys 0 to i.

    k and v may have fewer heads than q, v another head size. softcap c: a score s is
    c tanh(s / c). Its error is that of s or less, and some 8 UNIT of the result.
    """
    k, v = for_each_head(q, k), for_each_head(q, v)
    value, factor = float64(v), _scale(q, scale)
    scores, magnitude = factor * _scores(q, k), abs(factor) * _scores(np.abs(q), np.abs(k))
    if softcap:
        scores = softcap * np.tanh(scores / softcap)
    if mask is not None:
        scores = scores + float64(mask)
    if causal:
        scores = _hide_later_keys(scores, window)
    masked = scores == -np.inf
    with np.errstate(invalid="ignore"):
        largest = scores.max(axis=-1, keepdims=True)
        distance = np.where(masked, 0.0, largest - scores)
        weights = np.where(masked, 0.0, np.exp(-distance))
        total = weights.sum(axis=-1, keepdims=True)
        weights = weights / np.where(total == 0, 1.0, total)
    scores_seen = np.where(masked, 0.0, magnitude + np.abs(np.where(masked, 0.0, scores)))
    return Attention(weights @ value, weights, distance, scores_seen, weights @ np.abs(value))


class AttentionLse(NamedTuple):
    """attention and the logarithm of the sum of exp(scores) of each row."""

    attention: Attention
    #: (B, H, Sq)
    lse: Array

    @property
    def flat(self) -> Array:
        """Output and lse as the kernel writes them."""
        return np.concatenate([self.attention.value.ravel(), self.lse.ravel()])


def attention_lse(
    q: AnyArray, k: AnyArray, v: AnyArray, *, causal: bool = False, scale: float | None = None
) -> AttentionLse:
    """attention without a mask, and lse."""
    scores = _scale(q, scale) * _scores(q, k)
    if causal:
        scores = _hide_later_keys(scores)
    largest = scores.max(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights = np.where(scores == -np.inf, 0.0, np.exp(scores - largest[..., None]))
        lse = largest + np.log(weights.sum(axis=-1))
    return AttentionLse(attention(q, k, v, causal=causal, scale=scale), lse)


class AttentionBackward(NamedTuple):
    """The gradients and what their rounding errors scale by, all in float64."""

    #: of q, k and v
    value: tuple[Array, Array, Array]
    #: output and lse, each rounded once: what the kernel is given
    saved: tuple[NDArray[np.float32], NDArray[np.float32]]
    forward: AttentionLse
    q: Array
    k: Array
    v: Array
    grad_output: Array
    scale: float
    #: (B, H, Sq, Sk) gradient of a weight, less the mean of its row's by weight
    difference: Array

    @property
    def flat(self) -> Array:
        """The gradients as the kernel writes them."""
        return np.concatenate([part.ravel() for part in self.value])


def attention_backward(
    q: AnyArray,
    k: AnyArray,
    v: AnyArray,
    grad_output: AnyArray,
    *,
    causal: bool = False,
    scale: float | None = None,
) -> AttentionBackward:
    """Gradients of sum(attention(q, k, v) * grad_output) by the chain rule.

    value = weights @ v and weights = softmax(scores), whose derivative takes from each gradient of
    a row their mean by weight.
    """
    forward = attention_lse(q, k, v, causal=causal, scale=scale)
    factor, weights = _scale(q, scale), forward.attention.weights
    query, key, value, gradient = (float64(x) for x in (q, k, v, grad_output))
    of_weights = gradient @ np.swapaxes(value, -1, -2)
    difference = of_weights - (of_weights * weights).sum(axis=-1, keepdims=True)
    of_scores = weights * difference
    gradients = (
        factor * of_scores @ key,
        factor * np.swapaxes(of_scores, -1, -2) @ query,
        np.swapaxes(weights, -1, -2) @ gradient,
    )
    saved = (forward.attention.value.astype(np.float32), forward.lse.astype(np.float32))
    return AttentionBackward(
        gradients, saved, forward, query, key, value, gradient, factor, difference
    )
