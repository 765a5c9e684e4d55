"""The range of each integer input: what the caller vouches for, and the rows of embeddings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .aten import MOVING
from .integers import DTYPES, Integers, Range, widest
from .refusal import ExportError

#: Overloads that look whole numbers up: the argument of the table, that of the numbers, and the
#: argument that has the table's axis, None for axis 0. Numbers below 0 are errors in all of them.
_LOOK_UPS: dict[str, tuple[int, int, int | None]] = {
    "aten.embedding.default": (0, 1, None),
    "aten.index_select.default": (0, 2, 1),
}


class InputRanges:
    """Declares integer inputs; `given` has the ranges that a caller of export has named."""

    def __init__(self, given: Mapping[str, tuple[int, int]], needed: set[Any]) -> None:
        self.given = given
        self.needed = needed
        self.names: list[str] = []

    def declared(self, node: Any, name: str, dtype: str) -> Integers:
        """Type and range of the input that an FX placeholder stands for.

        ExportError: a range that is none, or beyond the type or 2^24, or that has no row of an
        embedding that looks the input up.
        """
        self.names.append(name)
        found = self._named(name, dtype) or widest(dtype)
        rows = [size for size in self._rows(node) if size is not None]
        if not rows:
            return found
        kept = found.range.within(Range(0, min(rows) - 1))
        if kept is None:
            raise ExportError(
                f"ranges has {name!r} as {found.range}, and it is looked up in a table of"
                f" {min(rows)} rows"
            )
        return Integers(dtype, kept)

    def check_all_used(self) -> None:
        """ExportError for a range of an input that the graph does not have."""
        for name in self.given:
            if name not in self.names:
                listed = ", ".join(map(repr, self.names)) or "none"
                raise ExportError(
                    f"ranges has {name!r}, which is no integer input of the module; these are:"
                    f" {listed}"
                )

    def _named(self, name: str, dtype: str) -> Integers | None:
        if name not in self.given:
            return None
        pair = self.given[name]
        is_pair = isinstance(pair, tuple | list) and len(pair) == 2
        if not is_pair or any(type(number) is not int for number in pair):
            raise ExportError(
                f"ranges has {name!r} as {pair!r}, expected (lowest, highest), two whole numbers"
            )
        try:
            return Integers(dtype, Range(*pair))
        except ValueError as error:
            raise ExportError(f"ranges has {name!r} as {pair!r}: {error}") from error

    def _rows(self, node: Any) -> list[int | None]:
        """The sizes of the axes that all numbers of a node are looked up in, moved or as they are.

        Only what keeps every element counts: what is cut off may hold anything.
        """
        found: list[int | None] = []
        for user in self.needed.intersection(node.users):
            op = str(user.target)
            if op in _LOOK_UPS:
                found.append(_size_of_table(user, node))
            elif op in MOVING and user.args[0] is node and _keeps_all(node, user):
                found += self._rows(user)
        return found


def _size_of_table(user: Any, numbers: Any) -> int | None:
    """The size of the axis in which a look-up looks up `numbers`, None where that is its table.

    A scalar is a table of one.
    """
    table, ids, axis = _LOOK_UPS[str(user.target)]
    if user.args[ids] is not numbers:
        return None
    shape = user.args[table].meta["val"].shape
    return int(shape[0 if axis is None else user.args[axis]]) if shape else 1


def _keeps_all(node: Any, user: Any) -> bool:
    """Whether a move keeps all elements, as whole numbers."""
    before, after = node.meta["val"], user.meta.get("val")
    if not hasattr(after, "shape") or str(after.dtype).removeprefix("torch.") not in DTYPES:
        return False
    is_truth = str(after.dtype) == "torch.bool" and before.dtype != after.dtype
    return not is_truth and math.prod(after.shape) >= math.prod(before.shape)
