"""Inputs of attention, its forward in float64, and the limits of errors.

This module does not import torch, so that a process of our kernels never loads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ...case import Case
from ...suite import Verdict

Single = npt.NDArray[np.float32]
Double = npt.NDArray[np.float64]
Inputs = tuple[Single, Single, Single]

ALL_ROWS_UP_TO, SAMPLED_ROWS = 256, 64

# The largest error over the largest value, by type: where scores are float32 in registers or a
# tile, and where an array holds all of them in the case's own type.
FUSED_LIMITS: Mapping[str, float] = {"float32": 1e-5, "bfloat16": 8e-3, "float16": 1e-3}
UNFUSED_LIMITS: Mapping[str, float] = {"float32": 1e-5, "bfloat16": 3e-2, "float16": 4e-3}
# Of the logarithm of the sum of exponentials, absolute.
LSE_LIMIT = 1e-5
# With queries 30 times as large, the largest scores are above 100: exp of them is no float32, and
# an error of a score, which is an error of its weight, is as much larger.
LARGE_GAIN, LARGE_FACTOR = 30.0, 3.0
# The log-sum-exp is then above 100 too, of which float32 keeps 4e-6 at best.
LARGE_LSE_LIMIT = 1e-4
# Lengths of queries and keys that no block divides, each longer once, and a single query.
PROBE_LENGTHS = ((67, 67), (531, 531), (45, 131), (131, 45), (1, 77))
PROBE_HEADS = 3


def make_inputs(case: Case, seed: int) -> Inputs:
    """Normal random q, k and v, distinct in every batch and head; the same for full and causal, for
    every type and number of threads.

    The size `gain` multiplies the queries. Sameness in all heads, as ramps have it, would hide
    a kernel that reads the wrong head.
    """
    rng = np.random.default_rng([seed, case.B, case.H, case.Nq, case.Nk, case.d])
    shapes = (case.q_shape, case.k_shape, case.k_shape)
    q, k, v = (rng.standard_normal(shape, dtype=np.float32) for shape in shapes)
    q *= np.float32(case.get("gain", 1.0))
    return q, k, v


def sampled_rows(case: Case, seed: int) -> npt.NDArray[np.int64]:
    """All queries of a short sequence; of a long one the first, the last and random others."""
    if case.Nq <= ALL_ROWS_UP_TO:
        return np.arange(case.Nq, dtype=np.int64)
    rng = np.random.default_rng([seed, case.Nq])
    inner = rng.choice(np.arange(1, case.Nq - 1), SAMPLED_ROWS - 2, replace=False)
    return np.sort(np.concatenate([[0, case.Nq - 1], inner]).astype(np.int64))


def attention_reference(
    case: Case, inputs: Inputs, rows: npt.NDArray[np.int64]
) -> tuple[Double, Double]:
    """Output (B, H, rows, d) and log-sum-exp (B, H, rows) of some queries in float64.

    `inputs` are what the variant reads, after its type has rounded them.
    """
    q, k, v = inputs
    out = np.empty((case.B, case.H, len(rows), case.d))
    lse = np.empty((case.B, case.H, len(rows)))
    hidden = np.arange(case.Nk)[None, :] > rows[:, None] if case.causal else None
    for at in np.ndindex(case.B, case.H):
        query, key, value = (array[at].astype(np.float64) for array in (q[..., rows, :], k, v))
        scores = query @ key.T * case.scale
        if hidden is not None:
            scores[hidden] = -np.inf
        top = scores.max(axis=-1, keepdims=True)
        weights = np.exp(scores - top)
        total = weights.sum(axis=-1, keepdims=True)
        out[at] = weights @ value / total
        lse[at] = (top + np.log(total))[:, 0]
    return out, lse


def limits_of(dtype: str, is_fused: bool, factor: float = 1.0) -> dict[str, float]:
    """The limits of output and log-sum-exp; `factor` is `factor_of` the case."""
    limits = FUSED_LIMITS if is_fused else UNFUSED_LIMITS
    return {
        "o": factor * limits[dtype],
        "lse": LSE_LIMIT if factor == 1.0 else LARGE_LSE_LIMIT,
    }


def judge(
    found: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, Double], limits: dict[str, float]
) -> Verdict:
    """Compare arrays by name; lse as it is, all others by their largest value.

    An output of another shape, or that is not finite, has no error, and a reason.
    """
    verdict = Verdict(limits={name: limits[name] for name in found})
    for name, array in found.items():
        reason = None
        wanted = expected[name]
        if array.shape != wanted.shape:
            reason = f"{name} has shape {array.shape}, expected {wanted.shape}"
        elif count := int(np.count_nonzero(~np.isfinite(array))):
            reason = f"{name}: {count} of {array.size} checked elements are not finite"
        else:
            is_absolute = name == "lse"
            # A gradient that is zero throughout, as with one visible key, has its error as it is.
            size = 1.0 if is_absolute else float(np.abs(wanted).max()) or 1.0
            error = float(np.abs(array.astype(np.float64) - wanted).max()) / size
            verdict.errors[name] = error
            if error > limits[name]:
                unit = "" if is_absolute else " of its largest value"
                reason = f"{name} is off by {error:.2g}{unit}, {limits[name]:.2g} allowed"
        verdict.reason = verdict.reason or reason
    return verdict


# Gives the inputs as the variant's type rounds them, and the outputs by name, (B, H, Nq, ...)
Attend = Callable[[Case, Inputs], tuple[Inputs, dict[str, npt.NDArray[Any]]]]


def factor_of(case: Case) -> float:
    """By how much the limits of a case are larger: LARGE_FACTOR where its scores are large."""
    return LARGE_FACTOR if case.get("gain", 1.0) > 1 else 1.0


class CaseCheck:
    """A case with its inputs, and with its reference once that has been computed; on `make_inputs`
    unless others are given."""

    def __init__(
        self, case: Case, seed: int, limits: dict[str, float], inputs: Inputs | None = None
    ) -> None:
        self._case, self._limits = case, limits
        self._inputs = inputs or make_inputs(case, seed)
        self._rows = sampled_rows(case, seed)
        self._expected: dict[str, Double] = {}

    def __call__(self, attend: Attend) -> Verdict:
        """Run the case and compare its sampled rows."""
        case, limits, rows = self._case, self._limits, self._rows
        rounded, outputs = attend(case, self._inputs)
        for name, output in outputs.items():
            wanted = case.q_shape if name == "o" else case.q_shape[:3]
            if output.shape != wanted:
                limit = {name: limits[name]}
                return Verdict({}, limit, f"{name} has shape {output.shape}, expected {wanted}")
        if not self._expected:
            out, lse = attention_reference(case, rounded, rows)
            self._expected = {"o": out, "lse": lse}
        found = {name: output[:, :, rows] for name, output in outputs.items()}
        verdict = judge(found, self._expected, limits)
        verdict.checked_rows = case.B * case.H * len(rows)
        return verdict


def check_case(
    attend: Attend,
    case: Case,
    seed: int,
    limits: dict[str, float],
    inputs: Inputs | None = None,
) -> Verdict:
    """Run a case once and compare its sampled rows."""
    return CaseCheck(case, seed, limits, inputs)(attend)


def run_probes(
    attend: Attend, probes: Iterable[tuple[Case, dict[str, float]]], seed: int
) -> Verdict:
    """Run small cases with their limits, twice each, and name the first that is wrong."""
    verdict = Verdict()
    for probe, limits in probes:
        check = CaseCheck(probe, seed, limits)
        # The second call meets memory that the first has used.
        for call in ("first", "second"):
            verdict = check(attend)
            if verdict.reason is not None:
                verdict.reason = f"{probe.label}, {call} call: {verdict.reason}"
                return verdict
    return verdict


def probe_all(attend: Attend, case: Case, seed: int, is_fused: bool) -> Verdict:
    """Run small cases of the case's head size, type and mask.

    A variant that keeps all scores in 16 bits rounds large ones beyond use: it has no probes with
    large scores.
    """
    gains = (1.0, LARGE_GAIN) if is_fused or case.dtype == "float32" else (1.0,)
    probes = [
        case.with_sizes(B=2, H=PROBE_HEADS, Nq=length_q, Nk=length_k, gain=gain)
        for length_q, length_k in PROBE_LENGTHS
        for gain in gains
    ]
    limited = [(probe, limits_of(case.dtype, is_fused, factor_of(probe))) for probe in probes]
    return run_probes(attend, limited, seed)
