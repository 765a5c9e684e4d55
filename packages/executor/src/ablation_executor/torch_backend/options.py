"""What `torch.compile(..., backend="ablation", options=...)` takes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ..selection import resolve_kernels

_WHERE = 'torch.compile(backend="ablation")'


@dataclass(frozen=True)
class Options:
    """The options of one torch.compile.

    `require_full`: raise ExportError where PyTorch would have to run an op of a graph. `dryrun`:
    say what would run here, and let PyTorch run everything. `threads`: at most so many threads;
    None is what torch.get_num_threads() says. `kernels`: the kernel of an op by name, as
    `ablation_executor.compile` takes it. `every_part`: also run here the parts with a product that
    are predicted to be slower than in PyTorch.
    """

    require_full: bool = False
    dryrun: bool = False
    threads: int | None = None
    kernels: Mapping[str, str] = field(default_factory=dict)
    every_part: bool = False


def parse(options: Any) -> Options:
    """Return the options of a dict; TypeError or ValueError names option, given and accepted."""
    if options is None:
        return Options()
    if not isinstance(options, Mapping):
        raise TypeError(f"{_WHERE}: options is a {type(options).__name__}; accepted: a dict")
    names = [part.name for part in fields(Options)]
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.0)[0]
            raise ValueError(
                f"{_WHERE}: unknown option {name!r}; did you mean {near!r}? Accepted:"
                f" {', '.join(names)}"
            )
    for name in ("require_full", "dryrun", "every_part"):
        if not isinstance(options.get(name, False), bool):
            raise _wrong(TypeError, name, options[name], "True or False")
    threads = options.get("threads")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int)):
        raise _wrong(TypeError, "threads", threads, "a whole number or None")
    if threads is not None and not 1 <= threads <= 1024:
        raise _wrong(ValueError, "threads", threads, "1 to 1024, or None")
    _check_kernels(options.get("kernels", {}))
    return Options(**options)


def _check_kernels(kernels: Any) -> None:
    accepted = 'a dict from op to kernel, as {"attention": "flash_simd_parallel"}'
    if not isinstance(kernels, Mapping):
        raise _wrong(TypeError, "kernels", kernels, accepted)
    for part in [*kernels.keys(), *kernels.values()]:
        if not isinstance(part, str):
            raise _wrong(TypeError, "kernels", kernels, accepted)
    try:
        resolve_kernels(kernels)
    except ValueError as error:
        raise ValueError(f"{_WHERE}: option {error}") from None


def _wrong(kind: type[Exception], name: str, given: Any, accepted: str) -> Exception:
    return kind(f"{_WHERE}: option {name!r} is {given!r}; accepted: {accepted}")
