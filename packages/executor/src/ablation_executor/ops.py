"""The ops of the graph, one OpSpec each: slots, attributes, shape rule, reference, category.

All tensors are float32 and C-contiguous. The kernel table uses the same op names; `reshape` alone
has no kernel, since it only gives the same memory another shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import reference

if TYPE_CHECKING:
    from .ir import Graph, Node, Value

Shape = tuple[int, ...]
Shapes = Sequence[Any]
Attributes = Mapping[str, Any]

CATEGORIES = ("attention", "layer_norm", "linear", "element_wise", "movement")


@dataclass(frozen=True)
class Slot:
    """One input of an op."""

    name: str
    optional: bool = False


@dataclass(frozen=True)
class Attribute:
    """One typed setting of an op; `choices` limits it to the values listed."""

    kinds: tuple[type, ...]
    default: Any = None
    required: bool = False
    choices: tuple[Any, ...] | None = None


@dataclass(frozen=True)
class OpSpec:
    """All that the executor knows of an op."""

    name: str
    slots: tuple[Slot, ...]
    attributes: dict[str, Attribute]
    infer_shape: Callable[[Shapes, Attributes], Shape]
    reference: Callable[[Sequence[Any], Attributes], Any]
    category: str = "element_wise"
    is_alias: bool = False
    in_place_slots: tuple[int, ...] = ()

    def complete(self, given: Attributes) -> dict[str, Any]:
        """The attributes with defaults filled in; ValueError for an unknown or ill-typed one."""
        for key, setting in given.items():
            known = self.attributes.get(key)
            if known is None:
                accepted = ", ".join(self.attributes) or "none"
                raise ValueError(f"{self.name} has no attribute {key!r} (it has: {accepted})")
            if type(setting) not in known.kinds:
                kinds = " or ".join(kind.__name__ for kind in known.kinds)
                raise ValueError(f"{self.name}: {key} is {setting!r}, expected {kinds}")
            if known.choices is not None and setting not in known.choices:
                raise ValueError(f"{self.name}: {key} is {setting!r}, not in {known.choices}")
        for key, known in self.attributes.items():
            if known.required and key not in given:
                raise ValueError(f"{self.name} needs the attribute {key!r}")
        return {key: given.get(key, known.default) for key, known in self.attributes.items()}


def _matmul_shape(shapes: Shapes, attributes: Attributes) -> Shape:
    a, b, bias, addend = shapes
    if len(a) < 2 or len(b) < 2:
        raise ValueError(f"matmul needs two axes or more: a is {list(a)}, b is {list(b)}")
    rows, columns = (b[-1], b[-2]) if attributes["transpose_b"] else (b[-2], b[-1])
    if a[-1] != rows:
        raise ValueError(f"matmul: a is {list(a)} and b {list(b)}: K is {a[-1]} and {rows}")
    if len(b) > 2 and a[:-2] != b[:-2]:
        raise ValueError(f"matmul: batch axes differ: a is {list(a)}, b is {list(b)}")
    out = (*a[:-1], columns)
    if bias is not None and bias != (columns,):
        raise ValueError(f"matmul: bias is {list(bias)}, expected [{columns}]")
    if addend is not None and addend != out:
        raise ValueError(f"matmul: addend is {list(addend)}, expected {list(out)}")
    return out


def _permute_shape(shapes: Shapes, attributes: Attributes) -> Shape:
    x, perm = shapes[0], attributes["perm"]
    if sorted(perm) != list(range(len(x))):
        raise ValueError(f"permute: perm {perm} does not fit {list(x)}")
    return tuple(x[axis] for axis in perm)


def _slice_shape(shapes: Shapes, attributes: Attributes) -> Shape:
    x = shapes[0]
    axis, start, stop = attributes["axis"], attributes["start"], attributes["stop"]
    if not 0 <= axis < len(x):
        raise ValueError(f"slice: axis {axis} is not an axis of {list(x)}")
    if not 0 <= start < stop <= x[axis]:
        raise ValueError(f"slice: [{start}, {stop}) is empty or outside axis {axis} of {list(x)}")
    return (*x[:axis], stop - start, *x[axis + 1 :])


def _reshape_shape(shapes: Shapes, attributes: Attributes) -> Shape:
    shape: Shape = attributes["shape"]
    if math.prod(shape) != math.prod(shapes[0]):
        raise ValueError(f"reshape: {list(shapes[0])} and {list(shape)} differ in size")
    return shape


def _broadcast_shape(shapes: Shapes, attributes: Attributes) -> Shape:
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        listed = " and ".join(str(list(shape)) for shape in shapes)
        raise ValueError(f"shapes {listed} do not broadcast") from None


def _broadcasts_to(shape: Shape, target: Shape) -> bool:
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in pairs)


def _same_shape(shapes: Shapes, attributes: Attributes) -> Shape:
    return tuple(shapes[0])


def _last_axis_shape(shapes: Shapes, attributes: Attributes) -> Shape:
    x = shapes[0]
    if not x:
        raise ValueError("a scalar has no last axis")
    for vector in shapes[1:]:
        if vector != (x[-1],):
            raise ValueError(f"x is {list(x)}, so a vector of [{x[-1]}] is expected: {vector}")
    return tuple(x)


def _one_shape(shapes: Shapes, attributes: Attributes) -> Shape:
    a, b = shapes
    if a != b:
        raise ValueError(f"shapes {list(a)} and {list(b)} differ")
    return tuple(a)


def _rotary_shape(shapes: Shapes, attributes: Attributes) -> Shape:
    x, layout = shapes[0], attributes["layout"]
    if len(x) != 4 or x[3] % 2:
        axes = ", ".join(layout.upper())
        raise ValueError(f"rotary needs ({axes}) with an even D: {list(x)}")
    table = (x[layout.index("s")], x[3] // 2)
    for angles in shapes[1:]:
        if angles != table:
            raise ValueError(f"rotary: x is {list(x)}, so cos and sin are {list(table)}: {angles}")
    return tuple(x)


def _split_attention_shapes(shapes: Shapes, layout: str) -> tuple[Shape, Shape, Shape]:
    """The shapes of q, k and v in attention's `layout`, each with four axes."""
    q, k, v, _ = shapes
    if layout == "qkv":
        if k is not None or v is not None:
            raise ValueError("attention: layout is 'qkv', so q holds k and v: leave both out")
        if len(q) != 5 or q[2] != 3:
            raise ValueError(f"attention: layout is 'qkv', so q must be (B, S, 3, H, D): {list(q)}")
        one = (*q[:2], *q[3:])
        return one, one, one
    if k is None or v is None:
        raise ValueError(f"attention: layout is {layout!r}, so k and v must be given")
    if not len(q) == len(k) == len(v) == 4:
        axes = ", ".join(layout.upper())
        raise ValueError(f"attention needs ({axes}): {list(q)}, {list(k)}, {list(v)}")
    return q, k, v


