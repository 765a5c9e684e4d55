"""The PyTorch baselines: eager modules, and an fx loop with a clock around each node."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn

from ..variants import BY_NAME
from .configs import Config
from .models import make_module
from .weights import Array
from .worker import clock_read_ns

MOVEMENT = {"view", "reshape", "transpose", "permute", "contiguous"}


@dataclass(frozen=True)
class TorchProfile:
    """Per-node times of some calls."""

    ops: list[dict[str, Any]]
    times_ns: npt.NDArray[np.int64]
    total_ns: list[int]


@dataclass(frozen=True)
class _Step:
    """One traced node, ready to be called on the environment of results."""

    name: str
    op: str
    category: str
    call: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    last_uses: tuple[str, ...]


def _category(node: fx.Node, module: nn.Module | None, op: str) -> str:
    """The part of the breakdown of one node; a Linear's bias cannot be told from its product."""
    if isinstance(module, nn.LayerNorm):
        return "layer_norm"
    if isinstance(module, nn.Linear):
        return "linear"
    if op in MOVEMENT:
        return "movement"
    if op in ("matmul", "softmax", "truediv", "scaled_dot_product_attention"):
        return "attention"
    mask = [part for part in node.all_input_nodes if part.op == "get_attr"]
    return "attention" if mask else "element_wise"


def _method(name: str) -> Callable[..., Any]:
    return lambda value, *args, **kwargs: getattr(value, name)(*args, **kwargs)


def _steps(traced: fx.GraphModule) -> list[_Step]:
    """The nodes that compute something, in order, each with the results it is the last to use."""
    modules = dict(traced.named_modules())
    nodes = [
        node for node in traced.graph.nodes if node.op not in ("placeholder", "output", "get_attr")
    ]
    last: dict[str, str] = {}
    for node in nodes:
        for used in node.all_input_nodes:
            if used.op != "get_attr":
                last[used.name] = node.name
    steps = []
    for node in nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        call: Callable[..., Any]
        if module is not None:
            call, op = module, type(module).__name__
        elif node.op == "call_method":
            call, op = _method(str(node.target)), str(node.target)
        else:
            call, op = node.target, node.target.__name__
            if call is operator.truediv:
                op = "truediv"
        used_last = tuple(name for name, user in last.items() if user == node.name)
        category = _category(node, module, op)
        steps.append(_Step(node.name, op, category, call, node.args, node.kwargs, used_last))
    return steps


class TorchRunner:
    """One baseline with its input."""

    def __init__(self, config: Config, module: nn.Module, x: torch.Tensor) -> None:
        self._config = config
        self._module = module
        self._x = x
        self._steps: list[_Step] | None = None
        self._constants: dict[str, Any] = {}
        self._input_name = ""

    def __call__(self) -> torch.Tensor:
        """One eager call."""
        result: torch.Tensor = self._module(self._x)
        return result

    def output(self, result: Any) -> npt.NDArray[Any]:
        """The tensor as a numpy array."""
        array: npt.NDArray[Any] = result.numpy()
        return array

    def _trace(self) -> list[_Step]:
        if self._steps is None:
            traced = fx.symbolic_trace(self._module)
            for node in traced.graph.nodes:
                if node.op == "placeholder":
                    self._input_name = node.name
                elif node.op == "get_attr":
                    self._constants[node.name] = getattr(traced, str(node.target))
            self._steps = _steps(traced)
        return self._steps

    def profile(self, repeat: int) -> TorchProfile:
        """`repeat` calls of the traced module, node by node, each node between two clock reads."""
        steps = self._trace()
        times = np.zeros((repeat, len(steps)), dtype=np.int64)
        totals = []
        for row in times:
            start = perf_counter_ns()
            self._run(steps, row)
            totals.append(perf_counter_ns() - start)
        ops = [{"name": s.name, "op": s.op, "category": s.category, "kernel": None} for s in steps]
        return TorchProfile(ops, times, totals)

    def _run(self, steps: list[_Step], row: npt.NDArray[np.int64]) -> None:
        values: dict[str, Any] = {self._input_name: self._x, **self._constants}

        def find(node: fx.Node) -> Any:
            return values[node.name]

        for index, step in enumerate(steps):
            args = fx.map_arg(step.args, find)
            kwargs = fx.map_arg(step.kwargs, find)
            start = perf_counter_ns()
            result = step.call(*args, **kwargs)
            row[index] = perf_counter_ns() - start
            values[step.name] = result
            del args, kwargs, result
            for name in step.last_uses:
                del values[name]

    def facts(self) -> dict[str, Any]:
        """Build facts; the peak of the activations is a formula, since torch plans nothing."""
        is_manual = type(self._module).__name__ == "BlockManual"
        steps = self._trace()
        return {
            "resident_bytes": 0,
            "transient_bytes": peak_activation_bytes(self._config, is_manual),
            "weights_bytes": self._config.weights_bytes,
            "arena_bytes": None,
            "attention_scratch_bytes": None,
            "packed_weights_bytes": None,
            "n_calls": len(steps),
            "timing_overhead_ns": len(steps) * clock_read_ns() * 2,
            "attention_kernel": None,
            "layer_norm_kernel": None,
            "softmax_kernel": None,
            "linear_kernel": None,
            "providers": {},
        }


def peak_activation_bytes(config: Config, is_manual: bool) -> int:
    """Bytes that torch allocates at the worst moment of one call.

    Manual attention: scores and their scaled copy (then that and the softmax) beside x, q, k, v
    and a contiguous copy of k. Otherwise the feed-forward: its activation before and after relu
    beside x, the norm and the result.
    """
    tokens = config.batch * config.seq_len
    block = tokens * config.d_model
    scores = config.batch * config.n_heads * config.seq_len**2
    attention = 2 * scores + 6 * block if is_manual else 7 * block
    return 4 * max(attention, 8 * block + 3 * block)


class TorchPrepared:
    """A config's two modules over the same weights."""

    def __init__(self, config: Config, weights: dict[str, Array], x: Array) -> None:
        self._config = config
        self._weights = weights
        self._x = torch.from_numpy(x)

    def build(self, variant: str) -> TorchRunner:
        """The module of a baseline; nothing is compiled."""
        module = make_module(self._config, self._weights, BY_NAME[variant].module)
        return TorchRunner(self._config, module, self._x)


class TorchRuntime:
    """PyTorch eager on the CPU, always in inference mode."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._inference_mode = torch.inference_mode()
        self._inference_mode.__enter__()

    def close(self) -> None:
        """Leave inference mode."""
        self._inference_mode.__exit__(None, None, None)

    def prepare(self, config: Config, weights: dict[str, Array], x: Array) -> TorchPrepared:
        """Wrap the arrays; torch shares their memory."""
        return TorchPrepared(config, weights, x)
