"""Handlers of comparisons, logic and choice: truth is carried as 1 and 0.

Importing this module registers the handlers.
"""

from __future__ import annotations

import math
from typing import Any

from . import ranges as rules
from .aten import Context, Handler, handles
from .integers import Range
from .ir import Value
from .tensors import Tensor, dtype_of


def negation(context: Context, truth: Tensor) -> Value:
    """1 where it is 0, and 0 where it is 1."""
    return context.emit("sub", 1.0, truth)


def truth_of(context: Context, x: Tensor | float) -> Value:
    """1 where an element is not zero, which NaN is not; else 0."""
    if not isinstance(x, float | int) and dtype_of(x) == "bool":
        return context.value(x)
    return negation(context, context.emit("equal", x, 0.0))


def _comparison(op: str, *, turned: bool = False, negated: bool = False) -> Handler:
    def handler(context: Context, a: Tensor, b: Tensor | float) -> Value:
        out = context.emit(op, b, a) if turned else context.emit(op, a, b)
        return negation(context, out) if negated else out

    return handler


for _name, _handler in (
    ("eq", _comparison("equal")),
    ("ne", _comparison("equal", negated=True)),
    ("lt", _comparison("less")),
    ("le", _comparison("less_equal")),
    ("gt", _comparison("less", turned=True)),
    ("ge", _comparison("less_equal", turned=True)),
):
    handles(f"{_name}.Tensor", f"{_name}.Scalar", ranges=rules.truth)(_handler)


@handles("isnan.default", ranges=rules.truth)
def _isnan(context: Context, x: Tensor) -> Value:
    return negation(context, context.emit("equal", x, x))


@handles("isinf.default", ranges=rules.truth)
def _isinf(context: Context, x: Tensor) -> Value:
    return context.emit("equal", context.emit("abs", x), math.inf)


@handles("sign.default", ranges=lambda x: Range(-1, 1))
def _sign(context: Context, x: Tensor) -> Value:
    return context.emit("sub", context.emit("less", 0.0, x), context.emit("less", x, 0.0))


# Logic --------------------------------------------------------------------------------------------


@handles("logical_not.default", ranges=rules.truth)
def _logical_not(context: Context, x: Tensor) -> Value:
    return negation(context, truth_of(context, x))


@handles("logical_and.default", ranges=rules.truth)
def _logical_and(context: Context, a: Tensor, b: Tensor) -> Value:
    return context.emit("mul", truth_of(context, a), truth_of(context, b))


@handles("logical_or.default", ranges=rules.truth)
def _logical_or(context: Context, a: Tensor, b: Tensor) -> Value:
    return context.emit("maximum", truth_of(context, a), truth_of(context, b))


@handles("logical_xor.default", ranges=rules.truth)
def _logical_xor(context: Context, a: Tensor, b: Tensor) -> Value:
    return negation(context, context.emit("equal", truth_of(context, a), truth_of(context, b)))


def _of_bits(logical: Handler) -> Handler:
    """A bitwise op, which is the logical one for bool and refused for wider types."""

    def handler(context: Context, *operands: Any) -> Value:
        if context.result_dtype != "bool":
            raise ValueError(f"it works on the bits of {context.result_dtype}, expected torch.bool")
        out: Value = logical(context, *operands)
        return out

    return handler


handles("bitwise_not.default", ranges=rules.truth)(_of_bits(_logical_not))
for _name, _handler in (("and", _logical_and), ("or", _logical_or), ("xor", _logical_xor)):
    handles(f"bitwise_{_name}.Tensor", f"bitwise_{_name}.Scalar", ranges=rules.truth)(
        _of_bits(_handler)
    )


# Choice -------------------------------------------------------------------------------------------


@handles("where.self", "where.ScalarOther", "where.ScalarSelf", "where.Scalar", ranges=rules.where)
def _where(context: Context, condition: Tensor, x: Any, y: Any) -> Value:
    return context.emit("where", condition, x, y)


@handles("masked_fill.Scalar", "masked_fill.Tensor", ranges=rules.masked_fill)
def _masked_fill(context: Context, x: Tensor, mask: Tensor, value: Any) -> Value:
    return context.emit("where", mask, value, x)
