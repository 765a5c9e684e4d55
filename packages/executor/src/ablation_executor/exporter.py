"""torch.nn.Module -> Graph of primitives, mechanically: `aten.HANDLERS` maps ATen overloads.

The module is captured by torch.export, made functional, and walked node by node. What depends on
parameters and buffers alone is evaluated by torch, in its own dtype. Only what moves them and
computes nothing becomes nodes, where the op set has it: a weight's transpose is a permute at run
time until `fold_constants`, and passes take it into the product that reads it.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from . import aten_language_model as _language_model  # noqa: F401
from . import aten_movement as _movement  # noqa: F401
from .aten import HANDLERS, MOVING, ONE_TYPE, Constant, Context
from .capture import capture, is_in_torch
from .ir import Graph, GraphBuilder, Value
from .refusal import ExportError, Refusal, UnsupportedOpError, error_of, near_names
from .undetermined import ignores_values, why_undetermined

if TYPE_CHECKING:
    import torch

__all__ = ["ExportError", "UnsupportedOpError", "export", "supported_ops"]


def supported_ops() -> list[str]:
    """The ATen overloads that `export` accepts, sorted."""
    return sorted(HANDLERS)


def export(
    module: torch.nn.Module, args: tuple[Any, ...], *, arrays: Mapping[str, Any] | None = None
) -> Graph:
    """Turn a module in eval mode into a graph of primitive ops, for the shapes of `args`.

    `args` are the positional arguments of forward. Their tensors, also those in lists, tuples and
    dicts, are the graph's inputs, in their order: dense float32 CPU tensors. Every other argument
    is a constant of the graph. The graph's outputs are the tensors of the result, in their order.
    The graph keeps a copy of the parameters and buffers, one of tied weights: it is the model as it
    is now. `arrays` has NumPy arrays of the same elements by the names of parameters; the graph
    takes one without a copy if it is read-only and owns its memory.

    TypeError: `module` is no torch.nn.Module, or `args` no tuple. ExportError: training mode, an
    input or result that is not float32, an op outside the op set (UnsupportedOpError) or with
    arguments that it lacks, random numbers and uninitialized memory that reach a result, and state
    that forward changes. The error lists all refused calls, each with its op, module and line.
    """
    return _Walker(capture(module, args), arrays).walk()


def _module_path(node: Any) -> tuple[str, str]:
    """The path and class name of the innermost module that made an FX node."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", ""
    path, kind = stack[-1]
    kind = kind if isinstance(kind, str) else kind.__name__
    return str(path).removeprefix("L['self']").removeprefix("."), kind.rsplit(".", 1)[-1]


def _source(node: Any) -> str:
    """file:line of the last line outside PyTorch that led to an FX node, "" where unknown."""
    import torch

    lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    return next(
        (f"{file}:{line}" for file, line in reversed(lines) if not is_in_torch(file, torch)), ""
    )


