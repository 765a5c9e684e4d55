"""OpenVINO's CPU plugin with its hint for latency, in float32.

The block with `scaled_dot_product_attention` becomes the plugin's own fused attention; the
written-out one does not. The request has its input bound once and leaves its output where it is,
which the plugin's guide to low latency advises; a call of `infer` with arrays was slower.
"""

from __future__ import annotations

import gc
from typing import Any

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
        """Convert, compile, and drop the source of what the plugin has packed."""
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
