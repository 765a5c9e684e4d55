"""How far a graph's values may move when its sums are added up in another order.

Each value is known as a float32 array with an absolute error. The error is infinite where an order
of summation decides whether float32 overflows: such an element says nothing about a pass. NaN and
infinity that every order gives have the error 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablation_executor.ir import Graph
from ablation_executor.ops import OPS

Array = NDArray[Any]

LARGEST = float(np.finfo(np.float32).max)
EPS = float(np.finfo(np.float32).eps)
DENORMAL = 2.0**-149
#: Weights of a softmax below this may be 0 (the packed kernel's, and those that underflow).
LEAST_WEIGHT = 1e-36


@dataclass
class Known:
    """A value, its error, and the largest sum of magnitudes behind an element."""

    value: Array
    error: Array
    size: Array
    is_weights: bool = False

    def moved(self, move: Callable[[Array], Array]) -> Known:
        """The same after a movement of elements."""
        return Known(move(self.value), move(self.error), move(self.size), self.is_weights)


def exact(array: Any) -> Known:
    """An input or a constant."""
    value = np.asarray(array, np.float32)
    return Known(value, np.zeros(value.shape), _magnitude(value))


def _magnitude(value: Array) -> Array:
    """|x| in float64, 0 for NaN and infinity."""
    return np.where(np.isfinite(value), np.abs(value.astype(np.float64)), 0.0)


def _may_be_zero(x: Known) -> Array:
    return (x.error > 0) & (_magnitude(x.value) <= x.error)


def _finish(value: Array, error: Array, size: Array, sure: Array | None = None) -> Known:
    """Give up on what may or may not overflow; `sure` elements are NaN whatever the error."""
    magnitude = _magnitude(value)
    size = np.maximum(size, magnitude)
    error = np.where(np.isnan(error) | (size + error > LARGEST), np.inf, error)
    if sure is not None:
        error = np.where(sure, 0.0, error)
    return Known(value, error, size)


def _is_nan(x: Known) -> Array:
    return np.isnan(x.value) & np.isfinite(x.error)


def add(a: Known, b: Known, sign: float = 1.0) -> Known:
    value = a.value + np.float32(sign) * b.value
    error = a.error + b.error + EPS * (_magnitude(a.value) + _magnitude(b.value))
    return _finish(value, error, a.size + b.size, _is_nan(a) | _is_nan(b))


def multiply(a: Known, b: Known) -> Known:
    value = a.value * b.value
    size_a, size_b = _magnitude(a.value), _magnitude(b.value)
    error = size_a * b.error + size_b * a.error + a.error * b.error
    error = error + EPS * size_a * size_b + DENORMAL * ((size_a > 0) & (size_b > 0))
    error = np.where(_may_be_zero(a) & np.isinf(b.value), np.inf, error)
    error = np.where(_may_be_zero(b) & np.isinf(a.value), np.inf, error)
    return _finish(value, error, _magnitude(value), _is_nan(a) | _is_nan(b))


def divide(a: Known, b: Known) -> Known:
    value = a.value / b.value
    size_a, size_b = _magnitude(a.value), _magnitude(b.value)
    least = np.where(size_b > b.error, size_b - b.error, np.nan)
    error = a.error / least + size_a / least * b.error / least + 2 * EPS * size_a / least + DENORMAL
    known = (b.error == 0) & (a.error == 0) & ((size_b == 0) | (size_a == 0))
    error = np.where(known, 0.0, error)
    return _finish(value, error, _magnitude(value), _is_nan(a) | _is_nan(b))


def product(a: Known, b: Known) -> Known:
    value = a.value @ b.value
    size_a, size_b = _magnitude(a.value), _magnitude(b.value)
    size = a.size @ size_b
    if a.is_weights:  # they are divided by their sum last
        size = np.maximum(size, (size_a > 0).astype(float) @ size_b)
    error = size_a @ b.error + a.error @ size_b + a.error @ b.error
    error = error + (2 + a.value.shape[-1]) * (
        EPS * (size_a @ size_b) + DENORMAL * ((size_a > 0).astype(float) @ (size_b > 0))
    )
    unsure = _may_be_zero(a).astype(float) @ np.isinf(b.value).astype(float)
    unsure = unsure + np.isinf(a.value).astype(float) @ _may_be_zero(b).astype(float)
    rows, columns = _is_nan(a).any(axis=-1, keepdims=True), _is_nan(b).any(axis=-2, keepdims=True)
    return _finish(value, np.where(unsure > 0, np.inf, error), size, np.asarray(rows | columns))


def activate(x: Known, function: Callable[[Array], Array]) -> Known:
    """relu, gelu or silu: no slope is above 1.2."""
    error = 1.2 * x.error + 8 * EPS * _magnitude(x.value)
    unsure = ~np.isfinite(x.value) & (x.error > 0)
    return _finish(function(x.value), np.where(unsure, np.inf, error), x.size, _is_nan(x))


def saturate(x: Known, function: Callable[[Array], Array]) -> Known:
    """tanh, sigmoid or erf: no slope is above 1.2, and no value above 1."""
    value = function(x.value)
    error = 1.2 * x.error + 8 * EPS * _magnitude(value) + DENORMAL
    error = np.where(~np.isfinite(x.value) & (x.error > 0), np.inf, error)
    return _finish(value, error, _magnitude(value), _is_nan(x))


def power(x: Known, exponent: Known) -> Known:
    """x^2 or x^3 as products."""
    square = multiply(x, x)
    return square if exponent.value == 2 else multiply(square, x)


def concat(parts: Sequence[Known | None], axis: int) -> Known:
    given = [part for part in parts if part is not None]
    return Known(
        np.concatenate([part.value for part in given], axis),
        np.concatenate([part.error for part in given], axis),
        np.concatenate([part.size for part in given], axis),
    )


def in_range(x: Known, inputs: Sequence[Known | None]) -> Known:
    """A product that overflows, or loses digits below float32's range, is left undecided."""
    finite = np.all([np.isfinite(part.value) for part in inputs if part is not None], axis=0)
    low = (np.abs(x.value) < 2.0**-100) & (np.abs(inputs[0].value) > 0) if inputs[0] else False
    wild = finite & (np.isinf(x.value) | low)
    return Known(x.value, np.where(wild, np.inf, x.error), x.size)