def scores_shape(shapes: Shapes, layout: str) -> Shape:
    """(B, H, Sq, Sk) of an attention with these input shapes; ValueError where they do not fit."""
    q, k, v = _split_attention_shapes(shapes, layout)
    seq, heads = (2, 1) if layout == "bhsd" else (1, 2)
    if q[0] != k[0] or q[heads] != k[heads] or q[3] != k[3] or k != v:
        raise ValueError(f"attention: q {list(q)}, k {list(k)} and v {list(v)} do not fit")
    return q[0], q[heads], q[seq], k[seq]


def _attention_shape(shapes: Shapes, attributes: Attributes) -> Shape:
    layout, mask = attributes["layout"], shapes[3]
    scores = scores_shape(shapes, layout)
    if mask is not None and not _broadcasts_to(mask, scores):
        raise ValueError(f"attention: mask {list(mask)} does not broadcast to {list(scores)}")
    return tuple(_split_attention_shapes(shapes, layout)[0])


_AB = (Slot("a"), Slot("b"))
_X = (Slot("x"),)
_FLAG = Attribute((bool,), False)

_SPECS = (
    OpSpec(
        "matmul",
        (*_AB, Slot("bias", optional=True), Slot("addend", optional=True)),
        {
            "transpose_b": _FLAG,
            "alpha": Attribute((float,), 1.0),
            "activation": Attribute(
                (str, type(None)), None, choices=(None, "relu", "gelu", "gelu_tanh")
            ),
        },
        _matmul_shape,
        reference.matmul,
        category="linear",
        in_place_slots=(3,),
    ),
    OpSpec(
        "permute",
        _X,
        {"perm": Attribute((tuple,), required=True)},
        _permute_shape,
        reference.permute,
        category="movement",
    ),
    OpSpec(
        "slice",
        _X,
        {name: Attribute((int,), required=True) for name in ("axis", "start", "stop")},
        _slice_shape,
        reference.slice_,
        category="movement",
    ),
    OpSpec(
        "reshape",
        _X,
        {"shape": Attribute((tuple,), required=True)},
        _reshape_shape,
        reference.reshape,
        category="movement",
        is_alias=True,
    ),
    OpSpec("add", _AB, {}, _broadcast_shape, reference.add, in_place_slots=(0, 1)),
    OpSpec("sub", _AB, {}, _broadcast_shape, reference.sub, in_place_slots=(0, 1)),
    OpSpec("mul", _AB, {}, _broadcast_shape, reference.mul, in_place_slots=(0, 1)),
    OpSpec("div", _AB, {}, _broadcast_shape, reference.div, in_place_slots=(0, 1)),
    OpSpec("relu", _X, {}, _same_shape, reference.relu, in_place_slots=(0,)),
    OpSpec(
        "gelu",
        _X,
        {"approximate": Attribute((str,), "none", choices=("none", "tanh"))},
        _same_shape,
        reference.gelu,
        in_place_slots=(0,),
    ),
    OpSpec("silu", _X, {}, _same_shape, reference.silu, in_place_slots=(0,)),
    OpSpec("silu_mul", _AB, {}, _one_shape, reference.silu_mul, in_place_slots=(0, 1)),
    OpSpec("rsqrt", _X, {}, _same_shape, reference.rsqrt, in_place_slots=(0,)),
    OpSpec(
        "where",
        (Slot("condition"), Slot("x"), Slot("y")),
        {},
        _broadcast_shape,
        reference.where,
        in_place_slots=(1, 2),
    ),
    OpSpec(
        "bias_relu",
        (Slot("x"), Slot("bias")),
        {},
        _last_axis_shape,
        reference.bias_relu,
        in_place_slots=(0,),
    ),
    OpSpec(
        "softmax",
        _X,
        {},
        _last_axis_shape,
        reference.softmax,
        category="attention",
        in_place_slots=(0,),
    ),
    OpSpec(
        "layer_norm",
        (Slot("x"), Slot("weight"), Slot("bias")),
        {"eps": Attribute((float,), 1e-5)},
        _last_axis_shape,
        reference.layer_norm,
        category="layer_norm",
        in_place_slots=(0,),
    ),
    OpSpec(
        "rms_norm",
        (Slot("x"), Slot("weight")),
        {"eps": Attribute((float,), 1e-5)},
        _last_axis_shape,
        reference.rms_norm,
        category="layer_norm",
        in_place_slots=(0,),
    ),
    OpSpec(
        "rotary",
        (Slot("x"), Slot("cos"), Slot("sin")),
        {"layout": Attribute((str,), "bhsd", choices=("bhsd", "bshd"))},
        _rotary_shape,
        reference.rotary,
        in_place_slots=(0,),
    ),
    OpSpec(
        "attention",
        (Slot("q"), *(Slot(name, optional=True) for name in ("k", "v", "mask"))),
        {
            "scale": Attribute((float, type(None)), None),
            "causal": _FLAG,
            "tile_q": Attribute((int,), 0),
            "tile_k": Attribute((int,), 0),
            "layout": Attribute((str,), "bhsd", choices=("bhsd", "bshd", "qkv")),
            "mask_replaces": _FLAG,
            "mask_is_causal": _FLAG,
            "strict": _FLAG,
        },
        _attention_shape,
        reference.attention,
        category="attention",
    ),
)

