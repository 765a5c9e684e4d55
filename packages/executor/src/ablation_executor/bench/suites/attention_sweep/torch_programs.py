"""PyTorch's attention in the forward sweep, eager and compiled; only workers load this.

Every forward takes q (B, H, Nq, d) and k, v (B, H, Nk, d) and gives the output, or the output and
the log-sum-exp of the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from ...case import Case
from ...suite import Verdict
from ..attention.check import (
    LARGE_GAIN,
    Inputs,
    check_case,
    factor_of,
    limits_of,
    make_inputs,
    probe_all,
)
from ..pytorch.program import TorchProgram
from .variants import SDPA_FLASH, SDPA_MATH, TRITON

Forward = Callable[[Any, Any, Any], Any]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BACKENDS = {
    SDPA_FLASH: SDPBackend.FLASH_ATTENTION,
    SDPA_MATH: SDPBackend.MATH,
    "torch_sdpa_cudnn": SDPBackend.CUDNN_ATTENTION,
    "torch_sdpa_efficient": SDPBackend.EFFICIENT_ATTENTION,
}
# The scores are float32 in a tile, whatever the type of the inputs is.
FUSED = {*BACKENDS, "torch_flex_compiled", TRITON} - {SDPA_MATH}
COMPILED = {"torch_unfused_lse_compiled", "torch_flex_compiled"}


def visible_pairs(case: Case) -> Any | None:
    """True (Nq, Nk) where a query sees a key, or None where all is seen."""
    if not case.causal:
        return None
    return torch.ones((case.Nq, case.Nk), dtype=torch.bool, device=case.device).tril_()


def unfused_einsum(case: Case) -> Forward:
    """einsum, divide, mask, softmax from its parts, einsum: the published scaled_dot_prod_attention
    is made of these, and not of PyTorch's function of about that name."""
    visible, scale = visible_pairs(case), case.scale

    def forward(q: Any, k: Any, v: Any) -> Any:
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / (1 / scale)
        if visible is not None:
            scores = torch.where(visible, scores, -torch.inf)
        exponentials = torch.exp(scores - scores.amax(dim=-1, keepdim=True))
        weights = exponentials / exponentials.sum(dim=-1, keepdim=True)
        return torch.einsum("bhqk,bhkd->bhqd", weights, v)

    return forward


def unfused_lse(case: Case) -> Forward:
    """matmul, masked_fill, logsumexp, exp, matmul: the published vectorized_torch, which keeps the
    log-sum-exp for a backward pass."""
    visible, scale = visible_pairs(case), case.scale
    hidden = None if visible is None else ~visible

    def forward(q: Any, k: Any, v: Any) -> Any:
        scores = torch.matmul(q, k.transpose(-2, -1)) * scale
        if hidden is not None:
            scores = scores.masked_fill(hidden, -torch.inf)
        lse = torch.logsumexp(scores, dim=-1, keepdim=True)
        return torch.matmul(torch.exp(scores - lse), v), lse.squeeze(-1)

    return forward


def sdpa(case: Case) -> Forward:
    """torch.nn.functional.scaled_dot_product_attention; which backend, the process has chosen."""
    causal, scale = case.causal, case.scale
    return lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)


def _sees(batch: Any, head: Any, query: Any, key: Any) -> Any:
    return query >= key


def flex(case: Case) -> Forward:
    """flex_attention; its block mask is made once and is no part of a call."""
    mask = None
    if case.causal:
        mask = create_block_mask(_sees, None, None, case.Nq, case.Nk, device=case.device)
    scale = case.scale
    return lambda q, k, v: flex_attention(q, k, v, block_mask=mask, scale=scale)


def triton_flash(case: Case) -> Forward:
    """Our kernel in Triton, which gives the log-sum-exp too."""
    from ..attention.triton_flash import flash_forward

    causal, scale = case.causal, case.scale
    return lambda q, k, v: flash_forward(q, k, v, causal=causal, scale=scale)


