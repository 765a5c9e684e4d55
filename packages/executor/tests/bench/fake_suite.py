"""A suite of small attention in NumPy whose variants fail as their names say.

A name is "right", a defect of `attention`, or a behavior of `FakeProgram`.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ablation_executor.bench.case import Case, CustomTier, make_case
from ablation_executor.bench.suite import (
    Loaded,
    Needs,
    OneProgram,
    Program,
    Refusal,
    Suite,
    Variant,
    Verdict,
)
from ablation_executor.bench.suites.attention.check import (
    Inputs,
    Single,
    check_case,
    limits_of,
    make_inputs,
    probe_all,
)

NAME = "fake"
TILE = 16
DEFECTS = (
    *("zeros", "first_head", "causal_ignored", "bottom_right", "no_maximum"),
    *("last_block_dropped", "scale_missing", "sixteen_bit_sums"),
)
BEHAVIORS = ("sleeps", "aborts", "killed", "hungry", "raises", "unsupported", "refused", "slow")
HUNGRY_BYTES = 1 << 30
TIERS = {"small": "one case", "long": "another"}


def sixteen_bits(array: Single) -> Single:
    """Rounded to the 8 bits of significand that bfloat16 has, by cutting the others off."""
    return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def attention(case: Case, inputs: Inputs, defect: str) -> Single:
    """Attention in float32 with one defect if named."""
    q, k, v = inputs
    if defect == "first_head":
        k = np.broadcast_to(k[:, :1], k.shape)
        v = np.broadcast_to(v[:, :1], v.shape)
    scale = np.float32(1.0 if defect == "scale_missing" else case.scale)
    scores = q @ k.swapaxes(-1, -2) * scale
    if case.causal and defect != "causal_ignored":
        shift = case.Nk - case.Nq if defect == "bottom_right" else 0
        scores[..., np.arange(case.Nk)[None, :] > np.arange(case.Nq)[:, None] + shift] = -np.inf
    if defect == "last_block_dropped" and case.Nk > TILE:
        scores[..., case.Nk - case.Nk % TILE :] = -np.inf
    if defect != "no_maximum":
        scores = scores - scores.max(axis=-1, keepdims=True)
    with np.errstate(all="ignore"):
        weights = np.exp(scores)
        if defect == "sixteen_bit_sums":
            weights = sixteen_bits(weights)
        out = np.asarray(weights @ v / weights.sum(axis=-1, keepdims=True))
    return np.zeros_like(out) if defect == "zeros" else out


class FakeProgram(Program):
    """Computes as it should, or does what its name says when it is timed or called first."""

    is_traced = False

    def __init__(self, behavior: str, case: Case, seed: int) -> None:
        self._behavior, self._case, self._seed = behavior, case, seed
        self._inputs = make_inputs(case, seed)
        self._calls = 0
        if behavior == "raises":
            raise ValueError("cannot load this")
        if behavior == "unsupported":
            raise NotImplementedError("isa: no such instructions")

    def _attend(self, case: Case, inputs: Inputs) -> tuple[Inputs, dict[str, npt.NDArray[Any]]]:
        return inputs, {"o": attention(case, inputs, self._behavior)}

    def probe(self) -> Verdict:
        """As the forward sweep does."""
        return probe_all(self._attend, self._case, self._seed, is_fused=True)

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """As the forward sweep does."""
        limits = limits_of(self._case.dtype, is_fused=True)
        return check_case(self._attend, self._case, self._seed, limits)

    def call(self, phase: str, prepared: Any) -> Any:
        """One call, or the end of this process."""
        self._calls += 1
        print("a library that writes to standard output", flush=True)
        if self._behavior == "sleeps":
            time.sleep(3600)
        if self._behavior == "slow":
            time.sleep(0.3)
        if self._behavior == "hungry":
            return np.ones(HUNGRY_BYTES, np.uint8)
        if self._calls > 2 and self._behavior == "aborts":
            os.abort()
        if self._calls > 2 and self._behavior == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        return attention(self._case, self._inputs, self._behavior)

    def facts(self, phase: str) -> dict[str, Any]:
        """Something of the suite's own."""
        return {"details": {"calls": self._calls}}


class FakeSuite(Suite):
    """One tier of one causal case."""

    name = NAME
    what = "failures"
    baseline = "right"
    tiers = TIERS
    twins = (("right", "two_phases"),)

    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """B2 H3, lengths that no tile divides."""
        length = 40 if tier == "small" else 83
        return [
            make_case(NAME, tier, (2, 3, length, length, 16), causal=True, threads=count)
            for count in threads
        ]

    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """The small one."""
        return self.cases("small", threads, device)

    def custom_cases(
        self, custom: CustomTier, threads: Sequence[int], device: str
    ) -> list[Case] | None:
        """None, so that the refusal can be seen."""
        return None

    def variants(self, device: str) -> tuple[Variant, ...]:
        """Each behavior, one of two phases, and the right one."""
        names = ("right", *DEFECTS, *BEHAVIORS)
        two = Variant("two_phases", "torch", "two", "published_two", ("fwd", "bwd"))
        return (*(Variant(name, "torch", name) for name in names), two)

    def supports(self, variant: Variant, case: Case) -> Refusal | None:
        """All but one."""
        if variant.name == "refused":
            return Refusal("unsupported", "shape", "not this shape")
        return None

    def needs(self, variant: Variant, case: Case, phase: str) -> Needs:
        """Much for the hungry one."""
        return Needs(1000, HUNGRY_BYTES if variant.name == "hungry" else 1000)

    def measures_memory(self, case: Case, is_quick: bool) -> bool:
        """Only in the long case."""
        return case.tier == "long"

    def load(self, worker: str, case: Case, seed: int) -> Loaded:
        """The program of a name."""
        return OneProgram(lambda variant: FakeProgram(variant, case, seed))


SUITE = FakeSuite()
