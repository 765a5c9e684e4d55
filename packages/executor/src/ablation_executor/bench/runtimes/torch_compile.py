"""torch.compile with TorchInductor: its default mode, and max-autotune with frozen weights.

Freezing makes the weights constants, which lets Inductor pack them ahead; max-autotune times its
own C++ matrix products against the library's. Both are what PyTorch's documentation advises for
inference on a CPU, where max-autotune is of use only with freezing.
"""

from __future__ import annotations

from typing import Any

import torch
import torch._dynamo.exc
import torch._inductor.config

from . import adapter
from .adapter import Model, Runner, as_arrays, as_tensors


class Adapter(adapter.Adapter):
    """torch.compile on the CPU, always in inference mode; the name says which mode."""

    def __init__(self, name: str, threads: int) -> None:
        torch.set_num_threads(threads)
        # A mode's compile time is its own, not what an earlier run has left on the disk; and no
        # helper process stays beside the worker.
        torch._inductor.config.force_disable_caches = True
        torch._inductor.config.compile_threads = 1
        self._options: dict[str, Any] = {}
        if name == "torch-compile-max":
            torch._inductor.config.freezing = True
            self._options = {"mode": "max-autotune"}
        self._inference_mode = torch.inference_mode()
        self._inference_mode.__enter__()

    def close(self) -> None:
        """Leave inference mode."""
        self._inference_mode.__exit__(None, None, None)

    def build(self, model: Model, options: Any = None) -> Runner:
        """Compile, which a call does; shapes are constants, as they are for every variant.

        NotImplementedError where that fails, as without a C++ compiler.
        """
        compiled = torch.compile(model.make_module(), dynamic=False, **self._options)
        given = as_tensors(model.inputs)
        model.release()
        try:
            compiled(*given)
        except torch._dynamo.exc.BackendCompilerFailed as error:
            raise NotImplementedError(f"torch.compile: {error}") from error
        return Runner(lambda _: compiled(*given), as_arrays)
