"""What an example of a refused fusion is, and how its graph is put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..ir import Graph, GraphBuilder, Value
from ..passes import optimize
from ..rewrite import Place

B, H, S, D = 1, 2, 4, 8
WIDTH = H * D
SHAPE = (B, H, S, D)
SWAP = (0, 2, 1, 3)


class Builder(GraphBuilder):
    """Builds graphs of attentions and linear layers."""

    def weight(self, name: str, *shape: int) -> Value:
        """Add a constant of this shape, whose elements do not matter."""
        return self.constant(name, np.linspace(-1.0, 1.0, int(np.prod(shape))).reshape(shape))

    def inputs(self, names: str, *shape: int) -> list[Value]:
        """Add an input of this shape for each word."""
        return [self.input(name, shape) for name in names.split()]

    def heads(self) -> list[Value]:
        """Add q, k and v as inputs (B, H, S, D)."""
        return self.inputs("q k v", *SHAPE)

    def do(self, op: str, *operands: Value | float, **attributes: Any) -> Value:
        """Append a node, whose numbers become constants."""
        values = [x if isinstance(x, Value) else self.constant(f"{x:g}", x) for x in operands]
        return self.node(op, values, attributes)

    def scores(self, q: Value, k: Value) -> Value:
        """Append q @ k^T."""
        return self.node("matmul", [q, k], {"transpose_b": True}, name="scores")

    def attend(self, scores: Value, v: Value) -> Value:
        """Append softmax(scores) @ v."""
        return self.node("matmul", [self.do("softmax", scores), v], name="attended")

    def linear(self, x: Value, name: str, columns: int = WIDTH) -> Value:
        """Append x @ a constant."""
        weight = self.weight(f"{name}.weight", x.shape[-1], columns)
        return self.node("matmul", [x, weight], name=name, module_path=name)

    def split(self, x: Value) -> Value:
        """Append the heads (B, S, H, D) of some columns."""
        return self.do("reshape", x, shape=(*x.shape[:2], x.shape[-1] // D, D))

    def cut(self, x: Value, axis: int, start: int, stop: int) -> Value:
        """Append a slice."""
        return self.do("slice", x, axis=axis, start=start, stop=stop)

    def thirds(self, x: Value) -> list[Value]:
        """Append q, k and v as slices of the columns of one value."""
        return [self.cut(x, 2, i * WIDTH, (i + 1) * WIDTH) for i in range(3)]

    def attention(self, q: Value, k: Value, v: Value) -> Value:
        """Append an attention of heads (B, S, H, D)."""
        return self.node("attention", [q, k, v], {"layout": "bshd"}, name="attention")


#: Appends an example to a builder, and returns the outputs.
Build = Callable[[Builder], Value | Sequence[Value]]


@dataclass(frozen=True)
class RefusedFusion:
    """`what` is the part of a model, `pass_name` the pass that refuses, `change` the way out."""

    pass_name: str
    what: str
    change: str
    build: Build

    def run(self) -> tuple[Graph, Place]:
        """Return the graph as written, and the place that all passes leave in it.

        Raises:
            ValueError: the passes leave no such place, or several.
        """
        builder = Builder()
        outputs = self.build(builder)
        graph = builder.finish(*([outputs] if isinstance(outputs, Value) else outputs))
        _, log = optimize(graph)
        missed = [place for place in log.missed if place.reason.startswith(f"{self.pass_name}: ")]
        if len(missed) != 1:
            raise ValueError(f"{self.what}: {self.pass_name} refuses {len(missed)} places, not 1")
        return graph, missed[0]


class Examples(list[RefusedFusion]):
    """The examples of a file, in its order."""

    def add(self, pass_name: str, what: str, change: str) -> Callable[[Build], Build]:
        """Add a function as an example."""

        def added(build: Build) -> Build:
            self.append(RefusedFusion(pass_name, what, change, build))
            return build

        return added
