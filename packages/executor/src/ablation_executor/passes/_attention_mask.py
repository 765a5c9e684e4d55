"""The masks between a product and its softmax, as one mask that the attention op has.

An added mask and a `where` differ where a hidden score is NaN or +infinity: x + -inf is NaN then,
where() is -inf. So each stays what it is. Masks stay as small as they are before they are repeated
for heads and queries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..ir import Array, Node, Shape, Value
from ..ops import OPS
from ..rewrite import Editor
from ._movements import steps_to
from ._views import BROADCASTING, Factors, View, views_of

#: A finite fill or addend up to this hides a key from every softmax with a score above -1e30.
_HIDING = -1e31


@dataclass(frozen=True)
class Mask:
    """One mask: `value` is added to scores, or says by numbers other than 0 which of them stay.

    `fill` takes the place of the others; `stays` is turned round where numbers other than 0 hide.
    """

    value: Value
    leading: Shape  # the scores' axes before queries and keys
    fill: float | None = None  # None: the mask is added
    stays: bool = True


@dataclass(frozen=True)
class Joined:
    """All masks of an attention: its attributes, and what its mask is made of."""

    attributes: dict[str, object]
    array: Array | None = None  # of constant masks
    constant: Value | None = None  # the array as the graph has it already
    added: tuple[Mask, ...] = ()  # of masks that are not constant, outermost first
    replacing: tuple[Mask, ...] = ()


def take_where(editor: Editor, node: Node) -> tuple[Value, Mask] | str:
    """where(condition, scores, fill) or where(condition, fill, scores) -> the scores and a mask."""
    condition = node.inputs[0]
    assert condition is not None
    for slot in (1, 2):
        scores, fill = node.inputs[slot], editor.scalar(node.inputs[3 - slot])
        if scores is None or fill is None:
            continue
        if fill == 0.0:
            return "masked scores are 0, which a mask says of those that stay"
        return scores, Mask(condition, scores.shape[:-2], fill, slot == 1)
    return "neither side of the mask is a scalar constant"


# Shapes -------------------------------------------------------------------------------------------


def _four_axes(shape: Shape, leading: Shape, four: Shape) -> Shape | None:
    """A mask's shape as one of four axes or fewer, None where an axis would be repeated."""
    full = (1,) * (len(leading) + 2 - len(shape)) + shape
    own, last = full[:-2], full[-2:]
    if len(shape) <= 2 or leading == four:
        return shape
    if math.prod(own) == 1:
        return (1, 1, *last)
    if own == leading:
        return (*four, *last)
    for split in range(len(leading) + 1):
        sizes = (math.prod(own[:split]), math.prod(own[split:]))
        whole = (math.prod(leading[:split]), math.prod(leading[split:]))
        if whole == four and all(part in (1, all_) for part, all_ in zip(sizes, four, strict=True)):
            return (*sizes, *last)
    return None


# What masks are -----------------------------------------------------------------------------------


def _array(editor: Editor, mask: Mask) -> Array | None:
    """A constant mask: what is added, or 0 where a score stays, else what takes its place."""
    array = editor.constant(mask.value)
    if array is None or mask.fill is None:
        return array
    hidden = (array == 0) if mask.stays else (array != 0)
    return np.where(hidden, np.float32(mask.fill), np.float32(0))


def _window(hidden: Array, scores: Shape) -> int | None:
    """0 where exactly the keys behind each query are hidden, n where all but the last n are too.

    None where others are, or not the same ones in every batch and head.
    """
    if hidden.ndim < 2 or math.prod(hidden.shape[:-2]) != 1 or hidden.shape[-2:] != scores[-2:]:
        return None
    queries, keys = scores[-2:]
    shown = hidden.reshape(queries, keys) == 0
    causal = np.tri(queries, keys, dtype=bool)
    if np.array_equal(shown, causal):
        return 0
    window = int(shown.sum(axis=1).max())
    recent = causal & ~np.tri(queries, keys, -window, dtype=bool)
    return window if window and np.array_equal(shown, recent) else None


def _hiding_window(array: Array | None, scores: Shape) -> int | None:
    """The window of a mask that replaces scores by -infinity alone."""
    if array is None or not np.all((array == 0) | np.isneginf(array)):
        return None
    return _window(_small(array) != 0, scores)


def _is_number(editor: Editor, mask: Mask) -> bool:
    array = editor.constant(mask.value)
    return array is not None and not np.any(np.isnan(array) | np.isposinf(array))


def _without_causal(
    editor: Editor, masks: list[Mask], scores: Shape
) -> tuple[list[Mask], int | None, bool]:
    """The masks without one that `causal` says, its window, and whether one behind forbids it.

    Attention applies `causal` last, so that masks behind it may change no hidden score.
    """
    is_spoiled = False
    for index, mask in enumerate(masks):
        window = None if mask.fill is None else _hiding_window(_array(editor, mask), scores)
        if window is None:
            continue
        outer = masks[:index]
        if any(other.fill is None and not _is_number(editor, other) for other in outer):
            is_spoiled = True
        elif all(other.fill in (None, -math.inf) for other in outer):
            return [other for other in masks if other is not mask], window, False
    return masks, None, is_spoiled


def _hides_nothing(editor: Editor, mask: Mask) -> bool:
    array = _array(editor, mask)
    return array is not None and not np.any(array != 0)


