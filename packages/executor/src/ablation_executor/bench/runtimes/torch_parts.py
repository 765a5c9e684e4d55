"""The part of the breakdown that each node of a module traced by torch.fx belongs to, by its op."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import fx, nn

from ...ops import between

ATTENTION, NORM, LINEAR = "attention", "layer_norm", "linear"
ELEMENT_WISE, MOVEMENT = "element_wise", "movement"
# What depends on the operands and the neighbors.
_PRODUCT, _SOFTMAX = "product", "softmax"

# Ops by their names in PyTorch: as a function, a method or an operator, in place or not. ATen marks
# views, functions of single elements and most reductions; this has what it does not mark.
_BY_NAME = {
    name: category
    for category, names in {
        ATTENTION: "scaled_dot_product_attention",
        _SOFTMAX: "softmax",
        NORM: "layer_norm rms_norm group_norm batch_norm instance_norm local_response_norm",
        LINEAR: "linear bilinear conv1d conv2d conv3d conv_transpose1d conv_transpose2d"
        " conv_transpose3d",
        _PRODUCT: "matmul mm bmm mv dot inner outer einsum tensordot addmm addmv addbmm baddbmm",
        MOVEMENT: "getitem getattr cat concat concatenate stack hstack vstack clone copy repeat"
        " repeat_interleave tile gather index_select take take_along_dim flip roll pad embedding"
        " type type_as float double half bfloat16 int long short bool unfold fold pixel_shuffle"
        " pixel_unshuffle channel_shuffle",
        ELEMENT_WISE: "dropout alpha_dropout feature_dropout dropout1d dropout2d glu log_softmax"
        " logsumexp cumsum tril triu arange zeros ones full empty linspace eye tensor zeros_like"
        " ones_like full_like empty_like new_zeros new_ones new_full new_empty fill zero"
        " max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d",
    }.items()
    for name in names.split()
}
# Products whose first argument is added to them.
_WITH_ADDEND = ("addmm", "addmv", "addbmm", "baddbmm")
# What a norm that is written out has, and little else.
_STATISTICS = ("var", "std", "var_mean", "std_mean", "rsqrt", "sqrt", "norm", "normalize")
# Names of Python's operators that ATen has under another.
_OPERATORS = {
    "truediv": "div",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "invert": "bitwise_not",
    "and_": "bitwise_and",
    "or_": "bitwise_or",
    "xor": "bitwise_xor",
}
_MODULES: tuple[tuple[tuple[type[nn.Module], ...], str], ...] = (
    (
        (
            *(nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.LocalResponseNorm),
            nn.modules.batchnorm._NormBase,
        ),
        NORM,
    ),
    ((nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd), LINEAR),
    ((nn.Embedding, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.ChannelShuffle), MOVEMENT),
    ((nn.Softmax,), _SOFTMAX),
    ((nn.Identity, nn.modules.dropout._DropoutNd), ELEMENT_WISE),
)
# Functions of numbers, of one argument or of rows, but for attention and softmax.
_ELEMENT_WISE_FILES = ("torch.nn.modules.activation", "torch.nn.modules.pooling")
# What asks a tensor for a number, a type or the like.
_QUESTIONS = ("size", "dim", "numel", "stride", "ndimension", "is_floating_point", "get_device")
_ATTRIBUTES = ("shape", "ndim", "dtype", "device", "is_cuda", "requires_grad", "layout")


def op_name(node: fx.Node, module: nn.Module | None) -> str:
    """The name of a node's op: the class of a module, else that of the function or method."""
    if module is not None:
        return type(module).__name__
    if node.op == "call_method":
        return str(node.target)
    return str(getattr(node.target, "__name__", node.target))


def gives_no_tensor(node: fx.Node, others: Iterable[fx.Node]) -> bool:
    """Whether a node asks for a size or a type, or computes with what `others` have found."""
    known = set(others)
    if node.op == "call_method":
        return node.target in _QUESTIONS
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in _ATTRIBUTES
    home = getattr(node.target, "__module__", None)
    is_plain = home in ("_operator", "builtins", "math") or node.target is torch._assert
    return is_plain and bool(node.all_input_nodes) and known.issuperset(node.all_input_nodes)


def categories(graph: fx.Graph, root: nn.Module) -> dict[fx.Node, str] | None:
    """The part of every node of a module's graph that gives a tensor; None where one of them cannot
    be decided.

    `attention` is scaled_dot_product_attention, each product of two activations that a softmax
    joins to another one, that softmax, and the functions of elements between these. `layer_norm` is
    a norm by its op, or what computes in a module without parts whose class is named a norm.
    `linear` is a product with what does not depend on the inputs. A softmax apart is element-wise.
    """
    modules = dict(root.named_modules())
    constant = _constants(graph)
    found: dict[fx.Node, str] = {}
    numbers: set[fx.Node] = set()
    for node in graph.nodes:
        if gives_no_tensor(node, numbers):
            numbers.add(node)
        elif node.op in ("call_module", "call_method", "call_function"):
            category = _own_category(node, modules, constant)
            if category is None:
                return None
            found[node] = category
    return _with_attention(found)


