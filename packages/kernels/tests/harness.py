"""For every test file: the kernels of an op, arrays, outputs with guard bytes, the comparison."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import reference
import tolerance
from numpy.typing import NDArray
from shapes import LARGE_LENGTH, LARGE_ROWS

import ablation_kernels

Float32 = NDArray[np.float32]
Results = Float32 | tuple[Float32, ...]

#: Floats on each side of a guarded output; not a multiple of any vector width.
GUARD = 37
CANARY = np.float32(-1.2345678e33)


def kernels_of(op: str) -> list[str]:
    """Full names of the kernels of an op, from the table itself."""
    return [info.name for info in ablation_kernels.op_table() if info.op == op]


def function_of(op: str) -> Callable[..., Any]:
    """The public function of an op."""
    function: Callable[..., Any] = getattr(ablation_kernels, op)
    return function


def normal(random: np.random.Generator, *shape: int, spread: float = 1.0) -> Float32:
    """Independent normal numbers: no two rows, heads or batches alike."""
    return (spread * random.standard_normal(shape)).astype(np.float32)


def joined(results: Results) -> Float32:
    """What a function of several results wrote, as its kernel did: one after another."""
    if isinstance(results, tuple):
        return np.concatenate([part.ravel() for part in results])
    return results


def guarded(op: str, shape: tuple[int, ...], *args: Any, **keywords: Any) -> Float32:
    """Call the op into the middle of a larger array and return the output.

    The output starts at an address that no vector is aligned to and holds NaN before the call; the
    floats around it must be the same after.
    """
    size = int(np.prod(shape))
    buffer = np.full(size + 2 * GUARD, CANARY, np.float32)
    out = buffer[GUARD : GUARD + size].reshape(shape)
    out[...] = np.nan
    result = function_of(op)(*args, out=out, **keywords)
    for part in result if isinstance(result, tuple) else (result,):
        assert np.shares_memory(part, out), "the result is not the array given as out"
    assert np.all(buffer[:GUARD] == CANARY), "wrote before the output"
    assert np.all(buffer[GUARD + size :] == CANARY), "wrote behind the output"
    return out


def worst_ratio(
    actual: reference.AnyArray, expected: reference.Array, allowed: reference.Array
) -> float:
    """Largest |actual - expected| / allowed; infinite where NaN or infinities differ."""
    wide = np.broadcast_to(reference.float64(actual), expected.shape)
    special = ~np.isfinite(expected)
    same = (np.isnan(wide) & np.isnan(expected)) | (wide == expected)
    if not np.all(same[special]) or not np.all(np.isfinite(wide[~special])):
        return float("inf")
    difference = np.abs(wide[~special] - expected[~special])
    limit = np.broadcast_to(allowed, expected.shape)[~special]
    ratios = np.where(difference == 0, 0.0, difference / np.where(limit == 0, 1e-300, limit))
    return float(ratios.max(initial=0.0))


def assert_within(
    actual: reference.AnyArray, expected: reference.Array, allowed: reference.Array
) -> None:
    """Fail unless each element is within its tolerance; NaN and infinities must be the same."""
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    ratio = worst_ratio(actual, expected, allowed)
    assert ratio <= 1, f"worst error is {ratio:.3g} times the tolerance"


@dataclass(frozen=True)
class Example:
    """One call of an op, with its reference and tolerance."""

    args: tuple[Any, ...]
    keywords: dict[str, Any]
    expected: reference.Array
    allowed: reference.Array


def _exact(expected: reference.Array, *args: Any, **keywords: Any) -> Example:
    return Example(args, keywords, expected, tolerance.exact(expected))


def _matmul(random: np.random.Generator) -> Example:
    a, b = normal(random, 3, 57, 170), normal(random, 153, 170)
    keywords = {
        "transpose_b": True,
        "alpha": 0.5,
        "bias": normal(random, 153),
        "activation": "relu",
    }
    expected = reference.matmul(a, b, **keywords)  # type: ignore[arg-type]
    return Example((a, b), keywords, expected.value, tolerance.matmul(170, expected.magnitude))


def _attention(random: np.random.Generator) -> Example:
    q, k, v = (normal(random, 2, 3, length, 24) for length in (101, 89, 89))
    mask = normal(random, 3, 1, 89)
    expected = reference.attention(q, k, v, mask=mask, causal=True)
    keywords = {"mask": mask, "causal": True}
    return Example((q, k, v), keywords, expected.value, tolerance.attention(expected, v, 24))


def _attention_lse(random: np.random.Generator) -> Example:
    q, k, v = (normal(random, 2, 3, length, 24) for length in (101, 89, 89))
    expected = reference.attention_lse(q, k, v, causal=True)
    allowed = tolerance.attention_lse(expected, v, 24)
    return Example((q, k, v), {"causal": True}, expected.flat, allowed)


def _attention_backward(random: np.random.Generator) -> Example:
    q, k, v = (normal(random, 2, 3, length, 24) for length in (101, 89, 89))
    grad_output = normal(random, 2, 3, 101, 24)
    expected = reference.attention_backward(q, k, v, grad_output, causal=True)
    args = (q, k, v, *expected.saved, grad_output)
    return Example(args, {"causal": True}, expected.flat, tolerance.attention_backward(expected))


def _layer_norm(random: np.random.Generator) -> Example:
    x, weight, bias = (
        normal(random, LARGE_ROWS, LARGE_LENGTH),
        normal(random, LARGE_LENGTH),
        normal(random, LARGE_LENGTH),
    )
    expected = reference.layer_norm(x, weight, bias)
    allowed = tolerance.layer_norm(x, weight, bias, expected)
    return Example((x, weight, bias), {}, expected, allowed)


def _rms_norm(random: np.random.Generator) -> Example:
    x, weight = normal(random, LARGE_ROWS, LARGE_LENGTH), normal(random, LARGE_LENGTH)
    expected = reference.rms_norm(x, weight)
    return Example((x, weight), {}, expected, tolerance.rms_norm(x, expected))


def _rotary(random: np.random.Generator) -> Example:
    x, cos, sin = normal(random, 3, 5, 131, 70), normal(random, 131, 35), normal(random, 131, 35)
    expected = reference.rotary(x, cos, sin)
    return Example((x, cos, sin), {}, expected, tolerance.rotary(x, cos, sin))


def _softmax(random: np.random.Generator) -> Example:
    x = normal(random, LARGE_ROWS, LARGE_LENGTH, spread=4)
    expected = reference.softmax(x)
    return Example((x,), {}, expected, tolerance.softmax(x, expected))


def _gelu(random: np.random.Generator) -> Example:
    x = normal(random, LARGE_ROWS, LARGE_LENGTH, spread=3)
    return Example((x,), {}, reference.gelu(x), tolerance.gelu(x))


def _silu(random: np.random.Generator) -> Example:
    x = normal(random, LARGE_ROWS, LARGE_LENGTH, spread=3)
    expected = reference.silu(x)
    return Example((x,), {}, expected, tolerance.silu(expected))


def _silu_mul(random: np.random.Generator) -> Example:
    a, b = (
        normal(random, LARGE_ROWS, LARGE_LENGTH, spread=3),
        normal(random, LARGE_ROWS, LARGE_LENGTH),
    )
    expected = reference.silu(a) * reference.float64(b)
    return Example((a, b), {}, expected, tolerance.silu(expected, b))


def _rsqrt(random: np.random.Generator) -> Example:
    x = np.abs(normal(random, LARGE_ROWS, LARGE_LENGTH))
    expected = reference.rsqrt(x)
    return Example((x,), {}, expected, tolerance.divide(expected))


def _where(random: np.random.Generator) -> Example:
    condition = (random.random((LARGE_ROWS, LARGE_LENGTH)) < 0.5).astype(np.float32)
    x, y = normal(random, LARGE_ROWS, LARGE_LENGTH), normal(random, LARGE_LENGTH)
    return _exact(reference.where(condition, x, y), condition, x, y)


def _binary(function: Callable[..., Any]) -> Callable[[np.random.Generator], Example]:
    def example(random: np.random.Generator) -> Example:
        a, b = normal(random, LARGE_ROWS, LARGE_LENGTH), normal(random, LARGE_ROWS, 1)
        expected = function(reference.float64(a), reference.float64(b))
        return Example((a, b), {}, expected, tolerance.divide(expected))

    return example


def _bias_relu(random: np.random.Generator) -> Example:
    x, bias = normal(random, LARGE_ROWS, LARGE_LENGTH), normal(random, LARGE_LENGTH)
    return _exact(reference.bias_relu(x, bias), x, bias)


def _relu(random: np.random.Generator) -> Example:
    x = normal(random, LARGE_ROWS, LARGE_LENGTH)
    return _exact(reference.relu(x), x)


def _function(op: str, units: int) -> Callable[[np.random.Generator], Example]:
    """An op of one array that NumPy or the reference has by the same name."""

    def example(random: np.random.Generator) -> Example:
        x = normal(random, LARGE_ROWS, LARGE_LENGTH, spread=3)
        if op in ("log", "sqrt"):
            x = np.abs(x)
        by_definition = getattr(reference, op, None) or getattr(np, op)
        expected = by_definition(reference.float64(x))
        return Example((x,), {}, expected, tolerance.function(expected, units))

    return example


def _comparison(function: Callable[..., Any]) -> Callable[[np.random.Generator], Example]:
    def example(random: np.random.Generator) -> Example:
        a = random.integers(0, 3, (LARGE_ROWS, LARGE_LENGTH)).astype(np.float32)
        b = random.integers(0, 3, (LARGE_ROWS, 1)).astype(np.float32)
        return _exact(function(a, b).astype(np.float64), a, b)

    return example


def _pow(random: np.random.Generator) -> Example:
    a, b = np.abs(normal(random, LARGE_ROWS, LARGE_LENGTH)), normal(random, LARGE_ROWS, 1)
    expected = reference.float64(a) ** reference.float64(b)
    return Example((a, b), {}, expected, tolerance.function(expected, 2))


def _sum(random: np.random.Generator) -> Example:
    x = normal(random, 3 * LARGE_ROWS, LARGE_LENGTH)
    wide = reference.float64(x)
    magnitude = np.abs(wide).sum(axis=-1, keepdims=True)
    return Example((x,), {}, wide.sum(axis=-1, keepdims=True), tolerance.sums(magnitude))


def _amax(random: np.random.Generator) -> Example:
    x = normal(random, 3 * LARGE_ROWS, LARGE_LENGTH)
    return _exact(reference.float64(x.max(axis=-1, keepdims=True)), x)


def _cumsum(random: np.random.Generator) -> Example:
    x = normal(random, LARGE_ROWS, LARGE_LENGTH)
    expected = np.cumsum(reference.float64(x), axis=-1)
    return Example((x,), {}, expected, tolerance.function(expected, 1))


def _take(random: np.random.Generator) -> Example:
    x, ids = normal(random, 3, 61, 733), random.integers(0, 61, (5, 23)).astype(np.float32)
    return _exact(reference.take(x, ids, 1), x, ids, 1)


def _concat(random: np.random.Generator) -> Example:
    parts = [normal(random, 67, size, 103) for size in (5, 1, 13)]
    expected = reference.float64(np.concatenate(parts, 1))
    return _exact(expected, *parts, axis=1)


def _permute(random: np.random.Generator) -> Example:
    x = normal(random, 5, 61, 733)
    return _exact(reference.float64(x.transpose(2, 0, 1)), x, (2, 0, 1))


def _slice(random: np.random.Generator) -> Example:
    x = normal(random, 67, 9, 1031)
    return _exact(reference.float64(x[:, 2:7]), x, 1, 2, 7)


#: Functions of one element, and the units of the last place of a result that they may be off by.
FUNCTIONS = {
    "exp": 4,
    "log": 2,
    "sqrt": 1,
    "tanh": 5,
    "sigmoid": 9,
    "erf": 4,
    "abs": 0,
    "sin": 2,
    "cos": 2,
}

#: One call of every op, large enough to be split among threads.
EXAMPLES: dict[str, Callable[[np.random.Generator], Example]] = {
    "matmul": _matmul,
    "permute": _permute,
    "slice": _slice,
    "take": _take,
    "concat": _concat,
    "add": _binary(np.add),
    "sub": _binary(np.subtract),
    "mul": _binary(np.multiply),
    "div": _binary(np.divide),
    "maximum": _binary(np.maximum),
    "minimum": _binary(np.minimum),
    "pow": _pow,
    "equal": _comparison(np.equal),
    "less": _comparison(np.less),
    "less_equal": _comparison(np.less_equal),
    "where": _where,
    "relu": _relu,
    "gelu": _gelu,
    "silu": _silu,
    "silu_mul": _silu_mul,
    "rsqrt": _rsqrt,
    **{op: _function(op, units) for op, units in FUNCTIONS.items()},
    "bias_relu": _bias_relu,
    "softmax": _softmax,
    "sum": _sum,
    "amax": _amax,
    "cumsum": _cumsum,
    "layer_norm": _layer_norm,
    "rms_norm": _rms_norm,
    "rotary": _rotary,
    "attention": _attention,
    "attention_lse": _attention_lse,
    "attention_backward": _attention_backward,
}


@functools.cache
def example_of(op: str) -> Example:
    """One call of an op, computed once: its arrays are read-only."""
    example = EXAMPLES[op](np.random.default_rng(20260731))
    for array in (*example.args, *example.keywords.values()):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False
    return example
