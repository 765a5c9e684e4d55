"""The ops of the graph, one OpSpec each: slots, attributes, shape rule, reference, category.

All tensors are float32 and C-contiguous. The kernel table says slots, attributes with their
defaults, and shapes; a graph adds a reference and a category. `reshape` alone is not in that table,
since it only gives the same memory another shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import ablation_kernels
from ablation_kernels import AttributeInfo

from . import reference

if TYPE_CHECKING:
    from .ir import Graph, Node, Value

T = TypeVar("T")
Shape = tuple[int, ...]
Shapes = Sequence[Any]
Attributes = Mapping[str, Any]
Reference = Callable[[Sequence[Any], Attributes], Any]

CATEGORIES = ("attention", "layer_norm", "linear", "element_wise", "movement")


@dataclass(frozen=True)
class Slot:
    """One input of an op."""

    name: str
    optional: bool = False


@dataclass(frozen=True)
class OpSpec:
    """All that the executor knows of an op."""

    name: str
    slots: tuple[Slot, ...]
    attributes: Mapping[str, AttributeInfo]
    infer_shape: Callable[[Shapes, Attributes], Shape]
    reference: Reference
    category: str
    is_alias: bool = False
    in_place_slots: tuple[int, ...] = ()

    def complete(self, given: Attributes) -> dict[str, Any]:
        """The attributes with defaults filled in; ValueError for an unknown or ill-typed one."""
        for key, setting in given.items():
            known = self.attributes.get(key)
            if known is None:
                accepted = ", ".join(self.attributes) or "none"
                raise ValueError(f"{self.name} has no attribute {key!r} (it has: {accepted})")
            takes_none = known.default is None and not known.is_required
            if type(setting) is not known.type and not (setting is None and takes_none):
                kinds = known.type.__name__ + (" or None" if takes_none else "")
                raise ValueError(f"{self.name}: {key} is {setting!r}, expected {kinds}")
            if known.choices and setting not in known.choices:
                raise ValueError(f"{self.name}: {key} is {setting!r}, not in {known.choices}")
        for key, known in self.attributes.items():
            if known.is_required and key not in given:
                raise ValueError(f"{self.name} needs the attribute {key!r}")
        return {key: given.get(key, known.default) for key, known in self.attributes.items()}


def _in_kernel_shape(op: str, shapes: Shapes, attributes: Attributes) -> Shape:
    shape = ablation_kernels.infer_shape(op, shapes, dict(attributes))
    # The kernels take axes that count from the end; passes compare axes, so a graph has none.
    axes = (*attributes.get("perm", ()), attributes.get("axis", 0))
    if min(axes) < 0:
        raise ValueError(f"{op}: axis {min(axes)} counts from the end, expected one from 0 on")
    return shape


def _reshape_shape(shapes: Shapes, attributes: Attributes) -> Shape:
    shape: Shape = attributes["shape"]
    if math.prod(shape) != math.prod(shapes[0]):
        raise ValueError(f"reshape: {list(shapes[0])} and {list(shape)} differ in size")
    return shape


def scores_shape(node: Node) -> Shape:
    """(B, H, Sq, Sk) of an attention; H is that of q."""
    (q, k), layout = node.shapes[:2], node.attribute("layout")
    assert q is not None
    if layout == "qkv":
        return q[0], node.output.shape[2], q[1], q[1]
    assert k is not None
    seq, heads = (2, 1) if layout == "bhsd" else (1, 2)
    return q[0], q[heads], q[seq], k[seq]


def _kernel_op(name: str, category: str, in_numpy: Reference) -> OpSpec:
    """An op of the kernel table, which has its slots, attributes and shape rule."""
    info = ablation_kernels.ops()[name]
    return OpSpec(
        name,
        tuple(Slot(slot, slot in info.optional) for slot in info.slots),
        info.attributes,
        partial(_in_kernel_shape, name),
        in_numpy,
        category,
        in_place_slots=tuple(
            position for position, slot in enumerate(info.slots) if slot in info.in_place
        ),
    )


_SPECS = (
    _kernel_op("matmul", "linear", reference.matmul),
    _kernel_op("permute", "movement", reference.permute),
    _kernel_op("slice", "movement", reference.slice_),
    _kernel_op("take", "movement", reference.take),
    _kernel_op("concat", "movement", reference.concat),
    OpSpec(
        "reshape",
        (Slot("x"),),
        {"shape": AttributeInfo("shape", tuple, default=None, is_required=True, choices=())},
        _reshape_shape,
        reference.reshape,
        category="movement",
        is_alias=True,
    ),
    _kernel_op("add", "element_wise", reference.add),
    _kernel_op("sub", "element_wise", reference.sub),
    _kernel_op("mul", "element_wise", reference.mul),
    _kernel_op("div", "element_wise", reference.div),
    _kernel_op("maximum", "element_wise", reference.maximum),
    _kernel_op("minimum", "element_wise", reference.minimum),
    _kernel_op("pow", "element_wise", reference.pow_),
    _kernel_op("equal", "element_wise", reference.equal),
    _kernel_op("less", "element_wise", reference.less),
    _kernel_op("less_equal", "element_wise", reference.less_equal),
    _kernel_op("exp", "element_wise", reference.exp),
    _kernel_op("log", "element_wise", reference.log),
    _kernel_op("sqrt", "element_wise", reference.sqrt),
    _kernel_op("tanh", "element_wise", reference.tanh),
    _kernel_op("sigmoid", "element_wise", reference.sigmoid),
    _kernel_op("erf", "element_wise", reference.erf),
    _kernel_op("abs", "element_wise", reference.abs_),
    _kernel_op("sin", "element_wise", reference.sin),
    _kernel_op("cos", "element_wise", reference.cos),
    _kernel_op("relu", "element_wise", reference.relu),
    _kernel_op("gelu", "element_wise", reference.gelu),
    _kernel_op("silu", "element_wise", reference.silu),
    _kernel_op("silu_mul", "element_wise", reference.silu_mul),
    _kernel_op("rsqrt", "element_wise", reference.rsqrt),
    _kernel_op("where", "element_wise", reference.where),
    _kernel_op("bias_relu", "element_wise", reference.bias_relu),
    _kernel_op("sum", "element_wise", reference.sum_),
    _kernel_op("amax", "element_wise", reference.amax),
    _kernel_op("cumsum", "element_wise", reference.cumsum),
    _kernel_op("softmax", "attention", reference.softmax),
    _kernel_op("layer_norm", "layer_norm", reference.layer_norm),
    _kernel_op("rms_norm", "layer_norm", reference.rms_norm),
    _kernel_op("rotary", "element_wise", reference.rotary),
    _kernel_op("attention", "attention", reference.attention),
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
    producers = graph.producers()

    def sources(node: Node) -> list[Node]:
        return [producers[value] for value in node.inputs if value in producers]

    def passes(node: Node) -> bool:
        return result[node] in ("element_wise", "movement")

    for node in between(graph.nodes, sources, anchors, passes):
        if result[node] == "element_wise":
            result[node] = "attention"
    return result


def between(
    nodes: Sequence[T],
    sources: Callable[[T], Iterable[T]],
    anchors: Collection[T],
    passes: Callable[[T], bool],
) -> set[T]:
    """The nodes, in running order, that pass and lie between two anchors, with no node that does
    not pass before the one or behind the other. `sources` are the nodes that a node reads."""
    below: set[T] = set()  # nodes that an anchor reaches through nodes that pass
    for node in nodes:
        if node in anchors or (passes(node) and not below.isdisjoint(sources(node))):
            below.add(node)
    above: set[T] = set()  # nodes that reach an anchor through nodes that pass
    for node in reversed(nodes):
        if node in anchors or (node in above and passes(node)):
            above.update(sources(node))
    return {node for node in (below & above).difference(anchors) if passes(node)}


def category(node: Node, graph: Graph) -> str:
    """The part of the breakdown that a node's time belongs to, one of CATEGORIES.

    `attention` is the attention op, softmax, products of two activations and the element-wise nodes
    between them; `linear` is a product with a constant; `movement` is what copies elements alone:
    permute, slice, take and concat. Reductions are element-wise.
    """
    return categories(graph)[node]
