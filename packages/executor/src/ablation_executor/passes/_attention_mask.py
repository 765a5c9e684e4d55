"""The masks between a product and its softmax, as one mask that the attention op has.

An added mask and a `where` differ where a hidden score is NaN or +infinity: x + -inf is NaN then,
where() is -inf. So each stays what it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ..ir import Array, Node, Shape, Value
from ..rewrite import Editor

#: A finite fill or addend up to this hides a key from every softmax with a score above -1e30.
_HIDING = -1e31


@dataclass
class Masks:
    """What was found between the scores and the softmax, from the softmax upwards."""

    added: list[Value] = field(default_factory=list)
    replacing: Array | None = None  # constant: 0 where a score stays, else what takes its place
    replaces_last: bool = False  # the replacement stands behind the addition

    def is_causal(self, scores: Shape) -> bool:
        """Whether exactly the keys behind each query are replaced by -infinity."""
        mask = self.replacing
        if mask is None or not np.all((mask == 0) | np.isneginf(mask)):
            return False
        return _hides_later(mask != 0, scores)


def _hides_later(hidden: Array, scores: Shape) -> bool:
    """Whether exactly the keys behind each query are hidden, in every batch and head."""
    if hidden.ndim < 2 or math.prod(hidden.shape[:-2]) != 1 or hidden.shape[-2:] != scores[-2:]:
        return False
    queries, keys = scores[-2:]
    return np.array_equal(hidden.reshape(queries, keys), np.tri(queries, keys) == 0)


def take_where(editor: Editor, masks: Masks, node: Node) -> Value | str:
    """where(condition, scores, fill) or where(condition, fill, scores) -> the scores' value."""
    condition = editor.constant(node.inputs[0])
    if condition is None:
        return "the mask's condition is not a constant"
    if masks.added and masks.replacing is not None:
        return "scores are replaced, added to and replaced again"
    for slot, shows in ((1, True), (2, False)):
        scores, fill = node.inputs[slot], editor.scalar(node.inputs[3 - slot])
        if scores is None or fill is None:
            continue
        if fill == 0.0:
            return "masked scores are 0, which a mask says of those that stay"
        hidden = (condition == 0) if shows else (condition != 0)
        inner = np.where(hidden, np.float32(fill), np.float32(0))
        outer = masks.replacing
        masks.replacing = inner if outer is None else np.where(outer != 0, outer, inner)
        masks.replaces_last = not masks.added
        return scores
    return "neither side of the mask is a scalar constant"


def take_added(editor: Editor, masks: Masks, mask: Value) -> str | None:
    """Note a mask that is added to the scores, or say why that is one too many."""
    masks.added.append(mask)
    if len(masks.added) == 1:
        return None
    for value in masks.added:
        array = editor.constant(value)
        if array is None or np.any((array != 0) & ~np.isneginf(array)):
            return "two masks are added"
    return None


def reason_against(editor: Editor, masks: Masks, scores: Shape) -> str | None:
    """Why the masks are not one over (B, H, Sq, Sk), or None."""
    if masks.replacing is not None and masks.added:
        if not masks.is_causal(scores):
            return "one mask replaces scores, another one is added to them"
        array = _added_array(editor, masks)
        is_number = array is not None and not np.any(np.isnan(array) | np.isposinf(array))
        if not (masks.replaces_last or is_number):
            return "a mask that may be NaN or infinity is added to hidden scores"
    shape, leading = _shape(masks, scores), scores[:-2]
    if len(leading) != 2 and any(size != 1 for size in shape[:-2]) and shape[:-2] != leading:
        return f"a mask of {list(shape)} cannot be folded to four axes"
    return None


def _replacing(masks: Masks, scores: Shape) -> Array | None:
    """The mask that replaces scores, where causal does not say it."""
    return None if masks.is_causal(scores) else masks.replacing


def _added_array(editor: Editor, masks: Masks) -> Array | None:
    """The added masks as one, if they are constants."""
    arrays = [array for value in masks.added if (array := editor.constant(value)) is not None]
    if not arrays or len(arrays) < len(masks.added):
        return None
    return arrays[0] if len(arrays) == 1 else np.add(arrays[0], arrays[1])


def _shape(masks: Masks, scores: Shape) -> Shape:
    array = _replacing(masks, scores)
    if array is not None:
        return array.shape
    return np.broadcast_shapes(*(value.shape for value in masks.added))


def attributes_of(editor: Editor, masks: Masks, scores: Shape) -> dict[str, bool]:
    """The attention's attributes that say what its mask does."""
    replacing = _replacing(masks, scores)
    array = replacing if replacing is not None else _added_array(editor, masks)
    hides = array is not None and bool(np.all((array == 0) | (array <= _HIDING)))
    given = {
        "causal": masks.is_causal(scores),
        "mask_replaces": replacing is not None,
        "mask_is_causal": array is not None and hides and _hides_later(array != 0, scores),
        "strict": True,
    }
    return {name: True for name, is_set in given.items() if is_set}


def mask_value(editor: Editor, place: Node, masks: Masks, scores: Shape) -> Value | None:
    """The mask as one value, broadcastable to (B, H, Sq, Sk)."""
    array = _replacing(masks, scores)
    if array is None and len(masks.added) > 1:
        array = _added_array(editor, masks)
    mask = masks.added[0] if masks.added else None
    mask = mask if array is None else editor.add_constant("mask", array)
    if mask is None or len(scores) == 4 or len(mask.shape) <= 2:
        return mask
    shape = (1, math.prod(mask.shape[:-2]), *mask.shape[-2:])
    return editor.insert_before(place, "reshape", [mask], {"shape": shape})
