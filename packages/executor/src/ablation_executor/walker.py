"""The walk over an exported program, node by node: `aten.HANDLERS` maps ATen overloads to nodes.

What depends on parameters and buffers alone is evaluated by torch, in its own dtype. Only what
moves them and computes nothing becomes nodes, where the op set has it: a weight's transpose is a
permute at run time until `fold_constants`, and passes take it into the product that reads it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import aten_attention as _attention  # noqa: F401
from . import aten_convolution as _convolution  # noqa: F401
from . import aten_index as _index  # noqa: F401
from . import aten_movement as _movement  # noqa: F401
from . import aten_norm as _norm  # noqa: F401
from . import aten_pool as _pool  # noqa: F401
from . import aten_reduction as _reduction  # noqa: F401
from . import aten_write as _write  # noqa: F401
from .aten import HANDLERS, MOVING, ONE_TYPE, RANGES, Context
from .fx_nodes import dtype_name, leaves_of, mapped, module_path, source
from .input_ranges import InputRanges
from .integers import DTYPES, Integers, widest
from .ir import Graph, GraphBuilder, Result, Value
from .ranges import integer_results
from .refusal import ExportError, Refusal, error_of, unsupported
from .signature import Captured
from .tensors import Constant, Integer, Tensor, dtype_of, range_of
from .undetermined import ignores_values, why_undetermined


@dataclass(frozen=True)
class Piece:
    """An ATen graph with its weights, in the form of an exported program, which a walk reads.

    `graph_signature` has `input_specs` and `output_specs`, of placeholders and results in order.
    """

    graph_module: Any
    graph_signature: Any
    state_dict: Mapping[str, Any]
    constants: Mapping[str, Any] = field(default_factory=dict)

    @property
    def graph(self) -> Any:
        """The nodes, in running order."""
        return self.graph_module.graph


def _checked(program: Any, arrays: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arrays, if each has the shape and type of the parameter or buffer of its name."""
    tensors = {**program.state_dict, **program.constants}
    for name, array in arrays.items():
        if name not in tensors:
            raise ExportError(f"arrays has {name!r}, which is no parameter or buffer of the module")
        expected = tensors[name]
        if array.shape != tuple(expected.shape) or str(array.dtype) != str(expected.dtype)[6:]:
            raise ExportError(
                f"arrays has {name!r} as {array.dtype}{list(array.shape)}, the module as"
                f" {expected.dtype}{list(expected.shape)}"
            )
    return arrays


