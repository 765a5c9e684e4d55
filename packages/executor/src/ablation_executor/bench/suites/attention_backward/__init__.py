"""Suite attention-backward: attention forward and backward, and what lies in memory between them.

The shapes are those of the published run: eight sequences without a head axis, float32, head sizes
16 to 128. Phases of a variant: the forward with gradients on and off, the backward from a
dense random gradient through a graph that is made anew for each call, and the backward from a sum,
whose gradient is one number seen everywhere, as the published run had it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...case import Case, CustomTier, make_case
from ...suite import Flops, Loaded, Needs, OneProgram, Refusal, Suite, Variant
from ..attention.sdpa import sdpa_tile_bytes
from ..pytorch import torch_refusal, triton_refusal
from ..twins import program_name, with_twins
from .variants import (
    ABLATION,
    BACKWARD_PHASES,
    BWD_SUM,
    COMPILED_SUFFIX,
    COURSE,
    SDPA,
    TRITON,
    TWINS,
    UNFUSED,
    VARIANTS,
    kernel_bytes,
    saved_bytes,
)

NAME = "attention-backward"
# Operations of a backward over those of its forward: four products for two. The papers' convention
# adds the product that a flash backward computes again.
USEFUL_BACKWARD, FA_BACKWARD = 2.0, 2.5

BATCH, HEADS = 8, 1
HEAD_DIMS = (16, 32, 64, 128)
LENGTHS = (256, 1024, 4096, 8192, 16384)
QUICK_HEAD_DIM, QUICK_LENGTHS = 64, (256, 1024)


def _is_main(case: Case) -> bool:
    return case.Nq == max(QUICK_LENGTHS)


class AttentionBackward(Suite):
    """The suite; see the module."""

    name = NAME
    what = "attention forward, backward, and the memory kept between them"
    baseline = SDPA
    twins = TWINS
    tiers: Mapping[str, str] = {
        "causal": "B 8, no heads, d 16 to 128, N 256 to 16384, causal as published",
        "full": "the same without a mask",
    }

    def default_tiers(self, device: str) -> Sequence[str]:
        """With the mask, as published; without one the work doubles and shows little more."""
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

    def variants(self, device: str) -> tuple[Variant, ...]:
        """The same on every device."""
        return tuple(with_twins(VARIANTS, TWINS))

    def supports(self, variant: Variant, case: Case) -> Refusal | None:
        """Triton needs a GPU, our operator the CPU, and all of them PyTorch."""
        name = program_name(variant.name)
        if name == TRITON and (refusal := triton_refusal(case)) is not None:
            return refusal
        if name == ABLATION and case.device != "cpu":
            text = f"the operator computes on the CPU; device {case.device}"
            return Refusal("unsupported", "no_kernel", text)
        return torch_refusal(variant, case)

    def needs(self, variant: Variant, case: Case, phase: str) -> Needs:
        """Inputs and mask stay; scores, tiles, outputs and gradients come and go."""
        name = program_name(variant.name)
        resident = case.input_bytes + case.output_bytes
        is_backward = phase in BACKWARD_PHASES
        scores = UNFUSED.get(name)
        if scores is not None:
            mask = case.Nq * case.Nk if case.causal else 0
            copies = scores.backward if is_backward else scores.forward
            made = case.output_bytes + (case.input_bytes if is_backward else 0)
            return Needs(resident + mask, made + int(copies * case.scores_bytes))
        saved = saved_bytes(name, case)
        # The gradient of a sum has no strides, and flash backwards make a dense one of it.
        dense = case.output_bytes if phase == BWD_SUM else 0
        if name == ABLATION:
            made = kernel_bytes(case, phase)
        elif is_backward:
            # The scores of a tile and their gradient.
            made = case.input_bytes + 2 * sdpa_tile_bytes(case)
        else:
            made = saved + sdpa_tile_bytes(case)
        return Needs(resident, made + dense + (saved if is_backward else 0))

    def quick_refusal(self, variant: Variant, case: Case) -> Refusal | None:
        """To compile takes longer than to measure: one form at one length shows it, unless sizes
        were asked for."""
        is_shown = variant.name == COURSE + COMPILED_SUFFIX and _is_main(case)
        if variant.origin == "inductor" and case.tier in self.tiers and not is_shown:
            text = f"a quick run compiles {COURSE} at N {max(QUICK_LENGTHS)} alone"
            return Refusal("skipped", "policy", text)
        return None

    def slowdown(self, variant: Variant, case: Case) -> float:
        """By the arrays of all scores that a form goes through, as recorded on two machines."""
        scores = UNFUSED.get(program_name(variant.name))
        return 2.0 if scores is None else 2.0 + 5.0 * scores.forward

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

    def start(self, worker: str, threads: int) -> None:
        """Import PyTorch, and our operator where it is asked for."""
        from .programs import start

        start(program_name(worker), threads)

    def load(self, worker: str, case: Case, seed: int) -> Loaded:
        """The one program of a worker."""
        from .programs import AttentionProgram

        return OneProgram(lambda variant: AttentionProgram(program_name(variant), case, seed))


SUITE = AttentionBackward()
