"""The ops in float64, written as their definitions: better arithmetic than the kernels'."""

from __future__ import annotations

import math
from typing import NamedTuple

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
    """x * Phi(x), or its approximation by tanh."""
    wide = float64(x)
    with np.errstate(invalid="ignore", over="ignore"):
        if approximate == "tanh":
            gate = np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3))
        else:
            gate = _erf(wide / math.sqrt(2))
        return np.asarray(0.5 * wide * (1 + gate))


def bias_relu(x: AnyArray, bias: AnyArray) -> Array:
    """max(x + bias, 0)."""
    return relu(float64(x) + float64(bias))


def where(condition: AnyArray, x: AnyArray, y: AnyArray) -> Array:
    """x where the condition is not zero (NaN is not zero), else y."""
    return np.where(condition != 0, float64(x), float64(y))


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
    if activation == "relu":
        value = relu(value)
    elif activation is not None:
        value = gelu(value, "tanh" if activation == "gelu_tanh" else "none")
    return Matmul(value, magnitude)


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


def attention(
    q: AnyArray,
    k: AnyArray,
    v: AnyArray,
    *,
    mask: AnyArray | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> Attention:
    """softmax(scale * q @ k^T + mask) @ v; causal: query i sees keys 0 to i."""
    query, key, value = float64(q), float64(k), float64(v)
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = factor * (query @ np.swapaxes(key, -1, -2))
    magnitude = abs(factor) * (np.abs(query) @ np.swapaxes(np.abs(key), -1, -2))
    if mask is not None:
        scores = scores + float64(mask)
    if causal:
        visible = np.tri(scores.shape[-2], scores.shape[-1], dtype=bool)
        scores = np.where(visible, scores, -np.inf)
    masked = scores == -np.inf
    with np.errstate(invalid="ignore"):
        largest = scores.max(axis=-1, keepdims=True)
        distance = np.where(masked, 0.0, largest - scores)
        weights = np.where(masked, 0.0, np.exp(-distance))
        total = weights.sum(axis=-1, keepdims=True)
        weights = weights / np.where(total == 0, 1.0, total)
    scores_seen = np.where(masked, 0.0, magnitude + np.abs(np.where(masked, 0.0, scores)))
    return Attention(weights @ value, weights, distance, scores_seen, weights @ np.abs(value))
