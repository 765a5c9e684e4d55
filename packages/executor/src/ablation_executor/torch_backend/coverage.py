"""Which nodes of an ATen graph our export covers, and the graphs of the parts that it covers."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.export.graph_signature import (
    InputKind,
    InputSpec,
    OutputKind,
    OutputSpec,
    TensorArgument,
)

from ..fx_nodes import dtype_name, leaves_of
from ..integers import DTYPES
from ..ir import Graph, Value
from ..refusal import Refusal
from ..signature import Captured
from ..tensors import Integer
from ..walker import Piece, Walker

# A check of types and shapes that are fixed in a graph.
_FIXED = "aten._assert_tensor_metadata.default"


@dataclass(frozen=True)
class Signature:
    """What the placeholders and results of a piece are, as in an exported program."""

    input_specs: list[Any]
    output_specs: list[Any]


def piece_of(module: torch.fx.GraphModule, weights: Mapping[torch.fx.Node, torch.Tensor]) -> Piece:
    """A graph whose placeholders in `weights` are parameters, and the others inputs."""
    inputs, outputs = [], []
    for node in module.graph.nodes:
        argument = TensorArgument(node.name)
        if node.op == "placeholder" and node in weights:
            inputs.append(InputSpec(InputKind.PARAMETER, argument, node.name))
        elif node.op == "placeholder":
            inputs.append(InputSpec(InputKind.USER_INPUT, argument, None))
        elif node.op == "output":
            outputs = [OutputSpec(OutputKind.USER_OUTPUT, argument, None) for _ in node.args[0]]
    state = {node.name: tensor for node, tensor in weights.items()}
    return Piece(module, Signature(inputs, outputs), state)


def graph_of(piece: Piece, ranges: Mapping[str, tuple[int, int]]) -> Graph:
    """The graph of a piece whose nodes are all covered; ExportError where they are not.

    `ranges` has the range of integer inputs by name, which a program checks when it is called.
    """
    return Walker(_named(piece), ranges, {}).walk()


def _named(piece: Piece) -> Captured:
    """A piece with a name for each input and result."""
    signature = piece.graph_signature
    inputs = [spec.arg.name for spec in signature.input_specs if spec.target is None]
    return Captured(piece, inputs, [f"result_{n}" for n in range(len(signature.output_specs))])


@dataclass(frozen=True)
class Coverage:
    """`here`: nodes that export covers. `constant`: nodes that depend on weights alone. `reasons`:
    why PyTorch runs each of the others. Checks of what is fixed are in none. `ranges`: those of
    nodes and arguments of whole numbers."""

    here: frozenset[torch.fx.Node]
    constant: frozenset[torch.fx.Node]
    reasons: Mapping[torch.fx.Node, str]
    ranges: Mapping[torch.fx.Node, tuple[int, int]]


def coverage_of(
    module: torch.fx.GraphModule, weights: Mapping[torch.fx.Node, torch.Tensor]
) -> Coverage:
    """Walk a graph as export does, noting what becomes of each node."""
    return _Survey(piece_of(module, weights)).survey()


class _Survey(Walker):
    """A walk in which a node that is refused stands for a result that PyTorch computes."""

    def __init__(self, piece: Piece) -> None:
        super().__init__(_named(piece), {}, _stand_ins(piece.state_dict))
        self._stood_in: set[torch.fx.Node] = set()

    def survey(self) -> Coverage:
        self._bind_inputs(set(self.program.graph.nodes))
        here, constant, reasons = set(), set(), {}
        for node in self.program.graph.nodes:
            if node.op == "get_attr":
                self.environment[node] = operator.attrgetter(node.target)(self.program.graph_module)
            if node.op != "call_function" or str(node.target) == _FIXED:
                continue
            if node.is_impure(impure_random=False):
                self.environment[node] = self._stand_in(node)
                reasons[node] = "it has effects"
                continue
            count = len(self.refusals)
            result = self.environment[node] = self._call(node)
            if node.target is operator.getitem and node.args[0] in reasons:
                reasons[node] = reasons[node.args[0]]
            elif node in self._stood_in:
                noted = self.refusals[count:]
                reasons[node] = noted[0].reason if noted else "it reads a result of another type"
            elif _is_activation(result):
                here.add(node)
            else:
                constant.add(node)
        ranges = {
            node: (part.range.low, part.range.high)
            for node, part in self.environment.items()
            if isinstance(part, Integer)
        }
        return Coverage(frozenset(here), frozenset(constant), reasons, ranges)

    def _compute(
        self, node: Any, arguments: Any, keywords: dict[str, Any], leaves: list[Any]
    ) -> Any:
        if _is_activation(leaves):
            for part in node.all_input_nodes:
                if _is_activation(self.environment[part]):
                    _check_tensors(part)
            _check_tensors(node)
        return super()._compute(node, arguments, keywords, leaves)

    def _stand_in(self, node: Any) -> Any:
        self._stood_in.add(node)
        return super()._stand_in(node)

    def _unknown(self, node: Any, refusal: Refusal) -> Any:
        self._note(refusal)
        return self._stand_in(node)


def _is_activation(result: Any) -> bool:
    """Whether what a node has become depends on inputs."""
    return any(isinstance(leaf, Value | Integer) for leaf in leaves_of(result))


def _check_tensors(node: torch.fx.Node) -> None:
    """ValueError where a tensor that a node gives cannot be one of a graph's."""
    for tensor in results(node):
        if not all(isinstance(size, int) and size > 0 for size in tensor.shape):
            raise ValueError(f"a shape is {list(tensor.shape)}, expected sizes of at least 1")
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise ValueError(f"a tensor is {tensor.layout} on {tensor.device}, expected cpu")
        if dtype_name(tensor) not in ("float32", *DTYPES):
            raise ValueError(f"a tensor is {tensor.dtype}, expected torch.float32 or integers")


def _stand_ins(tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    """Arrays of zeros in the place of weights: their pages are never touched."""
    arrays = {}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.float32:
            arrays[name] = np.zeros(tuple(tensor.shape), np.float32)
            arrays[name].flags.writeable = False
    return arrays


def results(node: torch.fx.Node) -> Iterable[torch.Tensor]:
    """The tensors that a node gives."""
    return (leaf for leaf in leaves_of(node.meta.get("val")) if isinstance(leaf, torch.Tensor))
