"""One handler per ATen overload: what it is in primitive ops.

A handler takes the export context and the overload's own arguments. Tensors arrive as Value (a
float32 activation), Integer (one of whole numbers, where the handler has a rule for their range) or
Constant (made of parameters and buffers alone). It raises ValueError with the reason where an
overload is outside the op set with these arguments; export adds op and place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from . import ranges as rules
from .integers import DTYPES
from .ir import GraphBuilder, Value
from .tensors import Constant, Integer, Tensor

Handler = Callable[..., Any]
_HandlerT = TypeVar("_HandlerT", bound=Handler)
HANDLERS: dict[str, Handler] = {}


#: The overloads that move a tensor's values and compute nothing. Of a weight too they are nodes.
MOVING: set[str] = set()
#: The overloads whose tensors have to be of one type, where others promote narrower ones.
ONE_TYPE: set[str] = set()
#: The overloads that take whole numbers, each with the rule for the range of an integer result.
RANGES: dict[str, rules.Rule] = {}


class Context:
    """What handlers work with: emits nodes and turns constants and numbers into values."""

    def __init__(self, builder: GraphBuilder, arrays: Mapping[str, Any] | None = None) -> None:
        self.builder = builder
        #: What to store for a parameter or buffer in the place of its tensor, by name.
        self.arrays: Mapping[str, Any] = arrays or {}
        self.module_path = ""
        #: The type that torch gives the first result of the call: "float32", "int64", "bool" ...
        self.result_dtype = "float32"
        self._numbers: dict[str, Value] = {}
        self._arrays: dict[tuple[tuple[int, ...], bytes], Value] = {}
        self._materialized: dict[tuple[Any, ...], tuple[Value, Any]] = {}

    def emit(self, op: str, *inputs: Tensor | float | None, **attributes: Any) -> Value:
        """Append a node."""
        values = [None if part is None else self.value(part) for part in inputs]
        name = f"{self.module_path}.{op}" if self.module_path else op
        return self.builder.node(op, values, attributes, name=name, module_path=self.module_path)

    def constant(self, name: str, array: Any) -> Value:
        """A constant of the op set's own, as ids and masks; one for all that are equal."""
        data = np.asarray(array, np.float32)
        key = (data.shape, data.tobytes())
        if key not in self._arrays:
            self._arrays[key] = self.builder.constant(name, data)
        return self._arrays[key]

    def value(self, part: Tensor | float) -> Value:
        """The value of a tensor or number; a number becomes a constant of shape ()."""
        if isinstance(part, Value):
            return part
        if isinstance(part, Integer):
            return part.value
        if isinstance(part, Constant):
            if 0 in part.shape:
                raise ValueError(
                    f"{part.name!r} has no element, and every value of a graph has some"
                )
            if part.value is None:
                part.value = self._express(part) or self._materialize(part)
            return part.value
        # By its digits: as numbers, 0.0 and -0.0 are equal, and NaN is not equal to itself.
        digits = float(part).hex()
        if digits not in self._numbers:
            self._numbers[digits] = self.builder.constant("scalar", np.float32(part))
        return self._numbers[digits]

    def _express(self, constant: Constant) -> Value | None:
        """A constant as nodes; None where it is a tensor of its own, or the op set lacks the op."""
        try:
            return constant.express() if constant.express else None
        except ValueError:
            return None

    def _materialize(self, constant: Constant) -> Value:
        import torch

        tensor, kind = constant.tensor.detach(), constant.tensor.dtype
        # A scalar takes the type of what it is combined with; a wider tensor would decide it.
        if kind.is_complex or (kind == torch.float64 and tensor.ndim > 0):
            raise ValueError(
                f"constant {constant.name!r} is {kind}, expected torch.float32: use .float()"
            )
        # The same elements under two names, as tied weights, are one constant.
        memory = (tensor.data_ptr(), tensor.is_neg(), kind, tuple(tensor.shape), tensor.stride())
        if memory not in self._materialized:
            array = self.arrays.get(constant.name)
            if array is None:
                array = tensor.to(torch.float32).contiguous().resolve_neg().numpy()
            # The tensor stays, so that no other one comes to lie at its address.
            self._materialized[memory] = (self.builder.constant(constant.name, array), tensor)
        return self._materialized[memory][0]


def handles(
    *overloads: str,
    moves: bool = False,
    one_type: bool = False,
    ranges: rules.Rule | None = None,
) -> Callable[[_HandlerT], _HandlerT]:
    """Register a handler for ATen overloads, named as torch prints them, without `aten.`.

    `ranges` is the rule for the range of an integer result (see the module of this name). Without
    one a call that takes or gives integers is refused; what only moves has `ranges.same`.
    """
    names = {f"aten.{overload}" for overload in overloads}
    rule = ranges if ranges is not None or not moves else rules.same

    def register(handler: _HandlerT) -> _HandlerT:
        HANDLERS.update(dict.fromkeys(names, handler))
        MOVING.update(names if moves else ())
        ONE_TYPE.update(names if one_type else ())
        if rule is not None:
            RANGES.update(dict.fromkeys(names, rule))
        return handler

    return register


def gives_integers(context: Context) -> bool:
    """Whether the first result of the call is of an integer or boolean type."""
    return context.result_dtype in DTYPES
