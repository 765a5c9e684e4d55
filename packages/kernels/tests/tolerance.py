"""How far a float32 kernel may be from the float64 reference: one formula per op.

Each follows from how rounding errors grow, with one unit roundoff per operation. A sum of n terms
in any order stays, with overwhelming probability, within sqrt(n) units of the sum of their
magnitudes; the strict bound of n units would hide real defects in long rows. The constants cover
the few operations around the sum.
"""

from __future__ import annotations

import numpy as np
import reference
from numpy.typing import NDArray

Array = NDArray[np.float64]

DTYPE = np.float32
#: Unit roundoff: half the distance from 1 to the next number.
UNIT = float(np.finfo(DTYPE).eps) / 2
#: Below the smallest normal number a vector unit may flush to zero.
TINY = 2 * float(np.finfo(DTYPE).tiny)


def _sum_growth(length: int) -> float:
    return 2 * float(np.sqrt(length)) + 8


def exact(expected: Array) -> Array:
    """Copies and single operations: the reference rounded once, nothing more."""
    return np.abs(float64_after(expected) - expected)


def float64_after(expected: Array) -> Array:
    """The reference as the dtype stores it."""
    with np.errstate(over="ignore"):
        return expected.astype(DTYPE).astype(np.float64)


def divide(expected: Array) -> Array:
    """a / b: a unit in the last place beyond the rounding, for those that multiply by 1 / b."""
    return np.asarray(3 * UNIT * np.abs(expected) + TINY)


def gelu(x: reference.AnyArray, approximate: str = "none") -> Array:
    """0.5 x (1 + erf): the bracket cancels for negative x, so the error scales with |x|.

    The form with the logistic function has no such bracket; the rounding of 1.702 x, which exp
    makes a relative error, is at most that of |x|.
    """
    if approximate == "sigmoid":
        expected = np.abs(reference.gelu(x, "sigmoid"))
        return np.asarray((11 + 4 * np.abs(reference.float64(x))) * UNIT * expected + 2 * TINY)
    return np.asarray(6 * UNIT * np.abs(reference.float64(x)) + TINY)


def function(expected: Array, units: int) -> Array:
    """A function of one element, to so many units of its result."""
    with np.errstate(invalid="ignore"):  # no unit of infinity
        return np.asarray(units * UNIT * np.abs(expected) + TINY)


def sums(magnitude: Array) -> Array:
    """A sum whose terms' magnitudes add up to `magnitude`: 22 roundings, as simd_body.h says."""
    return np.asarray(22 * UNIT * magnitude + TINY)


def silu(expected: Array, factor: reference.AnyArray | float = 1.0) -> Array:
    """exp within two units in the last place, a sum, a product and a division, then the factor."""
    return np.asarray(11 * UNIT * np.abs(expected) + TINY * (1 + np.abs(factor)))


def matmul(length: int, magnitude: Array) -> Array:
    """A dot product of `length` terms whose magnitudes sum to `magnitude`, with bias and addend.

    An activation passes errors on with a factor of at most 1.13 (the slope of gelu), then rounds.
    """
    return np.asarray(1.2 * _sum_growth(length) * UNIT * magnitude + TINY)