class Walker:
    """Walks an exported program once, keeping what each FX node has become.

    A call that is refused is noted, and stands for values of its shape, so that one walk finds
    all refusals.
    """

    def __init__(
        self,
        captured: Captured,
        ranges: Mapping[str, tuple[int, int]],
        arrays: Mapping[str, Any],
    ) -> None:
        self.program = captured.program
        self.captured = captured
        self.ranges = ranges
        self.context = Context(GraphBuilder(), _checked(self.program, arrays))
        self.environment: dict[Any, Any] = {}
        self.refusals: list[Refusal] = list(captured.refusals)
        self.causes: list[Exception] = []
        self.stand_ins: set[Value | Integer] = set()

    def walk(self) -> Graph:
        needed = self._needed()
        self._bind_inputs(needed)
        for node in self.program.graph.nodes:
            if node in needed and node.op == "call_function":
                self.environment[node] = self._call(node)
            elif node.op == "get_attr":  # the body of a control flow op
                body = operator.attrgetter(node.target)(self.program.graph_module)
                self.environment[node] = body
        outputs = self._outputs()
        if self.refusals:
            raise error_of(self.refusals) from next(iter(self.causes), None)
        return self.context.builder.finish(*outputs.values(), results=outputs)

    def _needed(self) -> set[Any]:
        """The nodes that a result depends on; a mere assertion about a tensor is none."""
        waiting = [node for node in self.program.graph.nodes if node.op == "output"]
        found = set(waiting)
        while waiting:
            new = set(waiting.pop().all_input_nodes) - found
            found |= new
            waiting += new
        return found

    def _bind_inputs(self, needed: set[Any]) -> None:
        placeholders = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        names = iter(self.captured.arguments)
        ranges = InputRanges(self.ranges, needed)
        for node, spec in zip(placeholders, self.program.graph_signature.input_specs, strict=True):
            kind = spec.kind.name
            if kind in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
                source = self.program.state_dict
                if spec.target not in source:
                    source = self.program.constants
                self.environment[node] = Constant(source[spec.target].detach(), spec.target)
            elif kind == "USER_INPUT":
                self.environment[node] = self._input(node, next(names), ranges)
            else:  # an object that only an op outside the op set can read
                self.environment[node] = spec
        ranges.check_all_used()

    def _input(self, node: Any, name: str, ranges: InputRanges) -> Any:
        """A tensor as an input of the graph; any other argument as it is."""
        meta = node.meta.get("val")
        if not hasattr(meta, "shape"):
            return meta
        if not all(isinstance(size, int) for size in meta.shape):
            raise ExportError(
                f"input {name!r} has the shape {list(meta.shape)}, and a graph's shapes are"
                " fixed: export without dynamic axes"
            )
        dtype = dtype_name(meta)
        if dtype == "float32":
            return self.context.builder.input(name, meta.shape)
        if dtype in DTYPES:
            integers = ranges.declared(node, name, dtype)
            value = self.context.builder.input(name, meta.shape, integers)
            return Integer(value, dtype, integers.range)
        accepted = f"torch.float32, {', '.join(DTYPES)}"
        reason = f"input {name!r} is a {meta.dtype} tensor, expected one of {accepted}"
        self._note(Refusal("", reason))
        return self._stand_in(node)

    def _outputs(self) -> dict[Result, Value]:
        (output,) = (node for node in self.program.graph.nodes if node.op == "output")
        specs = self.program.graph_signature.output_specs
        names = iter(self.captured.results)
        outputs: dict[Result, Value] = {}
        for node, spec in zip(output.args[0], specs, strict=True):
            if spec.kind.name != "USER_OUTPUT":
                self._note(Refusal("", _why_no_output(spec)))
                continue
            name, result = next(names), self._look_up(node)
            if isinstance(result, Constant) and result.refusal is not None:
                self._note(result.refusal)
            elif isinstance(result, Constant) and 0 in result.shape:
                self._note(Refusal("", f"result {name!r} has no element"))
            elif (dtype := dtype_of(result)) == "float32":
                outputs[Result(name)] = self.context.value(result)
            elif dtype in DTYPES:
                self._add_integers(outputs, name, dtype, result)
            elif result not in self.stand_ins:
                reason = f"result {name!r} is a torch.{dtype} tensor, expected torch.float32"
                self._note(Refusal("", reason))
        if not outputs and not self.refusals:
            raise ExportError("forward gives no tensor, and a graph has at least one output")
        return outputs

    def _add_integers(
        self, outputs: dict[Result, Value], name: str, dtype: str, result: Integer | Constant
    ) -> None:
        try:
            integers = Integers(dtype, range_of(result))
        except ValueError as error:
            self._note(Refusal("", f"result {name!r}: {error}"), error)
            return
        outputs[Result(name, integers)] = self.context.value(result)

    def _look_up(self, argument: Any) -> Any:
        import torch

        if isinstance(argument, torch.fx.Node):
            return self.environment[argument]
        return argument

    def _call(self, node: Any) -> Any:
        """What a node becomes; where it is refused, the refusal is noted and stood in for."""
        arguments = mapped(node.args, self._look_up)
        keywords = {key: mapped(part, self._look_up) for key, part in node.kwargs.items()}
        if node.target is operator.getitem:
            return arguments[0][arguments[1]]
        leaves = list(leaves_of([*arguments, *keywords.values()]))
        try:
            return self._compute(node, arguments, keywords, leaves)
        except MemoryError:
            raise
        except Exception as error:
            if not self._has_stand_in(leaves):
                self._note(self._refusal(node, _reason(error)), error)
            return self._stand_in(node)

    def _has_stand_in(self, leaves: list[Any]) -> bool:
        return any(leaf in self.stand_ins for leaf in leaves if isinstance(leaf, Value | Integer))

    def _compute(
        self, node: Any, arguments: Any, keywords: dict[str, Any], leaves: list[Any]
    ) -> Any:
        handler = HANDLERS.get(str(node.target))
        self.context.module_path = module_path(node)[0]
        reason = why_undetermined(node.target, arguments, keywords)
        if reason is not None:
            return self._unknown(node, self._refusal(node, reason))
        if ignores_values(node.target) and isinstance(arguments[0], Value | Integer):
            arguments = (_like(node.args[0]), *arguments[1:])
            leaves = list(leaves_of([*arguments, *keywords.values()]))
        if not any(isinstance(leaf, Value | Integer) for leaf in leaves):
            return self._evaluate(node, handler, arguments, keywords)
        for leaf in leaves:
            if isinstance(leaf, Constant) and leaf.refusal is not None:
                self._note(leaf.refusal)
                return self._stand_in(node)
        if handler is None:
            self._note(unsupported(str(node.target), HANDLERS, *module_path(node), source(node)))
            return self._stand_in(node)
        if str(node.target) in ONE_TYPE:
            _check_types(leaves)
        kinds = [dtype_name(meta) for meta in leaves_of(node.meta.get("val"))]
        found = integer_results(RANGES.get(str(node.target)), kinds, arguments, keywords)
        result = self._handle(node, handler, arguments, keywords)
        self._check_result(node, result)
        return self._typed(result, found, self._has_stand_in(leaves))

    def _handle(self, node: Any, handler: Any, arguments: Any, keywords: dict[str, Any]) -> Any:
        """What a handler makes of a call; it is told the type of the result."""
        before = self.context.result_dtype
        self.context.result_dtype = next(map(dtype_name, leaves_of(node.meta.get("val"))), "")
        try:
            return handler(self.context, *arguments, **keywords)
        finally:
            self.context.result_dtype = before

    def _typed(self, result: Any, found: list[Integers | None], is_stand_in: bool) -> Any:
        """A result with type and range, where it is of whole numbers."""
        kinds = iter(found)

        def make(value: Value) -> Value | Integer:
            kind = next(kinds)
            if kind is None:
                return value
            integer = Integer(value, kind.dtype, kind.range)
            self.stand_ins |= {integer} if is_stand_in else set()
            return integer

        return mapped(result, make)

    def _refusal(self, node: Any, reason: str) -> Refusal:
        return Refusal(str(node.target), reason, *module_path(node), source(node))

    def _note(self, refusal: Refusal, cause: Exception | None = None) -> None:
        if not any(refusal is known for known in self.refusals):
            self.refusals.append(refusal)
            self.causes += [cause] if cause is not None else []

    def _parts(self, node: Any, make: Callable[[Any], Any]) -> Any:
        """What `make` makes of each tensor that a node gives, in the node's own structure."""
        return mapped(node.meta.get("val"), make)

    def _stand_in(self, node: Any) -> Any:
        """Values of a refused node's shapes, for the walk to go on with.

        What only comes of a stand-in that is not float32 is no refusal of its own.
        """

        def make(meta: Any) -> Value | Integer:
            kind = dtype_name(meta)
            shape = tuple(getattr(meta, "shape", ()))
            if kind in DTYPES:
                part: Value | Integer = Integer(Value(node.name, shape), kind, widest(kind).range)
            else:
                part = Value(node.name, shape, kind)
            if kind != "float32":
                self.stand_ins.add(part)
            return part

        return self._parts(node, make)

    def _unknown(self, node: Any, refusal: Refusal) -> Any:
        """Constants whose values nobody knows: to read them is to be refused."""
        import torch

        def make(meta: Any) -> Constant:
            kind = getattr(meta, "dtype", torch.float32)
            tensor = torch.zeros(tuple(getattr(meta, "shape", ())), dtype=kind)
            return Constant(tensor, node.name, refusal=refusal)

        return self._parts(node, make)

    def _check_result(self, node: Any, result: Any) -> None:
        metas, values = list(leaves_of(node.meta.get("val"))), list(leaves_of(result))
        for meta, value in zip(metas, values, strict=True):
            if dtype_name(meta) not in ("float32", *DTYPES) or meta.device.type != "cpu":
                raise ValueError(
                    f"it gives {meta.dtype} on {meta.device}, expected torch.float32 on cpu"
                )
            if tuple(meta.shape) != value.shape:
                raise ValueError(f"it gives {list(meta.shape)}, the graph {list(value.shape)}")

    def _evaluate(self, node: Any, handler: Any, arguments: Any, keywords: dict[str, Any]) -> Any:
        """A node without activations: torch computes it; what only moves stays a node as well."""
        import torch

        def tensor(leaf: Any) -> Any:
            return leaf.tensor if isinstance(leaf, Constant) else leaf

        read = arguments[1:] if ignores_values(node.target) else arguments
        for leaf in leaves_of([*read, *keywords.values()]):
            if isinstance(leaf, Constant) and leaf.refusal is not None:
                return self._unknown(node, leaf.refusal)
        result = node.target(
            *mapped(arguments, tensor),
            **{key: mapped(part, tensor) for key, part in keywords.items()},
        )
        if isinstance(result, (list, tuple)):
            return type(result)(Constant(part, node.name) for part in result)
        if not isinstance(result, torch.Tensor):
            return result
        constant = Constant(result, node.name)
        if str(node.target) in MOVING and result.dtype == torch.float32:
            constant.express = lambda: self._handle(node, handler, arguments, keywords)
        return constant


def _like(node: Any) -> Constant:
    """A tensor of a node's shape and type, for a call that reads no more of it."""
    import torch

    meta = node.meta["val"]
    return Constant(torch.zeros(tuple(meta.shape), dtype=meta.dtype), node.name)


def _check_types(leaves: list[Any]) -> None:
    """PyTorch's own rule, which it does not apply in a capture; a mask may be bool besides."""
    for leaf in leaves:
        if isinstance(leaf, Tensor) and dtype_of(leaf) not in ("float32", "bool"):
            name = leaf.value.name if isinstance(leaf, Integer) else leaf.name
            raise ValueError(
                f"{name!r} is torch.{dtype_of(leaf)}, expected torch.float32: use .float()"
            )


def _why_no_output(spec: Any) -> str:
    return (
        f"forward writes to {spec.target or spec.arg.name!r} ({spec.kind.name}), and a graph"
        " changes nothing but its outputs: compute a new tensor instead"
    )


def _reason(error: Exception) -> str:
    """What went wrong in a call, with the error's type where it is no plain refusal."""
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return f"{kind}{str(error).strip()}"
