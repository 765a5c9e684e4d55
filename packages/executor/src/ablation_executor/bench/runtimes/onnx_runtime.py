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

from . import adapter
from .adapter import Array, Model, Runner, as_tensors


class Adapter(adapter.Adapter):
    """ONNX Runtime with `threads` threads within an operation and one operation at a time."""

    def __init__(self, name: str, threads: int) -> None:
        # torch only exports here: without threads of its own it starts none that could spin.
        torch.set_num_threads(1)
        self._threads = threads

    def build(self, model: Model, options: Any = None) -> Runner:
        """Export to a file with the weights beside it, which protobuf's 2 GiB do not limit."""
        with tempfile.TemporaryDirectory(prefix="ablation-onnx-") as folder:
            path = Path(folder) / "model.onnx"
            results = self._export(model, path)
            session = self._session(path)
        binding = session.io_binding()
        arrays = dict(zip(_names(model), model.inputs, strict=True))
        # An input that nothing reads is no input of the session
        for given in session.get_inputs():
            value = onnxruntime.OrtValue.ortvalue_from_numpy(arrays[given.name])
            binding.bind_ortvalue_input(given.name, value)
        taken = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in results]
        for result, value in zip(session.get_outputs(), taken, strict=True):
            binding.bind_ortvalue_output(result.name, value)

        def call(_: Any) -> Any:
            session.run_with_iobinding(binding)
            return taken

        return Runner(call, lambda found: [value.numpy() for value in found])

    def _export(self, model: Model, path: Path) -> list[Array]:
        """Write the model and give an array for each result; the module and the graph are given up
        when this returns."""
        module, given = model.make_module(), as_tensors(model.inputs)
        model.release()
        program = torch.onnx.export(
            module, given, dynamo=True, verbose=False, input_names=_names(model)
        )
        program.save(str(path), external_data=True)
        results = [
            np.empty(tuple(int(size) for size in value.shape), value.dtype.numpy())
            for value in program.model.graph.outputs
        ]
        del program, module
        gc.collect()
        return results

    def _session(self, path: Path) -> Any:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _names(model: Model) -> list[str]:
    """Return a name for each input of a model."""
    return [f"input_{index}" for index in range(len(model.inputs))]
