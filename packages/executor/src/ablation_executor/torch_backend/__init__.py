"""`torch.compile(model, backend="ablation")`: what export covers runs here, the rest in PyTorch.

    import torch

    compiled = torch.compile(model.eval(), backend="ablation")
    with torch.no_grad():
        y = compiled(x)

Dynamo hands over a graph for each frame that it compiles. Under the first call that needs no
gradients it goes through torch.export, its ops are divided into parts that run here and ops that
PyTorch runs, and each part becomes a native program with packed weights. The options are those of
`options.Options`; `report()` counts what was done; the logger `ablation_executor.torch_backend` has
a line at INFO for each graph of which PyTorch runs an op.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from . import options as _options
from .compiled import CompiledGraph
from .counters import COUNTERS, Report
from .registration import allow_again
from .thread_count import THREADS

__all__ = ["Report", "ablation", "report"]


def ablation(
    module: Any, example_inputs: Sequence[Any], *, options: Any = None, mode: str | None = None
) -> CompiledGraph:
    """Compile a graph of Dynamo's; torch.compile calls this.

    TypeError or ValueError where an option is unknown or wrong.
    """
    if mode is not None:
        raise ValueError(
            f'torch.compile(backend="ablation"): mode is {mode!r}; accepted: none, but for options'
        )
    return CompiledGraph(module, _options.parse(options))


def report() -> Report:
    """Return what the backend has done in this process, counted."""
    return COUNTERS.report()


def _after_fork() -> None:
    """Let a child go on from locks that its parent's other threads may have held."""
    COUNTERS.forget_lock()
    THREADS.forget_calls()


os.register_at_fork(after_in_child=_after_fork)
allow_again()
