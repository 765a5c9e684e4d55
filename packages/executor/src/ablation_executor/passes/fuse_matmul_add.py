"""add(matmul(a, b), vector) -> matmul(a, b, bias); add(matmul(a, b), x) -> matmul(a, b, addend=x).

One sgemm with beta = 1 over an output that starts as the addend, instead of a product and a sweep.
A product can take both: its bias first, then a residual as its addend; of two products that are
added up with a residual, each takes one sum. A reshape in between goes behind the sum. Rows that
are moved behind a product and in front of it are moved in front alone, where fewer movements are
left: the (S, B, E) of torch.nn's layers, the flat rows of an addmm.

Values: exact for all; bias, addend and the addend of an addend may be added up before the product
is, and a row of a product depends on its own row of `a` alone.
"""

from __future__ import annotations

from ..ir import Graph, Node, Value
from ..rewrite import Match, RewriteLog, Rule, apply_rules, pattern
from ._movements import Movement, cheapest, cost_of, freed_by, steps_to
from ._views import Step, View, movements_of


def _added(match: Match) -> Node:
    """The operand of the sum that the product leads to: the product, or a reshape of it."""
    return match.nodes.get("reshape", match["product"])


def _other(match: Match) -> Value:
    add, added = match["add"], _added(match)
    other = add.inputs[1] if add.inputs[0] is added.output else add.inputs[0]
    assert other is not None
    return other


def _common_reason(match: Match) -> str | None:
    add, product, added = match["add"], match["product"], _added(match)
    if product.attribute("activation") is not None:
        return "the product already has an activation"
    if _other(match) is added.output:
        return ""
    reason = match.editor.other_readers(added.output, add)
    if reason is None and added is not product:
        reason = match.editor.other_readers(product.output, added)
    return reason


def _is_left_to_bias_relu(match: Match) -> bool:
    readers: list[Node] = match.editor.consumers.get(match["add"].output, [])
    is_output = match["add"].output in match.editor.graph.outputs
    return len(readers) == 1 and readers[0].op == "relu" and not is_output


def _is_vector(match: Match) -> bool:
    return _other(match).shape == _added(match).output.shape[-1:]


def _is_full(match: Match) -> bool:
    return _other(match).shape == _added(match).output.shape


def _replace(match: Match, bias: Value | None, addend: Value | None) -> None:
    """Give the product its new slots, and the reshape, if there is one, the sum's output."""
    editor, add, product, added = match.editor, match["add"], match["product"], _added(match)
    inputs = [*product.inputs[:2], bias, addend]
    if added is product:
        editor.replace(add, "matmul", inputs, product.attributes, like=product)
        return
    product.inputs = inputs
    # The sum's other operand may be made behind the product.
    editor.graph.nodes.remove(product)
    editor.graph.nodes.insert(editor.graph.nodes.index(add), product)
    editor.replace(add, "reshape", [product.output], added.attributes, like=added)


# add(matmul(a, b), vector (N,)) -> matmul(a, b, bias=vector)


def _check_bias(match: Match) -> str | None:
    if not _is_vector(match):
        return ""
    product = match["product"]
    if _added(match).output.shape[-1] != product.output.shape[-1]:
        return ""
    if product.inputs[2] is not None:
        return "the product already has a bias"
    if _is_left_to_bias_relu(match):
        return ""
    return _common_reason(match)


def _rewrite_bias(match: Match) -> None:
    _replace(match, _other(match), match["product"].inputs[3])


# add(matmul(a, b), x of the product's shape) -> matmul(a, b, addend=x)


def _other_branch(match: Match) -> Node | None:
    """The product that is the product's addend, if it can take one more and nobody else reads it.

    (a @ b + c @ d) + x -> a @ b + (c @ d + x), as of two branches of a residual.
    """
    product, editor = match["product"], match.editor
    branch = editor.producer(product.inputs[3])
    if branch is None or branch.op != "matmul" or _added(match) is not product:
        return None
    is_free = branch.inputs[3] is None and branch.attribute("activation") is None
    return branch if is_free and not editor.other_readers(branch.output, product) else None


def _check_addend(match: Match) -> str | None:
    product, other = match["product"], _other(match)
    if not _is_full(match):
        shape = list(_added(match).output.shape)
        return "" if _is_vector(match) else f"{other!r} has not the product's shape {shape}"
    if product.inputs[3] is not None and _other_branch(match) is None:
        return "the product already has an addend"
    if _is_left_to_bias_relu(match) and _is_vector(match):
        return ""
    return _common_reason(match)


def _rewrite_addend(match: Match) -> None:
    addend, product = _other(match), match["product"]
    if addend.shape != product.output.shape:
        shape = {"shape": product.output.shape}
        addend = match.editor.insert_before(match["add"], "reshape", [addend], shape)
    branch = _other_branch(match)
    if branch is not None:
        # x may be made behind the branch.
        nodes = match.editor.graph.nodes
        nodes.remove(branch)
        nodes.insert(nodes.index(match["add"]), branch)
        branch.inputs[3] = addend
        addend = branch.output
    _replace(match, product.inputs[2], addend)


