"""What an FX node says of itself: module, line, types; and walks over nested arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any


def is_in_torch(file: str, torch: Any) -> bool:
    """Whether a source file belongs to PyTorch, or was made by it."""
    return file.startswith((*torch.__path__, "<"))


def module_path(node: Any) -> tuple[str, str]:
    """The path and class name of the innermost module that made an FX node."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", ""
    path, kind = stack[-1]
    kind = kind if isinstance(kind, str) else kind.__name__
    return str(path).removeprefix("L['self']").removeprefix("."), kind.rsplit(".", 1)[-1]


def source(node: Any) -> str:
    """file:line of the last line outside PyTorch that led to an FX node, "" where unknown."""
    import torch

    lines = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    return next(
        (f"{file}:{line}" for file, line in reversed(lines) if not is_in_torch(file, torch)), ""
    )


def mapped(argument: Any, function: Callable[[Any], Any]) -> Any:
    """Apply a function to the leaves of nested lists and tuples."""
    if isinstance(argument, (list, tuple)):
        return type(argument)(mapped(part, function) for part in argument)
    return function(argument)


def leaves_of(argument: Any) -> Iterator[Any]:
    if isinstance(argument, (list, tuple)):
        for part in argument:
            yield from leaves_of(part)
    else:
        yield argument


def dtype_name(meta: Any) -> str:
    """The name of a tensor's type, "" for what is no tensor."""
    return str(getattr(meta, "dtype", "")).removeprefix("torch.")
