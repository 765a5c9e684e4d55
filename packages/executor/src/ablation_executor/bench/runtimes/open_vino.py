"""OpenVINO's CPU plugin with its hint for latency, in float32.

Both forms of the block were measured and took the same time on one thread; the one with
`scaled_dot_product_attention` is what users convert. The request has its input bound once and
leaves its output where it is: a call of `infer` with an array, even a shared one, took 15% longer
at Toy. The plugin packs weights and keeps the constants that share memory with the source.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

# Its converter would tell its makers over the network that it was used; without the module that
# does, it does not
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

import openvino
import torch

from . import adapter
from .adapter import Model, Runner, as_tensors


class Adapter(adapter.Adapter):
    """OpenVINO with `threads` threads on one stream."""

    def __init__(self, name: str, threads: int) -> None:
        # torch only converts here: without threads of its own it starts none that could spin.
        torch.set_num_threads(1)
        self._core = openvino.Core()
        self._properties = {
            "PERFORMANCE_HINT": "LATENCY",
            # The plugin would take bfloat16 where the CPU multiplies it natively
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }

    def build(self, model: Model, options: Any = None) -> Runner:
        """Convert and compile; the compiled model alone is kept."""
        module = model.make_module()
        model.release()
        converted = openvino.convert_model(module, example_input=as_tensors(model.inputs))
        names = converted.inputs
        if len(names) != len(model.inputs):
            raise NotImplementedError(
                f"OpenVINO's converter keeps {len(names)} of {len(model.inputs)} inputs"
            )
        shapes = {port: list(array.shape) for port, array in zip(names, model.inputs, strict=True)}
        converted.reshape(shapes)
        compiled = self._core.compile_model(converted, "CPU", self._properties)
        del converted, module
        gc.collect()
        request, inputs, n_outputs = (
            compiled.create_infer_request(),
            model.inputs,
            len(compiled.outputs),
        )
        for index, array in enumerate(inputs):
            request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))

        # The request reads the arrays where they lie, and does not own them
        def call(_: Any, owned: Any = inputs) -> Any:
            request.infer()
            return request

        def arrays(result: Any) -> list[Any]:
            return [result.get_output_tensor(index).data for index in range(n_outputs)]

        return Runner(call, arrays)
