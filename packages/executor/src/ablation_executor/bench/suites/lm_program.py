"""The program of lm-step: a model with its batch and optimizer, and the phases of a step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import ablation_kernels

from ..machine import isa_flags
from ..worker import is_out_of_memory
from .case import Case
from .language_model import (
    ATTENTIONS,
    LanguageModel,
    make_batch,
    make_model,
    make_optimizer,
    next_token_loss,
)
from .lm_reference import float64_weights, reference_loss
from .lm_sizes import (
    BACKWARD_PHASES,
    UNFUSED,
    ModelShape,
    model_flops,
    model_shape,
    tokens,
)
from .memory import measure, measure_cuda
from .suite import Verdict
from .torch_program import TorchProgram

Loss = Callable[[Tensor, Tensor], Tensor]

PARTS = ("zero_grad", "fwd", "bwd", "opt")

# Of the first loss against that of equal probabilities: the head's random weights add to it half
# the variance of a logit, 2 d_model / (d_model + vocab) / 2.
FIRST_LOSS_LIMIT = 0.5
# Relative errors of the loss, and of a gradient by the norm of its difference.
LOSS_LIMIT, GRADIENT_LIMIT = 1e-5, 1e-4
PROBE_GRADIENT_LIMIT = 2e-5
# Scores far apart multiply the rounding errors of what they are made of.
LARGE_SCORE_GAIN, LARGE_SCORE_FACTOR = 20.0, 10.0
# With bfloat16 products the loss is off by an absolute error, which does not shrink with it.
AUTOCAST_LOSS_LIMIT, AUTOCAST_GRADIENT_LIMIT = 2e-2, 1e-1


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
        gains = (1.0, LARGE_SCORE_GAIN) if self._autocast == "none" else (1.0,)
        verdict = Verdict()
        for gain in gains:
            verdict = self._small_model(gain)
            if verdict.reason is not None:
                return verdict
        return verdict

    def _small_model(self, gain: float) -> Verdict:
        """Two blocks with heads as wide as the case's, and a prime number of tokens; `gain`
        multiplies the scores."""
        device, head_dim = self._case.device, self._case.d
        shape = ModelShape(2 * head_dim, 40, 2, 2, 61, 67)
        model = make_model(shape, self._attention, self._seed, device)
        with torch.no_grad():
            for block in model.blocks:
                block.attention.query.weight.mul_(gain)
        inputs, targets = make_batch(shape, 3, self._seed, device)
        loss = loss_function(model, device, self._autocast)(inputs, targets)
        loss.backward()
        weights = float64_weights(model)
        expected = reference_loss(weights, shape, inputs.cpu(), targets.cpu())
        expected.backward()
        errors = [
            norm_error(parameter.grad.cpu().double(), weights[name].grad)
            for name, parameter in model.named_parameters()
        ]
        factor = LARGE_SCORE_FACTOR if gain > 1 else 1.0
        return self._judge(
            loss.item(), expected.item(), worst(errors), factor * PROBE_GRADIENT_LIMIT, factor
        )

    def check(self, phases: Sequence[str]) -> Verdict:
        """The first loss against that of equal probabilities, and loss and gradients against the
        same weights with another attention: eager, without autocast, float32.

        Those gradients are compared and given back one by one, and its blocks computed twice, so
        that the check needs no more memory than a backward.
        """
        self._restore()
        verdict = self._compare(self._batch, bool(set(phases) & set(BACKWARD_PHASES)))
        expected = math.log(self._shape.vocab)
        if verdict.reason is None and not abs(self._first_loss - expected) < FIRST_LOSS_LIMIT:
            verdict.reason = (
                f"the first loss is {self._first_loss:.3f}, that of equal probabilities "
                f"{expected:.3f}, allowed apart {FIRST_LOSS_LIMIT}"
            )
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
        """Of the forward with a graph also what the graph keeps beside weights and batch."""
        inputs = [*self._parameters, *self._batch] if phase == "fwd_grad" else None

        def call(prepared: Any) -> Any:
            return self.call(phase, prepared)

        def prepare() -> Any:
            # Gradients of the call before would be there at the start and gone at the peak.
            self._model.zero_grad()
            return self.prepare(phase)

        method = measure_cuda if self._is_cuda else measure
        return method(call, prepare, inputs=inputs).columns()

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
        facts = {**super().facts(phase), "details": details}
        if self._attention == "ablation" and self._is_short_on_cpu:
            used = ablation_kernels.attention_bf16_instruction_set()
            facts["kernels"] = [f"attention_bf16:{used}"]
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


def first_excess(verdict: Verdict) -> str | None:
    """The first error that is not within its limit, NaN included."""
    for name, error in verdict.errors.items():
        if not error <= verdict.limits[name]:
            return f"error of {name} is {error:.3g}, allowed {verdict.limits[name]:.3g}"
    return None


def worst(errors: Sequence[float]) -> float:
    """The largest of some errors, or NaN, over which max() passes in some places of a list."""
    return max(errors) if all(map(math.isfinite, errors)) else math.nan


def norm_error(value: Tensor, expected: Tensor) -> float:
    """Norm of the difference over the norm of what is expected."""
    difference = torch.linalg.vector_norm(value - expected)
    return float(difference / torch.linalg.vector_norm(expected))


def other_loss(model: LanguageModel, attention: str, batch: tuple[Tensor, Tensor]) -> Tensor:
    """The loss with another attention, blocks computed again in the backward, not kept."""
    inputs, targets = batch
    x = nn.functional.embedding(inputs, model.embedding)
    for block in model.blocks:
        x = checkpoint(block, x, model.rotary, ATTENTIONS[attention], use_reentrant=False)
    return next_token_loss(model.head(model.norm(x)), targets)


def compare_gradients(
    model: LanguageModel,
    attention: str,
    batch: tuple[Tensor, Tensor],
    kept: dict[int, Tensor],
) -> tuple[float, float]:
    """The loss with another attention, and the largest error of the gradients in `kept` (by the
    id of their parameter), each given up as soon as it is compared."""
    errors: list[float] = []

    def compare(parameter: Any) -> None:
        errors.append(norm_error(kept.pop(id(parameter)), parameter.grad))
        parameter.grad = None

    hooks = [
        parameter.register_post_accumulate_grad_hook(compare) for parameter in model.parameters()
    ]
    try:
        loss = other_loss(model, attention, batch)
        loss.backward()
    finally:
        for hook in hooks:
            hook.remove()
    if kept:
        raise RuntimeError(f"{len(kept)} parameters had no gradient from attention {attention}")
    return loss.item(), worst(errors)


def bfloat16_instructions() -> str:
    """What multiplies bfloat16 on this CPU: the instruction set, or "emulated" where there is
    none."""
    flags = isa_flags()
    for name in ("amx_bf16", "avx512_bf16", "bf16"):
        if name in flags:
            return name
    return "emulated"
