"""What a module's forward takes and gives, by name."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .refusal import ExportError, Refusal


@dataclass
class Captured:
    """An exported program, the names of its arguments and results, and what refuses results.

    `arguments` names every leaf of the arguments, constants and None too, `results` every tensor of
    the result, both in the program's order.
    """

    program: Any
    arguments: list[str]
    results: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def ordered(module: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments in the order of forward's parameters, others behind them."""
    known = {name: kwargs[name] for name in _parameters(module) if name in kwargs}
    return known | dict(kwargs)


def _parameters(module: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(module.forward).parameters
    except (TypeError, ValueError):  # a forward of native code has no signature
        return {}


def argument_leaves(
    module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[tuple[str, Any]]:
    """Name and value of each tensor, number, text and None in the arguments, in pytree's order.

    The names are those of forward's parameters, in containers with their places: `x`, `states_0`,
    `mask_key`.
    """
    from torch.utils import _pytree as pytree

    positions = _positions(module, len(args))
    leaves: list[tuple[str, Any]] = []
    for name, argument in (*zip(positions, args, strict=True), *kwargs.items()):
        for path, leaf in pytree.tree_flatten_with_path(argument)[0]:
            leaves.append(("_".join([name, *map(_key, path)]), leaf))
    return _with_unique_names(leaves)


def _positions(module: Any, count: int) -> list[str]:
    """The names of forward's first parameters; those of *args have numbers."""
    kinds = inspect.Parameter
    names: list[str] = []
    for name, parameter in _parameters(module).items():
        if parameter.kind is kinds.VAR_POSITIONAL:
            names += [f"{name}_{number}" for number in range(count - len(names))]
        elif parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD):
            names.append(name)
    names += [f"args_{number}" for number in range(len(names), count)]
    return names[:count]


def _key(entry: Any) -> str:
    """One step of a path of pytree: an index, a key or a field."""
    return str(
        next(getattr(entry, name) for name in ("idx", "key", "name") if hasattr(entry, name))
    )


def _unique(names: Iterable[str]) -> list[str]:
    """The names, each once: a second `x` is `x_2`."""
    taken: dict[str, None] = {}
    for name in names:
        free, count = name, 1
        while free in taken:
            count += 1
            free = f"{name}_{count}"
        taken[free] = None
    return list(taken)


def _with_unique_names(leaves: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    names = _unique(name for name, _ in leaves)
    return list(zip(names, (leaf for _, leaf in leaves), strict=True))


def result_leaves(result: Any) -> list[tuple[str, Any]]:
    """Name and value of each part of a result of forward but None, in its order.

    A single tensor is `output`. The parts of lists and tuples have their numbers, those of dicts,
    named tuples and dataclasses, ModelOutput of transformers too, their keys: `logits`,
    `hidden_states.0`.
    """
    return _with_unique_names(
        [(name or "output", part) for name, part in _result_parts("", result)]
    )


def _result_parts(name: str, part: Any) -> Iterator[tuple[str, Any]]:
    if part is None:
        return
    children = _children(part)
    if children is None:
        yield name, part
        return
    for key, child in children.items():
        yield from _result_parts(f"{name}.{key}" if name else str(key), child)


def _children(part: Any) -> dict[Any, Any] | None:
    """The parts of a container by key, None for what is no container."""
    if isinstance(part, Mapping):
        return dict(part)
    fields: Sequence[str] | None = getattr(part, "_fields", None)
    if isinstance(part, tuple) and fields is not None:  # a named tuple
        return dict(zip(fields, part, strict=True))
    if isinstance(part, list | tuple):
        return dict(enumerate(part))
    if dataclasses.is_dataclass(part):
        return {field.name: getattr(part, field.name) for field in dataclasses.fields(part)}
    return None


def check_argument(name: str, leaf: Any) -> None:
    """ExportError for an argument that no graph can take, whatever its type of elements."""
    import torch

    if isinstance(leaf, np.ndarray | np.generic):
        raise ExportError(f"{name!r} is a NumPy {type(leaf).__name__}, expected a torch.Tensor")
    plain = (bool, int, float, complex, str, torch.dtype, torch.device, torch.memory_format)
    if not isinstance(leaf, torch.Tensor):
        if leaf is not None and not isinstance(leaf, (*plain, torch.layout)):
            hint = _without_cache(leaf)
            raise ExportError(
                f"{name!r} is a {type(leaf).__name__}, expected tensors, numbers, texts and None,"
                f" or lists, tuples and dicts of them{f': {hint}' if hint else ''}"
            )
        return
    if leaf.device.type != "cpu":
        raise ExportError(f"{name!r} is on {leaf.device}, expected cpu")
    if leaf.is_nested or leaf.layout != torch.strided:
        raise ExportError(f"{name!r} is nested or {leaf.layout}, expected a dense tensor")
    if 0 in leaf.shape:
        raise ExportError(f"{name!r} has shape {list(leaf.shape)}, expected no axis of size 0")


@contextmanager
def flat_results(module: Any, captured: Captured) -> Iterator[None]:
    """Let forward give a flat dict of the tensors in its result, and note what else is there.

    So dataclasses need not be known to PyTorch, and each output has a name.
    """
    import torch

    def flatten(_: Any, args: Any, result: Any) -> dict[str, Any]:
        parts = result_leaves(result)
        tensors = {name: part for name, part in parts if isinstance(part, torch.Tensor)}
        captured.results = list(tensors)
        captured.refusals = [
            Refusal("", _why_no_result(name, part)) for name, part in parts if name not in tensors
        ]
        return tensors

    hook = module.register_forward_hook(flatten)
    try:
        yield
    finally:
        hook.remove()


def _why_no_result(name: str, part: Any) -> str:
    what = repr(part) if isinstance(part, bool | int | float | str) else f"a {type(part).__name__}"
    return (
        f"result {name!r} of forward is {what}, expected tensors and None:"
        f" {_without_cache(part) or 'wrap the module in one that returns tensors alone'}"
    )


def _without_cache(part: Any) -> str:
    """What to do about a cache of keys and values, which transformers models take and give."""
    return "pass use_cache=False" if "Cache" in type(part).__name__ else ""
