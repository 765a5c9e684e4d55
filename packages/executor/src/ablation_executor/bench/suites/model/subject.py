"""The module of a case with its inputs: that of a user's factory, or an architecture's.

Every process that needs it makes it anew, under the seed of the run: the one that plans, the one
that computes the reference, and each worker.
"""

from __future__ import annotations

import difflib
import importlib.util
import random
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from ...case import Case
from ...interrupt import UsageError
from ...runtimes.adapter import Array
from . import architectures
from .cases import factory_of, settings_of
from .positional import PREFIX, Positional, named_tensors

ACCEPTED = (
    "accepted: (module, inputs), inputs a tuple of arguments or a dict of keyword arguments, or"
    " (module, arguments, keyword arguments)"
)
# Elements of each parameter that its fingerprint reads.
FINGERPRINT = 4096


@dataclass(frozen=True)
class Subject:
    """A module that takes tensors by position, its inputs as arrays, and the names of its results.

    `path` is what the module's own paths have in front.
    """

    module: nn.Module
    inputs: tuple[Array, ...]
    results: tuple[str, ...]
    path: str

    def fingerprint(self) -> int:
        """Return a number that two processes have in common where their weights and inputs are
        equal, by the first elements of each."""
        found = 0
        tensors = [*self.module.state_dict().values(), *map(torch.from_numpy, self.inputs)]
        for tensor in tensors:
            part = tensor.detach().reshape(-1)[:FINGERPRINT].contiguous()
            found = zlib.crc32(part.numpy().tobytes(), found)
        return found


def load_subject(case: Case, seed: int) -> Subject:
    """Make the module of a case.

    UsageError: the factory is not there, or gives what is no module with inputs.
    """
    for set_seed in (random.seed, np.random.seed, torch.manual_seed):
        set_seed(seed)
    module, args, kwargs = _made(case)
    return subject_of(module.eval().requires_grad_(False), args, kwargs)


def subject_of(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Subject:
    """Return a module in eval mode with the arguments of a call, of which it makes one.

    UsageError names a parameter or input that no runtime here takes.
    """
    _check(module, args, kwargs)
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if _is_tensor(leaf)]
    with torch.no_grad():
        result = module(*args, **kwargs)
    names = tuple(name for name, _ in named_tensors(result))
    if not names:
        raise UsageError("the module returns no tensor")
    is_plain = not kwargs and all(map(_is_tensor, args)) and _is_tensor(result)
    # Copies: what changes an input must not change a weight
    dense = torch.contiguous_format
    inputs = tuple(tensor.detach().clone(memory_format=dense).numpy() for tensor in tensors)
    if is_plain:
        return Subject(module, inputs, names, "")
    return Subject(Positional(module, args, kwargs).eval(), inputs, names, PREFIX)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _made(case: Case) -> tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]:
    factory = factory_of(case)
    if factory is not None:
        return unpacked(_found(factory)())
    settings = settings_of(case)
    built = architectures.BY_NAME[str(case.get("model"))].build(**settings)
    return built.module, built.args, built.kwargs


def _found(text: str) -> Callable[[], Any]:
    """Import the factory `path.py:name`."""
    place, _, name = text.rpartition(":")
    path = Path(place).resolve()
    spec = importlib.util.spec_from_file_location(f"ablation_module_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--module {text}: {place} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    # What lies beside it is its own
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    factory = getattr(module, name, None)
    if factory is None:
        there = [key for key, value in vars(module).items() if callable(value) and key[0] != "_"]
        near = difflib.get_close_matches(name, there, n=1, cutoff=0.0)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"--module {text}: {place} has no {name!r}{hint}")
    if not callable(factory):
        raise UsageError(f"--module {text}: {name} is a {type(factory).__name__}, not a function")
    made: Callable[[], Any] = factory
    return made


def unpacked(found: Any) -> tuple[nn.Module, tuple[Any, ...], Mapping[str, Any]]:
    """Return the module, the arguments and the keyword arguments of what a factory gave;
    UsageError for anything else."""
    if not isinstance(found, tuple) or not 2 <= len(found) <= 3:
        raise UsageError(f"the factory returns a {type(found).__name__}; {ACCEPTED}")
    module, *given = found
    if not isinstance(module, nn.Module):
        raise UsageError(f"the factory returns a {type(module).__name__} first; {ACCEPTED}")
    kinds = [type(part) for part in given]
    if kinds == [dict]:
        return module, (), given[0]
    if kinds == [tuple]:
        return module, given[0], {}
    if kinds == [tuple, dict]:
        return module, given[0], given[1]
    types = ", ".join(kind.__name__ for kind in kinds)
    raise UsageError(f"the factory returns a module with inputs of type {types}; {ACCEPTED}")


def _check(module: nn.Module, args: Any, kwargs: Any) -> None:
    """Refuse what no runtime here takes."""
    for kind, named in (
        ("parameter", module.named_parameters()),
        ("buffer", module.named_buffers()),
    ):
        for name, tensor in named:
            if tensor.device.type != "cpu":
                raise UsageError(f"{kind} {name!r} is on {tensor.device}; accepted: cpu")
            if tensor.is_floating_point() and tensor.dtype != torch.float32 and kind == "parameter":
                raise UsageError(
                    f"{kind} {name!r} is {tensor.dtype}; accepted: torch.float32 (call float())"
                )
    leaves = pytree.tree_flatten_with_path((args, kwargs))[0]
    if not any(_is_tensor(leaf) for _, leaf in leaves):
        raise UsageError("the example inputs have no tensor")
    for path, leaf in leaves:
        if not _is_tensor(leaf):
            continue
        # The first key says whether it was given by position or by name, which the second shows
        name = pytree.keystr(path[1:])
        if leaf.device.type != "cpu":
            raise UsageError(f"input {name} is on {leaf.device}; accepted: cpu")
        if leaf.is_complex() or (leaf.is_floating_point() and leaf.dtype != torch.float32):
            raise UsageError(f"input {name} is {leaf.dtype}; accepted: torch.float32 and integers")
