"""Norms that are written out: x / sqrt(mean(x^2) + eps), in the spellings that are the same.

The mean is a product with a column of 1 / D, or a sum that is scaled; the square a product or a
power; the root rsqrt, sqrt or a power of 1/2 or -1/2, by which x is divided or multiplied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..ir import Node, Value
from ..rewrite import Editor
from ._written_out import behind_reshapes, is_same, made_by, only_reader, other_operand

#: The nodes of which a norm is looked for: its root.
ROOTS = "rsqrt|sqrt|pow"
#: The rounding of 1 / D, or of D, to float32, twice.
_ROUNDING = 2.0**-22


@dataclass(frozen=True)
class Norm:
    """`output` is the node that scales x, the weight that follows left aside."""

    x: Value
    eps: float
    output: Node


def row_mean(editor: Editor, value: Value | None) -> Value | None:
    """What a value is the mean of over the last axis, or None."""
    found = _scaled_sum(editor, value)
    if found is None:
        return None
    x, factor = found
    return x if abs(factor * x.shape[-1] - 1.0) <= _ROUNDING else None


def _scaled_sum(editor: Editor, value: Value | None) -> tuple[Value, float] | None:
    """(x, factor) where a value is factor * sum(x) over the last axis."""
    node = editor.producer(behind_reshapes(editor, value))
    if node is None or node.inputs[0] is None:
        return None
    if node.op == "sum":
        return node.inputs[0], 1.0
    if node.op == "matmul":
        return _product_with_column(editor, node)
    if node.op not in ("mul", "div"):
        return None
    slot = 0 if editor.scalar(node.inputs[1]) is not None else 1
    number, found = editor.scalar(node.inputs[1 - slot]), _scaled_sum(editor, node.inputs[slot])
    if number is None or found is None or (node.op == "div" and (slot == 1 or number == 0.0)):
        return None
    return found[0], found[1] * (number if node.op == "mul" else 1.0 / number)


def _product_with_column(editor: Editor, node: Node) -> tuple[Value, float] | None:
    """(x, factor) of a product with a column of one number."""
    x, column = node.inputs[0], editor.constant(node.inputs[1])
    if x is None or column is None or node.inputs[2:] != [None, None]:
        return None
    if node.attribute("transpose_b") or node.attribute("activation") is not None:
        return None
    if column.shape != (x.shape[-1], 1) or np.any(column != column[0, 0]):
        return None
    return x, float(column[0, 0]) * float(node.attribute("alpha"))


def centered(editor: Editor, value: Value | None) -> Value | None:
    """x where a value is x - mean(x)."""
    node = made_by(editor, value, "sub")
    if node is None or not is_same(editor, row_mean(editor, node.inputs[1]), node.inputs[0]):
        return None
    return node.inputs[0]


def squared(editor: Editor, root: Node) -> Value | None:
    """x where a root is taken of a sum of the squares of x, scaled or not."""
    found = _scaled_sum(editor, _mean_and_eps(editor, root.inputs[0])[0])
    return None if found is None else _square_of(editor, found[0])


def _square_of(editor: Editor, value: Value) -> Value | None:
    """x where a value is x * x or x to the power of 2."""
    node = made_by(editor, value, "mul|pow")
    if node is None:
        return None
    if node.op == "pow":
        return node.inputs[0] if editor.scalar(node.inputs[1]) == 2.0 else None
    return node.inputs[0] if is_same(editor, node.inputs[0], node.inputs[1]) else None


def _mean_and_eps(editor: Editor, value: Value | None) -> tuple[Value | None, float | None]:
    """The two terms under a root; an eps of None is no scalar constant."""
    total = made_by(editor, value, "add")
    if total is None:
        return value, 0.0
    for slot in (0, 1):
        number = editor.scalar(total.inputs[1 - slot])
        if number is not None:
            return total.inputs[slot], number
    slot = 0 if _scaled_sum(editor, total.inputs[0]) is not None else 1
    return total.inputs[slot], None


def _is_inverse(editor: Editor, root: Node) -> bool | None:
    """Whether a root is divided by already; None where the node takes no root."""
    if root.op != "pow":
        return root.op == "rsqrt"
    return {0.5: False, -0.5: True}.get(editor.scalar(root.inputs[1]) or math.nan)


def _inverse_root(editor: Editor, root: Node) -> tuple[Node, bool] | str:
    """The node of the root and whether it is inverted, a reciprocal behind it counted in."""
    inverted = _is_inverse(editor, root)
    if inverted is None:
        return ""
    reader = only_reader(editor, root.output)
    if inverted or reader is None:
        return root, inverted
    if reader.op == "div" and editor.scalar(reader.inputs[0]) == 1.0:
        return reader, True
    if reader.op == "add":
        return "eps is added to the root, not under it"
    if reader.op == "maximum":
        return "the root is clamped from below, which eps does not do"
    return root, False


def find_norm(editor: Editor, root: Node) -> Norm | str:
    """The norm that is made of a root, or the reason why there is none: "" where it is none."""
    squares, eps = _mean_and_eps(editor, root.inputs[0])
    if _scaled_sum(editor, squares) is None:
        return ""
    found = _inverse_root(editor, root)
    if isinstance(found, str):
        return found
    inverse, inverted = found
    mean = row_mean(editor, squares)
    if mean is None:
        return "what the root is taken of is not a mean over the elements of a row"
    x = _square_of(editor, mean)
    if x is None or inverse.output.shape != (*x.shape[:-1], 1):
        return ""
    if eps is None:
        return "eps is not a scalar constant"
    if not eps >= 0.0:
        return f"eps is {eps:g}, the kernels take a number of at least 0"
    output = editor.consumers.get(inverse.output, [root])[0]
    if output.op != ("mul" if inverted else "div") or output.inputs[0] is output.inputs[1]:
        return ""
    if output.op == "div" and output.inputs[0] is inverse.output:
        return ""
    reason = editor.other_readers(inverse.output, output)
    if reason is not None:
        return reason
    if not is_same(editor, other_operand(output, inverse.output), x):
        return f"the squares are those of {x.name}, which is not what is scaled"
    return Norm(x, eps, output)


def take_vector(editor: Editor, node: Node, op: str) -> tuple[Node, Value] | None:
    """The node behind `node` that alone reads it and adds or multiplies by a vector, with it."""
    reader = only_reader(editor, node.output)
    if reader is None or reader.op != op or reader.output.shape != node.output.shape:
        return None
    vector = other_operand(reader, node.output)
    is_vector = vector.shape == node.output.shape[-1:] and vector is not node.output
    return (reader, vector) if is_vector else None
