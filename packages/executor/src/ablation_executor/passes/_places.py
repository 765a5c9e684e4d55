"""What the passes have left of each attention, rotation, norm, gate and linear layer of the graph.

A place is found by what is in the graph, not by which rule was refused: what a later pass took, or
a rule of another pattern, is no miss. The reason is asked of the rules as the graph is now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType

from ..ir import Graph, Node, Value
from ..ops import OPS, constant_values, scores_shape
from ..rewrite import Editor, Match, Place, refusals
from ._qkv_parts import columns_of
from ._rotation import FOLLOWED_OPS, LEAD
from ._views import movements_of, scaled_slot
from .fuse_gelu import find_chain
from .split_gates import find_parts

#: Nodes of a rotation that is written out, at most.
_MOST_OF_A_ROTATION = 16
_ACTIVATIONS = ("relu", "gelu", "silu", "sigmoid", "tanh", "bias_relu")
#: What stands between a mean and the rows that it scales.
_OF_A_MEAN = ("add", "mul", "div", "sqrt", "rsqrt", "matmul", "sum", "reshape", "pow", "sub")


class _Finder:
    """A graph with what its rules say of it."""

    def __init__(self, graph: Graph, modules: Sequence[ModuleType]) -> None:
        self.graph, self.editor = graph, Editor(graph)
        self.passes = [module.__name__.rpartition(".")[2] for module in modules]
        rules = [rule for module in modules for rule in getattr(module, "RULES", ())]
        self.owners = {
            rule.name: name
            for name, module in zip(self.passes, modules, strict=True)
            for rule in getattr(module, "RULES", ())
        }
        self.refused = refusals(graph, rules)
        self.constant = constant_values(graph)
        self.claimed: set[Node] = set()

    def reason(self, nodes: Iterable[Node], passes: Sequence[str], otherwise: str) -> str:
        """The first reason of these passes' rules at these nodes."""
        listed = list(nodes)
        for name in passes:
            for node in listed:
                for rule, reason in self.refused.get(node, ()):
                    if self.owners[rule] == name:
                        return f"{name}: {reason}"
        idle = [name for name in passes if name not in self.passes]
        return f"{idle[0]} did not run" if idle else otherwise and f"{passes[0]}: {otherwise}"

    def place(
        self, kind: str, node: Node, how: str, left: Iterable[Node] = (), reason: str = ""
    ) -> Place:
        """A place whose nodes no other one counts."""
        nodes = [part for part in dict.fromkeys(left) if part not in self.claimed]
        self.claimed.update(nodes)
        size = sum(part.output.nbytes for part in nodes)
        name = node.module_path or node.name
        return Place(kind, name, how, tuple(part.op for part in nodes), size, reason)

    def readers(self, value: Value) -> list[Node]:
        return self.editor.consumers.get(value, [])


# Attention ----------------------------------------------------------------------------------------


def _attention(finder: _Finder, node: Node) -> Place:
    editor = finder.editor
    chains = [movements_of(editor, value) for value in node.inputs[:3] if value is not None]
    copies = [step for chain in chains for step in chain if step.op != "reshape"]
    value = node.output
    while len(finder.readers(value)) == 1:
        (reader,) = finder.readers(value)
        if reader.op not in ("reshape", "permute"):
            break
        copies += [reader] if reader.op == "permute" else []
        value = reader.output
    apart = _products_apart(finder, node)
    passes = ("direct_layout", "merge_qkv") if copies else ("merge_qkv",)
    reason = finder.reason([node], passes, "no other order of axes needs fewer copies")
    return finder.place("attention", node, _how_attention(node), [*copies, *apart], reason)


def _products_apart(finder: _Finder, node: Node) -> list[Node]:
    """The products of k and v where one of the same rows could make them with q."""
    parts = columns_of(Match(finder.editor, {"attention": node}))
    q, k, v = node.inputs[:3]
    if isinstance(parts, str) or q is None or k is None or v is None or k.shape != v.shape:
        return []
    products = [part.product for part in parts]
    is_one_input = len({product.inputs[0] for product in products}) == 1
    are_weights = all(product.inputs[1] in finder.constant for product in products)
    is_missed = is_one_input and are_weights and len(set(products)) == 3
    return products[1:] if is_missed and q.shape[-1] == k.shape[-1] else []


def _how_attention(node: Node) -> str:
    said = [f"layout {node.attribute('layout')}"]
    said += [name for name in ("causal", "mask_is_causal") if node.attribute(name)]
    said += [f"window {node.attribute('window')}"] if node.attribute("window") else []
    if node.inputs[3] is not None:
        said.append("mask in the place of scores" if node.attribute("mask_replaces") else "mask")
    said += [f"soft cap {node.attribute('softcap'):g}"] if node.attribute("softcap") else []
    q, k = node.inputs[:2]
    assert q is not None
    axis = 2 if node.attribute("layout") == "bshd" else 1
    heads, own = scores_shape(node)[1], node.attribute("n_heads")
    if own or (k is not None and k.shape[axis] != heads):
        shared = (q.shape[2] - own) // 2 if k is None else k.shape[axis]
        said.append(f"{shared} heads of keys for {heads}")
    return ", ".join(said)


