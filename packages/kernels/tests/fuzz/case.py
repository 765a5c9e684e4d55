"""One call of the fuzz, and what has to come of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from harness import Float32, worst_ratio

Expected = Literal["taken", "refused", "any"]
Check = Callable[[Any], None]


class OwnError(Exception):
    """What a hostile object raises: it has to come through."""


@dataclass
class Case:
    """A call; `check` gets the result of one that was taken, `parts` say what was given."""

    parts: tuple[Any, ...]
    run: Callable[[], Any]
    expected: Expected = "any"
    check: Check | None = None

    @property
    def text(self) -> str:
        """What was given, as far as it is of Python's own types: others need not have a repr."""
        return " ".join(map(_described, self.parts))[:1500]


class Chance(random.Random):
    """Random choices, and arrays of random numbers."""

    _generator: np.random.Generator | None = None

    def is_one_of(self, n: int) -> bool:
        """True once in n times."""
        return self.randrange(n) == 0

    def size(self) -> int:
        """A size around vector widths; large now and then, so that threads share the work."""
        if self.is_one_of(60):
            return self.randrange(200, 1200)
        return self.choice((1, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33))

    def shape(self, lowest: int = 0, highest: int = 4) -> tuple[int, ...]:
        """A shape of at most some thousand elements."""
        sizes: list[int] = []
        for _ in range(self.randint(lowest, highest)):
            size = self.size()
            sizes.append(size if size * int(np.prod(sizes)) < 5000 else 1)
        return tuple(sizes)

    def array(self, shape: tuple[int, ...]) -> Float32:
        """Normal numbers."""
        if self._generator is None:
            self._generator = np.random.Generator(np.random.SFC64(self.getrandbits(32)))
        return np.asarray(self._generator.standard_normal(shape, dtype=np.float32))


def _described(part: Any) -> str:
    kind = type(part)
    if kind in (list, tuple):
        return f"[{', '.join(map(_described, part))}]"
    if kind is dict:
        return f"{{{', '.join(f'{name!r}: {_described(value)}' for name, value in part.items())}}}"
    if kind in (str, bytes, bool, float, type(None)) or (kind is int and abs(part) < 2**70):
        return repr(part)
    return kind.__name__


def require_close(actual: Any, expected: Any, allowed: Any) -> None:
    """Raise AssertionError unless the numbers are within the tolerance."""
    array = np.asarray(actual)
    assert array.shape == expected.shape, f"shape {array.shape} instead of {expected.shape}"
    ratio = worst_ratio(array, expected, allowed)
    assert ratio <= 1, f"worst error is {ratio:.3g} times the tolerance"
