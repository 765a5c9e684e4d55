"""Our kernels in the forward sweep: each kernel of the op attention, and products over whole
scores. This module does not import torch, so that a worker of ours never loads it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import ablation_kernels

from ...case import Case
from ...suite import Needs, Program, Verdict
from ..attention.check import Inputs, Single, check_case, limits_of, make_inputs, probe_all

OP = "attention"


def attention_scratch(kernel: str, case: Case) -> int:
    """Bytes of scratch of a call of a kernel of the op, exactly."""
    shapes = [case.q_shape, case.k_shape, case.k_shape, None]
    attributes = {"causal": case.causal}
    return ablation_kernels.scratch_bytes(kernel, shapes, attributes, case.threads)


def product_scratch(product: str, case: Case) -> int:
    """Scratch of the larger of the two products over whole scores."""
    scores = (case.B, case.H, case.Nq, case.Nk)
    scratch, threads = ablation_kernels.scratch_bytes, case.threads
    transposed = [case.q_shape, case.k_shape, None, None]
    return max(
        scratch(product, transposed, {"transpose_b": True}, threads),
        scratch(product, [scores, case.k_shape, None, None], {}, threads),
    )


def kernel_needs(kernel: str, case: Case) -> Needs:
    """Bytes of a kernel of the op: the inputs stay, the output and its scratch come and go."""
    return Needs(case.input_bytes, case.output_bytes + attention_scratch(kernel, case))


def unfused_needs(product: str, case: Case) -> Needs:
    """Bytes of products over whole scores: these stay, with a float32 mask."""
    kept = case.input_bytes + case.scores_bytes + mask_bytes(case)
    return Needs(kept, case.output_bytes + product_scratch(product, case))


def causal_mask(case: Case) -> Single:
    """(Nq, Nk) of 0 and -infinity, made without a second array of that size."""
    mask = np.zeros((case.Nq, case.Nk), np.float32)
    for row in range(min(case.Nq, case.Nk)):
        mask[row, row + 1 :] = -np.inf
    return mask


def mask_bytes(case: Case) -> int:
    """Bytes of that mask; 0 where all is seen."""
    return 4 * case.Nq * case.Nk if case.causal else 0


class KernelProgram(Program):
    """What our programs have in common: inputs, checks and facts."""

    is_traced = False

    def __init__(self, case: Case, seed: int) -> None:
        self._case, self._seed = case, seed
        self._inputs = make_inputs(case, seed)
        self._call = self._bind(case, self._inputs)
        self.arena_bytes = self._scratch_bytes

    @abstractmethod
    def _bind(self, case: Case, inputs: Inputs) -> Any:
        """What one call of a case is."""

    @abstractmethod
    def _scratch_bytes(self) -> int:
        """Bytes of scratch of a call."""

    @abstractmethod
    def _kernels(self) -> Mapping[str, str]:
        """The kernels that a call runs, by op."""

    def _attend(self, case: Case, inputs: Inputs) -> tuple[Inputs, dict[str, npt.NDArray[Any]]]:
        return inputs, {"o": np.asarray(self._bind(case, inputs)())}

    def probe(self) -> Verdict:
        """The small cases of this one's head size and mask."""
        return probe_all(self._attend, self._case, self._seed, is_fused=True)

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """This case's own output."""
        limits = limits_of(self._case.dtype, is_fused=True)
        return check_case(self._attend, self._case, self._seed, limits)

    def call(self, phase: str, prepared: Any) -> Single:
        """One forward; the result is a new array."""
        result: Single = self._call()
        return result

    def facts(self, phase: str) -> dict[str, Any]:
        """The kernels and their scratch."""
        return {"kernels": self._kernels(), "memory": {"scratch": self._scratch_bytes()}}


class AttentionKernel(KernelProgram):
    """One kernel of the op attention."""

    def __init__(self, kernel: str, case: Case, seed: int) -> None:
        self._kernel = kernel
        super().__init__(case, seed)

    def _bind(self, case: Case, inputs: Inputs) -> Any:
        q, k, v = inputs
        causal, scale, kernel = case.causal, case.scale, self._kernel
        return lambda: ablation_kernels.attention(
            q, k, v, causal=causal, scale=scale, kernel=kernel
        )

    def _scratch_bytes(self) -> int:
        return attention_scratch(self._kernel, self._case)

    def _kernels(self) -> Mapping[str, str]:
        return {OP: self._kernel}


class UnfusedKernels(KernelProgram):
    """Product, mask, softmax, product over all scores at once; mask and softmax by their best.

    The scores lie in one array that every call uses again, as a planned arena would have them.
    """

    def __init__(self, product: str, case: Case, seed: int) -> None:
        self._product = product
        super().__init__(case, seed)

    def _bind(self, case: Case, inputs: Inputs) -> Any:
        q, k, v = inputs
        product = self._product
        scores = np.empty((case.B, case.H, case.Nq, case.Nk), np.float32)
        mask: Single | None = None
        if case.causal:
            mask = causal_mask(case)

        def call() -> Any:
            ablation_kernels.matmul(
                q, k, transpose_b=True, alpha=case.scale, kernel=product, out=scores
            )
            if mask is not None:
                ablation_kernels.add(scores, mask, out=scores)
            ablation_kernels.softmax(scores, out=scores)
            return ablation_kernels.matmul(scores, v, kernel=product)

        return call

    def _attend(self, case: Case, inputs: Inputs) -> tuple[Inputs, dict[str, npt.NDArray[Any]]]:
        # The case's own scores are there already; another array of them might not fit.
        is_own = case == self._case
        return super()._attend(case, inputs) if not is_own else (inputs, {"o": self._call()})

    def _scratch_bytes(self) -> int:
        case = self._case
        return case.scores_bytes + mask_bytes(case) + product_scratch(self._product, case)

    def memory(self, phase: str) -> dict[str, Any]:
        """As of a call that makes scores and mask, which are scratch that a process can keep."""
        self._call = lambda: self._bind(self._case, self._inputs)()
        return super().memory(phase)

    def _kernels(self) -> Mapping[str, str]:
        scores = (self._case.B, self._case.H, self._case.Nq, self._case.Nk)
        best = ablation_kernels.best_kernel
        mask = {"add": best("add", [scores, scores[2:]])} if self._case.causal else {}
        return {"matmul": self._product, **mask, "softmax": best("softmax", [scores])}
