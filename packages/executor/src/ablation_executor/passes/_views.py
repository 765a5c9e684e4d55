"""Where the elements of a value lie in another value that it was only moved from.

Reshapes, permutations, slices and repetitions make a view of their source: an offset, and for each
axis some (size, stride) pairs, the outermost first. Axes of size 1 have none, a repetition has the
stride 0. Equal views are equal values, however they are written, so that passes compare views and
emit the shortest movement that gives one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ir import Array, Node, Shape, Value
from ..rewrite import Editor, Match, Rule, pattern

Factors = tuple[tuple[int, int], ...]
#: An op with its attributes, to be applied to the result of the step before.
Step = tuple[str, Mapping[str, Any]]
#: (copies, reshapes): nodes that move memory, and nodes that only rename it.
Cost = tuple[int, int]
#: What is still done to a view before it is emitted.
Then = Callable[["View"], "View | None"]

#: Ops that work element by element, their operands broadcast against each other.
BROADCASTING = (
    "add", "sub", "mul", "div", "maximum", "minimum", "pow", "equal", "less", "less_equal", "where",
    "relu", "gelu", "silu", "silu_mul", "rsqrt", "exp", "log", "sqrt", "tanh", "sigmoid", "erf",
    "abs", "sin", "cos",
)  # fmt: skip


def _joined(factors: Iterable[tuple[int, int]]) -> Factors:
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
        return start // inner * stride, _joined([((stop - start) // inner, stride), *rest])
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
        return cls(value, 0, tuple(_joined([pair]) for pair in pairs))

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
        """The elements in the same order; None where an axis would start within another one."""
        waiting = list(_joined(factor for axis in self.axes for factor in axis))[::-1]
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
            axes.append(_joined(taken))
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
        factors = _joined([(rows.size, stride * step), (repeats, 0)])
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


# From views to nodes ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """A view's factors in the source's order: full lengths, cuts, and the way back."""

    lengths: tuple[int, ...]
    cuts: tuple[tuple[int, int, int], ...]  # (axis of the grid, start, stop)
    order: tuple[int, ...]  # of each factor of the view, its place in the grid

    @property
    def sizes(self) -> tuple[int, ...]:
        sizes = list(self.lengths)
        for axis, start, stop in self.cuts:
            sizes[axis] = stop - start
        return tuple(sizes)


def _grid(view: View, factors: Sequence[tuple[int, int]]) -> _Grid | None:
    """The factors by stride; None where one does not lie within another, or is repeated."""
    if any(stride == 0 for _, stride in factors):
        return None
    ranked = sorted(range(len(factors)), key=lambda index: -factors[index][1])
    lengths, cuts = [], []
    outer, rest = view.source.size, view.offset
    for place, index in enumerate(ranked):
        size, stride = factors[index]
        length, start = outer // stride, rest // stride
        if outer % stride or start + size > length:
            return None
        lengths.append(length)
        if size < length:
            cuts.append((place, start, start + size))
        outer, rest = stride, rest - start * stride
    if outer > 1:  # one element of an innermost axis
        cuts.append((len(lengths), rest, rest + 1))
        lengths.append(outer)
    order = tuple(ranked.index(index) for index in range(len(factors)))
    return _Grid(tuple(lengths), tuple(cuts), order)


def _cut_of_shape(shape: Shape, grid: _Grid) -> dict[str, int] | None:
    """The grid's only cut as a slice of the source as it is, if it can be one."""
    ((place, start, stop),) = grid.cuts
    inner = math.prod(grid.lengths[place + 1 :])
    for axis, length in enumerate(shape):
        below = math.prod(shape[axis + 1 :])
        fits = below * length == grid.lengths[place] * inner
        if fits and start * inner % below == 0 and stop * inner % below == 0:
            return {"axis": axis, "start": start * inner // below, "stop": stop * inner // below}
    return None


def _steps(view: View, grid: _Grid, middle: Shape, perm: Sequence[int], shape: Shape) -> list[Step]:
    """The grid's cuts, then a reshape to `middle`, `perm`, and a reshape to `shape`."""
    steps: list[Step] = []
    now: Shape = view.source.shape

    def reshape(wanted: Shape) -> None:
        nonlocal now
        if now != wanted:
            steps.append(("reshape", {"shape": wanted}))
            now = wanted

    cut = _cut_of_shape(now, grid) if len(grid.cuts) == 1 else None
    if cut is not None:
        steps.append(("slice", cut))
        length = cut["stop"] - cut["start"]
        now = (*now[: cut["axis"]], length, *now[cut["axis"] + 1 :])
    elif grid.cuts:
        reshape(grid.lengths)
        for axis, start, stop in grid.cuts:
            steps.append(("slice", {"axis": axis, "start": start, "stop": stop}))
        now = grid.sizes
    if list(perm) != sorted(perm):
        reshape(middle)
        steps.append(("permute", {"perm": tuple(perm)}))
        now = tuple(middle[axis] for axis in perm)
    reshape(shape)
    return steps


def steps_to(view: View, shape: Shape) -> list[Step] | None:
    """The fewest nodes that make `shape` of the source; None where there are no such movements."""
    joined = _joined(factor for axis in view.axes for factor in axis)
    grid = _grid(view, joined)
    if grid is None:
        return None
    sizes = tuple(size for size in grid.sizes)[: len(joined)]
    found = [_steps(view, grid, sizes, grid.order, shape)]
    if view.shape == shape and all(len(axis) <= 1 for axis in view.axes):
        # Axes of size 1 stay where they are, so that nothing is left to do behind the permutation.
        wide = [axis for axis, factors in enumerate(view.axes) if factors]
        ranked = iter(sorted(wide, key=lambda axis: -view.axes[axis][0][1]))
        places = [next(ranked) if view.axes[axis] else axis for axis in range(len(shape))]
        middle = tuple(shape[axis] for axis in places)
        perm = [places.index(axis) for axis in range(len(shape))]
        found.append(_steps(view, grid, middle, perm, shape))
    return min(found, key=len)


def cost_of(ops: Iterable[str]) -> Cost:
    """Copies and reshapes among some movements."""
    listed = list(ops)
    reshapes = listed.count("reshape")
    return len(listed) - reshapes, reshapes


def freed_by(editor: Editor, nodes: Sequence[Node], reader: Node | None) -> list[Node]:
    """Those of a chain of movements that nobody reads but `reader`, and they one another.

    Without a reader, the first one is freed whoever reads it.
    """
    freed: list[Node] = []
    for node in nodes:
        if reader is not None and editor.other_readers(node.output, reader) is not None:
            break
        freed.append(node)
        reader = node
    return freed


@dataclass(frozen=True)
class Movement:
    """Steps from a source; `gain` is their cost less that of the nodes that they free."""

    source: Value
    steps: list[Step]
    gain: Cost

    def emit(self, editor: Editor, place: Node) -> Value:
        """Add the nodes before `place` and return the last one's output."""
        value = self.source
        for op, attributes in self.steps:
            value = editor.insert_before(place, op, [value], attributes)
        return value


def cheapest(
    editor: Editor,
    value: Value,
    reader: Node | None,
    shape: Shape,
    then: Then = lambda view: view,
) -> Movement | None:
    """The movement of `value`, or of what it was moved from, that leaves the fewest nodes."""
    found: list[Movement] = []
    for view, nodes in views_of(editor, value):
        last = then(view)
        steps = None if last is None else steps_to(last, shape)
        if steps is None:
            continue
        new = cost_of(op for op, _ in steps)
        old = cost_of(node.op for node in freed_by(editor, nodes, reader))
        found.append(Movement(view.source, steps, (new[0] - old[0], new[1] - old[1])))
    return min(found, key=lambda movement: movement.gain, default=None)


# movements of one another -> the fewest that give the same view -----------------------------------


def _shorter(match: Match) -> Movement | None:
    editor, node = match.editor, match["movement"]
    found = cheapest(editor, node.output, None, node.output.shape)
    if found is None or found.gain >= (0, 0):
        return None
    outputs = editor.graph.outputs
    is_made = found.source in editor.producers and found.source not in outputs
    return found if found.steps or is_made or node.output not in outputs else None


def _check(match: Match) -> str | None:
    return "" if _shorter(match) is None else None


def _rewrite(match: Match) -> None:
    editor, node, found = match.editor, match["movement"], _shorter(match)
    assert found is not None
    passed = movements_of(editor, node.output)
    if not found.steps:
        editor.graph.replace_uses(node.output, found.source)
        editor.drop_unread(passed)
        return
    value = replace(found, steps=found.steps[:-1]).emit(editor, node)
    op, attributes = found.steps[-1]
    editor.replace(node, op, [value], attributes)
    editor.drop_unread(passed[1:])


SHORTER_MOVEMENTS = Rule(
    "shorter_movements", (pattern("movement", "reshape|permute|slice"),), _check, _rewrite
)


# the same movement of one value twice -> once -----------------------------------------------------


def _twin(match: Match) -> Node | None:
    """An earlier node that does the same."""
    editor, node = match.editor, match["movement"]
    source = node.inputs[0]
    assert source is not None
    for other in editor.consumers.get(source, ()):
        if other is node:
            return None
        if (other.op, other.attributes) == (node.op, node.attributes):
            return other
    return None


def _check_twin(match: Match) -> str | None:
    is_output = match["movement"].output in match.editor.graph.outputs
    return "" if is_output or _twin(match) is None else None


def _rewrite_twin(match: Match) -> None:
    editor, node, twin = match.editor, match["movement"], _twin(match)
    assert twin is not None
    editor.graph.replace_uses(node.output, twin.output)
    editor.drop_unread([node])


EQUAL_MOVEMENTS = Rule(
    "equal_movements",
    (pattern("movement", "reshape|permute|slice"),),
    _check_twin,
    _rewrite_twin,
)
