"""Handlers of the ATen overloads that compute each element by itself.

Importing this module registers the handlers.
"""

from __future__ import annotations

import math
from typing import Any

from . import ranges as rules
from .aten import Context, Handler, gives_integers, handles
from .integers import Range
from .ir import Value
from .tensors import Tensor, range_of

# Arithmetic ---------------------------------------------------------------------------------------


def _one_zero(context: Context, out: Value, *factors: Tensor | float) -> Value:
    """A product as it is; of integers without -0.0, which 0 * -1 is in float32."""
    if gives_integers(context) and min(range_of(part).low for part in factors) < 0:
        return context.emit("add", out, 0.0)
    return out


def _arithmetic(op: str) -> Handler:
    def handler(context: Context, a: Tensor | float, b: Tensor | float, alpha: float = 1) -> Value:
        if alpha != 1:
            b = context.emit("mul", b, alpha)
        out = context.emit(op, a, b)
        return _one_zero(context, out, a, b) if op == "mul" else out

    return handler


for _op, _rule in (
    ("add", rules.add),
    ("sub", rules.sub),
    ("mul", rules.mul),
    ("div", rules.to_float),
):
    handles(f"{_op}.Tensor", f"{_op}.Scalar", ranges=_rule)(_arithmetic(_op))


@handles("rsub.Scalar", "rsub.Tensor", ranges=rules.rsub)
def _rsub(context: Context, a: Tensor, b: Tensor | float, alpha: float = 1) -> Value:
    return context.emit("sub", b, context.emit("mul", a, alpha) if alpha != 1 else a)


@handles("neg.default", ranges=rules.neg)
def _neg(context: Context, x: Tensor) -> Value:
    return negated(context, x)


def negated(context: Context, x: Tensor) -> Value:
    """-x; of integers without -0.0, which 0 * -1 is in float32."""
    if gives_integers(context):
        return context.emit("sub", 0.0, x)
    return context.emit("mul", x, -1.0)


# Functions of one element -------------------------------------------------------------------------


def _of_one(op: str) -> Handler:
    def handler(context: Context, x: Tensor) -> Value:
        return context.emit(op, x)

    return handler


for _op in ("exp", "log", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "sin", "cos"):
    handles(f"{_op}.default", ranges=rules.to_float)(_of_one(_op))
for _op in ("relu", "silu"):
    handles(f"{_op}.default")(_of_one(_op))


def _magnitudes(x: Tensor) -> Range:
    known = range_of(x)
    return Range(max(known.low, -known.high, 0), max(-known.low, known.high))


handles("abs.default", ranges=_magnitudes)(_of_one("abs"))


@handles("reciprocal.default", ranges=rules.to_float)
def _reciprocal(context: Context, x: Tensor) -> Value:
    return context.emit("div", 1.0, x)


@handles("exp2.default", ranges=rules.to_float)
def _exp2(context: Context, x: Tensor) -> Value:
    return context.emit("pow", 2.0, x)


@handles("log2.default", ranges=rules.to_float)
def _log2(context: Context, x: Tensor) -> Value:
    return context.emit("mul", context.emit("log", x), 1.0 / math.log(2.0))


@handles("log10.default", ranges=rules.to_float)
def _log10(context: Context, x: Tensor) -> Value:
    return context.emit("mul", context.emit("log", x), 1.0 / math.log(10.0))


def _exp_minus_one(context: Context, x: Tensor) -> Value:
    """exp(x) - 1 for x <= 0, accurate near 0 too: 2 t / (1 - t) with t = tanh(x / 2)."""
    t = context.emit("tanh", context.emit("mul", x, 0.5))
    return context.emit("div", context.emit("add", t, t), context.emit("sub", 1.0, t))


@handles("expm1.default", ranges=rules.to_float)
def _expm1(context: Context, x: Tensor) -> Value:
    """For x > 0 by exp(x) - 1 = -(exp(-x) - 1) exp(x)."""
    below = _exp_minus_one(context, context.emit("mul", context.emit("abs", x), -1.0))
    above = context.emit("mul", context.emit("mul", below, -1.0), context.emit("exp", x))
    return context.emit("where", context.emit("less", 0.0, x), above, below)


@handles("log1p.default", ranges=rules.to_float)
def _log1p(context: Context, x: Tensor) -> Value:
    """log(1 + x), accurate near 0 too.

    With u = 1 + x as rounded it is log(u) x / (u - 1), and x where u is 1 (Kahan; see Higham,
    Accuracy and Stability of Numerical Algorithms, 2002, section 1.14.1).
    """
    total = context.emit("add", x, 1.0)
    rest = context.emit("sub", total, 1.0)
    ratio = context.emit("where", context.emit("equal", rest, x), 1.0, context.emit("div", x, rest))
    logarithm = context.emit("mul", context.emit("log", total), ratio)
    return context.emit("where", context.emit("equal", rest, 0.0), x, logarithm)