def join(editor: Editor, found: list[Mask], scores: Shape) -> Joined | str:
    """The masks, outermost first, as one over (B, H, Sq, Sk), or the reason why they are not."""
    for mask in found:
        if _four_axes(mask.value.shape, mask.leading, scores[:2]) is None:
            return f"a mask of {list(mask.value.shape)} cannot be folded to four axes"
    masks = [mask for mask in found if not _hides_nothing(editor, mask)]
    masks, window, is_spoiled = _without_causal(editor, masks, scores)
    attributes: dict[str, object] = {}
    if window is not None:
        attributes |= {"causal": True} | ({"window": window} if window else {})
    replacing = [mask for mask in masks if mask.fill is not None]
    added = [mask for mask in masks if mask.fill is None]
    if replacing and added:
        if is_spoiled:
            return "a mask that may be NaN or infinity is added to hidden scores"
        return "one mask replaces scores, another one is added to them"
    attributes |= {"mask_replaces": True} if replacing else {}
    arrays = [_folded(editor, mask, scores) for mask in masks]
    constant = [array for array in arrays if array is not None]
    if not masks or len(constant) < len(masks):
        strict = attributes | {"strict": True}
        return Joined(strict, added=tuple(added), replacing=tuple(replacing))
    array = constant[-1]
    for outer in constant[-2::-1]:
        array = np.where(outer != 0, outer, array) if replacing else np.add(outer, array)
    array = _small(array)
    hides = bool(np.all((array == 0) | (array <= _HIDING)))
    recent = _window(array != 0, scores) if hides and window is None else None
    if recent is not None:
        attributes |= {"mask_is_causal": True} | ({"window": recent} if recent else {})
    value = added[0].value if len(added) == 1 else None
    is_same = value is not None and array.shape == value.shape
    return Joined(attributes | {"strict": True}, array, value if is_same else None)


def _folded(editor: Editor, mask: Mask, scores: Shape) -> Array | None:
    """A constant mask with at most four axes."""
    array = _array(editor, mask)
    shape = _four_axes(mask.value.shape, mask.leading, scores[:2])
    return None if array is None or shape is None else array.reshape(shape)


def _small(array: Array) -> Array:
    """An array without the axes along which it repeats itself, bit by bit."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    for axis in range(bits.ndim):
        if bits.shape[axis] > 1 and np.all(bits == bits.take([0], axis)):
            bits = bits.take([0], axis)
    return bits.view(np.float32)


# Nodes --------------------------------------------------------------------------------------------


def least_shape(editor: Editor, value: Value) -> Shape:
    """The shape of a value before it was repeated, or before what it is computed of was."""
    for view, _ in views_of(editor, value):
        axes = _not_repeated(view)
        if axes != view.axes and steps_to(replace(view, axes=axes), _shape(axes)) is not None:
            return _shape(axes)
    node = editor.producer(value)
    if node is None or node.op not in BROADCASTING:
        return value.shape
    shapes = [None if part is None else least_shape(editor, part) for part in node.inputs]
    spec = OPS[node.op]
    return spec.infer_shape(shapes, spec.complete(node.attributes))


def _not_repeated(view: View) -> tuple[Factors, ...]:
    return tuple(
        () if axis and all(stride == 0 for _, stride in axis) else axis for axis in view.axes
    )


def _shape(axes: tuple[Factors, ...]) -> Shape:
    return tuple(math.prod(size for size, _ in axis) for axis in axes)


def least(editor: Editor, place: Node, value: Value) -> Value:
    """A value of `least_shape` that broadcasts to this one, by nodes before `place`."""
    if least_shape(editor, value) == value.shape:
        return value
    for view, _ in views_of(editor, value):
        axes = _not_repeated(view)
        steps = None if axes == view.axes else steps_to(replace(view, axes=axes), _shape(axes))
        if steps is not None:
            out = view.source
            for op, attributes in steps:
                out = editor.insert_before(place, op, [out], attributes)
            return out
    node = editor.producer(value)
    assert node is not None
    inputs = [None if part is None else least(editor, place, part) for part in node.inputs]
    return editor.insert_before(place, node.op, inputs, node.attributes)


def _as_four(editor: Editor, place: Node, mask: Mask, scores: Shape) -> Value:
    """A mask's value, as small as it comes, with at most four axes."""
    value = least(editor, place, mask.value)
    shape = _four_axes(value.shape, mask.leading, scores[:2])
    if shape is None or shape == value.shape:
        return value
    return editor.insert_before(place, "reshape", [value], {"shape": shape})


def mask_value(editor: Editor, place: Node, joined: Joined, scores: Shape) -> Value | None:
    """The mask as one value, broadcastable to (B, H, Sq, Sk)."""
    if joined.constant is not None:
        return joined.constant
    if joined.array is not None:
        key = ("mask", id(joined))
        if key not in editor.joined:
            editor.joined[key] = editor.add_constant("mask", joined.array)
        return editor.joined[key]
    mask: Value | None = None
    for part in reversed(joined.added):
        value = _as_four(editor, place, part, scores)
        mask = value if mask is None else editor.insert_before(place, "add", [mask, value], {})
    for part in reversed(joined.replacing):
        condition = _as_four(editor, place, part, scores)
        assert part.fill is not None
        fill = editor.add_constant("fill", part.fill)
        kept = mask if mask is not None else editor.add_constant("kept", 0.0)
        sides = [kept, fill] if part.stays else [fill, kept]
        mask = editor.insert_before(place, "where", [condition, *sides], {})
    return mask
