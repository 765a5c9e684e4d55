"""The phases and variants of attention-backward, and the bytes that they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ablation_kernels

from ...case import Case
from ...suite import Variant
from ..twins import twins_of

PHASES = FWD, FWD_NOGRAD, BWD, BWD_SUM = ("fwd", "fwd_nograd", "bwd", "bwd_sum")
BACKWARD_PHASES = (BWD, BWD_SUM)

COURSE, SOFTMAX = "torch_unfused_course", "torch_unfused_softmax"
COMPILED_SUFFIX = "_compiled"
SDPA, TRITON, ABLATION = "torch_sdpa_flash", "triton_flash", "ablation_flash"


@dataclass(frozen=True)
class Scores:
    """How many arrays of all scores an unfused form has at a time: those that the graph keeps, and
    the most during a forward and during a backward, the kept ones included."""

    saved: float
    forward: float
    backward: float


# The course's softmax keeps its exponentials and the weights, and holds the scores, the shifted
# scores, the exponentials and the weights at its end; torch.softmax keeps the weights alone. What
# is compiled keeps the same and goes through fewer arrays.
UNFUSED: Mapping[str, Scores] = {
    COURSE: Scores(saved=2, forward=4, backward=6),
    COURSE + COMPILED_SUFFIX: Scores(saved=2, forward=2, backward=4),
    SOFTMAX: Scores(saved=1, forward=2, backward=3),
    SOFTMAX + COMPILED_SUFFIX: Scores(saved=1, forward=2, backward=2),
}

TWINS = twins_of(SDPA, ABLATION)
_FLASH = "our flash kernels, forward and backward, as an operator of PyTorch with autograd"
_COURSE = "product, mask by where, softmax from max, exp, sum and division, product; eager"
_SOFTMAX = "product, mask by where, torch.softmax, product; eager"
_COMPILED = "the same under torch.compile"
_OWN = "torch_unfused_own_softmax"
VARIANTS = (
    Variant(COURSE, "torch", _COURSE, _OWN, PHASES),
    Variant(COURSE + COMPILED_SUFFIX, "inductor", _COMPILED, _OWN + COMPILED_SUFFIX, PHASES),
    Variant(SOFTMAX, "torch", _SOFTMAX, None, PHASES),
    Variant(SOFTMAX + COMPILED_SUFFIX, "inductor", _COMPILED, None, PHASES),
    Variant(SDPA, "torch", "scaled_dot_product_attention's flash backend", None, PHASES),
    Variant(TRITON, "triton", "our flash kernel in Triton, forward only", None, (FWD_NOGRAD,)),
    Variant(ABLATION, "ablation", _FLASH, None, PHASES),
)


def saved_bytes(program: str, case: Case) -> int:
    """Predicted bytes that the graph of one forward keeps besides q, k and v.

    Unfused forms keep arrays of all scores; flash forms the output and a number for each query.
    """
    scores = UNFUSED.get(program)
    if scores is not None:
        return int(scores.saved * case.scores_bytes)
    return case.output_bytes + case.itemsize * case.B * case.H * case.Nq


def kernel_of(case: Case, phase: str) -> tuple[str, str]:
    """The op and the kernel that our operator runs in a phase."""
    op, shapes = _kernel_call(case, phase)
    return op, ablation_kernels.best_kernel(op, shapes)


def kernel_bytes(case: Case, phase: str) -> int:
    """Bytes of the arrays that our operator makes in a phase, and of the kernel's scratch."""
    _, shapes = _kernel_call(case, phase)
    scratch = ablation_kernels.scratch_bytes(
        kernel_of(case, phase)[1], shapes, {"causal": case.causal}, case.threads
    )
    if phase in BACKWARD_PHASES:
        return scratch + case.input_bytes
    return scratch + case.output_bytes + case.itemsize * case.B * case.H * case.Nq


def _kernel_call(case: Case, phase: str) -> tuple[str, list[tuple[int, ...]]]:
    """Op and shapes of the inputs; a backward has the output, its log-sum-exp and its gradient."""
    inputs: list[tuple[int, ...]] = [case.q_shape, case.k_shape, case.k_shape]
    if phase not in BACKWARD_PHASES:
        return "attention_lse", inputs
    return "attention_backward", [*inputs, case.q_shape, case.q_shape[:3], case.q_shape]