# Powers -------------------------------------------------------------------------------------------


def _power_range(x: Tensor, exponent: Any) -> Range:
    if not isinstance(exponent, int) or exponent < 0:
        raise ValueError(f"integers are raised to {exponent!r}, expected a whole number from 0 on")
    known = result = range_of(x)
    if exponent == 0:
        return Range.of(1)
    for _ in range(exponent - 1):
        result = rules.exact(result * known, "a power")
    return result


@handles("square.default", ranges=lambda x: _power_range(x, 2))
def _square(context: Context, x: Tensor) -> Value:
    return _one_zero(context, context.emit("mul", x, x), x)


@handles("pow.Tensor_Scalar", ranges=_power_range)
def _pow(context: Context, x: Tensor, exponent: float) -> Value:
    """By cheaper ops where PyTorch has them too, with the same values for every x."""
    if gives_integers(context):
        return _whole_power(context, x, int(exponent))
    if exponent == 0:
        return context.emit("pow", x, 0.0)
    if exponent == 1:
        return context.value(x)
    if exponent == 0.5:
        return context.emit("sqrt", x)
    if exponent == -0.5:
        return context.emit("rsqrt", x)
    if exponent == -1:
        return context.emit("div", 1.0, x)
    if exponent in (2, 3, -2):
        square = context.emit("mul", x, x)
        if exponent == 3:
            return context.emit("mul", square, x)
        return square if exponent == 2 else context.emit("div", 1.0, square)
    return context.emit("pow", x, float(exponent))


def _whole_power(context: Context, x: Tensor, exponent: int) -> Value:
    """A product of integers, each of which float32 holds."""
    if exponent == 0:
        return context.emit("pow", x, 0.0)
    out = context.value(x)
    for _ in range(exponent - 1):
        out = context.emit("mul", out, x)
    return _one_zero(context, out, x)


@handles("pow.Tensor_Tensor", "pow.Scalar", ranges=rules.to_float)
def _pow_of_tensors(context: Context, x: Tensor | float, exponent: Tensor) -> Value:
    return context.emit("pow", x, exponent)


# Limits -------------------------------------------------------------------------------------------


@handles("maximum.default", ranges=rules.extremum)
def _maximum(context: Context, a: Tensor, b: Tensor) -> Value:
    return context.emit("maximum", a, b)


@handles("minimum.default", ranges=rules.extremum)
def _minimum(context: Context, a: Tensor, b: Tensor) -> Value:
    return context.emit("minimum", a, b)


def _clamp_range(x: Tensor, low: Any = None, high: Any = None) -> Range:
    known = range_of(x)
    for bound, choose in ((low, max), (high, min)):
        if bound is not None:
            limit = range_of(bound)
            known = Range(choose(known.low, limit.low), choose(known.high, limit.high))
    return known


@handles("clamp.default", "clamp.Tensor", "hardtanh.default", ranges=_clamp_range)
def _clamp(
    context: Context, x: Tensor, low: Tensor | float | None = None, high: Any = None
) -> Value:
    """As in PyTorch, NaN in x or a limit stays, and a high below the low is what comes out."""
    out = context.value(x)
    if low is not None:
        out = context.emit("maximum", out, low)
    return out if high is None else context.emit("minimum", out, high)


# Activation functions -----------------------------------------------------------------------------


@handles("gelu.default")
def _gelu(context: Context, x: Tensor, approximate: str = "none") -> Value:
    return context.emit("gelu", x, approximate=approximate)


@handles("leaky_relu.default")
def _leaky_relu(context: Context, x: Tensor, slope: float = 0.01) -> Value:
    """x where it is above 0, else x times the slope."""
    return context.emit("where", context.emit("less", 0.0, x), x, context.emit("mul", x, slope))


@handles("elu.default")
def _elu(
    context: Context, x: Tensor, alpha: float = 1, scale: float = 1, input_scale: float = 1
) -> Value:
    """scale x above 0, else scale alpha (exp(input_scale x) - 1): ELU, SELU and CELU."""
    if input_scale < 0:
        raise ValueError(f"input_scale is {input_scale}, expected a number of at least 0")
    below = context.emit("minimum", x, 0.0)
    if input_scale != 1:
        below = context.emit("mul", below, input_scale)
    below = context.emit("mul", _exp_minus_one(context, below), alpha * scale)
    above = context.emit("mul", x, scale) if scale != 1 else x
    return context.emit("where", context.emit("less", 0.0, x), above, below)
