"""Suite attention-backward: attention forward and backward, and what lies in memory between them.

The shapes are those of the published run: eight sequences without a head axis, float32, head sizes
16 to 128. Phases of an implementation: the forward with gradients on and off, the backward from a
dense random gradient through a graph that is made anew for each call, and the backward from a sum,
whose gradient is one number seen everywhere, as the published run had it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ablation_kernels

from .attention_sweep import SDPA_TILE, triton_refusal
from .case import Case, CustomTier, make_case
from .refusals import torch_refusal
from .suite import Flops, Implementation, Needs, Program, Refusal, Suite

NAME = "attention-backward"
PHASES = FWD, FWD_NOGRAD, BWD, BWD_SUM = ("fwd", "fwd_nograd", "bwd", "bwd_sum")
BACKWARD_PHASES = (BWD, BWD_SUM)
# Operations of a backward over those of its forward: four products for two. The papers' convention
# adds the product that a flash backward computes again.
USEFUL_BACKWARD, FA_BACKWARD = 2.0, 2.5

BATCH, HEADS = 8, 1
HEAD_DIMS = (16, 32, 64, 128)
LENGTHS = (256, 1024, 4096, 8192, 16384)
QUICK_HEAD_DIM, QUICK_LENGTHS = 64, (256, 1024)

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

IMPLEMENTATIONS = (
    Implementation(
        COURSE,
        "torch",
        "product, mask by where, softmax from max, exp, sum and division, product; eager",
        "torch_unfused_own_softmax",
        PHASES,
    ),
    Implementation(
        COURSE + COMPILED_SUFFIX,
        "inductor",
        "the same under torch.compile",
        "torch_unfused_own_softmax_compiled",
        PHASES,
    ),
    Implementation(
        SOFTMAX, "torch", "product, mask by where, torch.softmax, product; eager", None, PHASES
    ),
    Implementation(
        SOFTMAX + COMPILED_SUFFIX, "inductor", "the same under torch.compile", None, PHASES
    ),
    Implementation(
        SDPA, "torch", "scaled_dot_product_attention held to its flash backend", None, PHASES
    ),
    Implementation(
        TRITON, "triton", "our flash kernel in Triton, forward only", None, (FWD_NOGRAD,)
    ),
    Implementation(
        ABLATION,
        "ablation",
        "our flash kernels, forward and backward, as an operator of PyTorch with autograd",
        None,
        PHASES,
    ),
)


def saved_bytes(implementation: str, case: Case) -> int:
    """Predicted bytes that the graph of one forward keeps besides q, k and v.

    Unfused forms keep arrays of all scores; flash forms the output and a number for each query.
    """
    scores = UNFUSED.get(implementation)
    if scores is not None:
        return int(scores.saved * case.scores_bytes)
    return case.output_bytes + case.itemsize * case.B * case.H * case.Nq


def sdpa_tile_bytes(case: Case) -> int:
    """Bytes that PyTorch's flash backend takes for a tile of scores on each thread, at most."""
    rows, keys = min(SDPA_TILE[0], case.Nq), min(SDPA_TILE[1], case.Nk)
    return case.threads * case.itemsize * (rows * keys + rows * case.d + 2 * rows)


def kernel_of(case: Case, phase: str) -> str:
    """The kernel that our operator runs in a phase."""
    op, shapes = _kernel_call(case, phase)
    return ablation_kernels.best_kernel(op, shapes)


