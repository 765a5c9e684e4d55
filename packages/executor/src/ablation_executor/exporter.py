"""torch.nn.Module -> Graph of primitives, mechanically: `aten.HANDLERS` maps ATen overloads.

The module is captured by torch.export, made functional, and walked node by node (`walker.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .aten import HANDLERS
from .capture import capture
from .ir import Graph
from .refusal import ExportError, UnsupportedOpError
from .walker import Walker

if TYPE_CHECKING:
    import torch

__all__ = ["ExportError", "UnsupportedOpError", "export", "supported_ops"]


def supported_ops() -> list[str]:
    """Return the ATen overloads that `export` accepts, sorted."""
    return sorted(HANDLERS)


def export(
    module: torch.nn.Module,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    ranges: Mapping[str, tuple[int, int]] | None = None,
    arrays: Mapping[str, Any] | None = None,
) -> Graph:
    """Turn a module in eval mode into a graph of primitive ops, for the shapes of the arguments.

    `args` and `kwargs` are the arguments of forward. Their tensors, also those in lists, tuples and
    dicts, are the graph's inputs: dense CPU tensors of float32, bool or integers. They have the
    names of forward's parameters and their order. Every other argument is a constant of the graph.
    The graph's outputs are the tensors of the result, in their order and by their names: the keys
    of dicts, dataclasses and named tuples, the numbers of other tuples; None is no output.

    Whole numbers are carried in float32, and only where that is exact: the graph declares a range
    for each integer input, and each value made of them has to stay within 2^24. `ranges` gives the
    (lowest, highest) number of an input by its name. Without it the range is that of the type up to
    2^24; of an input that an embedding looks up it is the numbers of the embedding's rows.

    The graph keeps a copy of the parameters and buffers, one of tied weights: it is the model as it
    is now. `arrays` has NumPy arrays of the same elements by the names of parameters; the graph
    takes one without a copy if it is read-only and owns its memory.

    TypeError: `module` is no torch.nn.Module, `args` no tuple, `kwargs` no dict. ExportError:
    training mode, an input or result of another type, an op outside the op set (UnsupportedOpError)
    or with arguments that it lacks, integers that float32 may not hold, random numbers and
    uninitialized memory that reach a result, and state that forward changes. The error lists all
    that is refused, each call with its op, module and line.
    """
    return Walker(capture(module, args, kwargs), ranges or {}, arrays or {}).walk()