# permute|reshape(matmul(permute|reshape(a), b)) -> matmul(permute|reshape(a), b)


def _rows_moved(match: Match) -> tuple[Node, list[Step]] | None:
    """The product that a movement ends at, and the steps on its rows; None if it is none."""
    editor, nodes = match.editor, movements_of(match.editor, match["movement"].output)
    product = editor.producer(nodes[-1].inputs[0])
    if product is None or product.op != "matmul" or product.inputs[3] is not None:
        return None
    a, b = product.inputs[:2]
    assert a is not None and b is not None
    if len(b.shape) != 2 or len(match["movement"].output.shape) < 2:
        return None
    if len(freed_by(editor, nodes, None)) < len(nodes):
        return None
    if editor.other_readers(product.output, nodes[-1]) is not None:
        return None
    steps: list[Step] = []
    for node in reversed(nodes):
        perm, shape = node.attributes.get("perm", ()), node.output.shape
        if node.op == "reshape" and shape[-1] == product.output.shape[-1]:
            steps.append(("reshape", {"shape": (*shape[:-1], a.shape[-1])}))
        elif node.op == "permute" and perm[-1] == len(perm) - 1:
            steps.append(("permute", {"perm": perm}))
        else:
            return None
    return product, steps


def _moved_in_front(match: Match) -> tuple[Node, Movement] | None:
    """The product, and the movement of `a` that takes the place of those on both sides."""
    moved = _rows_moved(match)
    if moved is None:
        return None
    product, steps = moved
    a, movement = product.inputs[0], match["movement"].output
    assert a is not None
    shape = (*movement.shape[:-1], a.shape[-1])
    found = cheapest(match.editor, a, product, shape, lambda view: view.after(steps))
    # What would be left behind the product, were nothing moved in front.
    view = View.of(product.output).after(
        [(node.op, node.attributes) for node in movements_of(match.editor, movement)[::-1]]
    )
    behind = None if view is None else steps_to(view, movement.shape)
    if found is None or behind is None:
        return None
    return (product, found) if found.gain < cost_of(op for op, _ in behind) else None


def _check_rows(match: Match) -> str | None:
    return "" if _moved_in_front(match) is None else None


def _rewrite_rows(match: Match) -> None:
    editor, movement, found = match.editor, match["movement"], _moved_in_front(match)
    assert found is not None
    product, moved = found
    behind = movements_of(editor, movement.output)
    inputs = [moved.emit(editor, movement), *product.inputs[1:]]
    editor.replace(movement, "matmul", inputs, product.attributes, like=product)
    editor.drop_unread(behind[1:] or [product])


# reshape(matmul(reshape(a), b)) -> reshape(matmul(a, b))


def _check_reshape(match: Match) -> str | None:
    product, inner, editor = match["product"], match["inner"], match.editor
    a, b = inner.inputs[0], product.inputs[1]
    assert a is not None and b is not None
    if len(b.shape) != 2 or product.inputs[3] is not None or len(a.shape) < 2:
        return ""
    if a.shape[-1] != inner.output.shape[-1]:
        return ""
    reason = editor.other_readers(inner.output, product)
    return "" if reason or editor.other_readers(product.output, match["reshape"]) else None


def _rewrite_reshape(match: Match) -> None:
    product, reshape, editor = match["product"], match["reshape"], match.editor
    inputs = [match["inner"].inputs[0], *product.inputs[1:]]
    moved = editor.insert_before(product, "matmul", inputs, product.attributes)
    editor.replace(reshape, "reshape", [moved], reshape.attributes, like=reshape)


_PRODUCT = pattern("product", "matmul")
_PATTERNS = (
    *(pattern("add", "add", {slot: _PRODUCT}) for slot in (0, 1)),
    *(
        pattern("add", "add", {slot: pattern("reshape", "reshape", {0: _PRODUCT})})
        for slot in (0, 1)
    ),
)

RULES = (
    Rule("add_to_bias", _PATTERNS, _check_bias, _rewrite_bias),
    Rule("add_to_addend", _PATTERNS, _check_addend, _rewrite_addend),
    Rule(
        "rows_before_product",
        (pattern("movement", "reshape|permute"),),
        _check_rows,
        _rewrite_rows,
    ),
    Rule(
        "reshape_behind_product",
        (
            pattern(
                "reshape",
                "reshape",
                {0: pattern("product", "matmul", {0: pattern("inner", "reshape")})},
            ),
        ),
        _check_reshape,
        _rewrite_reshape,
    ),
)


def fuse_matmul_add(graph: Graph, log: RewriteLog) -> Graph:
    """Give a product the bias and the residual that are added to it."""
    return apply_rules(graph, "fuse_matmul_add", RULES, log)
