"""torch.nn.Module -> torch.export's program: what is checked before, and how a failure is told."""

from __future__ import annotations

import copy
import os
import random
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np

from .aten import HANDLERS
from .capturing import capturing
from .fx_nodes import is_in_torch
from .refusal import ExportError, Refusal, error_of
from .signature import Captured, argument_leaves, check_argument, flat_results, ordered

_DATA_DEPENDENT = (
    "a shape or a branch depends on the values of tensors, and a graph has one path: decide by"
    " Python values, or compute both sides and choose with torch.where"
)

_CONTENTS = "[...]"


def capture(
    module: Any,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None,
    *,
    any_sizes: bool = False,
) -> Captured:
    """The functional torch.export program of a module; ExportError for all that stands against it.

    The ops that export knows stay in one piece, as linear, layer_norm and attention do. PyTorch
    takes others apart where it can, as einsum. With `any_sizes` the sizes of the inputs are left
    open where PyTorch can (see `symbolic.py`), those above 1 at most.
    """
    import torch
    from torch.utils import _pytree as pytree

    named, leaves = checked_arguments(module, args, kwargs)
    captured = Captured(None, [name for name, _ in leaves])
    with (
        capturing(),
        _without_gradients(),
        _unchanged_state(module),
        flat_results(module, captured),
    ):
        try:
            # Copies, since torch.export takes an argument that is a parameter for the parameter.
            copies, named = pytree.tree_map_only(
                torch.Tensor, lambda x: x.detach().clone(), (args, named)
            )
            sizes = _any_sizes(module, copies, named) if any_sizes else None
            program = torch.export.export(module, copies, named, dynamic_shapes=sizes, strict=False)
            captured.program = program.run_decompositions(_taken_apart())
        except MemoryError:
            raise
        except Exception as error:
            raise _failure(module, error) from error
    return captured


def checked_arguments(
    module: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None
) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Keyword arguments in the order of forward's parameters, and all leaves of arguments by name.

    TypeError or ExportError for a module or arguments that no graph can be made of.
    """
    _check_module(module)
    if not isinstance(args, tuple):
        raise TypeError(f"args is a {type(args).__name__}, expected a tuple of tensors")
    if not isinstance(kwargs, Mapping | None):
        raise TypeError(f"kwargs is a {type(kwargs).__name__}, expected a dict of tensors or None")
    named = ordered(module, kwargs or {})
    leaves = argument_leaves(module, args, named)
    for name, leaf in leaves:
        check_argument(name, leaf)
    return named, leaves


def _any_sizes(module: Any, args: Any, kwargs: Any) -> Any:
    """What torch.export takes for: decide of each axis of each tensor whether its size is open."""
    import torch
    from torch.utils import _pytree as pytree

    shapes = torch.export.ShapesCollection()
    for leaf in pytree.tree_leaves((args, kwargs)):
        if isinstance(leaf, torch.Tensor):
            shapes[leaf] = dict.fromkeys(range(leaf.ndim), torch.export.Dim.AUTO)
    return shapes.dynamic_shapes(module, args, kwargs)


def _taken_apart() -> dict[Any, Any]:
    """PyTorch's decompositions of the ops that export does not know, but for random ones."""
    import torch

    return {
        op: function
        for op, function in torch.export.default_decompositions().items()
        if str(op) not in HANDLERS and torch.Tag.nondeterministic_seeded not in op.tags
    }


def _check_module(module: Any) -> None:
    import torch

    if isinstance(module, torch.export.ExportedProgram):
        raise ExportError(
            "module is a torch.export.ExportedProgram, expected the torch.nn.Module that it was"
            " made of"
        )
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module is a {type(module).__name__}, expected a torch.nn.Module")
    for path, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise ExportError(
                f"module {path or '(root)'!r} is compiled by torch.jit, which hides its ops:"
                " export the torch.nn.Module that it was made of"
            )
    if module.training:
        raise ExportError(
            "the module is in training mode, where dropout is random: call module.eval() first"
        )
    for kind, named in (
        ("parameter", module.named_parameters()),
        ("buffer", module.named_buffers()),
    ):
        for name, tensor in named:
            if isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin):
                raise ExportError(
                    f"{kind} {name!r} of a lazy module has no shape yet: call the module once"
                )
            if tensor.device.type != "cpu":
                raise ExportError(f"{kind} {name!r} is on {tensor.device}, expected cpu")


@contextmanager
def _without_gradients() -> Iterator[None]:
    """No gradients, and torch.nn's attention and encoders without what cannot be captured.

    The fused fast path of torch.nn.MultiheadAttention hides its ops. An encoder compares its mask
    with a causal one, which is a branch on values; what it finds out is a hint for speed alone.
    """
    import torch
    from torch.nn.modules import transformer

    fast_path = torch.backends.mha.get_fastpath_enabled()
    detect = getattr(transformer, "_detect_is_causal_mask", None)
    torch.backends.mha.set_fastpath_enabled(False)
    if detect is not None:
        transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        if detect is not None:
            transformer._detect_is_causal_mask = detect


# State outside the graph --------------------------------------------------------------------------


