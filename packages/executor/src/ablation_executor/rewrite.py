"""Rules and the matcher: a rule is a pattern, a check that may refuse with a reason, a rewrite.

A pattern is a small tree of ops. Where it fits, the check is asked. It returns None to go on, the
reason why not, or "" where the match is no near miss. The rewrite turns the pattern's root into the
new node in place, so that its output keeps its readers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .ir import Array, Graph, Node, Value
from .ops import OPS


@dataclass(frozen=True)
class Pattern:
    """A node of one of `ops`, called `name` in the match; `slots` are what its inputs come from."""

    name: str
    ops: tuple[str, ...]
    slots: Mapping[int, Pattern] = field(default_factory=dict)


def pattern(name: str, ops: str, slots: Mapping[int, Pattern] | None = None) -> Pattern:
    """A pattern for one op, or several separated by `|`."""
    return Pattern(name, tuple(ops.split("|")), slots or {})


@dataclass(frozen=True)
class RuleEntry:
    """What one rule did in one run of its pass; `refused` has (node name, reason)."""

    pass_name: str
    rule: str
    fired: int
    refused: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Place:
    """What became of one attention, rotation, norm, gate or linear layer of the final graph.

    `how` says what the call does at once, "" where there is none. `left` has the ops of the nodes
    that a pass would have taken away, `left_bytes` the size of what they write, `reason` the
    constraint that failed.
    """

    kind: str
    name: str
    how: str
    left: tuple[str, ...] = ()
    left_bytes: int = 0
    reason: str = ""

    @property
    def is_missed(self) -> bool:
        """Whether nodes are left that a pass would have taken away."""
        return bool(self.left)

    def __str__(self) -> str:
        return self.how if not self.is_missed else self._told("")

    def _told(self, each: str) -> str:
        counts = [f"{self.left.count(op)} {op}" for op in dict.fromkeys(self.left)]
        size = f"{self.left_bytes} bytes"
        if self.left_bytes >= 100_000:
            size = f"{self.left_bytes / 1e6:.3g} MB"
        how = self.how or "not fused"
        return f"{how}; left: {', '.join(counts)} ({size}{each}): {self.reason}"


#: Numbers of layers and of equal names, by which alone the places of a stack of layers differ.
_COUNTERS = re.compile(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)|(?<=[a-z])_\d+\b")


def _grouped(places: Sequence[Place]) -> list[str]:
    """A line for all places of which the same is to be said."""
    groups: dict[tuple[str, str], list[Place]] = {}
    for place in places:
        groups.setdefault((place.kind, _COUNTERS.sub("*", str(place))), []).append(place)
    lines = []
    for (kind, _), group in groups.items():
        first, count = group[0], len(group)
        names = ", ".join(dict.fromkeys(place.name for place in group[:2]))
        others = f" and {count - 2} more" if count > 2 else ""
        text = first._told(" each" if count > 1 else "") if first.is_missed else first.how
        lines.append(f"{kind} {names}{others}: {text}")
    return lines


@dataclass
class RewriteLog:
    """How often each rule fired, and what became of each place of the graph.

    `places` is set when all passes have run; before, `entries` has the refusals of each rule.
    """

    entries: list[RuleEntry] = field(default_factory=list)
    places: list[Place] | None = None

    @property
    def missed(self) -> list[Place]:
        """The places where something is left, the largest first."""
        missed = [place for place in self.places or [] if place.is_missed]
        return sorted(missed, key=lambda place: -place.left_bytes)

    def fired(self, name: str) -> int:
        """Return how often a rule fired, or all rules of a pass if no rule has the name."""
        return sum(entry.fired for entry in self._entries(name))

    def refused(self, name: str) -> list[tuple[str, str]]:
        """The (node name, reason) refusals of a rule, or of all the rules of a pass.

        They are what a rule saw as its pass ended; `missed` has what is left in the end.
        """
        return [refusal for entry in self._entries(name) for refusal in entry.refused]

    def _entries(self, name: str) -> list[RuleEntry]:
        rules = [entry for entry in self.entries if entry.rule == name]
        return rules or [entry for entry in self.entries if entry.pass_name == name]

    def __str__(self) -> str:
        lines = [
            f"{entry.pass_name}: {entry.rule} fired {entry.fired} times"
            for entry in self.entries
            if entry.fired
        ]
        if self.places is None:
            return "\n".join(
                [*lines, *(f"refused at {node}: {reason}" for node, reason in self._refused())]
            )
        fused = [place for place in self.places if not place.is_missed]
        return "\n".join([*lines, *_grouped(fused), *_grouped(self.missed)])

    def _refused(self) -> list[tuple[str, str]]:
        return [refusal for entry in self.entries for refusal in entry.refused]


class Match:
    """The nodes that a pattern was found at, by name, and the graph around them."""

    def __init__(self, editor: Editor, nodes: dict[str, Node]) -> None:
        self.editor = editor
        self.nodes = nodes

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]


@dataclass(frozen=True)
class Rule:
    """`patterns` are alternatives; `check` gives the reason to refuse a match, or None.

    A reason of "" refuses what is no near miss, and is not kept.
    """

    name: str
    patterns: tuple[Pattern, ...]
    check: Callable[[Match], str | None]
    rewrite: Callable[[Match], None]


class Editor:
    """A graph being rewritten, with its producers and consumers kept at hand."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        #: Constants made of others, by what they were made of.
        self.joined: dict[tuple[object, ...], Value] = {}
        #: What rules have found out of constants, which do not change.
        self.known: dict[tuple[object, ...], Any] = {}
        self.refresh()

    def refresh(self) -> None:
        """Recompute the index; call it after nodes have changed."""
        self.producers = self.graph.producers()
        self.consumers = self.graph.consumers()

    def producer(self, value: Value | None) -> Node | None:
        """The node that makes a value, None for inputs and constants."""
        return None if value is None else self.producers.get(value)

    def constant(self, value: Value | None) -> Array | None:
        """The array of a constant, else None."""
        return None if value is None else self.graph.constants.get(value)

    def scalar(self, value: Value | None) -> float | None:
        """The number in a constant with a single element, else None."""
        array = self.constant(value)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def other_readers(self, value: Value, *readers: Node) -> str | None:
        """The reason why `value` is not read by `readers` alone, or None when it is."""
        names = [node.name for node in self.consumers.get(value, ()) if node not in readers]
        if any(value is output for output in self.graph.outputs):
            names.append("the graph's output")
        return f"{value.name} is also read by {', '.join(names)}" if names else None

    def replace(
        self,
        node: Node,
        op: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any],
        *,
        like: Node | None = None,
    ) -> None:
        """Turn a node into another in place; `like` lends its name and module path."""
        node.op, node.inputs, node.attributes = op, list(inputs), dict(attributes)
        if like is None:
            name = f"{node.module_path}.{op}" if node.module_path else op
            node.name = node.output.name = self.graph.unique_name(name)
        else:
            node.module_path = like.module_path
            node.name, like.name = like.name, node.name
            node.output.name, like.output.name = like.output.name, node.output.name

    def insert_before(
        self, place: Node, op: str, inputs: Sequence[Value | None], attributes: Mapping[str, Any]
    ) -> Value:
        """Add a node before another one and return its output."""
        name = self.graph.unique_name(f"{place.module_path}.{op}" if place.module_path else op)
        shapes = [None if value is None else value.shape for value in inputs]
        spec = OPS[op]
        output = Value(name, spec.infer_shape(shapes, spec.complete(attributes)))
        node = Node(name, op, list(inputs), output, dict(attributes), place.module_path)
        self.graph.nodes.insert(self.graph.nodes.index(place), node)
        return output

    def put_behind(
        self,
        node: Node,
        op: str,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, Any],
        last: tuple[str, Mapping[str, Any]],
    ) -> Value:
        """node -> last(op(inputs)), where the new node takes the name of the old one.

        Returns the new node's output.
        """
        output, name = self.insert_before(node, op, inputs, attributes), node.name
        made = next(other for other in self.graph.nodes if other.output is output)
        self.replace(node, last[0], [output], last[1])
        made.name = output.name = name
        return output

    def add_constant(self, base: str, array: Any) -> Value:
        """Add a float32 constant."""
        data = np.asarray(array, dtype=np.float32, order="C")
        value = Value(self.graph.unique_name(base), data.shape)
        self.graph.constants[value] = data
        return value

    def drop_unread_constants(self) -> None:
        """Let go of the constants that nobody reads."""
        graph = self.graph
        read = {value for node in graph.nodes for value in node.inputs} | {*graph.outputs}
        for value in [value for value in graph.constants if value not in read]:
            del graph.constants[value]

    def drop_unread(self, candidates: Sequence[Node]) -> None:
        """Remove those of the candidates that nobody reads any more, and what only they read."""
        waiting = list(candidates)
        while waiting:
            node = waiting.pop()
            if node not in self.graph.nodes or node.output in self.graph.outputs:
                continue
            if any(node.output in other.inputs for other in self.graph.nodes):
                continue
            self.graph.nodes.remove(node)
            waiting += [
                self.producers[value] for value in node.inputs if value in self.producers and value
            ]


