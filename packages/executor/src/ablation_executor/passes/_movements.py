"""The shortest movements that give a view: from views to nodes, and the rules that use it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from ..ir import Node, Shape, Value
from ..rewrite import Editor, Match, Rule, pattern
from ._views import Step, View, joined, movements_of, views_of

#: (copies, reshapes): nodes that move memory, and nodes that only rename it.
Cost = tuple[int, int]
#: What is still done to a view before it is emitted.
Then = Callable[[View], View | None]


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
    factors = joined(factor for axis in view.axes for factor in axis)
    grid = _grid(view, factors)
    if grid is None:
        return None
    sizes = tuple(size for size in grid.sizes)[: len(factors)]
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
