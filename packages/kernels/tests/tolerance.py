"""How far a float32 kernel may be from the float64 reference: one formula per op.

Each follows from how rounding errors grow, with u = 2^-24 per operation. A sum of n terms in any order
stays, with overwhelming probability, within sqrt(n) u of the sum of their magnitudes; the strict bound
n u would hide real defects in long rows. The constants cover the few operations around the sum.
"""

from __future__ import annotations

import numpy as np
import reference
from numpy.typing import NDArray

Array = NDArray[np.float64]

UNIT = {np.dtype(np.float32): 2.0**-24}
#: Below the smallest normal number a vector unit may flush to zero.
TINY = {np.dtype(np.float32): 2.0**-125}


def _sum_growth(length: int) -> float:
    return 2 * float(np.sqrt(length)) + 8


def exact(expected: Array, dtype: type = np.float32) -> Array:
    """Copies and single operations: the reference rounded once, nothing more."""
    return np.abs(float64_after(expected, dtype) - expected)


def float64_after(expected: Array, dtype: type = np.float32) -> Array:
    """The reference as the dtype stores it."""
    with np.errstate(over="ignore"):
        return expected.astype(dtype).astype(np.float64)


def divide(expected: Array, dtype: type = np.float32) -> Array:
    """a / b: one unit in the last place beyond the rounding, for units that multiply by a reciprocal."""
    return 3 * UNIT[np.dtype(dtype)] * np.abs(expected) + TINY[np.dtype(dtype)]


def gelu(x: reference.AnyArray, dtype: type = np.float32) -> Array:
    """0.5 x (1 + erf): the bracket cancels for negative x, so its error is absolute, and scales with |x|."""
    return 6 * UNIT[np.dtype(dtype)] * np.abs(reference.float64(x)) + TINY[np.dtype(dtype)]


def matmul(length: int, magnitude: Array, dtype: type = np.float32) -> Array:
    """A dot product of `length` terms whose magnitudes sum to `magnitude`, bias and addend included.

    An activation passes errors on with a factor of at most 1.13 (the slope of gelu) and adds its own.
    """
    return 1.2 * _sum_growth(length) * UNIT[np.dtype(dtype)] * magnitude + TINY[np.dtype(dtype)]


def softmax(x: reference.AnyArray, expected: Array, dtype: type = np.float32) -> Array:
    """x - max is rounded, and exp turns that absolute error into a relative one; then a sum and a division."""
    wide = reference.float64(x)
    with np.errstate(invalid="ignore"):
        distance = np.where(wide == -np.inf, 0.0, wide.max(axis=-1, keepdims=True) - wide)
    growth = _sum_growth(wide.shape[-1]) + distance
    return np.asarray(growth * UNIT[np.dtype(dtype)] * expected + TINY[np.dtype(dtype)])


def layer_norm(
    x: reference.AnyArray,
    weight: reference.AnyArray,
    bias: reference.AnyArray,
    expected: Array,
    eps: float = 1e-5,
    dtype: type = np.float32,
) -> Array:
    """The mean's error scales with the mean of |x|, and is magnified by weight / deviation."""
    wide = reference.float64(x)
    growth = _sum_growth(wide.shape[-1])
    deviation = np.sqrt(wide.var(axis=-1, keepdims=True) + eps)
    centering = np.mean(np.abs(wide), axis=-1, keepdims=True) + np.abs(wide)
    gain = np.abs(reference.float64(weight)) / deviation
    scaled = np.abs(expected - reference.float64(bias))
    terms = gain * centering + scaled + np.abs(expected) + np.abs(reference.float64(bias))
    return np.asarray(growth * UNIT[np.dtype(dtype)] * terms + TINY[np.dtype(dtype)])


def attention(
    expected: reference.Attention, v: reference.AnyArray, head_dim: int, dtype: type = np.float32
) -> Array:
    """Errors of the scores move weight between keys; then come exp, the sum over keys and the product with v."""
    unit = UNIT[np.dtype(dtype)]
    score_error = (
        _sum_growth(head_dim) * unit * expected.score_magnitude + unit * expected.distance
    )
    moved = expected.weights * score_error
    from_scores = (
        moved @ np.abs(reference.float64(v))
        + moved.sum(axis=-1, keepdims=True) * expected.value_magnitude
    )
    length = expected.weights.shape[-1]
    from_sums = 2 * _sum_growth(length) * unit * expected.value_magnitude
    return np.asarray(from_scores + from_sums + TINY[np.dtype(dtype)] * length)
