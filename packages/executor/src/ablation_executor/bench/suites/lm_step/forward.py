"""The forward of lm-step outside PyTorch: exported once, run as a native program of our kernels.

PyTorch makes the weights and the graph, and computes what the check compares with. In a timed call
the rows of the embedding are copied by NumPy, the blocks, norm and head are one run of the program,
and the mean cross-entropy is one softmax of our kernels with two passes of NumPy around it.
"""

from __future__ import annotations

import gc
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import ablation_kernels

from ....compiler import CompiledProgram, compile
from ....exporter import export
from ....passes import optimize
from ...case import Case
from ...memory import measure
from ...runtimes.parameters import take_weights
from ...suite import Profile, Program, Verdict
from .checks import GAINS, LOSS_LIMIT, first_excess, small_model, unlikely_start
from .model import LanguageModel, make_batch, make_model, next_token_loss
from .reference import float64_weights, reference_logits, reference_loss
from .sizes import UNFUSED, model_flops, model_shape, tokens

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

    def run(self) -> tuple[float, list[int]]:
        """One whole forward: the loss, and the nanoseconds of PARTS."""
        marks = [perf_counter_ns()]
        np.take(self.embedding, self._tokens, axis=0, out=self.rows, mode="clip")
        marks.append(perf_counter_ns())
        self.program(self.rows, out=self.logits)
        marks.append(perf_counter_ns())
        result = mean_cross_entropy(self.logits.reshape(-1, self._vocab), self._targets)
        marks.append(perf_counter_ns())
        return result, [end - start for start, end in pairwise(marks)]

    def loss(self) -> float:
        """One whole forward whose parts are kept."""
        result, parts = self.run()
        for name, passed in zip(PARTS, parts, strict=True):
            self.parts_ns[name].append(passed)
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
        for gain, factor in GAINS:
            verdict = self._small_model(gain, factor)
            if verdict.reason is not None:
                break
        return verdict

    def _small_model(self, gain: float, factor: float) -> Verdict:
        model, batch = small_model("sdpa", self._case, self._seed, gain)
        with torch.no_grad():
            weights = float64_weights(model)
            expected = reference_logits(weights, model.shape, batch[0]).numpy()
            expected_loss = reference_loss(weights, model.shape, *batch).item()
        forward = Forward(model, batch)
        error = relative_error(forward.compute_logits(), expected)
        loss = abs(forward.loss() - expected_loss) / expected_loss
        limits = {"logits": factor * LOGITS_LIMIT, "loss": factor * LOSS_LIMIT}
        verdict = Verdict({"logits": error, "loss": loss}, limits)
        verdict.reason = first_excess(verdict)
        return verdict

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
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
        verdict.reason = first_excess(verdict) or unlikely_start(loss, self._shape.vocab)
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

        entries = measure(
            call, release, is_traced=False, arena=lambda: forward.buffer_bytes
        ).columns()
        for name in ("peak", "scratch", "tracked_peak"):
            entries[name] += forward.program.arena_bytes
        return entries

    def profile(self, phase: str, repeat: int) -> Profile:
        """The operations of the native program, between the embedding and the loss."""
        native = self._forward.program.profile(self._forward.rows, repeat=repeat)
        around = [self._forward.run()[1] for _ in range(repeat)]
        first, last = (
            {"name": name, "op": name, "category": category, "kernel": None}
            for name, category in (("embedding", "movement"), ("loss", "element_wise"))
        )
        calls = list(zip(around, native.times_ns.tolist(), native.total_ns.tolist(), strict=True))
        return Profile(
            [first, *map(asdict, native.ops), last],
            [[embedding, *times, loss] for (embedding, _, loss), times, _ in calls],
            [embedding + total + loss for (embedding, _, loss), _, total in calls],
        )

    def facts(self, phase: str) -> dict[str, Any]:
        """Kernels, sizes of the model and of what is kept, and the parts of each call in ns."""
        forward, kernels = self._forward, defaultdict[str, set[str]](set)
        for call in forward.program.calls:
            kernels[call.op].add(call.kernel)
        details: dict[str, Any] = {
            "n_params": self._shape.n_params,
            "tokens": tokens(self._case),
            "model_flops": model_flops(self._case, phase),
            "mem_weights_bytes": forward.weights_bytes,
            "first_loss": self._first_loss,
            "forward_parts_ns": forward.parts_ns,
        }
        n_calls = len(forward.program.calls)
        return {
            "kernels": {op: "+".join(sorted(names)) for op, names in kernels.items()},
            "n_calls": n_calls,
            "timing_overhead_ns": (n_calls + 1) * ablation_kernels.clock_overhead_ns(),
            "memory": {
                "arena": forward.program.arena_bytes,
                "packed": forward.program.packed_weights_bytes,
            },
            "details": details,
        }