def _scores_of(finder: _Finder, softmax: Node) -> list[Node] | None:
    """The nodes from a softmax up to the product of two activations that it is taken of."""
    waiting, passed = [softmax], []
    while waiting:
        node = waiting.pop()
        passed.append(node)
        if node.op == "matmul":
            is_product = node.inputs[0] not in finder.constant and (
                node.inputs[1] not in finder.constant
            )
            return passed if is_product else None
        inner = [finder.editor.producer(value) for value in node.inputs]
        size = node.output.size
        waiting += [part for part in inner if part is not None and part.output.size == size]
        waiting = waiting[-1:]
    return None


def _unfused_attention(finder: _Finder, softmax: Node) -> Place | None:
    scores = _scores_of(finder, softmax)
    if scores is None:
        return None
    behind, value = [], softmax.output
    while readers := finder.readers(value):
        reader = next((node for node in readers if node.op == "matmul"), readers[0])
        if reader.op not in ("reshape", "matmul"):
            break
        behind.append(reader)
        value = reader.output
        if reader.op == "matmul":
            break
    names = [reader.op for reader in finder.readers(softmax.output)]
    otherwise = f"the softmax is read by {', '.join(names) or 'the output'}, not by a product"
    reason = finder.reason([*behind[::-1], softmax], ["fuse_attention"], otherwise)
    return finder.place("attention", softmax, "", [*scores[::-1], *behind], reason)


# Rotations ----------------------------------------------------------------------------------------


def _how_rotary(node: Node) -> str:
    turned, axis = node.attribute("n_heads"), 2 if node.attribute("layout") == "bshd" else 1
    heads = f", {turned} of {node.output.shape[axis]} heads" if turned else ""
    return f"rotary of {node.attribute('pairs')}{heads}"


def _unfused_rotary(finder: _Finder, end: Node) -> Place | None:
    """What a rotation that fuse_rotary refuses consists of, from its end upwards."""
    if all(finder.owners[rule] != "fuse_rotary" for rule, _ in finder.refused.get(end, ())):
        return None
    found, waiting = list[Node](), [end]
    while waiting and len(found) < _MOST_OF_A_ROTATION:
        node = waiting.pop(0)
        found.append(node)
        inner = [finder.editor.producer(value) for value in node.inputs]
        waiting += [
            part
            for part in inner
            if part is not None and part not in found + waiting and _is_of_rotation(part, end)
        ]
    reason = finder.reason([end], ["fuse_rotary"], "")
    return finder.place("rotation", end, "", found[::-1], reason)


def _is_of_rotation(node: Node, end: Node) -> bool:
    shape = node.output.shape
    return node.op in FOLLOWED_OPS and shape[:LEAD] == end.output.shape[:LEAD] and len(shape) > LEAD


# Norms and gates ----------------------------------------------------------------------------------


def _how_norm(node: Node) -> str:
    weight = node.inputs[1]
    assert weight is not None
    said = node.op if len(weight.shape) == 1 else f"{node.op}, {weight.shape[0]} weights at once"
    return f"{said}, addend" if node.op == "rms_norm" and node.inputs[2] is not None else said


def _unfused_norm(finder: _Finder, root: Node) -> Place | None:
    """What a norm that is written out consists of, around its reciprocal root."""
    waiting, found = [root], list[Node]()
    while waiting:
        node = waiting.pop()
        if node in found or node.op not in _OF_A_MEAN:
            continue
        found.append(node)
        if node.output.shape[-1:] == (1,):
            inner = [finder.editor.producer(value) for value in node.inputs]
            waiting += [part for part in inner if part is not None]
    if not any(node.op in ("matmul", "sum") for node in found):
        return None
    front, behind = found[::-1], list[Node]()
    value = root.output
    for _ in range(3):
        readers = finder.readers(value)
        if len(readers) != 1 or readers[0].op not in ("mul", "div", "add"):
            break
        behind.append(readers[0])
        value = readers[0].output
        if len(behind) > 1 and not any(part in finder.constant for part in readers[0].inputs):
            behind.pop()
            break
    passes = ("fuse_rms_norm", "fuse_layer_norm")
    nearest = "the nearest pattern is rms_norm, x * rsqrt(mean(x * x) + eps) * weight"
    if not behind and root not in finder.refused:
        return None
    reason = finder.reason([*behind[::-1], root], passes, nearest)
    return finder.place("norm", root, "", [*front, *behind], reason)


