"""What a rotation that is written out does to each element of a head.

Every element of a value along its last axes is followed as a sum of terms, sign * x[..., place] *
table[position, column]. Slices, concatenations, stacks and reshapes only move terms, products with
a table of cosines or sines name it, and a sum appends. What is left says of each element what it is
made of, whatever the spelling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..ir import Array, Node, Shape, Value
from ..rewrite import Editor
from ._views import scaled_slot
from ._written_out import behind_reshapes, is_same

#: The axes in front of those that are followed: batch, heads and positions, in some order.
LEAD = 3
#: `place` is -1 where an element lacks the term, `table` is -1 where the term has no factor.
TERM = np.dtype([("place", int), ("table", int), ("column", int), ("sign", float)])


@dataclass(frozen=True)
class Table:
    """Factors of each position: an array (positions, columns) of constants, or a value of it."""

    value: Value
    array: Array | None


def made_without(count: int, shape: Shape) -> Array:
    """Terms that no element has."""
    terms = np.zeros((count, *shape), TERM)
    terms["place"], terms["table"] = -1, -1
    return terms


def is_table(editor: Editor, value: Value) -> bool:
    """Whether a value is cosines or sines, scaled or not."""
    node = editor.producer(value)
    while node is not None and node.op not in ("cos", "sin"):
        slot = scaled_slot(editor, node)
        if node.op != "reshape" and slot is None:
            return False
        node = editor.producer(node.inputs[slot or 0])
    return node is not None


def repeats_half(editor: Editor, value: Value) -> bool:
    """Whether the halves of a value's last axis are equal, as those of cos(concat(a, a)) are."""
    node = editor.producer(value)
    while node is not None:
        slot = scaled_slot(editor, node)
        source = node.inputs[slot or 0]
        assert source is not None
        if node.op == "concat" and node.attribute("axis") == len(node.output.shape) - 1:
            others = [part for part in node.inputs[1:] if part is not None]
            return len(others) == 1 and is_same(editor, source, others[0])
        keeps_rows = node.op == "reshape" and source.shape[-1:] == node.output.shape[-1:]
        if not keeps_rows and node.op not in ("cos", "sin") and slot is None:
            return False
        node = editor.producer(source)
    return False


def _split(shape: Shape, followed: int) -> tuple[Shape, Shape]:
    """The axes of a factor that lie in front of the `followed` last ones, and these."""
    whole = (1,) * (LEAD + followed - len(shape)) + shape
    return whole[:-followed], whole[-followed:]


def _without_copies(array: Array) -> Array:
    """An axis along which all is equal, as that of a batch, cut to one element."""
    for axis in range(LEAD):
        first = array.take([0], axis)
        if np.array_equal(np.broadcast_to(first, array.shape), array):
            array = first
    return array


