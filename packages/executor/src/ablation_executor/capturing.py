"""One capture at a time in a process, whose replacements act in its own thread alone.

torch.export replaces `__call__` and `__getattr__` of torch.nn.Module while it captures, for all
threads, and puts back what it has found: another thread would enter the graph that is captured, and
two captures at once would leave the one's replacement behind. torch.compile reads the flags that a
capture sets. It compiles under a lock of its own, which a capture therefore takes too.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any

from .building import BUILDING


@contextmanager
def capturing() -> Iterator[None]:
    """Let no other thread capture, build a program or compile by torch.compile meanwhile.

    The lock of torch.compile comes first: what it compiles may build a program.
    """
    import torch

    # Else a compiled function of another thread takes the capture for one of its own. The name is
    # private and newer than the oldest PyTorch that the package accepts
    is_compiling = getattr(torch.compiler, "_compile_session_context", nullcontext)
    with _compile_lock(), BUILDING, _confined_replacements(), is_compiling():
        yield


@cache
def _compile_lock() -> Any:
    """The lock of torch.compile. A fork waits for it, and for `BUILDING` behind it."""
    from torch._dynamo.convert_frame import compile_lock

    release = compile_lock.release
    os.register_at_fork(
        before=compile_lock.acquire, after_in_parent=release, after_in_child=release
    )
    return compile_lock


@contextmanager
def _confined_replacements() -> Iterator[None]:
    """Have torch.fx replace methods for the thread that asks for it, and for no other."""
    from torch.fx import _symbolic_trace

    patcher = _symbolic_trace._Patcher
    replace = patcher.patch_method

    def confined(self: Any, cls: type, name: str, new: Any, deduplicate: bool = True) -> None:
        replace(self, cls, name, _in_this_thread(new, getattr(cls, name)), deduplicate)

    patcher.patch_method = confined
    try:
        yield
    finally:
        patcher.patch_method = replace


def _in_this_thread(new: Callable[..., Any], before: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is `new` in this thread, and what was there before in every other."""
    from torch._dynamo.decorators import skip

    own = threading.get_ident()

    def method(*args: Any, **kwargs: Any) -> Any:
        return (new if threading.get_ident() == own else before)(*args, **kwargs)

    # torch.compile of another thread leaves this frame out, and compiles those that it calls
    skip(method)
    return method
