"""The constants of a graph: arrays that the graph owns, so that nobody changes them later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from .ir import Value

Array = NDArray[Any]


class ReleasedConstantError(ValueError):
    """A constant of a compiled program's graph whose array the program has let go of."""


def owned(array: Any) -> Array:
    """Return the array itself if it is read-only and owns its memory, else a read-only copy.

    A view counts as the array that owns its memory, if no array between the two is writable. A
    read-only view of writable memory is copied. Whoever made an array read-only and still holds a
    writable view of it from before must not write to it.
    """
    given = np.asarray(array)
    base: Any = given
    while isinstance(base, np.ndarray) and not base.flags.writeable:
        if base.flags.owndata:
            return given
        base = base.base
    copy = np.array(given, order="C")
    copy.flags.writeable = False
    return copy


def frozen(array: Array) -> Array:
    """Make an array that nobody else has yet read-only, so that a graph takes it as it is."""
    if array.flags.owndata:
        array.flags.writeable = False
    return array


class Constants(MutableMapping["Value", Array]):
    """Arrays by value; what is stored is `owned`. A released one raises when it is read."""

    def __init__(self, arrays: Mapping[Value, Any] | None = None) -> None:
        self._arrays: dict[Value, Array | None] = {}
        if isinstance(arrays, Constants):
            self._arrays |= arrays._arrays
        elif arrays is not None:
            self.update(arrays)

    def __getitem__(self, value: Value) -> Array:
        array = self._arrays[value]
        if array is None:
            raise ReleasedConstantError(
                f"constant %{value.name} was packed by the compiled program and its array released:"
                " this graph only describes the program; use the graph that was given to compile()"
            )
        return array

    def __setitem__(self, value: Value, array: Any) -> None:
        self._arrays[value] = owned(array)

    def __delitem__(self, value: Value) -> None:
        del self._arrays[value]

    def __contains__(self, value: object) -> bool:
        return value in self._arrays

    def __iter__(self) -> Iterator[Value]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        return f"Constants({', '.join(map(repr, self._arrays))})"

    def release(self, value: Value) -> None:
        """Let go of an array; reading it raises ReleasedConstantError from now on."""
        self._arrays[value] = None

    def is_released(self, value: Value) -> bool:
        """Return whether the array of a constant is gone."""
        return self._arrays[value] is None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self._arrays,)


def _restore(arrays: dict[Value, Array | None]) -> Constants:
    """Constants as pickle and deepcopy make them: their new arrays are nobody else's."""
    restored = Constants()
    for value, array in arrays.items():
        if array is not None:
            array.flags.writeable = False
        restored._arrays[value] = array
    return restored