def product(
    kernel: str,
    a: reference.AnyArray,
    b: reference.AnyArray,
    magnitude: Array,
    transpose_b: bool = False,
    alpha: float = 1.0,
) -> Array:
    """What the kernel of a product may be off by: element by element, or by norms for Strassen's.

    One level of Strassen's computes a block of the output from up to four products of half the
    length, of sums of up to two rows and columns: 2 x 2 + 2 + 2 + 2 x 2 = 12 times what the largest
    rows and columns give (the 12 of Higham, Accuracy and Stability, 2nd edition, 23.2.2); each
    further level does so once more. Two roundings more for the sums, five for the output's.
    """
    length = a.shape[-1]
    allowed = matmul(length, magnitude)
    if "strassen" not in kernel:
        return allowed
    levels = 2 if "twice" in kernel else 1
    rows = np.linalg.norm(reference.float64(a), axis=-1).max(initial=0.0)
    columns = np.linalg.norm(reference.float64(b), axis=-1 if transpose_b else -2)
    growth = 12**levels * (_sum_growth(-(-length // 2**levels)) + 7 * levels)
    return np.asarray(allowed + 1.2 * growth * UNIT * abs(alpha) * rows * columns.max(initial=0.0))


def softmax(x: reference.AnyArray, expected: Array) -> Array:
    """x - max is rounded, and exp makes that error a relative one; then a sum and a division."""
    wide = reference.float64(x)
    with np.errstate(invalid="ignore"):
        distance = np.where(wide == -np.inf, 0.0, wide.max(axis=-1, keepdims=True) - wide)
    growth = _sum_growth(wide.shape[-1]) + distance
    return np.asarray(growth * UNIT * expected + TINY)


def layer_norm(
    x: reference.AnyArray,
    weight: reference.AnyArray,
    bias: reference.AnyArray,
    expected: Array,
    eps: float = 1e-5,
) -> Array:
    """The mean's error scales with the mean of |x|, and is magnified by weight / deviation."""
    wide = reference.float64(x)
    growth = _sum_growth(wide.shape[-1])
    deviation = np.sqrt(wide.var(axis=-1, keepdims=True) + eps)
    centering = np.mean(np.abs(wide), axis=-1, keepdims=True) + np.abs(wide)
    gain = np.abs(reference.float64(weight)) / deviation
    scaled = np.abs(expected - reference.float64(bias))
    terms = gain * centering + scaled + np.abs(expected) + np.abs(reference.float64(bias))
    return np.asarray(growth * UNIT * terms + TINY)


def rms_norm(x: reference.AnyArray, expected: Array) -> Array:
    """Half the relative error of a sum of positive terms, a root, a division and two products."""
    return np.asarray((_sum_growth(x.shape[-1]) / 2 + 4) * UNIT * np.abs(expected) + TINY)


def rotary(
    x: reference.AnyArray,
    cos: reference.AnyArray,
    sin: reference.AnyArray,
    pairs: str = "interleaved",
) -> Array:
    """Two products and a sum, which may cancel: by the magnitudes of the terms (layout bhsd).

    Elements that are copied are exact.
    """
    wide, cos, sin = (np.abs(reference.float64(array)) for array in (x, cos, sin))
    first, second = reference.pair_members(cos.shape[1], pairs)
    allowed = np.zeros(wide.shape)
    for one, other in ((first, second), (second, first)):
        terms = wide[..., one] * cos + wide[..., other] * sin
        allowed[..., one] = 2 * UNIT * terms + TINY
    return allowed


def _score_error(expected: reference.Attention, head_dim: int) -> Array:
    """Of a score less the largest of its row."""
    growth = _sum_growth(head_dim)
    return np.asarray(growth * UNIT * expected.score_magnitude + UNIT * expected.distance)


def attention(expected: reference.Attention, v: reference.AnyArray, head_dim: int) -> Array:
    """Errors of the scores move weight between keys; then exp, the sum and the product with v."""
    unit = UNIT
    moved = expected.weights * _score_error(expected, head_dim)
    values = np.abs(reference.float64(reference.for_each_head(expected.weights, v)))
    from_scores = moved @ values + moved.sum(axis=-1, keepdims=True) * expected.value_magnitude
    length = expected.weights.shape[-1]
    from_sums = 2 * _sum_growth(length) * unit * expected.value_magnitude
    return np.asarray(from_scores + from_sums + TINY * length)


def lse(expected: reference.AttentionLse, head_dim: int) -> Array:
    """Errors of the scores count by weight; then the sum of the exponentials and its logarithm."""
    weights = expected.attention.weights
    from_scores = (weights * _score_error(expected.attention, head_dim)).sum(axis=-1)
    from_sums = _sum_growth(weights.shape[-1]) * UNIT
    return np.asarray(from_scores + from_sums + 2 * UNIT * np.abs(expected.lse))


#: Unit roundoff of bfloat16: eight significant bits.
BF16_UNIT = 2.0**-8
#: Relative error of the exponential where its result becomes a bfloat16 anyway.
_BF16_EXP = 4e-6


def attention_bf16(
    expected: reference.Attention, v: reference.AnyArray, head_dim: int, rounds_weights: bool
) -> Array:
    """As attention; then one rounding of the output.

    Weights that are rounded to bfloat16 move the output, which is their mean of the values, by at
    most a unit of the mean distance of a value from it.
    """
    output = np.abs(expected.value)
    error = attention(expected, v, head_dim)
    if rounds_weights:
        error = error + (BF16_UNIT + _BF16_EXP) * (expected.value_magnitude + output)
    return np.asarray(error * (1 + BF16_UNIT) + BF16_UNIT * output + TINY)


def lse_bf16(expected: reference.AttentionLse, head_dim: int) -> Array:
    """As lse, with the coarser exponential."""
    return np.asarray(lse(expected, head_dim) + _BF16_EXP)


def attention_lse(expected: reference.AttentionLse, v: reference.AnyArray, head_dim: int) -> Array:
    """Both parts, flat."""
    parts = (attention(expected.attention, v, head_dim), lse(expected, head_dim))
    return np.concatenate([part.ravel() for part in parts])


def attention_backward(
    expected: reference.AttentionBackward, saved_error: tuple[Array, Array] | None = None
) -> Array:
    """Gradients of q, k and v, flat.

    A weight has a relative error: that of its score and of lse, then exp. The gradient of a score
    is a weight times a difference of two sums over head_dim, which may cancel, so their errors
    count by their magnitudes. Then sums over the keys or the queries. saved_error is that of the
    output and lse that the kernel was given; None: they were rounded once.
    """
    forward = expected.forward.attention
    queries, keys = forward.weights.shape[-2:]
    head_dim = expected.q.shape[-1]
    q, k, v, gradient = (np.abs(x) for x in expected[3:7])
    output = np.abs(forward.value)
    output_error, lse_error = saved_error or (UNIT * output, UNIT * np.abs(expected.forward.lse))
    relative = _score_error(forward, head_dim) + lse_error[..., None]
    relative = relative + (4 + np.log(keys)) * UNIT
    terms = gradient @ np.swapaxes(v, -1, -2) + (gradient * output).sum(axis=-1)[..., None]
    term_error = _sum_growth(head_dim) * UNIT * terms
    term_error = term_error + (gradient * output_error).sum(axis=-1)[..., None]
    difference = np.abs(expected.difference)
    of_scores = forward.weights * difference
    error = of_scores * (relative + 3 * UNIT) + forward.weights * term_error + TINY * terms
    by_key = _sum_growth(queries) * UNIT
    scale = abs(expected.scale)
    moved = np.swapaxes(forward.weights * (relative + by_key) + TINY, -1, -2)
    parts = (
        scale * (error + _sum_growth(keys) * UNIT * of_scores) @ k,
        scale * np.swapaxes(error + by_key * of_scores, -1, -2) @ q,
        moved @ gradient,
    )
    return np.concatenate([part.ravel() for part in parts]) + TINY
