"""Attention by the runtimes of others in the forward sweep; only workers load this."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...case import Case
from ...memory import measure
from ...runtimes.adapter import Adapter, Model, Runner
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

# A small case that no block divides; to build one takes a runtime seconds.
PROBE_SHAPE = {"B": 2, "H": 3, "Nq": 45, "Nk": 131}


def make_module(case: Case) -> Any:
    """Return PyTorch's attention of (B, H, N, d) tensors as a module."""
    import torch

    class Attention(torch.nn.Module):
        def forward(self, q: Any, k: Any, v: Any) -> Any:
            return torch.nn.functional.scaled_dot_product_attention(
                q, k, v, is_causal=case.causal, scale=case.scale
            )

    return Attention().eval()


def attention(case: Case, parameters: dict[str, Any], q: Any, k: Any, v: Any) -> Any:
    """Return the same in jax.numpy, whose own attention has no form for a CPU."""
    import jax
    import jax.numpy as jnp

    scores = q @ k.swapaxes(-1, -2) * case.scale
    if case.causal:
        hidden = jnp.triu(jnp.ones((case.Nq, case.Nk), dtype=bool), k=1)
        scores = jnp.where(hidden, -jnp.inf, scores)
    return jax.nn.softmax(scores, axis=-1) @ v


class RuntimeAttention(Program):
    """Attention as a runtime has built it for the shape of a case."""

    is_traced = False

    def __init__(self, adapter: Adapter, case: Case, seed: int) -> None:
        self._adapter, self._case, self._seed = adapter, case, seed
        self._inputs = make_inputs(case, seed)
        self._runner = self._build(case, self._inputs)

    def _build(self, case: Case, inputs: Inputs) -> Runner:
        function = partial(attention, case)
        return self._adapter.build(Model(partial(make_module, case), inputs, function=function))

    def probe(self) -> Verdict:
        """A small case, also with large scores."""
        for gain, factor in ((1.0, 1.0), (LARGE_GAIN, LARGE_FACTOR)):
            case = self._case.with_sizes(**PROBE_SHAPE, gain=gain)
            # Held, since a runtime may share their memory; and built once, so that the second
            # call meets memory that the first has used.
            inputs = make_inputs(case, self._seed)
            runner = self._build(case, inputs)
            limits = limits_of(case.dtype, True, factor)
            verdict = run_probes(partial(_attend, runner), [(case, limits)], self._seed)
            if verdict.reason is not None:
                break
        return verdict

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """The case's own output at sampled rows."""
        limits = limits_of(self._case.dtype, True)
        attend = partial(_attend, self._runner)
        return check_case(attend, self._case, self._seed, limits, self._inputs)

    def call(self, phase: str, prepared: Any) -> Any:
        """One forward, wherever the runtime writes it."""
        return self._runner.call(prepared)

    def caller(self, phase: str) -> Callable[[Any], Any]:
        """The runtime's own call."""
        return self._runner.call

    def memory(self, phase: str) -> dict[str, Any]:
        """What the process shows: no runtime counts what it takes, and the results of most were
        there before."""

        def call(prepared: Any) -> None:
            self._runner.call(prepared)

        unknown = dict.fromkeys(("out", "scratch", "tracked_peak", "disagree"))
        return {**measure(call, is_traced=False).columns(), **unknown}


def _attend(
    runner: Runner, case: Case, inputs: Inputs
) -> tuple[Inputs, dict[str, npt.NDArray[Any]]]:
    """The output of a runner, which has the inputs already."""
    return inputs, {"o": np.asarray(runner.output(runner.call(None)))}
