"""Inputs, attention with its gradients in float64, and how far outputs are from them.

This module imports torch: only workers load it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...case import Case
from ...suite import Verdict
from .check import judge

# Scores of the reference that are alive at a time: 32 MiB of them, and a few arrays of that size
# around them.
BLOCK_SCORES = 1 << 22

# Largest error of float32 over the largest value, by output. The sums of a gradient are as long as
# the sequence, those of the output have weights that sum to 1.
LIMITS: Mapping[str, float] = {"o": 1e-5, "dq": 2e-5, "dk": 2e-5, "dv": 2e-5}
# Scores far apart: an error of a score is an error of its weight, and grows with the score.
LARGE_SCORE = 100.0
LARGE_SCORE_FACTOR = 3.0


def make_inputs(case: Case, seed: int) -> tuple[Any, Any, Any, Any]:
    """Normal random q, k, v and a gradient of the output, float32 of shape (B * H, N, d) on the
    case's device; the same for every variant, number of threads and mask."""
    rng = np.random.default_rng([seed, case.B, case.H, case.Nq, case.Nk, case.d])
    items = case.B * case.H
    lengths = (case.Nq, case.Nk, case.Nk, case.Nq)
    q, k, v, grad = (
        torch.from_numpy(rng.standard_normal((items, length, case.d), np.float32)).to(case.device)
        for length in lengths
    )
    return q, k, v, grad


def spread_scores(q: Any, k: Any, scale: float) -> Any:
    """The queries, scaled so that the largest score is LARGE_SCORE: exp of it is no float32."""
    top = (q.double() @ k.double().transpose(-2, -1)).abs().max() * scale
    return q * (LARGE_SCORE / float(top))


def attention_reference(
    q: Any, k: Any, v: Any, *, causal: bool, scale: float, grad: Any = None
) -> dict[str, Any]:
    """Attention in float64 on the CPU: o, and dq, dk, dv if `grad`, the gradient of o, is given.

    q, o and grad have shape (items, Nq, d), k and v (items, Nk, d). Autograd differentiates one
    block of queries after the other, so that all scores are never in memory together.
    """
    q64, k64, v64 = (tensor.detach().to("cpu", torch.float64) for tensor in (q, k, v))
    results = {"o": torch.empty_like(q64)}
    if grad is not None:
        grad64 = grad.to("cpu", torch.float64)
        named = {"dq": q64, "dk": k64, "dv": v64}
        results |= {name: torch.zeros_like(tensor) for name, tensor in named.items()}
    n_q, n_k = q.shape[-2], k.shape[-2]
    n_rows = max(1, BLOCK_SCORES // n_k)
    for item in range(q.shape[0]):
        for start in range(0, n_q, n_rows):
            rows = slice(start, min(start + n_rows, n_q))
            keys = slice(0, min(rows.stop, n_k) if causal else n_k)
            leaves = [
                tensor[item, part].requires_grad_(grad is not None)
                for tensor, part in ((q64, rows), (k64, keys), (v64, keys))
            ]
            block = _attention_block(leaves, start if causal else None, scale)
            results["o"][item, rows] = block.detach()
            if grad is not None:
                parts = torch.autograd.grad(block, leaves, grad64[item, rows])
                places = (("dq", rows), ("dk", keys), ("dv", keys))
                for (name, place), part in zip(places, parts, strict=True):
                    results[name][item, place] += part
    return results


def _attention_block(leaves: Sequence[Any], first_row: int | None, scale: float) -> Any:
    """Rows of one item; under a causal mask `first_row` is the number of the first of them."""
    q, k, v = leaves
    scores = q @ k.T * scale
    if first_row is not None:
        rows = torch.arange(first_row, first_row + q.shape[0])
        scores = scores.masked_fill(torch.arange(k.shape[0]) > rows[:, None], -torch.inf)
    return torch.softmax(scores, dim=-1) @ v


def judge_tensors(
    outputs: Mapping[str, Any], expected: Mapping[str, Any], where: str, factor: float = 1.0
) -> Verdict:
    """`judge` of tensors on any device; `where` stands before a reason, and the limits are LIMITS
    times `factor`."""
    found = {name: tensor.detach().to("cpu").numpy() for name, tensor in outputs.items()}
    wanted = {name: expected[name].numpy() for name in outputs}
    verdict = judge(found, wanted, {name: factor * LIMITS[name] for name in outputs})
    if verdict.reason is not None:
        verdict.reason = where + verdict.reason
    return verdict
