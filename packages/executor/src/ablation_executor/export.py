"""torch.nn.Module -> Graph of primitives, mechanically: `aten.HANDLERS` maps ATen overloads.

The module is captured by torch.export, made functional, and walked node by node. What depends on
parameters and buffers alone stays symbolic: it becomes nodes where the op set has them (a weight's
transpose is a permute at run time until `fold_constants`) and is evaluated by torch where it has
not (boolean masks, `tril`, integer arithmetic).
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from . import aten_language_model as _language_model  # noqa: F401
from . import aten_movement as _movement  # noqa: F401
from .aten import HANDLERS, Constant, Context, ExportError, UnsupportedOpError
from .ir import Graph, GraphBuilder, Value

if TYPE_CHECKING:
    import torch

__all__ = ["ExportError", "UnsupportedOpError", "export", "supported_ops"]

# Nodes that state a fact about a tensor and compute nothing.
_IGNORED = frozenset({"aten._assert_tensor_metadata.default"})


def supported_ops() -> list[str]:
    """The ATen overloads that `export` accepts, sorted."""
    return sorted(HANDLERS)


def export(
    module: torch.nn.Module, args: tuple[Any, ...], *, arrays: Mapping[str, Any] | None = None
) -> Graph:
    """Turn a module in eval mode into a graph of primitive ops, for the shapes of `args`.

    `args` are the positional arguments of forward: float32 CPU tensors. The graph keeps a copy of
    the parameters and buffers, one of tied weights: it is the model as it is now. `arrays` has
    NumPy arrays of the same elements by the names of parameters; the graph takes one without a copy
    if it is read-only and owns its memory. ExportError: training mode, a parameter or
    input that is not float32, a buffer that forward writes to. UnsupportedOpError: an ATen
    overload outside the op set, with the module path that made it and the supported list.
    """
    import torch

    _check_module(module, args)
    with _capturing():
        program = torch.export.export(module, args)
        everything = torch.export.default_decompositions()
        einsum = torch.ops.aten.einsum.default
        # An empty table keeps linear, layer_norm, softmax, gelu and attention in one piece.
        program = program.run_decompositions({einsum: everything[einsum]})
        return _Walker(program, arrays).walk()


def _check_module(module: Any, args: tuple[Any, ...]) -> None:
    import torch

    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module is a {type(module).__name__}, expected a torch.nn.Module")
    if not isinstance(args, tuple):
        raise TypeError(f"args is a {type(args).__name__}, expected a tuple of tensors")
    if module.training:
        raise ExportError(
            "the module is in training mode, where dropout is random: call module.eval() first"
        )
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise ExportError(f"parameter {name!r} is {parameter.dtype}, expected torch.float32")
        if parameter.device.type != "cpu":
            raise ExportError(f"parameter {name!r} is on {parameter.device}, expected cpu")
    for position, argument in enumerate(args):
        if isinstance(argument, torch.Tensor) and argument.dtype != torch.float32:
            raise ExportError(
                f"argument {position} is a {argument.dtype} tensor, expected torch.float32"
            )


@contextmanager
def _capturing() -> Iterator[None]:
    """No gradients, and no fused fast path of torch.nn.MultiheadAttention, which hides its ops."""
    import torch

    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


def _module_path(node: Any) -> tuple[str, str]:
    """The path and class name of the innermost module that made an FX node."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", ""
    path, kind = stack[-1]
    kind = kind if isinstance(kind, str) else kind.__name__
    return str(path).removeprefix("L['self']").removeprefix("."), kind.rsplit(".", 1)[-1]


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
    """Walks an exported program once, keeping what each FX node has become."""

    def __init__(self, program: Any, arrays: Mapping[str, Any] | None) -> None:
        self.program = program
        self.context = Context(GraphBuilder(), _checked(program, arrays or {}))
        self.environment: dict[Any, Any] = {}

    def walk(self) -> Graph:
        self._bind_inputs()
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                self.environment[node] = self._call(node)
            elif node.op not in ("placeholder", "output"):
                raise ExportError(f"FX node {node.name!r} is a {node.op}, which is not supported")
        return self.context.builder.finish(*self._outputs())

    def _bind_inputs(self) -> None:
        placeholders = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        for node, spec in zip(placeholders, self.program.graph_signature.input_specs, strict=True):
            kind = spec.kind.name
            if kind in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
                source = self.program.state_dict
                if spec.target not in source:
                    source = self.program.constants
                self.environment[node] = Constant(source[spec.target].detach(), spec.target)
            elif kind != "USER_INPUT":
                raise ExportError(f"input {node.name!r} is a {kind}, which is not supported")
            elif hasattr(node.meta.get("val"), "shape"):
                value = self.context.builder.input(node.name, map(int, node.meta["val"].shape))
                self.environment[node] = value
            else:
                self.environment[node] = node.meta.get("val")

    def _outputs(self) -> list[Value]:
        (output,) = (node for node in self.program.graph.nodes if node.op == "output")
        values = []
        for node, spec in zip(
            output.args[0], self.program.graph_signature.output_specs, strict=True
        ):
            if spec.kind.name != "USER_OUTPUT":
                raise ExportError(f"forward writes to {spec.target!r} ({spec.kind.name})")
            result = self._look_up(node)
            if not isinstance(result, (Value, Constant)):
                raise ExportError(f"forward returns {result!r}, expected tensors only")
            values.append(self.context.value(result))
        return values

    def _look_up(self, argument: Any) -> Any:
        import torch

        if isinstance(argument, torch.fx.Node):
            return self.environment[argument]
        return argument

    def _call(self, node: Any) -> Any:
        arguments = _map(node.args, self._look_up)
        keywords = {key: _map(part, self._look_up) for key, part in node.kwargs.items()}
        if node.target is operator.getitem:
            return arguments[0][arguments[1]]
        name = str(node.target)
        if name in _IGNORED:
            return None
        self.context.module_path, kind = _module_path(node)
        handler = HANDLERS.get(name)
        inputs = list(_leaves([*arguments, *keywords.values()]))
        if not any(isinstance(leaf, Value) for leaf in inputs):
            return self._evaluate(node, handler, arguments, keywords)
        if handler is None:
            raise UnsupportedOpError(name, self.context.module_path, kind, supported_ops())
        try:
            result = handler(self.context, *arguments, **keywords)
        except ExportError:
            raise
        except (ValueError, TypeError) as error:
            raise ExportError(
                f"{name} in module {self.context.module_path or '(root)'!r}: {error}"
            ) from error
        self._check_result(node, result)
        return result

    def _check_result(self, node: Any, result: Any) -> None:
        import torch

        meta = node.meta.get("val")
        if isinstance(meta, torch.Tensor) and isinstance(result, Value):
            if meta.dtype != torch.float32:
                raise ExportError(f"{node.target} gives {meta.dtype}, expected torch.float32")
            if tuple(meta.shape) != result.shape:
                raise ExportError(
                    f"{node.target} gives {list(meta.shape)}, the graph {list(result.shape)}"
                )

    def _evaluate(self, node: Any, handler: Any, arguments: Any, keywords: dict[str, Any]) -> Any:
        """A node without activations: torch computes it, and a handler may still express it."""
        import torch

        def tensor(leaf: Any) -> Any:
            return leaf.tensor if isinstance(leaf, Constant) else leaf

        result = node.target(
            *_map(arguments, tensor), **{key: _map(part, tensor) for key, part in keywords.items()}
        )
        if isinstance(result, (list, tuple)):
            return type(result)(Constant(part, node.name) for part in result)
        if not isinstance(result, torch.Tensor):
            return result
        leaves = _leaves([*arguments, *keywords.values()])
        sources = [leaf for leaf in leaves if isinstance(leaf, Constant)]
        constant = Constant(result, node.name)
        all_float = all(part.tensor.dtype == torch.float32 for part in [constant, *sources])
        if handler is not None and sources and all_float:
            constant.express = lambda: handler(self.context, *arguments, **keywords)
        return constant