FORWARDS: dict[str, Callable[[Case], Forward]] = {
    "torch_unfused_einsum": unfused_einsum,
    "torch_unfused_lse": unfused_lse,
    "torch_unfused_lse_compiled": unfused_lse,
    **dict.fromkeys(BACKENDS, sdpa),
    "torch_flex_compiled": flex,
    TRITON: triton_flash,
}


def start_torch(name: str, threads: int) -> None:
    """Set this process up for good: threads, no gradients, exact products, and SDPA's backend."""
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if name in BACKENDS:
        # The choice ends with the context, and the context with the process.
        _CONTEXTS.append(sdpa_kernel(BACKENDS[name]))
        _CONTEXTS[-1].__enter__()


_CONTEXTS: list[Any] = []


class TorchAttention(TorchProgram):
    """One of FORWARDS with the inputs of a case."""

    def __init__(self, name: str, case: Case, seed: int) -> None:
        super().__init__(case.device, name in COMPILED)
        self._name, self._case, self._seed = name, case, seed
        self._inputs = self._tensors(make_inputs(case, seed), case)
        self._forward = FORWARDS[name](case)
        if self._is_compiled:
            self._forward = torch.compile(self._forward, dynamic=False, fullgraph=True)

    def _tensors(self, inputs: Inputs, case: Case) -> tuple[Any, Any, Any]:
        dtype = DTYPES[case.dtype]
        q, k, v = (torch.from_numpy(array).to(case.device, dtype) for array in inputs)
        return q, k, v

    @property
    def _is_fused(self) -> bool:
        return self._name in FUSED

    def compile(self) -> None:
        """Two calls: what the first one compiles may be specialized once more by the second."""
        for _ in range(2 if self._is_compiled or self._name == TRITON else 0):
            self._forward(*self._inputs)
            self.synchronize()

    def _attend(self, case: Case, inputs: Inputs) -> tuple[Inputs, dict[str, npt.NDArray[Any]]]:
        """Run a case: one of this shape on what is compiled already, another one on strided
        inputs, as a model has them that projects to (B, N, H * d)."""
        is_own = case.q_shape == self._case.q_shape and case.k_shape == self._case.k_shape
        forward = self._forward if is_own else FORWARDS[self._name](case)
        tensors = self._tensors(inputs, case)
        if not is_own:
            q, k, v = (tensor.transpose(1, 2).contiguous().transpose(1, 2) for tensor in tensors)
            tensors = (q, k, v)
        result = forward(*tensors)
        outputs = result if isinstance(result, tuple) else (result,)
        rounded = tuple(tensor.float().cpu().numpy() for tensor in tensors)
        # In 16 bits the log-sum-exp is that of rounded scores
        names = ("o", "lse") if case.dtype == "float32" else ("o",)
        named = dict(zip(names, outputs, strict=False))
        return (rounded[0], rounded[1], rounded[2]), {
            name: output.float().cpu().numpy() for name, output in named.items()
        }

    def probe(self) -> Verdict:
        """The small cases; what is compiled for this shape gets large scores of this shape."""
        if not self._is_compiled:
            return probe_all(self._attend, self._case, self._seed, self._is_fused)
        large = self._case.with_sizes(gain=LARGE_GAIN)
        if not self._is_fused and self._case.dtype != "float32":
            return self.check((), None)
        limits = limits_of(self._case.dtype, self._is_fused, factor_of(large))
        verdict = check_case(self._attend, large, self._seed, limits)
        if verdict.reason is not None:
            verdict.reason = f"{large.label}: {verdict.reason}"
        return verdict

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """This case's own output, and the log-sum-exp if there is one."""
        limits = limits_of(self._case.dtype, self._is_fused)
        return check_case(self._attend, self._case, self._seed, limits)

    def call(self, phase: str, prepared: Any) -> Any:
        """One forward."""
        return self._forward(*self._inputs)

    def facts(self, phase: str) -> dict[str, Any]:
        """What the compiler did, and the backend that was asked of SDPA."""
        facts = super().facts(phase)
        if self._name in BACKENDS:
            facts["details"]["sdpa_backend"] = self._name.removeprefix("torch_sdpa_")
        return facts
