"""ONNX's own test cases of its nodes as torch modules, exported and run: right, or ExportError.

    python packages/executor/tests/onnx_nodes.py [--ops Attention Softmax] [--every 10]

`onnx.backend.test` has cases with inputs and expected outputs: a node, or the graph of primitive
nodes that defines it. `onnx_ops.py` has a torch call for each op type. A case becomes a module,
whose results are the expected ones in torch; it is exported, compiled with and without passes, and
run, with the results that torch has.
The command prints how many cases of each op are right, refused and skipped, with the reasons, and
every wrong result or other exception.
"""

from __future__ import annotations

import argparse
import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from onnx_ops import OPS, STATIC
from tally import Tally
from torch import Tensor, nn

TYPES = ("float32", "bool", "int64", "int32", "int16", "int8", "uint8")
DOMAINS = ("", "ai.onnx")


class Skipped(Exception):
    """Why a case is none for export."""


def attributes_of(node: Any) -> dict[str, Any]:
    """The attributes as Python values; tensors are arrays."""
    found = {}
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, onnx.TensorProto):
            value = numpy_helper.to_array(value)
        elif isinstance(value, bytes):
            value = value.decode()
        elif isinstance(value, onnx.GraphProto):
            raise Skipped("it has a subgraph")
        found[attribute.name] = list(value) if isinstance(value, tuple) else value
    return found


@dataclass
class Node:
    """A node of a graph: names of inputs and outputs, the torch call, and its keywords."""

    op: str
    inputs: list[str]
    outputs: list[str]
    call: Any
    keywords: dict[str, Any]

    @staticmethod
    def of(proto: Any) -> Node:
        if proto.domain not in DOMAINS or proto.op_type not in OPS:
            raise Skipped(f"{proto.op_type} has no torch call here")
        call, keywords = OPS[proto.op_type], attributes_of(proto)
        try:
            if "n" in inspect.signature(call).parameters:
                keywords["n"] = len(proto.output)
        except ValueError:  # a builtin of torch
            pass
        return Node(proto.op_type, list(proto.input), list(proto.output), call, keywords)

    def run(self, known: Mapping[str, Any]) -> list[Any]:
        """The outputs, from values by name: tensors, or arrays of what is static."""
        slots = STATIC.get(self.op, ())
        given = [
            None if not name
            else known[name] if slot in slots
            else torch.as_tensor(known[name])
            for slot, name in enumerate(self.inputs)
        ]  # fmt: skip
        result = self.call(*given, **self.keywords)
        return list(result) if isinstance(result, tuple | list) else [result]


class Graph(nn.Module):
    """A graph of ONNX as a module: its inputs by position, but for those that are static."""

    def __init__(self, proto: Any, inputs: Mapping[str, Any]) -> None:
        super().__init__()
        self.nodes = [Node.of(node) for node in proto.node]
        self.results = [value.name for value in proto.output]
        self.static: dict[str, Any] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in proto.initializer
        }
        needed = self._needed()
        self.static |= {name: value for name, value in inputs.items() if name in needed}
        self.given = [name for name in inputs if name not in self.static]
        self._compute_static(inputs)

    def _needed(self) -> set[str]:
        """What shapes, axes and sizes are computed from."""
        needed: set[str] = set()
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                needed.update(node.inputs if node.op not in ("Shape", "Size") else ())
            needed.update(
                name for slot, name in enumerate(node.inputs) if slot in STATIC.get(node.op, ())
            )
        return needed - {""}

    def _compute_static(self, inputs: Mapping[str, Any]) -> None:
        """Run once, keeping as arrays what depends on shapes and constants alone."""
        known = {**{name: torch.as_tensor(x) for name, x in inputs.items()}, **self.static}
        for node in self.nodes:
            results = node.run(known)
            known |= zip(node.outputs, results, strict=False)
            is_static = all(name in self.static for name in node.inputs if name)
            if is_static or node.op in ("Shape", "Size"):
                arrays = [x.detach().numpy() for x in results]
                self.static |= zip(node.outputs, arrays, strict=False)
                known |= zip(node.outputs, arrays, strict=False)

    def forward(self, *args: Tensor) -> tuple[Tensor, ...]:
        known: dict[str, Any] = {**self.static, **dict(zip(self.given, args, strict=True))}
        for node in self.nodes:
            if any(name not in self.static for name in node.outputs if name):
                known |= zip(node.outputs, node.run(known), strict=False)
        return tuple(torch.as_tensor(known[name]) for name in self.results if name)


