"""x * cos + cat(-x2, x1) * sin -> rotary(x, cos, sin), and what else turns pairs of a head.

x is (B, H, S, D) or (B, S, H, D). The pairs are halves, or neighbours as in a stack of
e * cos - o * sin and e * sin + o * cos; the rest of a head may be left as it is. `_rotation` finds
out what each element is made of, so that either order of halves, a sine with signs, slices,
concatenations and stacks all are one form. Tables that hold each angle twice are cut to (S, r / 2)
where they are constants whose halves are equal, or are computed of concat(a, a), as of positions
that are an input. One sweep over x instead of five to ten.

Values: exact for all; each product is rounded before the sum, and overflows as written.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..constants import frozen
from ..ir import Array, Graph, Node, Value
from ..rewrite import Editor, Match, RewriteLog, Rule, apply_rules, pattern
from ._rotation import FOLLOWED_OPS, LEAD, Follower, Table, is_table, repeats_half

#: Nodes between x and the end of a rotation.
_MOST_NODES = 32
_BY_BATCH = "the cosines and sines differ between the items of a batch"
_NO_PAIRS = "the elements are not turned in pairs of halves or neighbours, by a cosine and a sine"


@dataclass(frozen=True)
class _Rotation:
    """`straight` and `across` are the terms of each turned element: of itself, of its partner."""

    follower: Follower
    straight: Array
    across: Array
    pairs: str

    @property
    def seq_len(self) -> int:
        """The number of positions."""
        return self.follower.x.shape[self.follower.axis or 2]

    def columns(self) -> tuple[Array, Array]:
        """The elements that are the first and the second of their pair."""
        turned = np.arange(len(self.straight))
        if self.pairs == "halves":
            return turned[: len(turned) // 2], turned[len(turned) // 2 :]
        return turned[::2], turned[1::2]


def _origins(editor: Editor, end: Node) -> Iterator[Value]:
    """The values of end's shape that all of it is made of, tables left aside, nearest first."""
    places = {node: place for place, node in enumerate(editor.graph.nodes)}
    shape = end.output.shape
    open_values, count = {end.output}, 0
    while count < _MOST_NODES:
        makers = [editor.producers[value] for value in open_values if value in editor.producers]
        if not makers:
            return
        node = max(makers, key=places.__getitem__)
        if node.op not in FOLLOWED_OPS:
            return
        open_values.remove(node.output)
        count += 1
        for value in node.inputs:
            if value is None or value in editor.graph.constants:
                continue
            is_like_x = len(value.shape) > LEAD and value.shape[:LEAD] == shape[:LEAD]
            if is_like_x and not is_table(editor, value):
                open_values.add(value)
        if len(open_values) == 1:
            (x,) = open_values
            if x.shape == shape:
                yield x


def _take_apart(editor: Editor, end: Node) -> _Rotation | str:
    """The rotation that ends in a node, or why there is none: "" where nothing is turned."""
    reason = ""
    if len(end.output.shape) != LEAD + 1:
        return reason
    for x in _origins(editor, end):
        follower = Follower(editor, x)
        found = _turned(follower, end)
        if isinstance(found, _Rotation):
            return found
        reason = reason or found
    return reason


def _turned(follower: Follower, end: Node) -> _Rotation | str:
    """The rotation of the follower's value that ends in a node, or why there is none."""
    terms = follower.terms(end.output)
    if terms is None:
        return _BY_BATCH if follower.is_by_batch else ""
    return _pair_up(follower, terms)


