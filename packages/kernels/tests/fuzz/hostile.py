"""Arrays, sequences and numbers that lie, change while they are read, or raise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Float32

from fuzz.case import Chance, OwnError


class Subclass(np.ndarray):
    """An array of another class."""


class OnlyDlpack:
    """Exports what it is told, or raises it."""

    def __init__(self, exported: Any) -> None:
        self.exported = exported

    def __dlpack__(self, **keywords: Any) -> Any:
        if isinstance(self.exported, BaseException):
            raise self.exported
        if isinstance(self.exported, np.ndarray):
            return self.exported.__dlpack__(**keywords)
        return self.exported

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


class OldDlpack:
    """Exports as before DLPack 1.0, without keywords."""

    def __init__(self, x: Float32) -> None:
        self._x = x

    def __dlpack__(self) -> Any:
        return self._x.__dlpack__()


class Sequence:
    """A sequence that says any length and gives any items."""

    def __init__(self, length: Any, item: Callable[[int], Any]) -> None:
        self._length, self._item = length, item

    def __len__(self) -> int:
        if isinstance(self._length, BaseException):
            raise self._length
        length: int = self._length
        return length

    def __getitem__(self, index: int) -> Any:
        return self._item(index)


class Shrinking(list[Any]):
    """A list of another class that loses its items while it is walked."""

    def __iter__(self) -> Any:
        items = self[:]
        self.clear()
        yield from items


class Number:
    """Does something, then is a number; or raises."""

    def __init__(self, value: Any, action: Callable[[], Any] = lambda: None) -> None:
        self._value, self._action = value, action

    def _convert(self) -> Any:
        self._action()
        if isinstance(self._value, BaseException):
            raise self._value
        return self._value

    def __index__(self) -> int:
        return int(self._convert())

    def __float__(self) -> float:
        return float(self._convert())


class Trap:
    """Does something when its memory is asked for, then exports an array."""

    def __init__(self, x: Float32, action: Callable[[], Any]) -> None:
        self._x, self._action = x, action

    def __dlpack__(self, **keywords: Any) -> Any:
        self._action()
        return self._x.__dlpack__(**keywords)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def freeing(x: Float32) -> Callable[[], None]:
    """Gives back an array's memory, whoever holds its buffer."""

    def free() -> None:
        if x.base is None and x.flags.owndata:
            x.resize(0, refcheck=False)

    return free


def honest(chance: Chance, items: list[Any]) -> Any:
    """The same items in another kind of sequence."""
    kind = chance.randrange(4)
    if kind == 0:
        return Sequence(len(items), items.__getitem__)
    if kind == 1:
        return Shrinking(items)
    return tuple(items) if kind == 2 else items


def lying(chance: Chance, items: list[Any]) -> Any:
    """A sequence that has to be refused, or whose own error has to come through."""
    length = len(items)
    return chance.choice(
        (
            Sequence(length + 1 + chance.randrange(3), items.__getitem__),
            Sequence(max(length - 1, 0), lambda index: items[index % max(length, 1)]),
            Sequence(length, lambda index: items[index % length] if length else 0),
            Sequence(OwnError(), items.__getitem__),
            Sequence(-1, items.__getitem__),
            Sequence(2**62, items.__getitem__),
            "text",
            b"bytes",
            7,
            2.5,
            {1: 2},
            set(),
            iter(items),
            object(),
        )
    )


def junk(chance: Chance) -> Any:
    """A value that fits nowhere, or only by chance."""
    return chance.choice(
        (None, True, -1, 0, 1, 2, 3, 2**31, 2**63, -(2**63), 2**70, 10**400, 1.5, 1e39, -0.0,
         float("nan"), float("inf"), 1j, "", "relu", "tanh", "bhsd", "\ud800", "a\0b", b"x", (),
         (0,), [1, 0], {}, set(), object(), np.float32(2), np.float64(1e300), np.int8(1),
         np.uint64(2**63), np.True_, np.str_("x"), np.zeros(2), np.array(1), np.array(None),
         Number(1), Number(OwnError()), Number(TypeError()), Sequence(2, lambda index: index),
         Sequence(OwnError(), lambda index: index), type, len, ...)
    )  # fmt: skip