def _find(editor: Editor, wanted: Pattern, node: Node | None) -> dict[str, Node] | None:
    if node is None or node.op not in wanted.ops:
        return None
    found = {wanted.name: node}
    for slot, inner in wanted.slots.items():
        below = _find(editor, inner, editor.producer(node.inputs[slot]))
        if below is None:
            return None
        found |= below
    return found


def _try_rule(editor: Editor, rule: Rule, node: Node) -> tuple[bool, list[str]]:
    """Whether the rule fired at this node, and the reasons of the matches it refused."""
    reasons = []
    for alternative in rule.patterns:
        found = _find(editor, alternative, node)
        if found is None:
            continue
        match = Match(editor, found)
        reason = rule.check(match)
        if reason is not None:
            reasons += [reason] if reason else []
            continue
        rule.rewrite(match)
        editor.drop_unread([matched for matched in found.values() if matched is not node])
        editor.refresh()
        return True, []
    return False, reasons


def refusals(graph: Graph, rules: Sequence[Rule]) -> dict[Node, list[tuple[str, str]]]:
    """The (rule, reason) of each match that is refused in a graph as it is, by its root."""
    editor = Editor(graph)
    found: dict[Node, list[tuple[str, str]]] = {}
    for node in graph.nodes:
        for rule in rules:
            for alternative in rule.patterns:
                nodes = _find(editor, alternative, node)
                reason = None if nodes is None else rule.check(Match(editor, nodes))
                if reason:
                    found.setdefault(node, []).append((rule.name, reason))
    return found


def apply_rules(graph: Graph, pass_name: str, rules: Sequence[Rule], log: RewriteLog) -> Graph:
    """A rewritten copy of the graph: every rule at every node, until none fires any more.

    Constants that nobody reads are let go where a rule has fired.
    Adds one entry per rule to the log; the refusals are those that remain at the end.
    """
    editor = Editor(graph.copy())
    fired = dict.fromkeys((rule.name for rule in rules), 0)
    refused: dict[str, list[tuple[str, str]]] = {}
    changed = True
    while changed:
        changed = False
        refused = {rule.name: [] for rule in rules}
        for node in list(editor.graph.nodes):
            for rule in rules:
                if node not in editor.graph.nodes:
                    break
                done, reasons = _try_rule(editor, rule, node)
                fired[rule.name] += done
                changed = changed or done
                refused[rule.name] += [(node.name, reason) for reason in reasons]
    if any(fired.values()):
        editor.drop_unread_constants()
    for rule in rules:
        log.entries.append(
            RuleEntry(pass_name, rule.name, fired[rule.name], tuple(refused[rule.name]))
        )
    return editor.graph
