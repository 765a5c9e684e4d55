"""The programs of attention-parts: our teaching forms, and PyTorch's two backends."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt

import ablation_kernels
from ablation_kernels import teaching

from ...case import Case
from ...memory import c10_trace
from ...suite import Program, Verdict
from ..attention.check import (
    LARGE_FACTOR,
    LARGE_GAIN,
    Inputs,
    check_case,
    limits_of,
    make_inputs,
    run_probes,
)
from .cases import RAMP, SAFE, UNSAFE
from .op_tables import Line, lines_of_spans, profiled, with_overhead
from .variants import FORMS, SDPA_FLASH, scratch_formula_bytes

# The largest value of a ramp of queries: scores up to 16, whose exp is far from overflow.
RAMP_TOP = 0.5
# Tiles that divide neither length, so that the last tiles are partial on both axes.
PROBE_LENGTHS, PROBE_BLOCKS = (67, 131, 1), (16, 24)


def inputs_of(case: Case, seed: int) -> Inputs:
    """Random q, k and v, or ramps that rise along N and d and are the same in every head."""
    if case.get("inputs") != RAMP:
        return make_inputs(case, seed)
    rows, columns = (np.linspace(0, 0.5, size, dtype=np.float32) for size in (case.Nq, case.d))
    k = np.ascontiguousarray(np.broadcast_to(rows[:, None] + columns, case.k_shape))
    return np.float32(RAMP_TOP) * k, k, k.copy()


def probe_cases(case: Case) -> Iterator[tuple[Case, dict[str, float]]]:
    """Small random cases with partial tiles, and their limits; where the softmax is safe also with
    scores whose exp is no float32."""
    rows, keys = PROBE_BLOCKS
    for length in PROBE_LENGTHS:
        small = case.with_sizes(B=2, H=3, Nq=length, Nk=length, block_q=rows, block_k=keys)
        yield small, limits_of(case.dtype, True)
        if case.get("softmax") != UNSAFE:
            # The gain is that of scores of unit variance.
            gain = LARGE_GAIN / (case.scale * case.d**0.5)
            yield small.with_sizes(gain=gain), limits_of(case.dtype, True, LARGE_FACTOR)


class PartsProgram(Program):
    """What all programs have in common: checks, the cold run and the table of operations."""

    def __init__(self, case: Case, seed: int) -> None:
        self._case, self._seed = case, seed
        self._inputs = inputs_of(case, seed)

    @abstractmethod
    def _attend(self, case: Case, inputs: Inputs) -> tuple[Inputs, dict[str, npt.NDArray[Any]]]:
        """The inputs and the output, {"o": (B, H, N, d)}, of any case."""

    @abstractmethod
    def _observed(self) -> tuple[list[Line], int]:
        """One call of the case, observed: its lines, and its wall time in ns."""

    @abstractmethod
    def _published_bytes(self) -> int:
        """What the published harness would have printed as memory."""

    def probe(self) -> Verdict:
        """The small cases."""
        return run_probes(self._attend, probe_cases(self._case), self._seed)

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """The case's own output at sampled rows."""
        limits = limits_of(self._case.dtype, True)
        return check_case(self._attend, self._case, self._seed, limits, self._inputs)

    def memory(self, phase: str) -> dict[str, Any]:
        """Memory as everywhere, and before it what the published harness measures: the first call
        of a process under PyTorch's profiler."""
        _, cold_ns = profiled(lambda: self.call(phase, None))
        entries = super().memory(phase)
        entries["details"] |= {
            "published_style_ns": cold_ns,
            "published_style_mem_bytes": self._published_bytes(),
        }
        return entries

    def facts(self, phase: str) -> dict[str, Any]:
        """Where the time of a call goes, by calls of their own."""
        return {"details": with_overhead(self._observed, lambda: self.call(phase, None))}


