"""The programs of attention-backward: forwards of (B * H, N, d) tensors, and autograd over them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

import ablation_kernels

from ...case import Case
from ...memory import Unavailable, c10_trace, hwm_usage, published_style
from ...suite import Verdict
from ...worker import is_out_of_memory
from ..attention.gradients import (
    LARGE_SCORE_FACTOR,
    attention_reference,
    judge_tensors,
    make_inputs,
    spread_scores,
)
from ..pytorch.program import TorchProgram, require_flash
from .variants import (
    ABLATION,
    BACKWARD_PHASES,
    BWD,
    BWD_SUM,
    COMPILED_SUFFIX,
    COURSE,
    FWD,
    FWD_NOGRAD,
    PHASES,
    SDPA,
    SOFTMAX,
    TRITON,
    kernel_bytes,
    kernel_of,
    saved_bytes,
)

Forward = Callable[[Any, Any, Any], Any]
GRADIENTS = ("dq", "dk", "dv")


class Form(NamedTuple):
    """A forward of (B * H, N, d) tensors, and the tensors that it has besides: they are made once,
    and no part of a call."""

    forward: Forward
    constants: tuple[Any, ...] = ()


def softmax_in_steps(scores: Any) -> Any:
    """Softmax of the last axis from its parts; each step has a name, which keeps it alive to the
    end, as in the published code."""
    shifted = scores - torch.max(scores, dim=-1, keepdim=True).values
    exponentials = torch.exp(shifted)
    return exponentials / exponentials.sum(dim=-1, keepdim=True)


def _softmax(scores: Any) -> Any:
    return torch.softmax(scores, dim=-1)


def _unfused(softmax: Callable[[Any], Any]) -> Callable[[Case], Form]:
    """All scores in memory."""

    def make(case: Case) -> Form:
        scale = case.scale
        if not case.causal:
            return Form(lambda q, k, v: softmax(q @ k.transpose(-2, -1) * scale) @ v)
        shape = (case.Nq, case.Nk)
        visible = torch.ones(shape, dtype=torch.bool, device=case.device).tril_()

        def forward(q: Any, k: Any, v: Any) -> Any:
            scores = q @ k.transpose(-2, -1) * scale
            scores = torch.where(visible, scores, -torch.inf)
            return softmax(scores) @ v

        return Form(forward, (visible,))

    return make


def _with_heads(attention: Callable[..., Any]) -> Callable[[Case], Form]:
    """An attention of (B, H, N, d) with keywords causal and scale, given views of that shape."""

    def make(case: Case) -> Form:
        heads = (case.B, case.H)
        causal, scale = case.causal, case.scale

        def forward(q: Any, k: Any, v: Any) -> Any:
            q, k, v = (tensor.unflatten(0, heads) for tensor in (q, k, v))
            return attention(q, k, v, causal=causal, scale=scale).flatten(0, 1)

        return Form(forward)

    return make


def _sdpa(q: Any, k: Any, v: Any, *, causal: bool, scale: float) -> Any:
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)


def _make_ablation(case: Case) -> Form:
    from ....torch_ops import flash_attention

    return _with_heads(flash_attention)(case)


def _make_triton(case: Case) -> Form:
    from ..attention.triton_flash import flash_forward

    return _with_heads(lambda q, k, v, **options: flash_forward(q, k, v, **options)[0])(case)


FORMS: Mapping[str, Callable[[Case], Form]] = {
    COURSE: _unfused(softmax_in_steps),
    SOFTMAX: _unfused(_softmax),
    SDPA: _with_heads(_sdpa),
    TRITON: _make_triton,
    ABLATION: _make_ablation,
}


@dataclass(frozen=True)
class Probe:
    """A small case with what makes it hard; `is_sum`: the gradient of the output is that of a sum,
    which has no strides."""

    case: Case
    is_spread: bool = False
    is_sum: bool = False
    is_strided: bool = False

    @property
    def name(self) -> str:
        """For a reason."""
        parts = [f"{self.case.Nq} queries, {self.case.Nk} keys"]
        parts += ["scores far apart"] * self.is_spread
        parts += ["gradient of a sum"] * self.is_sum
        parts += ["strided inputs"] * self.is_strided
        return ", ".join(parts) + ": "


def probes(case: Case) -> list[Probe]:
    """A prime length, which no tile divides; fewer queries than keys, and one; gradients without
    strides; scores whose exp is no float32."""

    def small(n_q: int, n_k: int) -> Case:
        return case.with_sizes(B=3, H=1, Nq=n_q, Nk=n_k)

    return [
        Probe(small(67, 67), is_strided=True),
        Probe(small(67, 67), is_sum=True),
        Probe(small(33, 67)),
        Probe(small(1, 67)),
        Probe(small(67, 67), is_spread=True),
    ]


class AttentionProgram(TorchProgram):
    """One variant with the inputs of a case."""

    def __init__(self, name: str, case: Case, seed: int) -> None:
        is_compiled = name.endswith(COMPILED_SUFFIX)
        super().__init__(case.device, is_compiled)
        self._name = name
        self._case = case
        self._seed = seed
        self._make = FORMS[name.removesuffix(COMPILED_SUFFIX)]
        self._forward, self._constants = self._make(case)
        self._has_backward = name != TRITON
        if is_compiled:
            self._forward = torch.compile(self._forward, fullgraph=True, dynamic=False)
        *inputs, self._grad = make_inputs(case, seed)
        self._leaves = [tensor.requires_grad_() for tensor in inputs]
        if name == SDPA:
            heads = (case.B, case.H)
            require_flash([leaf.unflatten(0, heads) for leaf in self._leaves], case)

    def compile(self) -> None:
        """Each phase once: without gradients another graph is compiled than with them."""
        phases: Sequence[str] = PHASES if self._is_compiled else ()
        for phase in phases if self._has_backward else (FWD_NOGRAD,):
            self.call(phase, self.prepare(phase))

    def prepare(self, phase: str) -> Any:
        """A fresh graph for a backward."""
        if phase == BWD:
            return self._forward(*self._leaves)
        return self._forward(*self._leaves).sum() if phase == BWD_SUM else None

    def call(self, phase: str, prepared: Any) -> Any:
        """The output, or the three gradients."""
        if phase == FWD:
            return self._forward(*self._leaves)
        if phase == FWD_NOGRAD:
            with torch.no_grad():
                return self._forward(*self._leaves)
        grad = self._grad if phase == BWD else None
        return torch.autograd.grad(prepared, self._leaves, grad)

    def probe(self) -> Verdict:
        """Small cases; what is compiled has its one shape."""
        cases = [Probe(self._case, is_spread=True)] if self._is_compiled else probes(self._case)
        verdict = Verdict()
        for probe in cases:
            q, k, v, grad = make_inputs(probe.case, self._seed)
            if probe.is_spread:
                q = spread_scores(q, k, probe.case.scale)
            if probe.is_strided:
                q, k, v, grad = (strided(tensor) for tensor in (q, k, v, grad))
            if probe.is_sum:
                grad = torch.ones_like(grad)
            forward = self._forward if self._is_compiled else self._make(probe.case).forward
            leaves = [tensor.detach().requires_grad_() for tensor in (q, k, v)]
            if self._has_backward:
                outputs = evaluate(forward, leaves, None if probe.is_sum else grad)
            else:
                outputs, grad = evaluate_forward(forward, leaves), None
            factor = LARGE_SCORE_FACTOR if probe.is_spread else 1.0
            expected = self._expected(probe.case, leaves, grad)
            verdict = judge_tensors(outputs, expected, probe.name, factor)
            if verdict.reason is not None:
                return verdict
        return verdict

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """The output, and the gradients from the dense one."""
        if set(phases) & set(BACKWARD_PHASES):
            outputs = evaluate(self._forward, self._leaves, self._grad)
            expected = self._expected(self._case, self._leaves, self._grad)
        else:
            outputs = evaluate_forward(self._forward, self._leaves)
            expected = self._expected(self._case, self._leaves, None)
        return judge_tensors(outputs, expected, "")

    def _expected(self, case: Case, leaves: Sequence[Any], grad: Any) -> dict[str, Any]:
        q, k, v = leaves
        return attention_reference(q, k, v, causal=case.causal, scale=case.scale, grad=grad)

    def memory(self, phase: str) -> dict[str, Any]:
        """Of the forward with a graph also what the graph keeps, and the published column."""
        inputs = [*self._leaves, *self._constants] if phase == FWD else None
        arena = (lambda: kernel_bytes(self._case, phase)) if self._name == ABLATION else None
        entries = self._measured(phase, inputs=inputs, arena=arena)
        if phase == FWD and not self._is_cuda:
            entries["details"] |= self._published_memory()
        return entries

    def _published_memory(self) -> dict[str, Any]:
        """Two graphs at a time may be more than the machine has, and ours only the process sees."""
        found: dict[str, Any] = {
            "mem_saved_predicted_bytes": saved_bytes(self._name, self._case),
            "mem_published_style_bytes": None,
            "mem_published_style_reason": None,
        }
        try:
            source = hwm_usage if self._name == ABLATION else c10_trace
            peak = published_style(lambda: self.call(FWD, None), source)
            found["mem_published_style_bytes"] = peak
        except (MemoryError, RuntimeError, Unavailable) as error:
            if not (isinstance(error, Unavailable) or is_out_of_memory(error)):
                raise
            found["mem_published_style_reason"] = str(error)
        return found

    def facts(self, phase: str) -> dict[str, Any]:
        """The backend that was made sure of, our kernel, and the compiler's counts."""
        facts = super().facts(phase)
        if self._name == SDPA:
            facts["details"]["sdpa_backend"] = "flash"
        if self._name == ABLATION:
            facts["kernels"] = dict([kernel_of(self._case, phase)])
        return facts


def evaluate(forward: Forward, leaves: Sequence[Any], grad: Any) -> dict[str, Any]:
    """The output and the gradients of the leaves; for `grad` None those of the output's sum."""
    output = forward(*leaves)
    target = output.sum() if grad is None else output
    gradients = torch.autograd.grad(target, leaves, grad)
    return {"o": output, **dict(zip(GRADIENTS, gradients, strict=True))}


def evaluate_forward(forward: Forward, leaves: Sequence[Any]) -> dict[str, Any]:
    """The output alone, without a graph."""
    with torch.no_grad():
        return {"o": forward(*leaves)}


def strided(tensor: Any) -> Any:
    """The same values, the rows of all items side by side in memory."""
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def start(name: str, threads: int) -> None:
    """Set the threads of this process; for our operator those of the kernels too."""
    torch.set_num_threads(threads)
    if name == ABLATION:
        ablation_kernels.set_num_threads(threads)
