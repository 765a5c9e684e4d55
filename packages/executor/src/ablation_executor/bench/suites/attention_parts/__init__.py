"""Suite attention-parts: attention on a CPU in four teaching forms and by PyTorch.

The forms and the default sizes are those of a course (Stanford CS149, assignment 4), whose
published figures are one cold run each under a profiler, and the memory that PyTorch's allocator
saw. Both are measured again here under those names, as are the time of a call among many and the
scratch that a form really takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ...case import Case, CustomTier, make_case
from ...suite import Loaded, Needs, OneProgram, Refusal, Suite, Variant
from ..pytorch import torch_refusal
from ..twins import program_name, with_twins
from .cases import BLOCK, NAME, RANDN, SAFE, UNSAFE, course_case, tier_changes
from .variants import FORMS, SDPA_FLASH, SDPA_MATH, TWINS, VARIANTS, scratch_formula_bytes


class AttentionParts(Suite):
    """The suite; see the module."""

    name = NAME
    what = "four teaching forms of attention on a CPU: time, scratch and where the time goes"
    baseline = SDPA_FLASH
    twins = TWINS
    tiers: Mapping[str, str] = {
        "course": "N 1024, d 32, 4 heads, scale 1, tiles of 256 x 256, as the course has it",
        "lengths": "N 128 to 4096 at d 32 and 64",
        "blocks": "six tile sizes at the course's N and d",
        "inputs": "scale 1 and 1/sqrt(d), random and ramp, softmax with and without the maximum",
        "odd": "N 1000, d 40, tiles of 100 x 60: nothing is a power of two",
    }
    devices = ("cpu",)

    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """The cases of a tier; one thread is always measured, since only there a difference
        between forms is one between algorithms."""
        return [
            course_case(tier, count, **changes)
            for count in sorted({1, *threads})
            for changes in tier_changes(tier)
        ]

    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """The course's case and the odd one."""
        both = [case for tier in ("course", "odd") for case in self.cases(tier, threads, device)]
        return sorted(both, key=lambda case: case.threads)

    def custom_cases(
        self, custom: CustomTier, threads: Sequence[int], device: str
    ) -> list[Case] | None:
        """The sizes at 1 / sqrt(d) with tiles of 256 x 256; the forms refuse Nq != Nk."""
        return [
            make_case(
                NAME,
                custom.name,
                custom.shape,
                causal=False,
                threads=count,
                block_q=BLOCK,
                block_k=BLOCK,
                softmax=SAFE,
                inputs=RANDN,
            )
            for count in sorted({1, *threads})
        ]

    def variants(self, device: str) -> tuple[Variant, ...]:
        """Four forms and PyTorch's two backends."""
        return tuple(with_twins(VARIANTS, TWINS))

    def supports(self, variant: Variant, case: Case) -> Refusal | None:
        """The forms have as many keys as queries; PyTorch's softmax is always safe."""
        if program_name(variant.name) in FORMS:
            if case.Nq != case.Nk:
                text = f"needs as many keys as queries; {case.Nq} queries, {case.Nk} keys"
                return Refusal("unsupported", "shape", text)
            return None
        if case.get("softmax") == UNSAFE:
            text = "PyTorch subtracts the maximum; it is compared with the safe softmax"
            return Refusal("skipped", "policy", text)
        return torch_refusal(variant, case)

    def needs(self, variant: Variant, case: Case, phase: str) -> Needs:
        """Inputs stay; output and scratch come and go. PyTorch's unfused form holds the scores and
        the weights."""
        name = program_name(variant.name)
        if name in FORMS:
            scratch = scratch_formula_bytes(name, case)
        else:
            scratch = 2 * case.scores_bytes if name == SDPA_MATH else 0
        return Needs(case.input_bytes, case.output_bytes + scratch)

    def slowdown(self, variant: Variant, case: Case) -> float:
        """Plain loops are far from the ceiling, as recorded on two machines."""
        name = program_name(variant.name)
        return 20.0 if name in FORMS else 5.0 if name == SDPA_MATH else 2.0

    def measures_memory(self, case: Case, is_quick: bool) -> bool:
        """Of a quick run only the course's case, which has published figures."""
        return not is_quick or case.tier == "course"

    def start(self, worker: str, threads: int) -> None:
        """Import what computes and set its threads."""
        from .programs import start

        start(program_name(worker), threads)

    def load(self, worker: str, case: Case, seed: int) -> Loaded:
        """The one program of a worker."""
        from .programs import make_program

        return OneProgram(lambda variant: make_program(program_name(variant), case, seed))


SUITE = AttentionParts()
