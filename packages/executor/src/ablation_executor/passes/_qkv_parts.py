"""q, k and v of an attention as columns of linear layers' products, however they were moved.

The heads of a part are columns, its batch and sequence rows of a product. Behind the product may
stand an rms_norm of each head or of all heads together, a rotation, and factors that are scalar
constants, these in front of the norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..ir import Array, Node, Value
from ..ops import OPS
from ..rewrite import Editor, Match
from ._movements import steps_to
from ._views import View, scaled_slot, views_of
from .absorb_into_matmul import scale_by

NAMES = ("q", "k", "v")
SWAP = (0, 2, 1, 3)
_SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Part:
    """q, k or v as columns of a product of some rows."""

    product: Node
    passed: tuple[Node, ...]  # the movements between the product and attention
    columns: Array  # (H D,) of the product's
    factor: float  # behind the product's bias
    rotary: Node | None
    norm: Node | None  # in front of the rotation
    rows: View  # (B, S, K), over the product's `a`
    heads: int

    @property
    def a(self) -> Value:
        a = self.product.inputs[0]
        assert a is not None
        return a

    @property
    def alpha(self) -> float:
        return float(self.product.attribute("alpha"))


def _seen_as_bshd(view: View, layout: str) -> View:
    return view.permuted(SWAP) if layout == "bhsd" else view


@dataclass
class _Way:
    """q, k or v (B, S, H, D) as a view of what it is made of, and the nodes passed on the way."""

    view: View
    nodes: list[Node]
    rotary: Node | None = None
    norm: Node | None = None


def _way_to_product(editor: Editor, attention: Node, name: str) -> _Way | str:
    """From an attention's slot up to a product, through a rotation and a norm."""
    value, layout = attention.inputs[NAMES.index(name)], attention.attribute("layout")
    assert value is not None
    view, nodes = list(views_of(editor, value, scaled=True))[-1]
    way = _Way(_seen_as_bshd(view, layout), nodes)
    rotary = editor.producer(way.view.source)
    if rotary is not None and rotary.op == "rotary" and rotary.inputs[0] is not None:
        own = rotary.attribute("layout")
        if way.view != _seen_as_bshd(View.of(rotary.output), own):
            return f"{name} is made by {rotary.op} of other rows or heads"
        view, before = list(views_of(editor, rotary.inputs[0], scaled=True))[-1]
        way = _Way(_seen_as_bshd(view, own), [*way.nodes, rotary, *before], rotary)
    norm = editor.producer(way.view.source)
    if norm is not None and norm.op == "rms_norm" and norm.inputs[2] is None:
        return _way_through_norm(editor, way, norm, name)
    return way


def _way_through_norm(editor: Editor, way: _Way, norm: Node, name: str) -> _Way | str:
    x, shape = norm.inputs[0], way.view.shape
    assert x is not None
    if any(scaled_slot(editor, node) is not None for node in way.nodes):
        return f"{name} is scaled behind its norm"
    found, before = list(views_of(editor, x, scaled=True))[-1]
    view = found.reshaped(shape)
    if view is None or way.view != View.of(norm.output).reshaped(shape):
        return f"{name} is made by {norm.op} of other rows or heads"
    return _Way(view, [*way.nodes, norm, *before], way.rotary, norm)


