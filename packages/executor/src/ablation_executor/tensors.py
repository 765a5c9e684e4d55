"""What the tensors of a captured module become: activations, integers, constants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .integers import DTYPES, Range
from .ir import Value
from .refusal import Refusal


@dataclass(eq=False)
class Constant:
    """A torch tensor known at export; `express` emits it as nodes where the op set can.

    `refusal` is set where nobody knows its values: they are random, or uninitialized memory.
    """

    tensor: Any
    name: str
    express: Callable[[], Value] | None = None
    value: Value | None = field(default=None, repr=False)
    refusal: Refusal | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.tensor.shape)


@dataclass(eq=False)
class Integer:
    """An activation of whole numbers: the float32 value that carries it, type and range.

    `dtype` is the type that the module sees, a name of `integers.DTYPES`.
    """

    value: Value
    dtype: str
    range: Range

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape


Tensor = Value | Constant | Integer


def dtype_of(part: Tensor) -> str:
    """The type that the module sees: "float32", "int64", "bool" and so on."""
    if isinstance(part, Constant):
        return str(part.tensor.dtype).removeprefix("torch.")
    return part.dtype


def range_of(part: Tensor | float) -> Range:
    """The range of an integer or boolean tensor or number; ValueError for any other."""
    if isinstance(part, Integer):
        return part.range
    if isinstance(part, Constant) and dtype_of(part) in DTYPES and part.tensor.numel() > 0:
        return Range(int(part.tensor.min()), int(part.tensor.max()))
    if isinstance(part, int):
        return Range(int(part), int(part))
    name = f"{part.name!r} is" if isinstance(part, Value | Constant) else "an argument is"
    kind = dtype_of(part) if isinstance(part, Value | Constant) else repr(part)
    raise ValueError(f"{name} {kind}, and a whole number of it has no range that export knows")
