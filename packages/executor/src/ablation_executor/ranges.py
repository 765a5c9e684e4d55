"""Rules for the range of an overload's integer result, from the ranges of its arguments.

A rule takes the overload's own arguments, as its handler does without the context, and gives the
range of the result, a tuple of them for several results. It is asked where a result is of an
integer or boolean type; where all results are float32 PyTorch converts integers first, which is
exact. ValueError: the reason why these arguments are refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

from .fx_nodes import leaves_of
from .integers import DTYPES, LIMIT, Integers, Range
from .tensors import Constant, Integer, Tensor, dtype_of, range_of

Rule = Callable[..., Range | tuple[Range, ...]]

TRUTH = Range(0, 1)


def exact(result: Range, what: str = "an integer") -> Range:
    """The range itself; ValueError where float32 does not hold each of its numbers."""
    if not result.is_exact:
        raise ValueError(
            f"{what} can be in {result}, and only whole numbers up to 2^24 = {LIMIT} are exact:"
            " declare the range of the inputs it is made of, as"
            " export(..., ranges={'name': (low, high)})"
        )
    return result


def to_float(*args: Any, **keywords: Any) -> Range:
    """For overloads whose result is float32 for integers too; another result has no rule."""
    raise ValueError("it has no rule for the range of an integer result")


def same(x: Tensor, *args: Any, **keywords: Any) -> Range:
    """Elements of the first argument, in other places: views, slices, maxima."""
    return range_of(x)


def truth(*args: Any, **keywords: Any) -> Range:
    """False and true, as comparisons give; whole numbers are compared as they are."""
    parts = [part for part in args if isinstance(part, Tensor | int | float)]
    if not any(map(_is_float, parts)):
        for part in parts:
            operand(part)
    return TRUTH


def _is_float(part: Any) -> bool:
    return dtype_of(part) not in DTYPES if isinstance(part, Tensor) else isinstance(part, float)


def operand(part: Tensor | float) -> Range:
    """The range of an argument, which float32 has to hold; ValueError for floats."""
    return exact(range_of(part), "an argument")


def add(a: Tensor | float, b: Tensor | float, alpha: int = 1) -> Range:
    """a + alpha * b."""
    return operand(a) + exact(operand(b) * range_of(alpha), "a product")


def sub(a: Tensor | float, b: Tensor | float, alpha: int = 1) -> Range:
    """a - alpha * b."""
    return operand(a) - exact(operand(b) * range_of(alpha), "a product")


def rsub(a: Tensor | float, b: Tensor | float, alpha: int = 1) -> Range:
    """b - alpha * a."""
    return sub(b, a, alpha)


def mul(a: Tensor | float, b: Tensor | float) -> Range:
    """a * b."""
    return operand(a) * operand(b)


def neg(x: Tensor) -> Range:
    """-x."""
    return -operand(x)


def where(condition: Tensor, x: Tensor | float, y: Tensor | float) -> Range:
    """An element of x or of y."""
    return operand(x) | operand(y)


def masked_fill(x: Tensor, mask: Tensor, value: Tensor | float) -> Range:
    """An element of x, or the value."""
    return operand(x) | operand(value)


def extremum(a: Tensor, b: Tensor) -> Range:
    """An element of a or of b, as minimum and maximum give."""
    return operand(a) | operand(b)


def one_of(tensors: Sequence[Tensor], *args: Any, **keywords: Any) -> Range:
    """Elements of a list of tensors, as cat and stack give."""
    return reduce(or_, map(range_of, tensors))


def lookup(table: Tensor, *args: Any, **keywords: Any) -> Range:
    """Elements of a table, chosen by whole numbers."""
    return range_of(table)


def _sums(x: Tensor, count: int) -> Range:
    """Sums of up to `count` elements, in whatever order they are added."""
    part = range_of(x)
    return exact(Range(min(0, part.low * count), max(0, part.high * count)), "a sum")


def cumsum(x: Tensor, dim: int, *, dtype: Any = None) -> Range:
    """Sums along one axis, of 1 element up to all of them."""
    return _sums(x, x.shape[dim] if x.shape else 1)


def sum_(x: Tensor, dims: Sequence[int] | None = None, *args: Any, **keywords: Any) -> Range:
    """Sums over the axes, all of them where none is given."""
    axes = dims or range(len(x.shape))
    return _sums(x, math.prod(x.shape[int(axis)] for axis in axes))


def cast(x: Tensor, *args: Any, **keywords: Any) -> Range:
    """The same numbers in another type, which is a copy where they fit it; truth as bool."""
    if "bool" in map(_type_named_by, (*args, *keywords.values())):
        return TRUTH
    if dtype_of(x) == "float32":
        raise ValueError("it makes integers of float32, whose range nobody knows at export")
    return range_of(x)


def _type_named_by(argument: Any) -> str:
    """The type of a tensor, or that which a torch.dtype is."""
    if isinstance(argument, Tensor):
        return dtype_of(argument)
    return str(argument).removeprefix("torch.")


def integer_results(
    rule: Rule | None, kinds: Sequence[str], arguments: Any, keywords: Mapping[str, Any]
) -> list[Integers | None]:
    """Type and range of each result of a call, None where it is no whole number.

    `kinds` are the types of the results. ValueError: the call takes or gives whole numbers and has
    no rule for them, or a result may hold one that its type or float32 does not hold.
    """
    leaves = [*leaves_of(arguments), *leaves_of(list(keywords.values()))]
    taken = [leaf.dtype for leaf in leaves if isinstance(leaf, Integer)]
    given = [kind for kind in kinds if kind in DTYPES]
    if not taken and not given:
        return [None] * len(kinds)
    if rule is None:
        what = f"takes {taken[0]}" if taken else f"gives {given[0]}"
        raise ValueError(f"it {what} here, and export knows it for torch.float32 alone")
    if not given:
        return [None] * len(kinds)
    _check_constants(leaves)
    found = rule(*arguments, **keywords)
    ranges = found if isinstance(found, tuple) else (found,) * len(kinds)
    return [
        _fitting(kind, part) if kind in DTYPES else None
        for kind, part in zip(kinds, ranges, strict=True)
    ]


def _check_constants(leaves: Sequence[Any]) -> None:
    """ValueError for constants of whole numbers beyond 2^24 beside integers."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    if any(dtype_of(tensor) == "float32" for tensor in tensors):
        return
    for tensor in tensors:
        if isinstance(tensor, Constant) and dtype_of(tensor) in DTYPES:
            exact(range_of(tensor), f"constant {tensor.name!r}")


def _fitting(dtype: str, found: Range) -> Integers:
    exact(found, "its result")
    if not DTYPES[dtype].holds(found):
        raise ValueError(f"its result can be in {found}, which {dtype} does not hold")
    return Integers(dtype, found)