def cases() -> list[Any]:
    """ONNX's cases of nodes, with random inputs of a fixed seed."""
    from onnx.backend.test.case.node import collect_testcases

    np.random.seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(collect_testcases(None))


def op_of(case: Any) -> str:
    """The op type that a case is of: that of its node, or what its graph defines."""
    nodes = case.model.graph.node
    if "_expanded" not in case.name and len(nodes) == 1:
        return str(nodes[0].op_type)
    return f"{case.name.removeprefix('test_').split('_')[0]} expanded"


def check(case: Any, tally: Tally) -> None:
    """Export, run and compare a case."""
    op = op_of(case)
    try:
        module, inputs, wanted = _module(case)
    except Skipped as why:
        tally.skipped[str(why)] += 1
        tally.skipped_ops.setdefault(str(why), set()).add(op)
        return
    except Exception as error:
        tally.wrong.append(f"{case.name}: its torch call raises {type(error).__name__}: {error}")
        return
    given = tuple(torch.as_tensor(inputs[name]).clone() for name in module.given)
    try:
        with torch.no_grad():
            eager = [x.numpy() for x in module(*given)]
    except Exception as error:
        tally.wrong.append(f"{case.name}: torch raises {type(error).__name__}: {error}")
        return
    if words := difference(eager, wanted, 1e-3):
        tally.wrong.append(f"{case.name}: torch's own result: {words}")
        return
    tally.check(
        op, case.name, module, given, _ranges(given), lambda got: difference(got, eager, 1e-4)
    )


def _module(case: Any) -> tuple[Graph, dict[str, Any], list[Any]]:
    """The module of a case, its inputs by name and the expected outputs."""
    graph = case.model.graph
    if not case.data_sets or not case.data_sets[0][0]:
        raise Skipped("it has no input")
    values, wanted = case.data_sets[0]
    if not all(isinstance(x, np.ndarray | np.generic) for x in (*values, *wanted)):
        raise Skipped("a sequence, an optional value or a scalar of Python")
    inputs = {value.name: np.asarray(x) for value, x in zip(graph.input, values, strict=True)}
    wanted = [np.asarray(x) for x in wanted]
    for x in (*inputs.values(), *wanted):
        if str(x.dtype) not in TYPES:
            raise Skipped(f"numbers of type {x.dtype}")
        if not x.size:
            raise Skipped("an empty array")
    try:
        module = Graph(graph, inputs).eval()
    except NotImplementedError as error:
        raise Skipped(f"no torch call: {error}") from None
    except RuntimeError as error:
        raise Skipped(f"torch itself refuses it: {str(error).splitlines()[0][:60]}") from None
    if not module.given:
        raise Skipped("all of its inputs are shapes, axes or sizes")
    return module, inputs, wanted


def _ranges(tensors: Sequence[Tensor]) -> dict[str, tuple[int, int]]:
    return {
        f"args_{index}": (int(tensor.min()), int(tensor.max()))
        for index, tensor in enumerate(tensors)
        if not tensor.is_floating_point() and tensor.dtype != torch.bool
    }


def difference(results: Sequence[Any], wanted: Sequence[Any], rtol: float) -> str:
    """How results differ; "" where they are right. ONNX allows 1e-3 of what it expects."""
    if len(results) != len(wanted):
        return f"{len(results)} results, expected {len(wanted)}"
    for got, want in zip(results, wanted, strict=True):
        if got.shape != want.shape or got.dtype != want.dtype:
            return f"{got.dtype}{got.shape}, expected {want.dtype}{want.shape}"
        if got.dtype != np.float32:
            if not np.array_equal(got, want):
                return f"{got}, expected {want}"
            continue
        finite = want[np.isfinite(want)]
        atol = max(1e-7, 2e-6 * float(np.abs(finite).max())) if finite.size else 1e-7
        if not np.allclose(got, want, rtol=rtol, atol=atol, equal_nan=True):
            return f"{got}, expected {want}"
    return ""


def run(chosen: Sequence[Any]) -> Tally:
    """Check cases."""
    tally = Tally()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in chosen:
            check(case, tally)
    return tally


def main() -> int:
    """Run what the command line asks for; 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ops", nargs="*", help="op types; default: all")
    parser.add_argument("--every", type=int, default=1, help="one case of so many")
    given = parser.parse_args()
    chosen = [case for case in cases() if not given.ops or op_of(case).split()[0] in given.ops]
    return run(chosen[:: given.every]).report()


if __name__ == "__main__":
    raise SystemExit(main())
