"""How far losses and gradients may be from others, and the small model that probes run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...case import Case
from ...suite import Verdict
from .model import ATTENTIONS, LanguageModel, make_batch, make_model, next_token_loss
from .sizes import ModelShape

# Of the first loss against that of equal probabilities: the head's random weights add to it half
# the variance of a logit, 2 d_model / (d_model + vocab) / 2.
FIRST_LOSS_LIMIT = 0.5
# Relative errors of the loss, and of a gradient by the norm of its difference.
LOSS_LIMIT, GRADIENT_LIMIT = 1e-5, 1e-4
PROBE_GRADIENT_LIMIT = 2e-5
# Factors of the scores of a small model, and of its limits: scores far apart multiply the rounding
# errors of what they are made of.
GAINS = ((1.0, 1.0), (20.0, 10.0))
# With bfloat16 products the loss is off by an absolute error, which does not shrink with it.
AUTOCAST_LOSS_LIMIT, AUTOCAST_GRADIENT_LIMIT = 2e-2, 1e-1


def small_model(
    attention: str, case: Case, seed: int, gain: float
) -> tuple[LanguageModel, tuple[Tensor, Tensor]]:
    """Two blocks with heads as wide as the case's, and a batch with a prime number of tokens;
    `gain` multiplies the scores."""
    shape = ModelShape(2 * case.d, 40, 2, 2, 61, 67)
    model = make_model(shape, attention, seed, case.device)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.query.weight.mul_(gain)
    return model, make_batch(shape, 3, seed, case.device)


def unlikely_start(loss: float, vocab: int) -> str | None:
    """Say that a first loss is not about that of equal probabilities, or return None."""
    equal = math.log(vocab)
    if abs(loss - equal) < FIRST_LOSS_LIMIT:
        return None
    return (
        f"the first loss is {loss:.3f}; equal probabilities give {equal:.3f}, "
        f"and {FIRST_LOSS_LIMIT} is the largest difference allowed"
    )


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