@contextmanager
def _unchanged_state(module: Any) -> Iterator[None]:
    """ExportError where forward draws random numbers or changes attributes as it is captured.

    A graph would hold what the one call at export drew or found. Hooks look at the attributes,
    since torch.export puts them back after the call.
    """
    before: dict[Any, dict[str, Any]] = {}
    changed: list[str] = []

    def enter(*_: Any) -> None:
        before.update((part, _attributes(part)) for part in module.modules())

    def leave(*_: Any) -> None:
        changed.extend(_changed(module, before))

    generators = _generators()
    held = {part: _attributes(part) for part in module.modules()}
    hooks = [
        module.register_forward_pre_hook(enter, prepend=True),
        module.register_forward_hook(leave),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        _put_back(held)
    for name, state in _generators().items():
        if state != generators[name]:
            raise ExportError(
                f"forward draws from {name} or seeds it, and the graph would hold what it drew at"
                " export: make the drawn numbers an argument"
            )
    if changed:
        raise ExportError(
            f"forward changes {', '.join(changed)}, and the graph would hold the value of the call"
            " at export: set it in __init__, or make it an argument and a result, or call the"
            " module once before, where the first call alone changes it"
        )


def _generators() -> dict[str, str]:
    import torch

    kind, keys, *rest = np.random.get_state()
    return {
        "Python's random": str(random.getstate()),
        "NumPy's random": f"{kind} {np.asarray(keys).tolist()} {rest}",
        "PyTorch's generator": str(torch.get_rng_state().tolist()),
    }


def _attributes(part: Any) -> dict[str, Any]:
    """A module's attributes, and copies of its containers under another name."""
    held = {name: value for name, value in vars(part).items() if name != "_buffers"}
    copies = {
        f"{name}{_CONTENTS}": _copied(value)
        for name, value in held.items()
        if isinstance(value, list | dict | set)
    }
    return held | copies


def _copied(value: Any) -> Any:
    """A copy of a container and those in it, and whatever else it holds as it is."""
    if type(value) is tuple:
        return tuple(map(_copied, value))
    if not isinstance(value, list | dict | set):
        return value
    twin = copy.copy(value)
    if isinstance(twin, list):
        twin[:] = map(_copied, twin)
    elif isinstance(twin, dict):
        twin.update([(key, _copied(part)) for key, part in twin.items()])
    return twin


def _put_back(held: dict[Any, dict[str, Any]]) -> None:
    """Undo what forward assigned: tensors of a capture are of no use to the module."""
    for part, before in held.items():
        now = vars(part)
        for name in now.keys() - before.keys() - {"_buffers"}:
            del now[name]
        for name, value in before.items():
            container = before[name.removesuffix(_CONTENTS)]
            if value is container:
                now[name] = value
            elif not _is_same(value, container):
                container.clear()
                (container.extend if isinstance(value, list) else container.update)(value)


def _recomputed(part: Any) -> set[str]:
    """What torch.nn.utils computes anew before each call: normalized and pruned weights."""
    names = {"name", "_tensor_name"}
    hooks = part._forward_pre_hooks.values()
    return {str(getattr(hook, name)) for hook in hooks for name in names if hasattr(hook, name)}


def _changed(module: Any, before: dict[Any, dict[str, Any]]) -> list[str]:
    """The paths of the attributes that are not what they were."""
    changed = []
    for path, part in module.named_modules():
        then, now = before.get(part, {}), _attributes(part)
        for name in {**then, **now}.keys() - _recomputed(part):
            if name not in then or name not in now or not _is_same(then[name], now[name]):
                changed.append(".".join(filter(None, ("self", path, name.removesuffix(_CONTENTS)))))
    return sorted(set(changed))


def _is_same(then: Any, now: Any) -> bool:
    """Whether an attribute is what it was: an equal number or text, a container of the same."""
    if then is now or type(then) is not type(now):
        return then is now
    if isinstance(then, bool | int | float | complex | str | bytes | set):
        return bool(then == now)
    if isinstance(then, dict):
        return list(then) == list(now) and _is_same([*then.values()], [*now.values()])
    if isinstance(then, list | tuple):
        return len(then) == len(now) and all(map(_is_same, then, now))
    return False


# Failures -----------------------------------------------------------------------------------------


def _failure(module: Any, error: Exception) -> ExportError:
    """The refusal of what torch.export could not capture, with the place that raised."""
    text = str(error).strip() or "(no message)"
    reason = f"PyTorch cannot capture it: {type(error).__name__}: {text.split(chr(10) * 2)[0]}"
    if "data-dependent" in text.lower() or "data dependent" in text.lower():
        reason += f". {_DATA_DEPENDENT[0].upper()}{_DATA_DEPENDENT[1:]}"
    elif others := _other_dtypes(module):
        reason += f". Not every parameter is float32 ({others}): call module.float()"
    path, kind, source = _place(module, error.__traceback__)
    return error_of([Refusal("torch.export", reason, path, kind, source)])


def _other_dtypes(module: Any) -> str:
    found = (f"{name!r} is {p.dtype}" for name, p in module.named_parameters())
    return next((words for words in found if not words.endswith("torch.float32")), "")


def _place(module: Any, trace: TracebackType | None) -> tuple[str, str, str]:
    """Path and class of the innermost module in a traceback, and its last line outside torch."""
    import torch

    paths = {id(part): path for path, part in module.named_modules()}
    path, kind, source = "", type(module).__name__, ""
    ours = (os.path.dirname(__file__), os.path.dirname(os.__file__))
    for frame, line in traceback.walk_tb(trace):
        part = frame.f_locals.get("self")
        if id(part) in paths:
            path, kind = paths[id(part)], type(part).__name__
        name = frame.f_code.co_filename
        if not is_in_torch(name, torch) and os.path.dirname(name) not in ours:
            source = f"{name}:{line}"
    return path, kind, source