@dataclass
class Follower:
    """Follows the elements of `x`; `axis` is that of the positions, once a table has said it.

    `is_by_batch` says that a table of cosines or sines differs between the items of a batch.
    """

    editor: Editor
    x: Value
    tables: list[Table] = field(default_factory=list)
    axis: int | None = None
    is_by_batch: bool = False
    _known: dict[Value, Array | None] = field(default_factory=dict)

    def terms(self, value: Value | None) -> Array | None:
        """(terms, *last axes) of a value, None where it is made of x in another manner or not."""
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = self._terms(value)
        return self._known[value]

    def _terms(self, value: Value) -> Array | None:
        if value is self.x:
            terms = made_without(1, value.shape[LEAD:])
            terms["place"], terms["sign"] = np.arange(value.shape[-1]), 1.0
            return terms
        node = self.editor.producer(value)
        if node is None or len(value.shape) <= LEAD or value.shape[:LEAD] != self.x.shape[:LEAD]:
            return None
        follow = _FOLLOWED.get(node.op)
        return None if follow is None else follow(self, node)

    def _slice(self, node: Node) -> Array | None:
        terms, axis = self.terms(node.inputs[0]), node.attribute("axis") - LEAD
        if terms is None or axis < 0:
            return None
        ids = np.arange(node.attribute("start"), node.attribute("stop"))
        return np.take(terms, ids, axis + 1)

    def _take(self, node: Node) -> Array | None:
        terms, ids = self.terms(node.inputs[0]), self.editor.constant(node.inputs[1])
        axis = node.attribute("axis") - LEAD
        if terms is None or ids is None or axis < 0:
            return None
        return np.take(terms, ids.astype(int), axis + 1)

    def _reshape(self, node: Node) -> Array | None:
        terms = self.terms(node.inputs[0])
        return None if terms is None else terms.reshape(-1, *node.output.shape[LEAD:])

    def _together(self, values: list[Value]) -> list[Array] | None:
        """The terms of several values, filled up to one number of them."""
        found = [terms for value in values if (terms := self.terms(value)) is not None]
        if len(found) != len(values):
            return None
        most = max(len(terms) for terms in found)
        fill = [made_without(most - len(terms), terms.shape[1:]) for terms in found]
        return [np.concatenate(parts) for parts in zip(found, fill, strict=True)]

    def _concat(self, node: Node) -> Array | None:
        axis = node.attribute("axis") - LEAD
        parts = self._together([value for value in node.inputs if value is not None])
        return None if parts is None or axis < 0 else np.concatenate(parts, axis + 1)

    def _where(self, node: Node) -> Array | None:
        condition, followed = self.editor.constant(node.inputs[0]), node.output.shape[LEAD:]
        parts = self._together([value for value in node.inputs[1:] if value is not None])
        if condition is None or parts is None:
            return None
        lead, last = _split(condition.shape, len(followed))
        if math.prod(lead) != 1:
            return None
        chosen = np.broadcast_to(condition.reshape(last) != 0, followed)
        return np.where(chosen, *(np.broadcast_to(part, (len(part), *followed)) for part in parts))

    def _sum(self, node: Node) -> Array | None:
        found = [self.terms(value) for value in node.inputs]
        if found[0] is None or found[1] is None or found[0].shape[1:] != found[1].shape[1:]:
            return None
        second = found[1].copy()
        second["sign"] *= -1.0 if node.op == "sub" else 1.0
        return np.concatenate([found[0], second])

    def _product(self, node: Node) -> Array | None:
        found = [self.terms(value) for value in node.inputs]
        slot = 0 if found[0] is not None else 1
        terms, factor = found[slot], node.inputs[1 - slot]
        if terms is None or factor is None or found[1 - slot] is not None:
            return None
        followed = node.output.shape[LEAD:]
        terms = np.broadcast_to(terms, (len(terms), *followed)).copy()
        number = self.editor.scalar(factor)
        if number is not None:
            terms["sign"] *= number
            return terms
        lead, last = _split(factor.shape, len(followed))
        index = None if np.any(terms["table"] >= 0) else self._table(factor, lead, math.prod(last))
        if index is None:
            return None
        terms["table"], terms["column"] = index, np.arange(math.prod(last)).reshape(last)
        return terms

    def _table(self, factor: Value, lead: Shape, columns: int) -> int | None:
        """The place in `tables` of what a value is multiplied by; None where it is no table."""
        array, value = self.editor.constant(factor), behind_reshapes(self.editor, factor)
        if array is not None:
            array = _without_copies(array.reshape(*lead, columns))
            lead, array = array.shape[:LEAD], array.reshape(-1, columns)
        axes = [axis for axis, size in enumerate(lead) if size > 1]
        self.is_by_batch |= 0 in axes and is_table(self.editor, factor)
        if len(axes) > 1 or 0 in axes or (axes and self.axis not in (None, axes[0])):
            return None
        self.axis = axes[0] if axes else self.axis
        table = Table(factor if value is None or array is not None else value, array)
        places = [index for index, known in enumerate(self.tables) if known.value is table.value]
        if not places:
            self.tables.append(table)
        return places[0] if places else len(self.tables) - 1


_FOLLOWED = {
    "slice": Follower._slice,
    "take": Follower._take,
    "reshape": Follower._reshape,
    "concat": Follower._concat,
    "where": Follower._where,
    "add": Follower._sum,
    "sub": Follower._sum,
    "mul": Follower._product,
}
FOLLOWED_OPS = frozenset(_FOLLOWED)
