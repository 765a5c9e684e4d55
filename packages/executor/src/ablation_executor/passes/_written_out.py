"""What passes ask of a graph to see through how something is written out."""

from __future__ import annotations

import numpy as np

from ..ir import Node, Value
from ..rewrite import Editor

#: Nodes between two values that are compared for being computed alike.
_DEPTH = 8


def made_by(editor: Editor, value: Value | None, ops: str) -> Node | None:
    """The node that makes a value, where it is one of some ops, separated by `|`."""
    node = editor.producer(value)
    return node if node is not None and node.op in ops.split("|") else None


def other_operand(node: Node, inner: Value) -> Value:
    """The operand of a two-input node that is not `inner`; `inner` where both are."""
    value = node.inputs[1] if node.inputs[0] is inner else node.inputs[0]
    assert value is not None
    return value


def only_reader(editor: Editor, value: Value) -> Node | None:
    """The node that alone reads a value which is no output of the graph."""
    readers: list[Node] = editor.consumers.get(value, [])
    is_output = any(value is output for output in editor.graph.outputs)
    return readers[0] if len(readers) == 1 and not is_output else None


def behind_reshapes(editor: Editor, value: Value | None) -> Value | None:
    """The value that reshapes gave other shapes."""
    while (node := made_by(editor, value, "reshape")) is not None:
        value = node.inputs[0]
    return value


def is_same(editor: Editor, a: Value | None, b: Value | None, depth: int = _DEPTH) -> bool:
    """Whether two values are one, or are computed alike from the same values."""
    if a is b:
        return True
    first, second = editor.constant(a), editor.constant(b)
    if first is not None and second is not None:
        return np.array_equal(first, second)
    one, other = editor.producer(a), editor.producer(b)
    if one is None or other is None or depth == 0:
        return False
    if one.op != other.op or one.attributes != other.attributes:
        return False
    pairs = zip(one.inputs, other.inputs, strict=True)
    return all(is_same(editor, x, y, depth - 1) for x, y in pairs)


def shared_constant(editor: Editor, base: str, shape: tuple[int, ...], number: float) -> Value:
    """A constant of one number; made once for all that a pass makes."""
    key = (base, shape, number)
    if key not in editor.joined:
        editor.joined[key] = editor.add_constant(base, np.full(shape, number))
    return editor.joined[key]