OPS: dict[str, OpSpec] = {spec.name: spec for spec in _SPECS}


def constant_values(graph: Graph) -> set[Value]:
    """The values that do not depend on the graph's inputs: constants and what is made of them."""
    constant = set(graph.constants)
    for node in graph.nodes:
        if all(value is None or value in constant for value in node.inputs):
            constant.add(node.output)
    return constant


def categories(graph: Graph) -> dict[Node, str]:
    """The report category of every node; see `category`."""
    constant = constant_values(graph)
    result = {node: OPS[node.op].category for node in graph.nodes}
    for node in graph.nodes:
        a, b = (*node.inputs, None)[:2]
        if node.op == "matmul" and a not in constant and b not in constant:
            result[node] = "attention"
    anchors = {node for node, name in result.items() if name == "attention"}

    def passes_through(node: Node) -> bool:
        return node not in anchors and result[node] in ("element_wise", "movement")

    producers, consumers = graph.producers(), graph.consumers()
    below: set[Value] = set()  # values made from an anchor's output by pass-through nodes alone
    for node in graph.nodes:
        if node in anchors or (passes_through(node) and below & set(filter(None, node.inputs))):
            below.add(node.output)
    above: set[Value] = set()  # values that reach an anchor through pass-through nodes alone
    for value in reversed([node.output for node in graph.nodes]):
        for consumer in consumers.get(value, ()):
            if consumer in anchors or (passes_through(consumer) and consumer.output in above):
                above.add(value)
    for value in below & above:
        node = producers[value]
        if result[node] == "element_wise":
            result[node] = "attention"
    return result


def category(node: Node, graph: Graph) -> str:
    """The part of the breakdown that a node's time belongs to, one of CATEGORIES.

    `attention` is the attention op, softmax, products of two activations and the element-wise nodes
    between them; `linear` is a product with a constant; `movement` is permute and slice.
    """
    return categories(graph)[node]
