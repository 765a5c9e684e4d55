"""ONNX Runtime's CPU provider, all graph optimizations, input and output bound ahead.

Both forms of the block were measured and took the same time on one thread; the one with
`scaled_dot_product_attention` is what users export. `run_with_iobinding` on values that were bound
once is the documented way to leave copies and allocations out of a call; beside `run` it was 6%
faster at Toy and equal at larger sizes. The session holds packed weights, and the export keeps the
source alive.
"""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from ..configs import Config
from ..models import make_module
from ..weights import Array
from . import BY_NAME
from .adapter import BaselinePrepared, BaselineRunner, Weights


class Adapter:
    """ONNX Runtime with `threads` threads within an operation and one operation at a time."""

    def __init__(self, name: str, threads: int) -> None:
        # torch only exports here: without threads of its own it starts none that could spin.
        torch.set_num_threads(1)
        self._kind = BY_NAME[name].module
        self._threads = threads

    def prepare(self, config: Config, weights: Weights, x: Array) -> BaselinePrepared:
        """Keep the arrays."""
        return BaselinePrepared(config, weights, x, self._build)

    def _build(self, config: Config, weights: Weights, x: Array) -> BaselineRunner:
        """Export to a file with the weights beside it, which protobuf's 2 GiB do not limit."""
        with tempfile.TemporaryDirectory(prefix="ablation-onnx-") as folder:
            path = Path(folder) / "block.onnx"
            self._export(config, weights, x, path)
            session = self._session(path)
        binding = session.io_binding()
        given = onnxruntime.OrtValue.ortvalue_from_numpy(x)
        taken = onnxruntime.OrtValue.ortvalue_from_numpy(np.empty_like(x))
        binding.bind_ortvalue_input(session.get_inputs()[0].name, given)
        binding.bind_ortvalue_output(session.get_outputs()[0].name, taken)

        def call() -> Any:
            session.run_with_iobinding(binding)
            return taken

        return BaselineRunner(config, call, lambda result: result.numpy())

    def _export(self, config: Config, weights: Weights, x: Array, path: Path) -> None:
        """Write the model; the module and the graph are given up when this returns."""
        module = make_module(config, weights, self._kind)
        weights.clear()
        program = torch.onnx.export(module, (torch.from_numpy(x),), dynamo=True, verbose=False)
        program.save(str(path), external_data=True)
        del program, module
        gc.collect()

    def _session(self, path: Path) -> Any:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
