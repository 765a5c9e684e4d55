"""Where the elements of a value lie in another value that it was only moved from.

Reshapes, permutations, slices and repetitions make a view of their source: an offset, and for each
axis some (size, stride) pairs, the outermost first. Axes of size 1 have none, a repetition has the
stride 0. Equal views are equal values, however they are written, so that passes compare views;
`_movements` has the shortest movement that gives one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ir import Array, Node, Shape, Value
from ..rewrite import Editor

Factors = tuple[tuple[int, int], ...]
#: An op with its attributes, to be applied to the result of the step before.
Step = tuple[str, Mapping[str, Any]]

#: Ops that work element by element, their operands broadcast against each other.
BROADCASTING = (
    "add", "sub", "mul", "div", "maximum", "minimum", "pow", "equal", "less", "less_equal", "where",
    "relu", "gelu", "silu", "silu_mul", "rsqrt", "exp", "log", "sqrt", "tanh", "sigmoid", "erf",
    "abs", "sin", "cos",
)  # fmt: skip


def joined(factors: Iterable[tuple[int, int]]) -> Factors:
    """The same elements with as few factors as there can be."""
    found: list[tuple[int, int]] = []
    for size, stride in factors:
        if size == 1:
            continue
        if found and found[-1][1] == size * stride:
            found[-1] = (found[-1][0] * size, stride)
        else:
            found.append((size, stride))
    return tuple(found)


def _cut(factors: Factors, start: int, stop: int) -> tuple[int, Factors] | None:
    """Offset and factors of the elements [start, stop), None where they are no view."""
    if not factors:
        return 0, ()
    (_, stride), rest = factors[0], factors[1:]
    inner = math.prod(size for size, _ in rest)
    if start % inner == 0 and stop % inner == 0:
        return start // inner * stride, joined([((stop - start) // inner, stride), *rest])
    if start // inner != (stop - 1) // inner:
        return None
    found = _cut(rest, start % inner, start % inner + stop - start)
    return None if found is None else (start // inner * stride + found[0], found[1])


@dataclass(frozen=True)
class View:
    """The element at an index of `axes` is the one at `offset` + index * stride of the source."""

    source: Value
    offset: int
    axes: tuple[Factors, ...]

    @classmethod
    def of(cls, value: Value) -> View:
        """A value as a view of itself."""
        strides = [math.prod(value.shape[axis + 1 :]) for axis in range(len(value.shape))]
        pairs = zip(value.shape, strides, strict=True)
        return cls(value, 0, tuple(joined([pair]) for pair in pairs))

    @property
    def shape(self) -> Shape:
        return tuple(math.prod(size for size, _ in axis) for axis in self.axes)

    def permuted(self, perm: Sequence[int]) -> View:
        return replace(self, axes=tuple(self.axes[axis] for axis in perm))

    def sliced(self, axis: int, start: int, stop: int) -> View | None:
        found = _cut(self.axes[axis], start, stop)
        if found is None:
            return None
        axes = (*self.axes[:axis], found[1], *self.axes[axis + 1 :])
        return replace(self, offset=self.offset + found[0], axes=axes)

    def reshaped(self, shape: Shape) -> View | None:
        """The elements in the same order; None where an axis would start within another one, or
        for another number of elements."""
        if math.prod(shape) != math.prod(self.shape):
            return None
        waiting = list(joined(factor for axis in self.axes for factor in axis))[::-1]
        axes = []
        for wanted in shape:
            taken = []
            while wanted > 1:
                size, stride = waiting.pop()
                if wanted % size == 0:
                    taken.append((size, stride))
                    wanted //= size
                elif size % wanted == 0:
                    taken.append((wanted, stride * (size // wanted)))
                    waiting.append((size // wanted, stride))
                    wanted = 1
                else:
                    return None
            axes.append(joined(taken))
        return replace(self, axes=tuple(axes))

    def taken(self, axis: int, ids: Array) -> View | None:
        """Rows of an axis by constant numbers: a range with a step, each row repeated."""
        if ids.ndim != 1 or len(self.axes[axis]) > 1:
            return None
        repeats = int(np.argmax(ids != ids[0])) or ids.size
        rows = ids[::repeats]
        step = int(rows[1] - rows[0]) if rows.size > 1 else 1
        expected = np.repeat(ids[0] + step * np.arange(rows.size), repeats)
        if step < 1 or not np.array_equal(ids, expected):
            return None
        stride = self.axes[axis][0][1] if self.axes[axis] else 0
        factors = joined([(rows.size, stride * step), (repeats, 0)])
        axes = (*self.axes[:axis], factors, *self.axes[axis + 1 :])
        return replace(self, offset=self.offset + int(ids[0]) * stride, axes=axes)

    def after(self, steps: Iterable[Step]) -> View | None:
        """The view that these steps make of this one."""
        view: View | None = self
        for op, attributes in steps:
            if view is None:
                return None
            if op == "reshape":
                view = view.reshaped(attributes["shape"])
            elif op == "permute":
                view = view.permuted(attributes["perm"])
            else:
                view = view.sliced(*(attributes[name] for name in ("axis", "start", "stop")))
        return view


# From nodes to views ------------------------------------------------------------------------------


def moved_slot(editor: Editor, node: Node) -> int | None:
    """The slot whose elements a node only moves; None for a node that computes."""
    if node.op == "take":
        return 0 if editor.constant(node.inputs[1]) is not None else None
    return 0 if node.op in ("reshape", "permute", "slice") else None


def scaled_slot(editor: Editor, node: Node) -> int | None:
    """The slot of what a node multiplies or divides by a scalar constant, None for other nodes."""
    for slot in (0, 1) if node.op == "mul" else (0,) if node.op == "div" else ():
        x, number = node.inputs[slot], editor.scalar(node.inputs[1 - slot])
        if x is not None and number is not None and x.shape == node.output.shape:
            return slot
    return None


def _applied(editor: Editor, view: View, node: Node) -> View | None:
    if scaled_slot(editor, node) is not None:
        return view
    if node.op == "take":
        ids = editor.constant(node.inputs[1])
        return None if ids is None else view.taken(node.attribute("axis"), ids)
    return view.after([(node.op, node.attributes)])


def _passed(editor: Editor, value: Value, scaled: bool) -> Iterator[tuple[Node, Value]]:
    """The nodes that moved a value, from the one that makes it upwards, each with its source."""
    node = editor.producer(value)
    while node is not None:
        slot = moved_slot(editor, node)
        if slot is None and scaled:
            slot = scaled_slot(editor, node)
        source = None if slot is None else node.inputs[slot]
        if source is None:
            return
        yield node, source
        node = editor.producer(source)


def movements_of(editor: Editor, value: Value) -> list[Node]:
    """The nodes that moved a value, from the one that makes it upwards."""
    return [node for node, _ in _passed(editor, value, False)]


def views_of(
    editor: Editor, value: Value, *, scaled: bool = False
) -> Iterator[tuple[View, list[Node]]]:
    """A value as a view of itself, then of each value that it was moved from, nearest first.

    Each comes with the nodes in between, from the one that makes `value` upwards; with `scaled`,
    factors that are scalar constants are among them.
    """
    passed = list(_passed(editor, value, scaled))
    nodes = [node for node, _ in passed]
    for depth in range(len(nodes) + 1):
        view: View | None = View.of(passed[depth - 1][1] if depth else value)
        for node in reversed(nodes[:depth]):
            view = None if view is None else _applied(editor, view, node)
        if view is None:
            return
        yield view, nodes[:depth]
