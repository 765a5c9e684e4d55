"""The forward of lm-step outside PyTorch: exported once, run as a native program of our kernels.

PyTorch makes the weights and the graph, and computes what the check compares with. In a timed call
the rows of the embedding are copied by NumPy, the blocks, norm and head are one run of the program,
and the mean cross-entropy is one softmax of our kernels with two passes of NumPy around it.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import ablation_kernels

from ...compile import CompiledProgram, compile
from ...export import export
from ...passes import optimize
from ..models import take_weights
from .case import Case
from .language_model import LanguageModel, make_batch, make_model, next_token_loss
from .lm_program import (
    FIRST_LOSS_LIMIT,
    LARGE_SCORE_FACTOR,
    LARGE_SCORE_GAIN,
    LOSS_LIMIT,
    first_excess,
)
from .lm_reference import float64_weights, reference_logits, reference_loss
from .lm_sizes import UNFUSED, ModelShape, model_flops, model_shape, tokens
from .memory import measure
from .suite import Program, Verdict

Single = npt.NDArray[np.float32]
Tokens = npt.NDArray[np.int64]

PARTS = ("embedding", "program", "loss")
# Largest error of a logit over the largest logit: against float64, and against float32 sums in
# another order, which differ the more the deeper a model is.
LOGITS_LIMIT, DEEP_LOGITS_LIMIT = 1e-5, 1e-4


class Decoder(nn.Module):
    """All of a model behind its embedding, for export."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, d_model) -> logits (B, T, vocab)."""
        return self.model.decode(x)


def build(model: LanguageModel, batch: int) -> CompiledProgram:
    """The native program of a model's blocks, norm and head; it holds copies of the matrices in the
    kernels' own layout, and no longer the model's."""
    x = torch.zeros(batch, model.shape.context, model.shape.d_model)
    decoder = Decoder(model).eval()
    graph, _ = optimize(export(decoder, (x,), arrays=take_weights(decoder)))
    return compile(graph)


def mean_cross_entropy(logits: Single, targets: Tokens) -> float:
    """Mean of log(sum(exp(logits))) - logit of the target, in nats; `logits` (N, vocab) become
    their softmax.

    The sum is that of the exponentials over the largest one, which softmax gives as the reciprocal
    of that one's share: at least 1 / vocab, so that nothing is lost where a target's share
    underflows.
    """
    rows = np.arange(len(logits))
    largest = logits.argmax(axis=-1)
    above = logits[rows, largest].astype(np.float64) - logits[rows, targets]
    ablation_kernels.softmax(logits, out=logits)
    return float(np.mean(above - np.log(logits[rows, largest].astype(np.float64))))


def relative_error(logits: Single, expected: npt.NDArray[Any]) -> float:
    """Largest error over the largest expected magnitude."""
    return float(np.abs(logits - expected).max() / np.abs(expected).max())


class Forward:
    """A compiled model with its batch: what one call needs, and its parts in ns."""

    def __init__(self, model: LanguageModel, batch: tuple[Tensor, Tensor]) -> None:
        inputs, targets = batch
        self.program = build(model, inputs.shape[0])
        self.embedding: Single = model.embedding.detach().numpy()
        self._tokens, self._targets = inputs.numpy(), targets.flatten().numpy()
        self._vocab = model.shape.vocab
        self.make_buffers()
        self.parts_ns: dict[str, list[int]] = {}
        self.forget_parts()

    def make_buffers(self) -> None:
        """The arrays that every call writes: rows of the embedding, and logits."""
        rows = self._tokens.shape
        self.rows = np.empty((*rows, self.embedding.shape[1]), np.float32)
        self.logits = np.empty((*rows, self._vocab), np.float32)

    def forget_parts(self) -> None:
        """Start the lists of times anew."""
        self.parts_ns = {name: [] for name in PARTS}

    @property
    def buffer_bytes(self) -> int:
        """Bytes of those arrays."""
        return self.rows.nbytes + self.logits.nbytes

    @property
    def weights_bytes(self) -> int:
        """Bytes of the weights that are kept: embedding, packed matrices, vectors and tables."""
        program = self.program
        constants = program.graph.constants
        kept = sum(value.nbytes for value in constants if not constants.is_released(value))
        return self.embedding.nbytes + program.packed_weights_bytes + kept

    def compute_logits(self) -> Single:
        """(B, T, vocab), the same array in every call."""
        # Tokens are in range by how they are made, and "raise" would copy through a buffer.
        np.take(self.embedding, self._tokens, axis=0, out=self.rows, mode="clip")
        logits: Single = self.program(self.rows, out=self.logits)
        return logits

    def loss(self) -> float:
        """One whole forward."""
        marks = [perf_counter_ns()]
        np.take(self.embedding, self._tokens, axis=0, out=self.rows, mode="clip")
        marks.append(perf_counter_ns())
        self.program(self.rows, out=self.logits)
        marks.append(perf_counter_ns())
        result = mean_cross_entropy(self.logits.reshape(-1, self._vocab), self._targets)
        marks.append(perf_counter_ns())
        for name, start, end in zip(PARTS, marks, marks[1:], strict=False):
            self.parts_ns[name].append(end - start)
        return result