def kernel_bytes(case: Case, phase: str) -> int:
    """Bytes of the arrays that our operator makes in a phase, and of the kernel's scratch."""
    _, shapes = _kernel_call(case, phase)
    scratch = ablation_kernels.scratch_bytes(
        kernel_of(case, phase), shapes, {"causal": case.causal}, case.threads
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


def _is_main(case: Case) -> bool:
    return case.Nq == max(QUICK_LENGTHS)


class AttentionBackward(Suite):
    """The suite; see the module."""

    name = NAME
    what = "attention forward, backward and the memory between them"
    baseline = SDPA
    tiers: Mapping[str, str] = {
        "causal": "B 8, no heads, d 16 to 128, N 256 to 16384, causal as published",
        "full": "the same without a mask",
    }

    def default_tiers(self, device: str) -> Sequence[str]:
        """With the mask, as published; without one the work doubles and tells little more."""
        return ("causal",)

    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """Every head size and length."""
        return self._grid(tier, HEAD_DIMS, LENGTHS, threads, device)

    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """One head size and the two short lengths of the published tier."""
        return self._grid("causal", (QUICK_HEAD_DIM,), QUICK_LENGTHS, threads, device)

    def _grid(
        self,
        tier: str,
        head_dims: Sequence[int],
        lengths: Sequence[int],
        threads: Sequence[int],
        device: str,
    ) -> list[Case]:
        return [
            make_case(
                NAME,
                tier,
                (BATCH, HEADS, length, length, head_dim),
                causal=tier == "causal",
                threads=count,
                device=device,
            )
            for count in threads
            for head_dim in head_dims
            for length in lengths
        ]

    def custom_cases(
        self, custom: CustomTier, threads: Sequence[int], device: str
    ) -> list[Case] | None:
        """The sizes with and without the mask."""
        return [
            make_case(NAME, custom.name, custom.shape, causal=causal, threads=count, device=device)
            for count in threads
            for causal in (True, False)
        ]

    def implementations(self, device: str) -> tuple[Implementation, ...]:
        """The same on every device."""
        return IMPLEMENTATIONS

    def supports(self, implementation: Implementation, case: Case) -> Refusal | None:
        """Triton needs a GPU, our operator the CPU, and all of them PyTorch."""
        if implementation.name == TRITON and (refusal := triton_refusal(case)) is not None:
            return refusal
        if implementation.name == ABLATION and case.device != "cpu":
            text = f"the operator computes on the CPU; device {case.device}"
            return Refusal("unsupported", "no_kernel", text)
        return torch_refusal(implementation, case)

    def needs(self, implementation: Implementation, case: Case, phase: str) -> Needs:
        """Inputs and mask stay; scores, tiles, outputs and gradients come and go."""
        resident = case.input_bytes + case.output_bytes
        is_backward = phase in BACKWARD_PHASES
        scores = UNFUSED.get(implementation.name)
        if scores is not None:
            mask = case.Nq * case.Nk if case.causal else 0
            copies = scores.backward if is_backward else scores.forward
            made = case.output_bytes + (case.input_bytes if is_backward else 0)
            return Needs(resident + mask, made + int(copies * case.scores_bytes))
        saved = saved_bytes(implementation.name, case)
        # The gradient of a sum has no strides, and flash backwards make a dense one of it.
        dense = case.output_bytes if phase == BWD_SUM else 0
        if implementation.name == ABLATION:
            made = kernel_bytes(case, phase)
        elif is_backward:
            # The scores of a tile and their gradient.
            made = case.input_bytes + 2 * sdpa_tile_bytes(case)
        else:
            made = saved + sdpa_tile_bytes(case)
        return Needs(resident, made + dense + (saved if is_backward else 0))

    def quick_refusal(self, implementation: Implementation, case: Case) -> Refusal | None:
        """To compile takes longer than to measure: one form at one length shows it, unless sizes
        were asked for."""
        is_shown = implementation.name == COURSE + COMPILED_SUFFIX and _is_main(case)
        if implementation.origin == "inductor" and case.tier in self.tiers and not is_shown:
            text = f"a quick run compiles {COURSE} at N {max(QUICK_LENGTHS)} alone"
            return Refusal("skipped", "policy", text)
        return None

    def flops(self, case: Case, phase: str) -> Flops:
        """Two products forward, four backward."""
        if phase not in BACKWARD_PHASES:
            return Flops(case.flops_useful, case.flops_fa)
        useful, fa = USEFUL_BACKWARD * case.flops_useful, FA_BACKWARD * case.flops_fa
        return Flops(int(useful), int(fa))

    def measures_memory(self, case: Case, is_quick: bool) -> bool:
        """In quick runs of the longer case, and of sizes that were asked for: in the shorter one
        the interpreter weighs more."""
        return not is_quick or case.tier not in self.tiers or _is_main(case)

    def start(self, implementation: str, threads: int) -> None:
        """Import PyTorch, and our operator where it is asked for."""
        from .attention_backward_programs import start

        start(implementation, threads)

    def load(self, implementation: str, case: Case, seed: int) -> Program:
        """The program of an implementation."""
        from .attention_backward_programs import AttentionProgram

        return AttentionProgram(implementation, case, seed)


SUITE = AttentionBackward()