def _map(argument: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to the leaves of nested lists and tuples."""
    if isinstance(argument, (list, tuple)):
        return type(argument)(_map(part, function) for part in argument)
    return function(argument)


def _leaves(argument: Any) -> Iterator[Any]:
    if isinstance(argument, (list, tuple)):
        for part in argument:
            yield from _leaves(part)
    else:
        yield argument


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


class _Walker:
    """Walks an exported program once, keeping what each FX node has become.

    A call that is refused is noted, and stands for values of its shape, so that one walk finds
    all refusals.
    """

    def __init__(self, program: Any, arrays: Mapping[str, Any] | None) -> None:
        self.program = program
        self.context = Context(GraphBuilder(), _checked(program, arrays or {}))
        self.environment: dict[Any, Any] = {}
        self.refusals: list[Refusal] = []
        self.causes: list[Exception] = []
        self.stand_ins: set[Value] = set()

    def walk(self) -> Graph:
        self._bind_inputs()
        needed = self._needed()
        for node in self.program.graph.nodes:
            if node in needed and node.op == "call_function":
                self.environment[node] = self._call(node)
            elif node.op == "get_attr":  # the body of a control flow op
                body = operator.attrgetter(node.target)(self.program.graph_module)
                self.environment[node] = body
        outputs = self._outputs()
        if self.refusals:
            raise error_of(self.refusals) from next(iter(self.causes), None)
        return self.context.builder.finish(*outputs)

    def _needed(self) -> set[Any]:
        """The nodes that a result depends on; a mere assertion about a tensor is none."""
        waiting = [node for node in self.program.graph.nodes if node.op == "output"]
        found = set(waiting)
        while waiting:
            new = set(waiting.pop().all_input_nodes) - found
            found |= new
            waiting += new
        return found

    def _bind_inputs(self) -> None:
        placeholders = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        for node, spec in zip(placeholders, self.program.graph_signature.input_specs, strict=True):
            kind = spec.kind.name
            if kind in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
                source = self.program.state_dict
                if spec.target not in source:
                    source = self.program.constants
                self.environment[node] = Constant(source[spec.target].detach(), spec.target)
            elif kind == "USER_INPUT" and hasattr(node.meta.get("val"), "shape"):
                shape = node.meta["val"].shape
                if not all(isinstance(size, int) for size in shape):
                    raise ExportError(
                        f"input {node.name!r} has the shape {list(shape)}, and a graph's shapes are"
                        " fixed: export without dynamic axes"
                    )
                self.environment[node] = self.context.builder.input(node.name, shape)
            else:  # a plain argument, or an object that only an op outside the op set can read
                self.environment[node] = node.meta.get("val") if kind == "USER_INPUT" else spec

    def _outputs(self) -> list[Value]:
        (output,) = (node for node in self.program.graph.nodes if node.op == "output")
        specs = self.program.graph_signature.output_specs
        values = []
        for position, (node, spec) in enumerate(zip(output.args[0], specs, strict=True)):
            if spec.kind.name != "USER_OUTPUT":
                raise ExportError(
                    f"forward writes to {spec.target or spec.arg.name!r} ({spec.kind.name}), and a"
                    " graph changes nothing but its outputs: compute a new tensor instead"
                )
            result = self._look_up(node)
            if isinstance(result, Constant) and result.refusal is not None:
                self._note(result.refusal)
            elif isinstance(result, Constant) and str(result.tensor.dtype) != "torch.float32":
                raise ExportError(
                    f"result {position} is a {result.tensor.dtype} tensor, expected torch.float32"
                )
            elif isinstance(result, (Value, Constant)):
                values.append(self.context.value(result))
            else:
                raise ExportError(
                    f"result {position} of forward is {result!r}, expected a tensor: wrap the"
                    " module in one that returns tensors alone"
                )
        return values

    def _look_up(self, argument: Any) -> Any:
        import torch

        if isinstance(argument, torch.fx.Node):
            return self.environment[argument]
        return argument

    def _call(self, node: Any) -> Any:
        """What a node becomes; where it is refused, the refusal is noted and stood in for."""
        arguments = _map(node.args, self._look_up)
        keywords = {key: _map(part, self._look_up) for key, part in node.kwargs.items()}
        if node.target is operator.getitem:
            return arguments[0][arguments[1]]
        leaves = list(_leaves([*arguments, *keywords.values()]))
        try:
            return self._compute(node, arguments, keywords, leaves)
        except MemoryError:
            raise
        except Exception as error:
            if not any(leaf in self.stand_ins for leaf in leaves if isinstance(leaf, Value)):
                self._note(self._refusal(node, _reason(error)), error)
            return self._stand_in(node)

    def _compute(
        self, node: Any, arguments: Any, keywords: dict[str, Any], leaves: list[Any]
    ) -> Any:
        handler = HANDLERS.get(str(node.target))
        self.context.module_path = _module_path(node)[0]
        reason = why_undetermined(node.target, arguments, keywords)
        if reason is not None:
            return self._unknown(node, self._refusal(node, reason))
        if not any(isinstance(leaf, Value) for leaf in leaves):
            return self._evaluate(node, handler, arguments, keywords)
        for leaf in leaves:
            if isinstance(leaf, Constant) and leaf.refusal is not None:
                self._note(leaf.refusal)
                return self._stand_in(node)
        if handler is None:
            near = ", ".join(near_names(str(node.target), HANDLERS))
            reason = f"it is not supported; the supported ops with the nearest names: {near}"
            self._note(self._refusal(node, reason, is_unsupported=True))
            return self._stand_in(node)
        if str(node.target) in ONE_TYPE:
            _check_types(leaves)
        result = handler(self.context, *arguments, **keywords)
        self._check_result(node, result)
        return result

    def _refusal(self, node: Any, reason: str, is_unsupported: bool = False) -> Refusal:
        path, kind = _module_path(node)
        return Refusal(str(node.target), reason, path, kind, _source(node), is_unsupported)

    def _note(self, refusal: Refusal, cause: Exception | None = None) -> None:
        if not any(refusal is known for known in self.refusals):
            self.refusals.append(refusal)
            self.causes += [cause] if cause is not None else []

    def _parts(self, node: Any, make: Callable[[Any], Any]) -> Any:
        """What `make` makes of each tensor that a node gives, in the node's own structure."""
        return _map(node.meta.get("val"), make)

    def _stand_in(self, node: Any) -> Any:
        """Values of a refused node's shapes, for the walk to go on with.

        What only comes of a stand-in that is not float32 is no refusal of its own.
        """

        def make(meta: Any) -> Value:
            kind = str(getattr(meta, "dtype", "")).removeprefix("torch.")
            value = Value(node.name, tuple(getattr(meta, "shape", ())), kind)
            if kind != "float32":
                self.stand_ins.add(value)
            return value

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
        metas, values = list(_leaves(node.meta.get("val"))), list(_leaves(result))
        for meta, value in zip(metas, values, strict=True):
            if str(meta.dtype) != "torch.float32" or meta.device.type != "cpu":
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
        for leaf in _leaves([*read, *keywords.values()]):
            if isinstance(leaf, Constant) and leaf.refusal is not None:
                return self._unknown(node, leaf.refusal)
        result = node.target(
            *_map(arguments, tensor), **{key: _map(part, tensor) for key, part in keywords.items()}
        )
        if isinstance(result, (list, tuple)):
            return type(result)(Constant(part, node.name) for part in result)
        if not isinstance(result, torch.Tensor):
            return result
        constant = Constant(result, node.name)
        if str(node.target) in MOVING and result.dtype == torch.float32:
            constant.express = lambda: handler(self.context, *arguments, **keywords)
        return constant


def _check_types(leaves: list[Any]) -> None:
    """PyTorch's own rule, which it does not apply in a capture; a mask may be bool besides."""
    for leaf in leaves:
        kind = str(leaf.tensor.dtype) if isinstance(leaf, Constant) else "torch.float32"
        if kind not in ("torch.float32", "torch.bool"):
            raise ValueError(f"{leaf.name!r} is {kind}, expected torch.float32: use .float()")


def _reason(error: Exception) -> str:
    """What went wrong in a call, with the error's type where it is no plain refusal."""
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return f"{kind}{str(error).strip()}"