def _pair_up(follower: Follower, terms: Array) -> _Rotation | str:
    """Find each element's partner in the terms that it is made of."""
    is_there = terms["place"] >= 0
    itself = is_there & (terms["place"] == np.arange(terms.shape[1]))
    count = is_there.sum(axis=0)
    turned = int(np.argmax(count == 1)) if np.any(count == 1) else len(count)
    if turned == 0:
        return ""
    if np.any(itself.sum(axis=0) != 1) or np.any(count[:turned] != 2):
        return _NO_PAIRS
    columns = np.arange(len(count))
    straight = terms[itself.argmax(axis=0), columns]
    across = terms[(is_there & ~itself).argmax(axis=0), columns][:turned]
    straight, rest = straight[:turned], straight[turned:]
    if np.any(count[turned:] != 1) or np.any(rest["table"] >= 0) or np.any(rest["sign"] != 1):
        return _NO_PAIRS
    if np.any(straight["table"] < 0) or np.any(across["table"] < 0):
        return _NO_PAIRS
    if np.any(np.abs(straight["sign"]) != 1) or np.any(np.abs(across["sign"]) != 1):
        return _NO_PAIRS
    index = np.arange(turned)
    for pairs, partner in (("interleaved", index ^ 1), ("halves", (index + turned // 2) % turned)):
        if turned % 2 == 0 and np.array_equal(across["place"], partner):
            return _Rotation(follower, straight, across, pairs)
    return _NO_PAIRS


def _factors(tables: list[Table], terms: Array) -> Array | None:
    """(positions, columns) of the terms' factors, where they are constants."""
    arrays = [tables[index].array for index in terms["table"]]
    known = [array for array in arrays if array is not None]
    if len(known) != len(arrays):
        return None
    rows = max(len(array) for array in known)
    columns = zip(known, terms["column"], terms["sign"], strict=True)
    return np.stack(
        [np.broadcast_to(array[:, at] * np.float32(sign), rows) for array, at, sign in columns],
        axis=1,
    )


@dataclass(frozen=True)
class _FirstHalf:
    """The first half of the rows of a table that is no constant."""

    value: Value


_Angles = Array | Value | _FirstHalf


def _value(rotation: _Rotation, terms: Array, others: Array) -> Value | _FirstHalf | None:
    """The table that is the factors of both members as it is, constant or not, or its half."""
    value, half = rotation.follower.tables[terms["table"][0]].value, len(terms)
    together = np.concatenate([terms, others])
    if np.any(together["table"] != terms["table"][0]) or np.any(together["sign"] != 1):
        return None
    columns, size = together["column"], rotation.seq_len
    if np.array_equal(columns, np.tile(np.arange(half), 2)):
        return value if value.shape == (size, half) else None
    is_twice = np.array_equal(columns, np.arange(2 * half)) and value.shape[-1] == 2 * half
    is_twice = is_twice and value.size == size * 2 * half
    return _FirstHalf(value) if is_twice and repeats_half(rotation.follower.editor, value) else None


def _angles(rotation: _Rotation) -> tuple[_Angles, _Angles] | str:
    """Cosines and sines of each pair, as constants or values, or the reason why there are none."""
    tables = rotation.follower.tables
    first, second = rotation.columns()
    straight, across = rotation.straight, rotation.across
    negated = across[first]
    negated["sign"] *= -1.0
    angles: list[_Angles] = []
    for name, one, other in (
        ("cosines", straight[first], straight[second]),
        ("sines", negated, across[second]),
    ):
        factors, others = _factors(tables, one), _factors(tables, other)
        value = _value(rotation, one, other)
        if value is not None:
            angles.append(value)
        elif factors is None or others is None or not np.array_equal(factors, others):
            return f"the {name} are no table of (S, r / 2), and not known to be one twice"
        else:
            angles.append(factors)
    return angles[0], angles[1]


def _check(match: Match) -> str | None:
    found = _take_apart(match.editor, match["end"])
    if isinstance(found, str):
        return found
    angles = _angles(found)
    return angles if isinstance(angles, str) else None


def _rows(editor: Editor, angles: _Angles, base: str, seq_len: int) -> Value:
    """A table (seq_len, columns); constants that are equal are one."""
    if isinstance(angles, Value):
        return angles
    if isinstance(angles, _FirstHalf):
        return _cut(editor, angles.value, seq_len)
    angles = np.broadcast_to(angles, (seq_len, angles.shape[1]))
    key = (base, angles.shape, angles.tobytes())
    if key not in editor.joined:
        array = np.array(angles, np.float32, order="C")
        editor.joined[key] = editor.add_constant(base, frozen(array))
    return editor.joined[key]


def _cut(editor: Editor, value: Value, seq_len: int) -> Value:
    """The first half of a table's rows, made once behind the table."""
    key = ("half", value)
    if key not in editor.joined:
        nodes = editor.graph.nodes
        place = nodes[nodes.index(editor.producers[value]) + 1]
        size = value.shape[-1]
        if value.shape != (seq_len, size):
            shape = {"shape": (seq_len, size)}
            value = editor.insert_before(place, "reshape", [value], shape)
        half = {"axis": 1, "start": 0, "stop": size // 2}
        editor.joined[key] = editor.insert_before(place, "slice", [value], half)
    return editor.joined[key]


def _rewrite(match: Match) -> None:
    editor, end = match.editor, match["end"]
    rotation = _take_apart(editor, end)
    assert not isinstance(rotation, str)
    angles = _angles(rotation)
    assert not isinstance(angles, str)
    follower = rotation.follower
    cos, sin = (
        _rows(editor, each, base, rotation.seq_len)
        for each, base in zip(angles, ("cos", "sin"), strict=True)
    )
    makers = [editor.producers[value] for value in end.inputs if value in editor.producers]
    layout = "bshd" if follower.axis == 1 else "bhsd"
    attributes = {"layout": layout, "pairs": rotation.pairs}
    editor.replace(end, "rotary", [follower.x, cos, sin], attributes)
    editor.drop_unread(makers)


# concat(rotary(x[..., :r], cos, sin), x[..., r:]) -> rotary(x, cos, sin)


def _check_part(match: Match) -> str | None:
    rotary, part, rest, joined = (match[name] for name in ("rotary", "part", "rest", "joined"))
    last = len(joined.output.shape) - 1
    if joined.attribute("axis") != last or any(value is not None for value in joined.inputs[2:]):
        return ""
    if part.inputs[0] is not rest.inputs[0] or part.inputs[0] is None:
        return ""
    size = part.inputs[0].shape[-1]
    places = [
        tuple(node.attribute(name) for name in ("axis", "start", "stop")) for node in (part, rest)
    ]
    turned = part.output.shape[-1]
    if places != [(last, 0, turned), (last, turned, size)]:
        return "what is turned is not the first part of a head, and what is left the rest"
    return "" if match.editor.other_readers(rotary.output, joined) else None


def _rewrite_part(match: Match) -> None:
    rotary = match["rotary"]
    inputs = [match["part"].inputs[0], *rotary.inputs[1:]]
    match.editor.replace(match["joined"], "rotary", inputs, rotary.attributes, like=rotary)


_TURNED = "concat|reshape|take|where"
_PART = pattern("part", "add|sub", {0: pattern("product", "mul")})

RULES = (
    Rule(
        "rotary",
        (
            # x * cos + turned(x) * sin
            *(
                pattern(
                    "end",
                    "add|sub",
                    {
                        slot: pattern("across", "mul", {inner: pattern("turned", _TURNED)}),
                        1 - slot: pattern("straight", "mul"),
                    },
                )
                for slot in (1, 0)
                for inner in (0, 1)
            ),
            # the two members of a pair joined, and a stack of them
            pattern("end", "concat", {0: _PART}),
            pattern("end", "reshape", {0: pattern("joined", "concat|where")}),
        ),
        _check,
        _rewrite,
    ),
    Rule(
        "rotary_of_part",
        (
            pattern(
                "joined",
                "concat",
                {
                    0: pattern("rotary", "rotary", {0: pattern("part", "slice")}),
                    1: pattern("rest", "slice"),
                },
            ),
        ),
        _check_part,
        _rewrite_part,
    ),
)


def fuse_rotary(graph: Graph, log: RewriteLog) -> Graph:
    """Join what a rotary embedding that is written out consists of."""
    return apply_rules(graph, "fuse_rotary", RULES, log)
