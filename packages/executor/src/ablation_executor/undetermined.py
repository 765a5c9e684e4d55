"""Which calls of an exported program give contents that nobody knows at export.

That is random numbers and uninitialized memory: a graph that held them would compute one draw for
ever. Where they reach no result, they do no harm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_RANDOM = (
    "it draws random numbers, and a graph would hold one draw: call eval() on the module that draws"
    " them, or make them an argument of forward"
)
_UNINITIALIZED = "it gives uninitialized memory: use torch.zeros"

_MEMORY = frozenset(
    [
        "empty",
        "empty_like",
        "empty_permuted",
        "empty_strided",
        "new_empty",
        "new_empty_strided",
        "resize",
    ]
)
# Ops that read the shape and type of their first argument, but not its values.
_SHAPE_READERS = frozenset(
    [
        "copy",
        "fill",
        "full_like",
        "new_full",
        "new_ones",
        "new_zeros",
        "ones_like",
        "zero",
        "zeros_like",
    ]
)


def _name(target: Any) -> str:
    """The ATen op of an overload, "" for anything else."""
    kind, name, *_ = (*str(target).split("."), "", "")
    return name if kind == "aten" else ""


def why_undetermined(target: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> str | None:
    """Why a call gives what nobody knows at export, or None where it does not.

    PyTorch tags what is random; dropout in eval mode, or of probability 0, is tagged and draws
    nothing. Attention and dropout of features draw, and are not tagged.
    """
    import torch

    if _name(target) in _MEMORY:
        return _UNINITIALIZED
    if not isinstance(target, torch._ops.OpOverload):
        return None
    schema = target._schema.arguments
    given = {part.name: part.default_value for part in schema if part.has_default_value()}
    given |= dict(zip((part.name for part in schema), args, strict=False)) | dict(keywords)
    rates = [given[name] for name in ("p", "dropout_p", "dropout") if name in given]
    if torch.Tag.nondeterministic_seeded not in target.tags and not (
        "dropout_p" in given or (rates and "train" in given)
    ):
        return None
    is_off = given.get("train", given.get("training")) is False
    return None if is_off or any(rate == 0 for rate in rates) else _RANDOM


def ignores_values(target: Any) -> bool:
    """Whether a call does not depend on the values of its first argument."""
    return _name(target) in _SHAPE_READERS
