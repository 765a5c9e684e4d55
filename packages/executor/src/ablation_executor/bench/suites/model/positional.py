"""Any module as one that takes tensors by position and gives tensors: what every runtime takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

# The path of the module within `Positional`: no part of what is printed.
PREFIX = "module"


class Positional(nn.Module):
    """A module with the arguments of a call, of which the tensors alone are left to be given.

    Every other argument is a constant. The result is a tuple of the tensors that the module gives,
    in their order, by whatever containers; None is left out.
    """

    def __init__(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        super().__init__()
        self.module = module
        leaves, self._spec = pytree.tree_flatten((args, dict(kwargs)))
        self._places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
        self._leaves = [None if i in self._places else leaf for i, leaf in enumerate(leaves)]

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the module; TypeError for a result that is no tensor."""
        leaves = list(self._leaves)
        for place, tensor in zip(self._places, tensors, strict=True):
            leaves[place] = tensor
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        return tuple(tensor for _, tensor in named_tensors(self.module(*args, **kwargs)))


def named_tensors(result: Any, name: str = "output") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the tensors of a result with their names, from containers and dataclasses.

    TypeError names a part that is neither a tensor nor None.
    """
    if isinstance(result, torch.Tensor):
        yield name, result
    elif isinstance(result, Mapping):
        for key, part in result.items():
            yield from named_tensors(part, f"{name}.{key}")
    elif dataclasses.is_dataclass(result):
        for field in dataclasses.fields(result):
            yield from named_tensors(getattr(result, field.name), f"{name}.{field.name}")
    elif isinstance(result, list | tuple):
        for index, part in enumerate(result):
            yield from named_tensors(part, f"{name}.{index}")
    elif result is not None:
        raise TypeError(
            f"{name} of the module is a {type(result).__name__}; accepted: tensors, None, and"
            " lists, tuples, mappings and dataclasses of these (use_cache=False leaves out a cache)"
        )


def shown_path(path: str) -> str:
    """Return the path of a module as its owner knows it."""
    return path.removeprefix(PREFIX).removeprefix(".") if path.split(".")[0] == PREFIX else path
