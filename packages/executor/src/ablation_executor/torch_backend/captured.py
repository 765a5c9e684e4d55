"""The graph that Dynamo hands over -> one functional graph of ATen ops, by torch.export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from . import fast_paths


class RunsEager(Exception):
    """Why PyTorch runs a graph as a whole."""


@dataclass(frozen=True)
class Captured:
    """A functional ATen graph for fixed shapes.

    `arguments` are its placeholders in the order of the call; `held` those that are tensors which
    Dynamo's graph itself holds.
    """

    module: torch.fx.GraphModule
    arguments: list[torch.fx.Node]
    held: dict[torch.fx.Node, torch.Tensor]


def capture(module: torch.fx.GraphModule, args: Sequence[Any]) -> Captured:
    """Export Dynamo's graph for the shapes of `args`; RunsEager where the export is not exact.

    It is not where the graph writes to its inputs, and where results share memory in a graph that
    writes to memory.
    """
    given = tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in args)
    try:
        exported = torch.export.export(_without_contexts(module, args), given, strict=False)
        is_exact = not _writes_to_shared_memory(exported.graph)
        everything = torch.export.default_decompositions()
        einsum = torch.ops.aten.einsum.default
        program = exported.run_decompositions({einsum: everything[einsum]})
    except (RunsEager, MemoryError):
        raise
    except Exception as error:
        text = str(error).strip().split("\n")[0]
        raise RunsEager(f"torch.export refuses it: {type(error).__name__}: {text}") from error
    _check_writes(module, program)
    if not is_exact:
        raise RunsEager("it writes to memory that several of its results may share")
    return _in_order(program, len(args))


def _check_writes(module: torch.fx.GraphModule, program: Any) -> None:
    """RunsEager where the graph writes to its arguments, by kind and name."""
    signature = program.graph_signature
    written = {spec.target for spec in signature.output_specs if spec.kind.name != "USER_OUTPUT"}
    if not written:
        return
    specs = [spec for spec in signature.input_specs if spec.kind.name == "USER_INPUT"]
    placeholders = [node for node in module.graph.nodes if node.op == "placeholder"]
    found: dict[str, list[str]] = {"buffers of the model": [], "its inputs": []}
    for spec, node in zip(specs, placeholders, strict=False):
        if spec.arg.name in written:
            found["buffers of the model" if is_weight(node) else "its inputs"].append(node.name)
    told = [f"{kind} ({', '.join(names)})" for kind, names in found.items() if names]
    raise RunsEager(f"it writes to {' and '.join(told) or 'tensors that it holds'}")


def is_weight(node: torch.fx.Node) -> bool:
    """Whether an input of Dynamo's graph is a parameter, a buffer or a tensor of a module."""
    return "_dynamo_static_input_type" in node.meta.get("tensor_dict", {})


def _in_order(program: Any, count: int) -> Captured:
    """Sort the placeholders of an exported program into arguments and tensors that it holds."""
    arguments, held = [], {}
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder"]
    tensors = {**program.state_dict, **program.constants}
    for node, spec in zip(placeholders, program.graph_signature.input_specs, strict=True):
        if spec.kind.name == "USER_INPUT":
            arguments.append(node)
        elif isinstance(tensors.get(spec.target), torch.Tensor):
            held[node] = tensors[spec.target]
        else:
            raise RunsEager(f"it reads {spec.target!r} ({spec.kind.name}), which is no tensor")
    if len(arguments) != count:
        raise RunsEager(f"torch.export made {len(arguments)} inputs of {count}")
    return Captured(program.graph_module, arguments, held)


def _without_contexts(module: torch.fx.GraphModule, args: Sequence[Any]) -> torch.fx.GraphModule:
    """A copy without contexts that change nothing here: no autocast, no gradients.

    Nothing is captured under autocast, and nothing that needs gradients.
    """
    graph = torch.fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    _set_numbers(graph, args)
    needs_gradients = any(isinstance(x, torch.Tensor) and x.requires_grad for x in args)
    for node in reversed(graph.nodes):
        if node.target is torch.amp.autocast_mode._enter_autocast:
            if node.args[0] == "cpu" and False not in node.args[2:3]:
                raise RunsEager("it turns autocast on")
        elif node.target is torch._C._set_grad_enabled:
            if node.args[0] and needs_gradients:
                raise RunsEager("it turns gradients on")
        elif node.target is not torch.amp.autocast_mode._exit_autocast:
            fast_paths.write_out(node)
            continue
        graph.erase_node(node)
    return torch.fx.GraphModule(module, graph)


def numbers_of(graph: torch.fx.Graph) -> dict[int, list[torch.fx.Node]]:
    """The arguments that are numbers which Dynamo hands over as tensors: their positions, and the
    nodes that make numbers of them."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    found = {
        position: [user for user in node.users if (user.op, user.target) == ("call_method", "item")]
        for position, node in enumerate(placeholders)
    }
    return {position: users for position, users in found.items() if users}


def _set_numbers(graph: torch.fx.Graph, args: Sequence[Any]) -> None:
    """Put the numbers of a call in the place of the nodes that make them of arguments."""
    numbers = {
        item: args[position].item()
        for position, items in numbers_of(graph).items()
        for item in items
    }
    for item in numbers:
        for user in list(item.users):
            given = (user.args, user.kwargs)
            user.args, user.kwargs = torch.fx.map_arg(given, lambda part: numbers.get(part, part))
        graph.erase_node(item)


def _writes_to_shared_memory(graph: torch.fx.Graph) -> bool:
    """Whether a graph writes to memory that more than one of its results and inputs may be.

    A functional graph gives each of these memory of its own.
    """
    written: set[int | None] = set()
    shown: list[int | None] = []
    for node in graph.nodes:
        if isinstance(node.target, torch._ops.OpOverload) and node.target._schema.is_mutable:
            written.add(_memory(node.args[0]))
        elif node.op in ("placeholder", "output"):
            shown += map(_memory, node.all_input_nodes if node.op == "output" else [node])
    return None in written or any(shown.count(memory) > 1 for memory in written)


def _memory(node: Any) -> int | None:
    """What tells the memory of a node's tensor from that of others, None where it is unknown."""
    value = node.meta.get("val") if isinstance(node, torch.fx.Node) else None
    return int(value.untyped_storage()._cdata) if isinstance(value, torch.Tensor) else None
