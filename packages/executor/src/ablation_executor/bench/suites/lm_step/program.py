"""The program of lm-step: a model with its batch and optimizer, and the phases of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import torch
from torch import Tensor

import ablation_kernels
from ablation_kernels.machine import isa_flags

from ...case import Case
from ...suite import Verdict
from ...worker import is_out_of_memory
from ..pytorch.program import TorchProgram
from .checks import (
    AUTOCAST_GRADIENT_LIMIT,
    AUTOCAST_LOSS_LIMIT,
    GAINS,
    GRADIENT_LIMIT,
    LOSS_LIMIT,
    PROBE_GRADIENT_LIMIT,
    compare_gradients,
    first_excess,
    norm_error,
    other_loss,
    small_model,
    unlikely_start,
    worst,
)
from .model import LanguageModel, make_batch, make_model, make_optimizer, next_token_loss
from .reference import float64_weights, reference_loss
from .sizes import BACKWARD_PHASES, UNFUSED, model_flops, model_shape, tokens

Loss = Callable[[Tensor, Tensor], Tensor]

PARTS = ("zero_grad", "fwd", "bwd", "opt")


def loss_function(model: LanguageModel, device: str, autocast: str) -> Loss:
    """The forward that a step times: tokens and targets -> loss, products in bfloat16 if so asked;
    the loss itself is float32."""
    is_enabled = autocast != "none"

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=is_enabled):
            logits = model(inputs)
        return next_token_loss(logits, targets)

    return loss


class StepProgram(TorchProgram):
    """One attention, eager or compiled, with the model, batch and autocast of a case."""

    def __init__(self, attention: str, is_compiled: bool, case: Case, seed: int) -> None:
        super().__init__(case.device, is_compiled)
        self._case, self._seed, self._attention = case, seed, attention
        self._shape = model_shape(case)
        self._autocast = case.get("autocast")
        self._model = make_model(self._shape, attention, seed, case.device)
        self._parameters = list(self._model.parameters())
        self._batch = make_batch(self._shape, case.B, seed, case.device)
        self._optimizer = make_optimizer(self._model)
        self._loss = loss_function(self._model, case.device, self._autocast)
        if is_compiled:
            self._loss = torch.compile(self._loss, fullgraph=True, dynamic=False)
        self._marks: list[list[Any]] = []
        self._first_loss = math.nan
        self._last_loss: Tensor | None = None
        self._has_stepped = False

    def compile(self) -> None:
        """With autograd and without: another graph is compiled for each."""
        if not self._is_compiled:
            return
        self.call("fwd_nograd", None)
        try:
            self.call("fwd_bwd", None)
        except (MemoryError, RuntimeError) as error:
            # Of a model whose gradients do not fit, the forward is timed all the same.
            if not is_out_of_memory(error):
                raise
        self._model.zero_grad()

    def prepare(self, phase: str) -> Any:
        """A fresh graph for a backward. What the last call left is given back, except by a step,
        of which that is a part."""
        if phase != "step":
            self._model.zero_grad()
        return self._loss(*self._batch) if phase == "bwd" else None

    def call(self, phase: str, prepared: Any) -> Any:
        """The loss, and after a backward the gradients, which are those of the parameters."""
        if phase == "fwd_nograd":
            with torch.no_grad():
                return self._loss(*self._batch)
        if phase == "step":
            return self._step()
        loss = self._loss(*self._batch) if prepared is None else prepared
        if phase == "fwd_grad":
            return loss
        loss.backward()
        return [parameter.grad for parameter in self._parameters]

    def _step(self) -> Tensor:
        """One step of training, with a mark between its parts."""
        self._has_stepped = True
        marks = [self._mark()]
        self._optimizer.zero_grad(set_to_none=True)
        marks.append(self._mark())
        loss = self._loss(*self._batch)
        marks.append(self._mark())
        loss.backward()
        marks.append(self._mark())
        self._optimizer.step()
        marks.append(self._mark())
        self._marks.append(marks)
        self._last_loss = loss.detach()
        return self._last_loss

    def _mark(self) -> Any:
        """The time now; on a GPU an event, since waiting for it would slow what follows."""
        if not self._is_cuda:
            return perf_counter_ns()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def start_timing(self, phase: str) -> None:
        """Forget the parts of earlier steps."""
        super().start_timing(phase)
        if phase == "step":
            self._marks.clear()

    def probe(self) -> Verdict:
        """Loss and gradients of a model so small that float64 costs nothing; what is compiled has
        its one shape, and gets another batch."""
        if self._is_compiled:
            self._restore()
            batch = make_batch(self._shape, self._case.B, self._seed + 1, self._case.device)
            return self._compare(batch, wants_gradients=True)
        verdict = Verdict()
        for gain, factor in GAINS if self._autocast == "none" else GAINS[:1]:
            verdict = self._small_model(gain, factor)
            if verdict.reason is not None:
                break
        return verdict

    def _small_model(self, gain: float, factor: float) -> Verdict:
        device = self._case.device
        model, (inputs, targets) = small_model(self._attention, self._case, self._seed, gain)
        loss = loss_function(model, device, self._autocast)(inputs, targets)
        loss.backward()
        weights = float64_weights(model)
        expected = reference_loss(weights, model.shape, inputs.cpu(), targets.cpu())
        expected.backward()
        errors = [
            norm_error(parameter.grad.cpu().double(), weights[name].grad)
            for name, parameter in model.named_parameters()
        ]
        return self._judge(
            loss.item(), expected.item(), worst(errors), factor * PROBE_GRADIENT_LIMIT, factor
        )

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """The first loss against that of equal probabilities, and loss and gradients against the
        same weights with another attention: eager, without autocast, float32.

        Those gradients are compared and given back one by one, and its blocks computed twice, so
        that the check needs no more memory than a backward.
        """
        self._restore()
        verdict = self._compare(self._batch, bool(set(phases) & set(BACKWARD_PHASES)))
        verdict.reason = verdict.reason or unlikely_start(self._first_loss, self._shape.vocab)
        return verdict

    def _restore(self) -> None:
        """The first weights again: a gradient that is wrong spoils those of a step, and another
        output would be blamed for it."""
        if self._has_stepped:
            self._model.initialize(self._seed)
            self._has_stepped = False

    def _compare(self, batch: tuple[Tensor, Tensor], wants_gradients: bool) -> Verdict:
        self._model.zero_grad()
        other = "sdpa" if self._attention == UNFUSED else UNFUSED
        if not wants_gradients:
            with torch.no_grad():
                loss = self._loss(*batch).item()
                expected = other_loss(self._model, other, batch).item()
            self._first_loss = loss
            return self._judge(loss, expected, None)
        computed = self._loss(*batch)
        computed.backward()
        self._first_loss = loss = computed.item()
        del computed
        # Held by nothing else, so that each is given back as soon as it has been compared.
        kept = {id(parameter): parameter.grad for parameter in self._parameters}
        self._model.zero_grad()
        expected, gradient = compare_gradients(self._model, other, batch, kept)
        return self._judge(loss, expected, gradient)

    def _judge(
        self,
        loss: float,
        expected: float,
        gradient: float | None,
        gradient_limit: float = GRADIENT_LIMIT,
        factor: float = 1.0,
    ) -> Verdict:
        error, limit = abs(loss - expected), AUTOCAST_LOSS_LIMIT
        if self._autocast == "none":
            error, limit = error / abs(expected), factor * LOSS_LIMIT
        verdict = Verdict({"loss": error}, {"loss": limit})
        if gradient is not None:
            is_short = self._autocast != "none"
            verdict.errors["grad"] = gradient
            verdict.limits["grad"] = AUTOCAST_GRADIENT_LIMIT if is_short else gradient_limit
        verdict.reason = first_excess(verdict)
        return verdict

    def memory(self, phase: str) -> dict[str, Any]:
        """Of the forward with a graph also what the graph keeps besides weights and batch."""

        def prepare() -> Any:
            # Gradients of the call before would be there at the start and gone at the peak.
            self._model.zero_grad()
            return self.prepare(phase)

        inputs = [*self._parameters, *self._batch] if phase == "fwd_grad" else None
        return self._measured(phase, prepare, inputs)

    def facts(self, phase: str) -> dict[str, Any]:
        """Sizes of the model, and of a step its parts in ns, which sum to it.

        The parts are those of every step since the timing began, uncounted ones included.
        """
        state = self._optimizer.state.values()
        moments = [value for entry in state for value in entry.values() if torch.is_tensor(value)]
        details: dict[str, Any] = {
            "n_params": sum(parameter.numel() for parameter in self._parameters),
            "tokens": tokens(self._case),
            "model_flops": model_flops(self._case, phase),
            "mem_weights_bytes": sum(parameter.nbytes for parameter in self._parameters),
            "mem_grads_bytes": self._gradient_bytes() if phase in BACKWARD_PHASES else None,
            "mem_opt_bytes": sum(value.nbytes for value in moments) if phase == "step" else None,
            "parts_ns": self._parts_ns() if phase == "step" else None,
            "first_loss": self._first_loss,
            "last_loss": self._finite_loss() if phase == "step" else None,
            "bfloat16": bfloat16_instructions() if self._is_short_on_cpu else None,
        }
        facts = super().facts(phase)
        facts["details"] |= details
        if self._attention == "ablation" and self._is_short_on_cpu:
            used = ablation_kernels.attention_bf16_instruction_set()
            facts["kernels"] = {"attention": f"attention_bf16:{used}"}
        return facts

    @property
    def _is_short_on_cpu(self) -> bool:
        return self._autocast != "none" and not self._is_cuda

    def _gradient_bytes(self) -> int:
        """Of the gradients of one backward, which is made anew if they have been given back."""
        if all(parameter.grad is None for parameter in self._parameters):
            self.call("fwd_bwd", None)
        return sum(parameter.grad.nbytes for parameter in self._parameters)

    def _parts_ns(self) -> dict[str, list[int]]:
        self.synchronize()
        parts: dict[str, list[int]] = {name: [] for name in PARTS}
        for marks in self._marks:
            for name, start, end in zip(PARTS, marks, marks[1:], strict=False):
                passed = int(start.elapsed_time(end) * 1e6) if self._is_cuda else end - start
                parts[name].append(passed)
        return parts

    def _finite_loss(self) -> float | None:
        """The last step's loss; ArithmeticError where training has gone astray."""
        if self._last_loss is None:
            return None
        loss: float = self._last_loss.item()
        if not math.isfinite(loss):
            raise ArithmeticError(f"the loss after {len(self._marks)} timed steps is {loss}")
        return loss


def bfloat16_instructions() -> str:
    """What multiplies bfloat16 on this CPU: the instruction set, or "emulated" where there is
    none."""
    flags = isa_flags()
    for name in ("amx_bf16", "avx512_bf16", "bf16"):
        if name in flags:
            return name
    return "emulated"
