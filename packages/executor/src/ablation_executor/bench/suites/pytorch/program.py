"""What programs of PyTorch have in common: the device's clock, and what its compiler did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch.nn.attention import SDPBackend

from ...case import Case
from ...memory import measure, measure_cuda
from ...suite import Program


class TorchProgram(Program):
    """A program on a device of PyTorch, compiled or eager."""

    def __init__(self, device: str, is_compiled: bool) -> None:
        self._is_cuda = device == "cuda"
        self._is_compiled = is_compiled
        self._graphs_before: dict[str, int] = {}
        if is_compiled:
            # Shapes and counts of an earlier case are no part of this one.
            torch._dynamo.reset()
            counters.clear()

    def synchronize(self) -> None:
        """Wait for the GPU, if there is one."""
        if self._is_cuda:
            torch.cuda.synchronize()

    def event_ns(self, phase: str) -> float | None:
        """One call between two events of the GPU's stream."""
        if not self._is_cuda:
            return None
        prepared = self.prepare(phase)
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        self.call(phase, prepared)
        end.record()
        torch.cuda.synchronize()
        return float(start.elapsed_time(end)) * 1e6

    def start_timing(self, phase: str) -> None:
        """Remember how many graphs the compiler has made."""
        self._graphs_before[phase] = counters["stats"]["unique_graphs"]

    def memory(self, phase: str) -> dict[str, Any]:
        """From the process on a CPU, from PyTorch's counters on a GPU."""
        return self._measured(phase)

    def _measured(
        self,
        phase: str,
        prepare: Callable[[], Any] | None = None,
        inputs: Sequence[Any] | None = None,
        arena: Callable[[], int] | None = None,
    ) -> dict[str, Any]:
        """Measure a phase; `inputs` and `arena` are those of `measure`."""
        call, prepare = partial(self.call, phase), prepare or partial(self.prepare, phase)
        if self._is_cuda:
            return measure_cuda(call, prepare, inputs=inputs).columns()
        return measure(call, prepare, arena=arena, inputs=inputs).columns()

    def facts(self, phase: str) -> dict[str, Any]:
        """What the compiler made: attention that it replaced by the fused one, breaks of the graph,
        and graphs that are new since the timing began."""
        if not self._is_compiled:
            return {"details": {}}
        new = counters["stats"]["unique_graphs"] - self._graphs_before[phase]
        counts = {
            "lowered_to_sdpa": counters["inductor"]["fuse_attention"],
            "graph_breaks": sum(counters["graph_break"].values()),
            "recompiles_timed": new,
        }
        return {"details": counts}


def require_flash(tensors: Sequence[Any], case: Case) -> None:
    """NotImplementedError where scaled_dot_product_attention of these (B, H, N, d) tensors, q, k
    and v, would not run its flash backend."""
    q, k, v = tensors
    chosen = torch._fused_sdp_choice(q, k, v, is_causal=case.causal, scale=case.scale)
    if chosen != SDPBackend.FLASH_ATTENTION.value:
        raise NotImplementedError(f"refused: PyTorch chooses {SDPBackend(chosen).name}")