def sqrt(x: Known) -> Known:
    return divide(exact(1.0), rsqrt(x))


def rsqrt(x: Known) -> Known:
    value = (1 / np.sqrt(x.value)).astype(np.float32)
    least = np.where(x.value > x.error, x.value - x.error, np.nan)
    error = 0.5 * value * x.error / least + 4 * EPS * _magnitude(value)
    error = np.where(
        (x.error == 0) | ((x.value < 0) & (-x.value > x.error)), 4 * EPS * value, error
    )
    error = np.where(np.isfinite(value) | np.isnan(error), error, np.where(x.error == 0, 0, error))
    sure = np.asarray(_is_nan(x) | (x.value + x.error < 0))
    return _finish(value, error, _magnitude(value), sure)


def _weight_error(value: Array, scores: Array, error: Array) -> Array:
    """How far a weight may lie from `value` where each score moves by its error."""
    low, high = scores - error, scores + error
    largest = high.max(axis=-1, keepdims=True)
    low, high = np.exp(low - largest), np.exp(high - largest)
    sums = [each.sum(axis=-1, keepdims=True) - each for each in (low, high)]
    most = np.where(high > 0, high / np.maximum(high + np.maximum(sums[0], 0), 1e-300), 0.0)
    least = np.where(low > 0, low / np.maximum(low + np.maximum(sums[1], 0), 1e-300), 0.0)
    moved: Array = np.maximum(most - value, value - least) + 1e-6 * value + LEAST_WEIGHT
    return moved


def softmax(x: Known, *, zero_rows: bool = False) -> Known:
    scores = x.value
    largest = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - np.where(np.isneginf(largest) & zero_rows, 0, largest))
    total = weights.sum(axis=-1, keepdims=True)
    value = weights / np.where((total == 0) & zero_rows, 1, total)
    error = _weight_error(value, scores.astype(np.float64), x.error + EPS * _magnitude(scores))
    error = np.where(np.isneginf(scores) & (x.error == 0), 0.0, error)
    is_wild = np.isinf(x.error).any(axis=-1, keepdims=True)
    sure = _is_nan(x) | (np.isposinf(scores) & (x.error == 0))
    sure = sure.any(axis=-1, keepdims=True) | (np.isnan(value) & ~is_wild)
    error = np.where(sure, 0.0, np.where(is_wild, np.inf, error))
    return Known(value, error, _magnitude(value), is_weights=True)


