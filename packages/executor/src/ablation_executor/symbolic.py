"""A program of torch.export for any sizes -> the same program for the sizes of a call.

torch.export says for which sizes its program holds: the sizes of the inputs as expressions, a range
for each symbol, and every comparison of sizes that the module or PyTorch made on the way. All of
them are evaluated for the sizes of a call. Then the program is run on tensors without memory, so
that each node gets its sizes, and numbers made of sizes become constants.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import sympy
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from .signature import Captured
from .walker import Piece

Shape = tuple[int, ...]
# Conditions on several sizes that a text has.
SHOWN = 3


class NotCovered(Exception):
    """The program does not hold for the sizes, or nobody can say whether it does."""


class SymbolicCapture:
    """A captured module whose sizes are open where PyTorch found that they can be."""

    def __init__(self, captured: Captured) -> None:
        """`captured` comes of `capture(..., any_sizes=True)`."""
        self._captured = captured
        self._program = captured.program
        self._inputs = _input_tensors(captured.program)
        symbolic = [size for value in self._inputs for size in value.shape if not _is_fixed(size)]
        #: Whether any size is open.
        self.is_open = bool(symbolic)
        self._environment = symbolic[0].node.shape_env if symbolic else None

    def at(self, shapes: Sequence[Shape]) -> Captured:
        """The capture for the shapes of the inputs; NotCovered where it does not hold for them."""
        self._check(shapes)
        piece = _at(self._program, shapes)
        known = self._captured
        return Captured(piece, known.arguments, known.results, known.refusals)

    def accepted(self) -> str:
        """The shapes that it holds for, as text: `x [a, b, 64], a and b from 2`."""
        names: dict[Any, str] = {}
        letters = iter(string.ascii_lowercase)
        for size in (size for value in self._inputs for size in value.shape):
            for symbol in (
                [] if _is_fixed(size) else sorted(_expression(size).free_symbols, key=str)
            ):
                names[symbol] = names.get(symbol) or next(letters, str(symbol))
        renamed = {symbol: sympy.Symbol(name) for symbol, name in names.items()}

        def text(size: Any) -> str:
            return str(size if _is_fixed(size) else _expression(size).xreplace(renamed))

        shapes = ", ".join(
            f"{name} [{', '.join(map(text, value.shape))}]"
            for name, value in zip(self._tensor_names(), self._inputs, strict=True)
        )
        return "; ".join([shapes, *self._conditions(names, renamed)])

    def _conditions(self, names: Mapping[Any, str], renamed: Mapping[Any, Any]) -> list[str]:
        found = []
        for symbol, name in names.items():
            bounds = self._program.range_constraints.get(symbol)
            low = 0 if bounds is None else int(bounds.lower)
            has_end = bounds is not None and bounds.upper.is_Integer
            found.append(f"{name} {low} to {bounds.upper}" if has_end else f"{name} from {low}")
        # What compares one symbol with a number is in its range; the short ones say most.
        others = sorted(
            {
                str(expression.xreplace(renamed))
                for expression in self._guards()
                if len(expression.free_symbols) > 1 or expression.has(sympy.Function)
            },
            key=lambda text: (len(text), text),
        )
        more = [f"{len(others) - SHOWN} conditions more"] if len(others) > SHOWN else []
        return [*found, *others[:SHOWN], *more]

    def _tensor_names(self) -> Iterator[str]:
        nodes = _user_inputs(self._program)
        for node, name in zip(nodes, self._captured.arguments, strict=True):
            if isinstance(node.meta.get("val"), torch.Tensor):
                yield name

    # Whether it holds ---------------------------------------------------------------------------

    def _guards(self) -> list[Any]:
        """What was asked of sizes, each expression once, of symbols that inputs have."""
        if self._environment is None:
            return []
        found = (self._environment.replace(guard.expr) for guard in self._environment.guards)
        return [part for part in dict.fromkeys(found) if part != sympy.true]

    def _check(self, shapes: Sequence[Shape]) -> None:
        sizes: dict[Any, int] = {}
        for value, shape in zip(self._inputs, shapes, strict=True):
            if len(value.shape) != len(shape):
                raise NotCovered(f"{list(shape)} has {len(shape)} axes")
            for declared, size in zip(value.shape, shape, strict=True):
                if not _is_fixed(declared) and _expression(declared).is_Symbol:
                    sizes.setdefault(_expression(declared), size)
        for value, shape in zip(self._inputs, shapes, strict=True):
            for declared, size in zip(value.shape, shape, strict=True):
                found = declared if _is_fixed(declared) else _expression(declared).subs(sizes)
                if found != size:
                    raise NotCovered(f"{size} is not {declared}")
        for symbol, bounds in self._program.range_constraints.items():
            if symbol in sizes and not bounds.lower <= sizes[symbol] <= bounds.upper:
                raise NotCovered(f"{sizes[symbol]} is not in {bounds}")
        for expression in self._guards():
            if expression.subs(sizes) != sympy.true:
                raise NotCovered(f"{expression} does not hold")


def _expression(size: Any) -> Any:
    """An open size as an expression of symbols."""
    return size.node.expr


def _is_fixed(size: Any) -> bool:
    return isinstance(size, int) or _expression(size).is_number


def _user_inputs(program: Any) -> list[Any]:
    """The placeholders of arguments, constants and None too."""
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    specs = program.graph_signature.input_specs
    return [
        node
        for node, spec in zip(placeholders, specs, strict=True)
        if spec.kind.name == "USER_INPUT"
    ]


def _input_tensors(program: Any) -> list[torch.Tensor]:
    values = (node.meta.get("val") for node in _user_inputs(program))
    return [value for value in values if isinstance(value, torch.Tensor)]


# The program for fixed sizes ----------------------------------------------------------------------


def _at(program: Any, shapes: Sequence[Shape]) -> Piece:
    """The program with inputs of these shapes: numbers are constants, and each node has its sizes.

    NotCovered: a check of the program fails, or it has what only its own sizes tell.
    """
    graph = torch.fx.Graph()
    values: dict[torch.fx.Node, Any] = {}
    copies: dict[torch.fx.Node, torch.fx.Node] = {}
    given = dict(zip(_tensor_inputs(program), shapes, strict=True))

    def read(node: torch.fx.Node) -> Any:
        return copies.get(node, values.get(node))

    with torch.no_grad(), FakeTensorMode():
        for node in program.graph.nodes:
            if node.op == "get_attr":
                raise NotCovered(f"it has a body of its own: {node.target}")
            if node.op == "output":
                graph.output(torch.fx.map_arg(node.args[0], read))
                continue
            values[node] = _value(node, values, given)
            if node.op == "placeholder" or _has_tensor(values[node]):
                copies[node] = graph.node_copy(node, read)
                copies[node].meta = {**node.meta, "val": values[node]}
    module = torch.fx.GraphModule(program.graph_module, graph)
    return Piece(module, program.graph_signature, program.state_dict, program.constants)


def _tensor_inputs(program: Any) -> list[torch.fx.Node]:
    nodes = _user_inputs(program)
    return [node for node in nodes if isinstance(node.meta.get("val"), torch.Tensor)]


def _value(
    node: torch.fx.Node,
    values: Mapping[torch.fx.Node, Any],
    given: Mapping[torch.fx.Node, Shape],
) -> Any:
    """What a node gives for the sizes: tensors without memory, or numbers."""
    before = node.meta.get("val")
    if node in given:
        return torch.empty(given[node], dtype=before.dtype)
    if node.op == "placeholder":
        if not isinstance(before, torch.Tensor):
            return before
        return torch.empty_strided(before.shape, before.stride(), dtype=before.dtype)
    arguments, keywords = torch.fx.map_arg((node.args, node.kwargs), values.__getitem__)
    try:
        return node.target(*arguments, **keywords)
    except MemoryError:
        raise
    except Exception as error:  # a check that fails, or sizes that depend on values
        raise NotCovered(f"{node.target}: {type(error).__name__}: {error}") from error


def _has_tensor(value: Any) -> bool:
    parts = value if isinstance(value, list | tuple) else [value]
    return any(isinstance(part, torch.Tensor) for part in parts)
