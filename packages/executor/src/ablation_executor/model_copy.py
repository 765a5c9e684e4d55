"""A copy of a module that nobody else has, and the arguments that it was given."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .capture import capture, checked_arguments
from .constants import frozen
from .fx_nodes import dtype_name
from .ir import Array
from .refusal import ExportError
from .signature import Captured

if TYPE_CHECKING:
    import torch

Shapes = tuple[tuple[int, ...], ...]


class ModelCopy:
    """A module as it was, with example arguments whose tensors may have other shapes.

    `shapes` are those of the example tensors, in the order of forward's parameters. `arrays` has
    the memory of its parameters and buffers of float32 by name, which nobody writes to.
    """

    def __init__(
        self, module: torch.nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None
    ) -> None:
        import torch
        from torch.utils import _pytree as pytree

        named, leaves = checked_arguments(module, args, kwargs)
        _, self._structure = pytree.tree_flatten((args, named))
        # Of a tensor the type alone
        self._leaves = [
            (name, leaf.dtype if isinstance(leaf, torch.Tensor) else leaf) for name, leaf in leaves
        ]
        tensors = [(name, leaf) for name, leaf in leaves if isinstance(leaf, torch.Tensor)]
        self._tensors = [(name, dtype_name(leaf)) for name, leaf in tensors]
        self.shapes: Shapes = tuple(tuple(leaf.shape) for _, leaf in tensors)
        self._module, self.arrays = _copied(module)

    def capture(self, shapes: Shapes, *, any_sizes: bool = False) -> Captured:
        """Capture it for tensors of these shapes; ExportError as `capture`."""
        import torch
        from torch.utils import _pytree as pytree

        given = iter(shapes)
        names = {name for name, _ in self._tensors}
        leaves = [
            torch.zeros(next(given), dtype=leaf) if name in names else leaf
            for name, leaf in self._leaves
        ]
        args, named = pytree.tree_unflatten(leaves, self._structure)
        return capture(self._module, args, named, any_sizes=any_sizes)

    def check(self, given: Sequence[Any], shapes: Shapes) -> None:
        """Refuse inputs for which no program is worth making.

        TypeError: another number of them, or another type. ValueError: an axis of size 0.
        """
        if len(given) != len(self._tensors):
            names = ", ".join(repr(name) for name, _ in self._tensors) or "none"
            raise TypeError(f"{len(given)} inputs given, expected {len(self._tensors)}: {names}")
        for (name, expected), part, shape in zip(self._tensors, given, shapes, strict=True):
            dtype = part.dtype if hasattr(part, "dtype") else np.asarray(part).dtype
            found = str(dtype).removeprefix("torch.")
            is_whole = found.startswith(("int", "uint", "bool"))
            if found != expected and (expected == "float32" or not is_whole):
                others = "" if expected == "float32" else " or another integer type"
                raise TypeError(f"input {name!r} is {found}, expected {expected}{others}")
            if 0 in shape:
                raise ValueError(
                    f"input {name!r} has shape {list(shape)}, expected no axis of size 0"
                )

    def text(self, shapes: Shapes) -> str:
        """The inputs with their shapes: `x [2, 8, 64]`."""
        named = zip(self._tensors, shapes, strict=True)
        return ", ".join(f"{name} {list(shape)}" for (name, _), shape in named)


def _copied(module: torch.nn.Module) -> tuple[torch.nn.Module, dict[str, Array]]:
    """A copy of a module over read-only arrays, and these by name.

    Takes the memory of one parameter more while it works. ExportError: it cannot be copied.
    """
    import torch

    try:
        own = copy.deepcopy(module)
    except MemoryError:
        raise
    except Exception as error:
        raise ExportError(
            f"module {type(module).__name__} cannot be copied: copy.deepcopy raises"
            f" {type(error).__name__}: {error}. Where old forms of torch.nn.utils compute a weight,"
            " remove them first, as by remove_weight_norm"
        ) from error
    arrays: dict[str, Array] = {}
    made: dict[int, Array] = {}
    for name, tensor in [
        *own.named_parameters(remove_duplicate=False),
        *own.named_buffers(remove_duplicate=False),
    ]:
        if tensor.dtype != torch.float32 or not tensor.numel():
            continue
        if id(tensor) not in made:
            array = np.array(tensor.detach().resolve_neg().numpy(), order="C")
            tensor.data = torch.from_numpy(array)
            made[id(tensor)] = frozen(array)
        arrays[name] = made[id(tensor)]
    return own, arrays