def part_of(editor: Editor, attention: Node, name: str) -> Part | str:
    """Where q, k or v lies in a product, or the reason why it is not a part of one."""
    way = _way_to_product(editor, attention, name)
    if isinstance(way, str):
        return way
    view = way.view
    product = editor.producer(view.source)
    if product is None or product.op != "matmul":
        made_by = "an input" if product is None else product.op
        return f"{name} is made by {made_by}, not by a product"
    a, n_columns = product.inputs[0], product.output.shape[-1]
    assert a is not None
    batch, seq_len, heads, inner = view.axes
    columns = np.array(view.offset % n_columns)
    for size, stride in (*heads, *inner):
        columns = columns[..., None] + stride * np.arange(size)
    fits = columns.max() < n_columns and all(stride for _, stride in (*heads, *inner))
    if not fits or any(stride % n_columns or not stride for _, stride in (*batch, *seq_len)):
        return _no_columns(name)
    width = a.shape[-1]
    rows = View(
        a,
        view.offset // n_columns * width,
        (
            *(tuple((size, stride // n_columns * width) for size, stride in axis)
              for axis in (batch, seq_len)),
            View.of(a).axes[-1],
        ),
    )  # fmt: skip
    if steps_to(rows, rows.shape) is None:
        return _no_columns(name)
    factor = _factor(editor, way.nodes)
    if isinstance(factor, str):
        return _no_factor(name)
    passed, columns = tuple(way.nodes), columns.reshape(-1)
    return Part(product, passed, columns, factor, way.rotary, way.norm, rows, view.shape[2])


def _no_columns(name: str) -> str:
    return f"the heads of {name} are not columns of some rows of its product"


def _no_factor(name: str) -> str:
    return f"the factor of {name} may make an element of its weight overflow or vanish"


def _factor(editor: Editor, nodes: Sequence[Node]) -> float | str:
    """All factors among these nodes as one, or the reason why they are not."""
    factor: float | str = 1.0
    for node in nodes[::-1]:
        slot = scaled_slot(editor, node)
        number = None if slot is None else editor.scalar(node.inputs[1 - slot])
        if number is not None and not isinstance(factor, str):
            factor = scale_by(factor, node.op, number)
    return factor


def deepest(editor: Editor, part: Part) -> View:
    """A part's rows, of the value that `a` was moved from first."""
    steps = steps_to(part.rows, part.rows.shape) or []
    found = (view.after(steps) for view, _ in views_of(editor, part.a))
    return [view for view in found if view is not None][-1]


def reason_of(editor: Editor, part: Part, name: str) -> str | None:
    """Why a product cannot be a part of another one, or None."""
    product = part.product
    if product.inputs[3] is not None or product.attribute("activation") is not None:
        return f"the product of {name} has an addend or an activation"
    for value in product.inputs[1:3]:
        if value is not None and editor.constant(value) is None:
            return f"{value.name} of {name} is not a constant"
    weight = product.inputs[1]
    return None if weight is not None and len(weight.shape) == 2 else _no_columns(name)


def scales_weights(parts: Sequence[Part]) -> bool:
    return len({part.alpha for part in parts}) > 1 or any(part.factor != 1.0 for part in parts)


def has_own_order(parts: Sequence[Part]) -> bool:
    """Whether one product has the columns of q, k and v one after another already."""
    columns = np.concatenate([part.columns for part in parts])
    product = parts[0].product
    is_one = all(part.product is product and part.factor == 1.0 for part in parts)
    return is_one and np.array_equal(columns, np.arange(product.output.shape[-1]))


def has_own_rows(part: Part) -> bool:
    """Whether (B, S) are the rows of a product as they are."""
    return View.of(part.a).reshaped(part.rows.shape) == part.rows


def columns_of(match: Match) -> list[Part] | str:
    """q, k and v as columns of products, or the reason why they are none."""
    editor, attention = match.editor, match["attention"]
    if attention.attribute("layout") == "qkv":
        return ""
    parts: list[Part] = []
    for name in NAMES:
        part = part_of(editor, attention, name)
        if isinstance(part, str):
            return part
        parts.append(part)
    return parts


def parts_of(match: Match) -> list[Part] | str:
    """The three parts, or the reason why they are none of one product."""
    editor, attention = match.editor, match["attention"]
    parts = columns_of(match)
    if isinstance(parts, str):
        return parts
    q, k, v = (value for value in attention.inputs[:3] if value is not None)
    shapes = [(part.rows.shape[:2], part.columns.size // part.heads) for part in parts]
    if len(set(shapes)) > 1 or k.shape != v.shape:
        return f"q {list(q.shape)}, k {list(k.shape)} and v {list(v.shape)} differ in shape"
    reason = _reason_of_nodes("turned", [part.rotary for part in parts])
    reason = reason or _reason_of_nodes("normed", [part.norm for part in parts])
    reason = reason or _reason_against_rotation(parts) or _reason_against_norm(editor, parts)
    return reason or _reason_against(editor, attention, parts) or parts


def _reason_of_nodes(what: str, nodes: list[Node | None]) -> str | None:
    """Why q, k and v are not all turned or normed as attention has it, or None."""
    q, k, v = (node is not None for node in nodes)
    if v:
        return f"values are {what} as well"
    return f"only one of queries and keys is {what}" if q != k else None


def _reason_against_rotation(parts: list[Part]) -> str | None:
    """Why q and k are not turned by one rotation, or None."""
    q, k, _ = (part.rotary for part in parts)
    if q is None or k is None:
        return None
    alike = {"layout", "n_heads"}
    settings = [
        {key: node.attribute(key) for key in OPS["rotary"].attributes if key not in alike}
        for node in (q, k)
    ]
    if q.inputs[1:] != k.inputs[1:] or settings[0] != settings[1]:
        return "q and k are turned by other angles"
    return "" if q.attribute("n_heads") or k.attribute("n_heads") else None


def _reason_against_norm(editor: Editor, parts: list[Part]) -> str | None:
    """Why the norms of q and k are not one call on both, or None."""
    q, k, _ = (part.norm for part in parts)
    if q is None or k is None:
        return None
    if q.attribute("eps") != k.attribute("eps"):
        return "the norms of q and k differ in eps"
    for name, part in zip(NAMES[:2], parts, strict=False):
        weight = None if part.norm is None else editor.constant(part.norm.inputs[1])
        if weight is None or weight.ndim > 1:
            return f"the weight of the norm of {name} is not a constant vector"
    if q.output.shape[-1] != k.output.shape[-1]:
        return "one norm is of all heads together, and q has other heads than k"
    return None


def _reason_against(editor: Editor, attention: Node, parts: list[Part]) -> str | None:
    if has_own_order(parts) and has_own_rows(parts[0]):
        return None
    first = deepest(editor, parts[0])
    for name, part in zip(NAMES, parts, strict=True):
        reason = reason_of(editor, part, name)
        if reason is not None:
            return reason
        if deepest(editor, part) != first:
            return f"{name} is not made from what q is made from"
    for product in {part.product for part in parts}:
        columns = np.concatenate([part.columns for part in parts if part.product is product])
        if np.unique(columns).size < columns.size:
            return "q, k and v share columns of a product"
    if scales_weights(parts):
        for name, part in zip(NAMES, parts, strict=True):
            if not _takes_factor(editor, part):
                return _no_factor(name)
    return reason_of_readers(editor, attention, parts)


def reason_of_readers(editor: Editor, attention: Node, parts: list[Part]) -> str | None:
    """Who else reads what the parts are made from, or None."""
    passed = {node for part in parts for node in (*part.passed, part.product)}
    for node in passed:
        reason = editor.other_readers(node.output, attention, *passed)
        if reason is not None:
            return reason
    return None


def _takes_factor(editor: Editor, part: Part) -> bool:
    """Whether the factor goes into the weight with all elements normal numbers."""
    if max(abs(part.alpha), abs(part.factor)) > 1.0:
        return False
    for value in part.product.inputs[1:3]:
        array = editor.constant(value)
        factor = part.factor if value is part.product.inputs[2] else part.factor * part.alpha
        if array is not None and factor != 1.0:
            scaled = np.abs(array * np.float32(factor))
            if np.any((scaled < _SMALLEST) & (array != 0)):
                return False
    return True