class ForwardProgram(Program):
    """The forward of a case: float32 on the CPU, without autograd."""

    is_traced = False

    def __init__(self, case: Case, seed: int) -> None:
        self._case, self._seed = case, seed
        self._shape = model_shape(case)
        batch = make_batch(self._shape, case.B, seed)
        self._forward = Forward(make_model(self._shape, "sdpa", seed), batch)
        # What export leaves in cycles holds the model's own weights.
        gc.collect()
        self._first_loss = math.nan

    def call(self, phase: str, prepared: Any) -> Any:
        """The loss, an array without axes."""
        return np.asarray(self._forward.loss())

    def start_timing(self, phase: str) -> None:
        """Forget the parts of earlier calls."""
        self._forward.forget_parts()

    def probe(self) -> Verdict:
        """Logits and loss of a model so small that float64 costs nothing, also with scores far
        apart."""
        verdict = Verdict()
        for gain, factor in ((1.0, 1.0), (LARGE_SCORE_GAIN, LARGE_SCORE_FACTOR)):
            verdict = self._small_model(gain, factor)
            if verdict.reason is not None:
                return verdict
        return verdict

    def _small_model(self, gain: float, factor: float) -> Verdict:
        """Two blocks with heads as wide as the case's, and a prime number of tokens."""
        head_dim = self._case.d
        shape = ModelShape(2 * head_dim, 40, 2, 2, 61, 67)
        model = make_model(shape, "sdpa", self._seed)
        batch = make_batch(shape, 3, self._seed)
        with torch.no_grad():
            for block in model.blocks:
                block.attention.query.weight.mul_(gain)
            weights = float64_weights(model)
            expected = reference_logits(weights, shape, batch[0]).numpy()
            expected_loss = reference_loss(weights, shape, *batch).item()
        forward = Forward(model, batch)
        error = relative_error(forward.compute_logits(), expected)
        loss = abs(forward.loss() - expected_loss) / expected_loss
        limits = {"logits": factor * LOGITS_LIMIT, "loss": factor * LOSS_LIMIT}
        verdict = Verdict({"logits": error, "loss": loss}, limits)
        verdict.reason = first_excess(verdict)
        return verdict

    def check(self, phases: Sequence[str]) -> Verdict:
        """Loss and logits against those of the same weights, made anew, in PyTorch with attention
        written out; and the loss against that of equal probabilities."""
        inputs, targets = make_batch(self._shape, self._case.B, self._seed)
        with torch.no_grad():
            wanted = make_model(self._shape, UNFUSED, self._seed)(inputs)
            expected = next_token_loss(wanted, targets).item()
        error = relative_error(self._forward.compute_logits(), wanted.numpy())
        del wanted
        self._first_loss = loss = self._forward.loss()
        verdict = Verdict(
            {"loss": abs(loss - expected) / abs(expected), "logits": error},
            {"loss": LOSS_LIMIT, "logits": DEEP_LOGITS_LIMIT},
        )
        verdict.reason = first_excess(verdict)
        equal = math.log(self._shape.vocab)
        if verdict.reason is None and not abs(loss - equal) < FIRST_LOSS_LIMIT:
            verdict.reason = (
                f"the first loss is {loss:.3f}, that of equal probabilities {equal:.3f}, "
                f"allowed apart {FIRST_LOSS_LIMIT}"
            )
        return verdict

    def memory(self, phase: str) -> dict[str, Any]:
        """As of a call that makes its arrays; the arena, which stays and is counted to the byte, is
        added to what was measured."""
        forward = self._forward

        def call(prepared: Any) -> Any:
            forward.make_buffers()
            return self.call(phase, prepared)

        def release() -> None:
            forward.rows = forward.logits = np.empty(0, np.float32)

        columns = measure(
            call, release, is_traced=False, arena=lambda: forward.buffer_bytes
        ).columns()
        for name in ("mem_op_peak_bytes", "mem_scratch_bytes", "mem_tracked_peak_bytes"):
            columns[name] += forward.program.arena_bytes
        return columns

    def facts(self, phase: str) -> dict[str, Any]:
        """Kernels, sizes of the model and of what is kept, and the parts of each call in ns."""
        forward = self._forward
        details: dict[str, Any] = {
            "n_params": self._shape.n_params,
            "tokens": tokens(self._case),
            "model_flops": model_flops(self._case, phase),
            "mem_weights_bytes": forward.weights_bytes,
            "mem_grads_bytes": None,
            "mem_opt_bytes": None,
            "parts_ns": None,
            "first_loss": self._first_loss,
            "last_loss": None,
            "bfloat16": None,
            "packed_weights_bytes": forward.program.packed_weights_bytes,
            "arena_bytes": forward.program.arena_bytes,
            "forward_parts_ns": forward.parts_ns,
        }
        kernels = dict.fromkeys(call.kernel for call in forward.program.calls)
        return {"kernels": list(kernels), "details": details}