def where(condition: Known, x: Known, y: Known) -> Known:
    chosen = condition.value != 0
    return Known(
        np.where(chosen, x.value, y.value),
        np.where(chosen, x.error, y.error),
        np.where(chosen, x.size, y.size),
    )


def attention(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Known:
    """A strict attention, or one without a causal mask."""
    q, k, v, mask = inputs
    if attributes["layout"] != "bhsd":
        q, k, v = (x.moved(lambda x: np.swapaxes(x, 1, 2)) for x in (q, k, v))
    scores = product(q, k.moved(lambda x: np.swapaxes(x, -1, -2)))
    scores = multiply(scores, exact(attributes["scale"]))
    if mask is not None:
        scores = add(scores, mask)
    if attributes["causal"]:
        keep = exact(np.tri(*scores.value.shape[-2:]))
        scores = where(keep, scores, exact(-np.inf))
    out = product(softmax(scores, zero_rows=not attributes["strict"]), v)
    return out if attributes["layout"] == "bhsd" else out.moved(lambda x: np.swapaxes(x, 1, 2))


def rotary(x: Known, cos: Known, sin: Known) -> Known:
    even, odd = x.moved(lambda x: x[..., ::2]), x.moved(lambda x: x[..., 1::2])
    first = add(multiply(even, cos), multiply(odd, sin), -1.0)
    second = add(multiply(even, sin), multiply(odd, cos))

    def joined(a: Array, b: Array) -> Array:
        return np.stack((a, b), axis=-1).reshape(x.value.shape)

    return Known(
        joined(first.value, second.value),
        joined(first.error, second.error),
        joined(first.size, second.size),
    )


def _node(op: str, known: Sequence[Known | None], attributes: Mapping[str, Any]) -> Known:
    inputs: Any = known
    if op == "matmul":
        a, b, bias, addend = inputs
        b = b.moved(lambda x: np.swapaxes(x, -1, -2)) if attributes["transpose_b"] else b
        out: Known = multiply(product(a, b), exact(attributes["alpha"]))
        for extra in filter(None, (bias, addend)):
            out = add(out, extra)
        return out
    if op in ("relu", "gelu", "silu"):
        reference = OPS[op].reference
        return activate(inputs[0], lambda x: reference([x], attributes).astype(np.float32))
    if op in ("tanh", "sigmoid", "erf"):
        reference = OPS[op].reference
        return saturate(inputs[0], lambda x: reference([x], attributes).astype(np.float32))
    if op == "sum":
        return product(inputs[0], exact(np.ones((inputs[0].value.shape[-1], 1))))
    if op == "concat":
        return concat(inputs, attributes["axis"])
    if op in ("permute", "slice", "reshape"):
        reference = OPS[op].reference
        moved: Known = inputs[0].moved(lambda x: reference([x], attributes))
        return moved
    if op == "take":
        x, ids = inputs
        rows: Known = x.moved(lambda x: OPS[op].reference([x, ids.value], attributes))
        return rows
    if op == "attention":
        return attention(inputs, attributes)
    functions: dict[str, Callable[..., Known]] = {
        "add": add,
        "sub": lambda a, b: add(a, b, -1.0),
        "mul": multiply,
        "div": divide,
        "rsqrt": rsqrt,
        "sqrt": sqrt,
        "pow": power,
        "softmax": softmax,
        "where": where,
        "rotary": rotary,
    }
    return functions[op](*inputs)


def bounds(graph: Graph, inputs: Sequence[Array]) -> list[Known]:
    """What is known of each output of a graph without fused ops."""
    known = dict(zip(graph.inputs, map(exact, inputs), strict=True))
    known |= {value: exact(array) for value, array in graph.constants.items()}
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            slots = [None if value is None else known[value] for value in node.inputs]
            found = _node(node.op, slots, OPS[node.op].complete(node.attributes))
            is_limited = node.name.startswith("in_range")
            known[node.output] = in_range(found, slots) if is_limited else found
    return [known[value] for value in graph.outputs]