def _gate(finder: _Finder, node: Node) -> Place | None:
    """mul(activation(a), b) or silu_mul(a, b) of two activations of one shape."""
    a, b = node.inputs
    if a is None or b is None or a is b or a.shape != b.shape or {a, b} & finder.constant:
        return None
    how = "silu_mul" if node.op == "silu_mul" else ""
    parts = find_parts(Match(finder.editor, {"gated": node}))
    reason = finder.reason([node], ["split_gates"], "") if parts is not None else ""
    if parts is not None and reason:
        return finder.place("gate", node, how, parts[1], reason)
    if how:
        return finder.place("gate", node, how)
    for value in (a, b):
        inner = finder.editor.producer(value)
        if inner is not None and inner.op in _ACTIVATIONS:
            nearest = f"no pass joins {inner.op} and a product"
            reason = finder.reason([node], ["fuse_silu_mul"], nearest)
            return finder.place("gate", node, "", [inner, node], reason)
        if inner is not None and inner.op == "matmul" and inner.attribute("activation"):
            how = f"{inner.attribute('activation')} in the product's write"
            return finder.place("gate", node, how)
    return None


def _unfused_activation(finder: _Finder, core: Node) -> Place | None:
    """A GELU or SiLU that is written out, and that fuse_gelu refuses."""
    if all(finder.owners[rule] != "fuse_gelu" for rule, _ in finder.refused.get(core, ())):
        return None
    found = find_chain(Match(finder.editor, {"core": core}))
    reason = finder.reason([core], ["fuse_gelu"], "")
    return None if found is None else finder.place("activation", core, "", found[0].nodes, reason)


# Linear layers ------------------------------------------------------------------------------------


def _linear(finder: _Finder, node: Node) -> Place:
    said = [slot.name for slot, value in zip(OPS["matmul"].slots[2:], node.inputs[2:], strict=True)
            if value is not None]  # fmt: skip
    said += [node.attribute("activation")] if node.attribute("activation") else []
    said += [f"alpha {node.attribute('alpha'):g}"] if node.attribute("alpha") != 1.0 else []
    left: list[Node] = []
    moved = finder.editor.producer(node.inputs[1])
    left += [moved] if moved is not None and moved.op == "permute" else []
    value = node.output
    while len(finder.readers(value)) == 1 and value not in finder.graph.outputs:
        (reader,) = finder.readers(value)
        if not _is_epilogue(finder, reader, value):
            break
        left += [] if reader.op == "reshape" else [reader]
        value = reader.output
    passes = ["absorb_into_matmul"] if left[:1] == [moved] else []
    passes += ["fuse_matmul_add", "fuse_bias_relu", "fuse_activation", "absorb_into_matmul"]
    names = ", ".join(dict.fromkeys(part.op for part in left))
    reason = finder.reason(left, passes, f"no pass takes {names} into a product")
    return finder.place("linear", node, ", ".join(said) or "product alone", left, reason)


def _is_epilogue(finder: _Finder, node: Node, value: Value) -> bool:
    """Whether a product could do what a node does to its result."""
    if node in finder.claimed or node.output.shape[-1:] != value.shape[-1:]:
        return False
    if node.op == "reshape":
        readers = finder.readers(node.output)
        return len(readers) == 1 and readers[0].op == "add"
    if node.op == "add":
        return node.output.size == value.size
    return (
        node.op in ("relu", "gelu", "silu", "bias_relu")
        or scaled_slot(finder.editor, node) is not None
    )


def find_places(graph: Graph, modules: Sequence[ModuleType]) -> list[Place]:
    """What became of each place: attention, rotations from the last, norms, activations that are
    not fused, gates, linear layers.

    `modules` are the passes that have run.
    """
    finder = _Finder(graph, modules)
    found: list[Place | None] = []
    for node in graph.nodes:
        if node.op == "attention":
            found.append(_attention(finder, node))
        elif node.op == "softmax":
            found.append(_unfused_attention(finder, node))
    for node in graph.nodes[::-1]:
        if node.op == "rotary":
            found.append(finder.place("rotation", node, _how_rotary(node)))
        elif node not in finder.claimed:
            found.append(_unfused_rotary(finder, node))
    for node in graph.nodes:
        if node.op in ("layer_norm", "rms_norm"):
            found.append(finder.place("norm", node, _how_norm(node)))
        elif node.op in ("rsqrt", "sqrt"):
            found.append(_unfused_norm(finder, node))
    for node in graph.nodes:
        if node not in finder.claimed:
            found.append(_unfused_activation(finder, node))
    for node in graph.nodes:
        if node.op in ("mul", "silu_mul") and node not in finder.claimed:
            found.append(_gate(finder, node))
    for node in graph.nodes:
        is_linear = node.op == "matmul" and node.inputs[1] in finder.constant
        if is_linear and node.output not in finder.constant and node not in finder.claimed:
            found.append(_linear(finder, node))
    return [place for place in found if place is not None]