def _own_category(
    node: fx.Node, modules: Mapping[str, nn.Module], constant: set[fx.Node]
) -> str | None:
    """The part of a node by itself; None where its op is not known."""
    module = modules[str(node.target)] if node.op == "call_module" else None
    category = _of_function(node) if module is None else _of_module(module)
    name = op_name(node, module).rstrip("_")
    if category == _PRODUCT:
        operands = node.all_input_nodes[1 if name in _WITH_ADDEND else 0 :]
        return LINEAR if constant.intersection(operands) else _PRODUCT
    if category == ELEMENT_WISE and module is None:
        if _is_in_norm(node, modules):
            return NORM
        return None if name in _STATISTICS and node not in constant else category
    return category


def _is_in_norm(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a node stands in the forward of a module that is a norm by the name of its class."""
    stack = node.meta.get("nn_module_stack") or {}
    inner = modules.get(next(reversed(stack.values()))[0]) if stack else None
    is_simple = inner is not None and next(inner.children(), None) is None
    return is_simple and "norm" in type(inner).__name__.lower()


def _of_module(module: nn.Module) -> str | None:
    for kinds, category in _MODULES:
        if isinstance(module, kinds):
            return category
    is_attention = isinstance(module, nn.MultiheadAttention)
    is_function = type(module).__module__ in _ELEMENT_WISE_FILES
    return ELEMENT_WISE if is_function and not is_attention else None


def _of_function(node: fx.Node) -> str | None:
    """The part of a function of PyTorch; None for one of anybody else's."""
    home = getattr(node.target, "__module__", None) if node.op == "call_function" else None
    if home is not None and home.split(".")[0] not in ("torch", "_operator", "builtins", "math"):
        return None
    name = _OPERATORS.get(op_name(node, None), op_name(node, None))
    for known in (name, name.rstrip("_")):
        category = _BY_NAME.get(known) or _marked(known)
        if category is not None:
            return category
    return None


def _marked(name: str) -> str | None:
    """What ATen says of an op of this name: a view, a function of elements, a reduction."""
    packet = getattr(torch.ops.aten, name, None)
    if packet is None:
        return None
    overloads = [getattr(packet, overload) for overload in packet.overloads()]
    tags = {tag for overload in overloads for tag in overload.tags}
    if torch.Tag.pointwise in tags or torch.Tag.reduction in tags:
        return ELEMENT_WISE
    return MOVEMENT if any(overload.is_view for overload in overloads) else None


def _constants(graph: fx.Graph) -> set[fx.Node]:
    """Parameters, buffers, and what is made of them and of numbers alone."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op not in ("placeholder", "output") and found.issuperset(node.all_input_nodes):
            found.add(node)
    return found


def _with_attention(found: dict[fx.Node, str]) -> dict[fx.Node, str] | None:
    """Tell the products and softmaxes of attention; None where a product is neither that nor by a
    constant."""

    def passes(node: fx.Node) -> bool:
        return found.get(node) in (ELEMENT_WISE, MOVEMENT)

    def sources(node: fx.Node) -> list[fx.Node]:
        return [source for source in node.all_input_nodes if source in found]

    nodes = list(found)
    products = {node for node, category in found.items() if category == _PRODUCT}
    softmaxes = {node for node, category in found.items() if category == _SOFTMAX}
    inner = between(nodes, sources, products, lambda node: passes(node) or node in softmaxes)
    joined = softmaxes & inner
    for product in products:
        if not _reaches(product, joined, passes):
            return None
    anchors = products | joined | {n for n, category in found.items() if category == ATTENTION}
    found |= dict.fromkeys(anchors, ATTENTION)
    found |= dict.fromkeys(softmaxes - joined, ELEMENT_WISE)
    inner = between(nodes, sources, anchors, passes)
    return found | {n: ATTENTION for n in inner if found[n] == ELEMENT_WISE}


def _reaches(start: fx.Node, ends: set[fx.Node], passes: Callable[[fx.Node], bool]) -> bool:
    """Whether a node is joined to one of `ends`, forward or backward, by nodes that pass."""
    return _leads(start, ends, passes, _users) or _leads(start, ends, passes, _sources)


def _leads(
    start: fx.Node,
    ends: set[fx.Node],
    passes: Callable[[fx.Node], bool],
    step: Callable[[fx.Node], list[fx.Node]],
) -> bool:
    waiting, seen = step(start), set[fx.Node]()
    while waiting:
        node = waiting.pop()
        if node in ends:
            return True
        if node not in seen and passes(node):
            seen.add(node)
            waiting += step(node)
    return False


def _users(node: fx.Node) -> list[fx.Node]:
    return list(node.users)


def _sources(node: fx.Node) -> list[fx.Node]:
    return list(node.all_input_nodes)