class TeachingProgram(PartsProgram):
    """One of the four forms; its scratch is counted by the kernel."""

    is_traced = False

    def __init__(self, name: str, case: Case, seed: int) -> None:
        super().__init__(case, seed)
        self._name, self._form = name, FORMS[name]
        self._scratch_bytes = 0
        self._formula_bytes = 0
        self.arena_bytes = lambda: self._scratch_bytes

    def _run(self, case: Case, inputs: Inputs, has_spans: bool = False) -> Any:
        return teaching.attention(
            *inputs,
            form=self._form,
            block_q=case.get("block_q"),
            block_k=case.get("block_k"),
            scale=case.scale,
            softmax=case.get("softmax", SAFE),
            threads=case.threads,
            spans=has_spans,
        )

    def call(self, phase: str, prepared: Any) -> npt.NDArray[np.float32]:
        """One call; its scratch is remembered."""
        result = self._run(self._case, self._inputs)
        self._scratch_bytes = result.scratch_bytes
        self._formula_bytes = result.scratch_formula_bytes
        output: npt.NDArray[np.float32] = result.output
        return output

    def _attend(self, case: Case, inputs: Inputs) -> tuple[Inputs, dict[str, npt.NDArray[Any]]]:
        return inputs, {"o": self._run(case, inputs).output}

    def _observed(self) -> tuple[list[Line], int]:
        start = perf_counter_ns()
        result = self._run(self._case, self._inputs, has_spans=True)
        elapsed_ns = perf_counter_ns() - start
        return lines_of_spans(self._name, result.spans, result.output.nbytes), elapsed_ns

    def _published_bytes(self) -> int:
        """The published forms naive and blocked are given one array of scores, whatever the
        threads, and fused_row a row for each thread, all counted; flash has its scratch before the
        counting begins."""
        counted = 0
        if self._form == "fused_row":
            counted = self._scratch_bytes
        elif self._form != "flash":
            counted = scratch_formula_bytes(self._name, replace(self._case, threads=1))
        return counted + self._case.output_bytes

    def memory(self, phase: str) -> dict[str, Any]:
        """The scratch is what the kernel counted, not the difference of two peaks."""
        return {**super().memory(phase), "scratch": self._scratch_bytes}

    def facts(self, phase: str) -> dict[str, Any]:
        """Also the scratch, counted and by the formula."""
        facts = super().facts(phase)
        facts["details"]["scratch_formula_bytes"] = self._formula_bytes
        return {**facts, "memory": {"scratch": self._scratch_bytes}}


class SdpaProgram(PartsProgram):
    """PyTorch's attention by one of its backends, without gradients."""

    def __init__(self, name: str, case: Case, seed: int) -> None:
        super().__init__(case, seed)
        import torch

        from ..pytorch.program import require_flash

        self._torch = torch
        self._is_flash = name == SDPA_FLASH
        self._tensors = tuple(torch.from_numpy(array) for array in self._inputs)
        if self._is_flash:
            require_flash(self._tensors, case)

    def _run(self, tensors: Sequence[Any], scale: float) -> Any:
        if self._is_flash:
            return self._torch.nn.functional.scaled_dot_product_attention(*tensors, scale=scale)
        # The operator that scaled_dot_product_attention calls for this backend.
        return self._torch.ops.aten._scaled_dot_product_attention_math(*tensors, scale=scale)[0]

    def call(self, phase: str, prepared: Any) -> Any:
        """One call."""
        return self._run(self._tensors, self._case.scale)

    def _attend(self, case: Case, inputs: Inputs) -> tuple[Inputs, dict[str, npt.NDArray[Any]]]:
        tensors = [self._torch.from_numpy(array) for array in inputs]
        return inputs, {"o": self._run(tensors, case.scale).numpy()}

    def _observed(self) -> tuple[list[Line], int]:
        return profiled(lambda: self._run(self._tensors, self._case.scale))

    def _published_bytes(self) -> int:
        """What is left allocated at the end of a call."""
        return c10_trace(lambda _: self.call("fwd", None)).live_bytes

    def facts(self, phase: str) -> dict[str, Any]:
        """Also the backend."""
        facts = super().facts(phase)
        facts["details"]["sdpa_backend"] = "flash" if self._is_flash else "math"
        return facts


def make_program(name: str, case: Case, seed: int) -> Program:
    """Return the program of a variant."""
    return (TeachingProgram if name in FORMS else SdpaProgram)(name, case, seed)


def start(name: str, threads: int) -> None:
    """Set the threads of what the program runs on."""
    if name in FORMS:
        ablation_kernels.set_num_threads(threads)
    else:
        import torch

        torch.set_num_threads(threads)
