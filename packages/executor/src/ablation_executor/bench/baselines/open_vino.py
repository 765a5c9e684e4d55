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

from ..configs import Config
from ..models import make_module
from ..weights import Array
from . import BY_NAME
from .adapter import BaselinePrepared, BaselineRunner, Weights


class Adapter:
    """OpenVINO with `threads` threads on one stream."""

    def __init__(self, name: str, threads: int) -> None:
        # torch only converts here: without threads of its own it starts none that could spin.
        torch.set_num_threads(1)
        self._kind = BY_NAME[name].module
        self._core = openvino.Core()
        self._properties = {
            "PERFORMANCE_HINT": "LATENCY",
            # The plugin would take bfloat16 where the CPU multiplies it natively
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": threads,
        }

    def prepare(self, config: Config, weights: Weights, x: Array) -> BaselinePrepared:
        """Keep the arrays."""
        return BaselinePrepared(config, weights, x, self._build)

    def _build(self, config: Config, weights: Weights, x: Array) -> BaselineRunner:
        """Convert and compile; the compiled model alone is kept."""
        module = make_module(config, weights, self._kind)
        weights.clear()
        model = openvino.convert_model(module, example_input=torch.from_numpy(x))
        model.reshape(list(x.shape))
        compiled = self._core.compile_model(model, "CPU", self._properties)
        del model, module
        gc.collect()
        request = compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(x, shared_memory=True))

        def call() -> Any:
            request.infer()
            return request

        return BaselineRunner(config, call, lambda result: result.get_output_tensor().data)
