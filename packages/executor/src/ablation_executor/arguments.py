"""What a caller gives and gets: inputs by position or name to float32 arrays, and outputs back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .integers import Integers
from .ir import Array, Result, Value


def bound(names: Sequence[str], given: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
    """The inputs of a call in the order of their names, from those by position and by name.

    TypeError: too many, one twice, one that the graph lacks, or, where names are used, one missing.
    """
    if not named:
        return tuple(given)
    listed = ", ".join(map(repr, names)) or "none"
    if len(given) > len(names):
        raise TypeError(f"{len(given)} inputs given, the graph has {len(names)}: {listed}")
    by_name = dict(zip(names, given, strict=False))
    for name, array in named.items():
        if name not in names:
            raise TypeError(f"the graph has no input {name!r}; its inputs: {listed}")
        if name in by_name:
            raise TypeError(f"input {name!r} is given twice, by position and by name")
        by_name[name] = array
    missing = [name for name in names if name not in by_name]
    if missing:
        raise TypeError(
            f"input {', '.join(map(repr, missing))} is missing; the inputs of the graph: {listed}"
        )
    return tuple(by_name[name] for name in names)


def prepared(value: Value, given: Any) -> Any:
    """An input as the kernels take it: contiguous, and float32 where it is of whole numbers.

    Tensors lose their gradient. Kernels check type, shape and memory of all but whole numbers,
    which are checked here.
    """
    if value.integers is not None:
        return carried(value, value.integers, given)
    if isinstance(given, np.ndarray):
        return given if given.flags.c_contiguous else np.ascontiguousarray(given)
    if hasattr(given, "detach"):
        given = given.detach()
        return given if given.is_contiguous() else given.contiguous()
    return given


def carried(value: Value, integers: Integers, given: Any) -> Array:
    """Whole numbers of a caller as float32, each checked against the range of the input.

    Takes arrays and CPU tensors of any integer type or bool. TypeError: another type. ValueError:
    another shape, or a number beyond the range; both name the input.
    """
    try:
        array = np.asarray(given.detach() if hasattr(given, "detach") else given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"input {value.name!r} is a {type(given).__name__}, expected an array or CPU tensor of"
            f" {integers.dtype}: {error}"
        ) from error
    if array.dtype.kind not in "iub":
        raise TypeError(
            f"input {value.name!r} is {array.dtype}, expected {integers.dtype} or another integer"
            " type"
        )
    if array.shape != value.shape:
        raise ValueError(
            f"input {value.name!r} has shape {list(array.shape)}, expected {list(value.shape)}"
        )
    low, high = integers.range.low, integers.range.high
    if array.size and not (low <= array.min() and array.max() <= high):
        place = tuple(int(index) for index in np.argwhere((array < low) | (array > high))[0])
        raise ValueError(
            f"input {value.name!r} has the value {int(array[place])} at {list(place)}, expected"
            f" {integers.dtype} in {integers.range}"
        )
    return array.astype(np.float32, order="C")


def given_back(results: Sequence[Result], arrays: Sequence[Array]) -> list[Array]:
    """The outputs as a caller gets them: whole numbers in the type of the module."""
    if not results:
        return list(arrays)
    return [
        array if result.integers is None else array.astype(result.integers.dtype)
        for result, array in zip(results, arrays, strict=True)
    ]


def written(arrays: Sequence[Array], targets: Sequence[Any]) -> list[Array]:
    """Copy outputs to arrays of the caller, which have their shapes and types, and return these."""
    if len(targets) != len(arrays):
        raise ValueError(f"out has {len(targets)} arrays, expected {len(arrays)}")
    views = [np.asarray(target) for target in targets]
    for position, (view, array) in enumerate(zip(views, arrays, strict=True)):
        if view.shape != array.shape or view.dtype != array.dtype:
            raise ValueError(
                f"out[{position}] is {view.dtype}{list(view.shape)}, expected"
                f" {array.dtype}{list(array.shape)}"
            )
        view[...] = array
    return views
