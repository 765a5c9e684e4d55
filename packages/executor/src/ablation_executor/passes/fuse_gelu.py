"""0.5 x (1 + erf(x / sqrt 2)) -> gelu(x), its other forms likewise, and x sigmoid(x) -> silu(x).

Three to nine sweeps become one. What a chain of element-wise nodes computes of one value x is found
out by value, so that the order of factors, powers or products, and constants of more or fewer
digits make no difference: the chain has to agree in float64 with a function of _FUNCTIONS at x of
every size, within the rounding of its constants.

Values: exact for all. The chain is also run in float32 at numbers of every power of two, infinity
and NaN: what overflows there, or is NaN, has to be so in the function as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ..interpreter import run_node
from ..ir import Array, Graph, Node, Value
from ..ops import OPS
from ..rewrite import Editor, Match, RewriteLog, Rule, apply_rules, pattern

#: What a chain may be made into, as (op, attributes).
_FUNCTIONS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("silu", {}),
    ("gelu", {"approximate": "sigmoid"}),
    ("gelu", {"approximate": "tanh"}),
    ("gelu", {"approximate": "none"}),
)
_CHAIN_OPS = {"add", "sub", "mul", "div", "pow", "exp", "tanh", "sigmoid", "erf"}
#: Nodes of a chain, and of the way from its transcendental function to its end.
_MOST_NODES, _MOST_READERS = 16, 6
#: Errors beside x: of constants that are rounded to float32, and of float32 throughout.
_OF_CONSTANTS, _OF_FLOAT32 = 2.0**-21, 2.0**-18


@dataclass(frozen=True)
class _Chain:
    """The nodes that make the output of `end` of x alone, in running order."""

    x: Value
    nodes: tuple[Node, ...]

    @property
    def end(self) -> Node:
        return self.nodes[-1]


@cache
def _numbers() -> Array:
    """Numbers of every power of two of float32, those around 0 closer, NaN and infinity."""
    powers = np.ldexp([1.0, 1.37], np.arange(-149, 128)[:, None]).ravel()
    near = np.linspace(-13.0, 13.0, 521)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan]
    return np.concatenate([powers, -powers, near, special]).astype(np.float32)


@cache
def _values_of(index: int, dtype: str) -> Array:
    """A function of _FUNCTIONS at _numbers()."""
    op, attributes = _FUNCTIONS[index]
    spec = OPS[op]
    with np.errstate(all="ignore"):
        return np.asarray(spec.reference([_numbers().astype(dtype)], spec.complete(attributes)))


def _run(editor: Editor, chain: _Chain, dtype: str) -> Array:
    """What a chain computes of _numbers()."""
    known = {chain.x: _numbers().astype(dtype)}
    with np.errstate(all="ignore"):
        for node in chain.nodes:
            inputs = [_operand(editor, known, value, dtype) for value in node.inputs]
            known[node.output] = run_node(node, inputs)
    return known[chain.end.output]


def _operand(
    editor: Editor, known: Mapping[Value, Array], value: Value | None, dtype: str
) -> Array | None:
    if value is None or value in known:
        return None if value is None else known[value]
    return np.asarray(editor.scalar(value), dtype)


def _agrees(got: Array, want: Array, error: float) -> bool:
    """NaN and infinity in the same places, and numbers within `error` of x."""
    wide = want.astype(np.float64)
    with np.errstate(invalid="ignore"):
        is_near = np.abs(got - wide) <= error * np.abs(_numbers().astype(np.float64)) + 1e-44
    same = (got == wide) | (np.isnan(got) & np.isnan(wide))
    return bool(np.all(same | (is_near & np.isfinite(got) & np.isfinite(wide))))


def _function_of(editor: Editor, chain: _Chain) -> int | None:
    """Which of _FUNCTIONS a chain computes in float64."""
    values = _run(editor, chain, "float64")
    for index in range(len(_FUNCTIONS)):
        if _agrees(values, _values_of(index, "float64"), _OF_CONSTANTS):
            return index
    return None


def _ends(editor: Editor, node: Node) -> Iterator[Node]:
    """The nodes behind a node, as long as each has one reader."""
    for _ in range(_MOST_READERS):
        readers = editor.consumers.get(node.output, [])
        if len(readers) != 1 or readers[0].op not in _CHAIN_OPS:
            return
        node = readers[0]
        yield node


def _chains(editor: Editor, end: Node) -> Iterator[_Chain]:
    """The chains that end in a node: cut where a single value is left that is no scalar."""
    places = {node: place for place, node in enumerate(editor.graph.nodes)}
    nodes: dict[Node, None] = {}
    open_values = {end.output}
    while len(nodes) < _MOST_NODES:
        makers = [editor.producers[value] for value in open_values if value in editor.producers]
        if not makers:
            return
        node = max(makers, key=places.__getitem__)
        if node.op not in _CHAIN_OPS:
            return
        nodes[node] = None
        open_values.remove(node.output)
        inner = [value for value in node.inputs if value is not None]
        open_values |= {value for value in inner if editor.scalar(value) is None}
        if len(open_values) == 1:
            (x,) = open_values
            if x.shape == end.output.shape:
                yield _Chain(x, tuple(reversed(nodes)))


def find_chain(match: Match) -> tuple[_Chain, int] | None:
    """The chain around the core that computes one of _FUNCTIONS, and which."""
    editor, core = match.editor, match["core"]
    for end in _ends(editor, core):
        for chain in _chains(editor, end):
            index = _function_of(editor, chain) if core in chain.nodes else None
            if index is not None:
                return chain, index
    return None


def _check(match: Match) -> str | None:
    found = find_chain(match)
    if found is None:
        return ""
    chain, index = found
    if not _agrees(_run(match.editor, chain, "float32"), _values_of(index, "float32"), _OF_FLOAT32):
        return f"the chain overflows where {_FUNCTIONS[index][0]} does not"
    for node in chain.nodes[:-1]:
        reason = match.editor.other_readers(node.output, *chain.nodes)
        if reason is not None:
            return reason
    return None


def _rewrite(match: Match) -> None:
    found = find_chain(match)
    assert found is not None
    chain, index = found
    op, attributes = _FUNCTIONS[index]
    match.editor.replace(chain.end, op, [chain.x], attributes)
    match.editor.drop_unread(chain.nodes[:-1][::-1])


RULES = (Rule("gelu", (pattern("core", "tanh|erf|sigmoid|exp"),), _check, _rewrite),)


def fuse_gelu(graph: Graph, log: RewriteLog) -> Graph:
    """Join what a GELU or a SiLU that is written out consists of."""
    return apply_rules(graph, "fuse_gelu", RULES, log)
