"""Suite attention-parts: attention on a CPU in four teaching forms, with PyTorch's beside them.

The forms and the default sizes are those of a course (Stanford CS149, assignment 4), whose
published figures are one cold run each under a profiler, and the memory that PyTorch's allocator
saw. Both are measured again here under those names, beside the time of a call among many and the
scratch that a form really takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ablation_kernels import teaching

from .case import Case, CustomTier, make_case
from .refusals import torch_refusal
from .suite import Implementation, Needs, Program, Refusal, Suite

NAME = "attention-parts"
# Implementation to the name of the teaching form.
FORMS: dict[str, teaching.Form] = {
    "ablation_naive": "naive",
    "ablation_blocked": "blocked",
    "ablation_fused_row": "fused_row",
    "ablation_flash_course": "flash",
}
SDPA_MATH, SDPA_FLASH = "torch_sdpa_math", "torch_sdpa_flash"

SAFE, UNSAFE = "safe", "unsafe"
RANDN, RAMP = "randn", "ramp"

BATCH, HEADS, LENGTH, HEAD_DIM = 1, 4, 1024, 32
BLOCK = 256
LENGTHS = (128, 256, 512, 1000, 1024, 2048, 4096)
HEAD_DIMS = (32, 64)
BLOCKS = ((32, 32), (64, 64), (128, 128), (256, 256), (256, 512), (100, 60))
# Neither a power of two nor a multiple of a block.
ODD_LENGTH, ODD_HEAD_DIM, ODD_BLOCKS = 1000, 40, (100, 60)

IMPLEMENTATIONS = (
    Implementation(
        "ablation_naive",
        "ablation",
        "three loops and all scores of a head, plain C++",
        "student_naive",
    ),
    Implementation(
        "ablation_blocked",
        "ablation",
        "the same with both products tile by tile",
        "student_blocked_unfused",
    ),
    Implementation(
        "ablation_fused_row",
        "ablation",
        "a row of scores is finished before the next begins",
        "student_fused_row",
    ),
    Implementation(
        "ablation_flash_course",
        "ablation",
        "tiles of scores by the course's handout, with a softmax that does not overflow",
        "student_flash",
    ),
    Implementation(SDPA_MATH, "torch", "scaled_dot_product_attention's unfused backend"),
    Implementation(SDPA_FLASH, "torch", "scaled_dot_product_attention held to its flash backend"),
)


def course_case(
    tier: str, threads: int, length: int = LENGTH, head_dim: int = HEAD_DIM, **changes: Any
) -> Case:
    """The course's case, with some of its sizes and parameters changed.

    `block_q` and `block_k` are the rows and keys of a tile, `softmax` safe or unsafe (no maximum is
    subtracted), `inputs` randn or ramp (rising, and the same in every head).
    """
    parameters = {
        "scale": 1,
        "block_q": BLOCK,
        "block_k": BLOCK,
        "softmax": SAFE,
        "inputs": RANDN,
        **changes,
    }
    shape = (BATCH, HEADS, length, length, head_dim)
    return make_case(NAME, tier, shape, threads=threads, **parameters)


def tier_changes(tier: str) -> list[dict[str, Any]]:
    """What the cases of a tier change in the course's case."""
    if tier == "course":
        return [{}]
    if tier == "lengths":
        return [
            {"length": length, "head_dim": head_dim} for head_dim in HEAD_DIMS for length in LENGTHS
        ]
    if tier == "blocks":
        return [{"block_q": rows, "block_k": keys} for rows, keys in BLOCKS]
    if tier == "inputs":
        scales = (1, HEAD_DIM**-0.5)
        kinds = [{"scale": scale, "inputs": inputs} for scale in scales for inputs in (RANDN, RAMP)]
        return [{**kind, "softmax": softmax} for kind in kinds for softmax in (SAFE, UNSAFE)]
    rows, keys = ODD_BLOCKS
    odd = {"length": ODD_LENGTH, "head_dim": ODD_HEAD_DIM, "scale": ODD_HEAD_DIM**-0.5}
    return [{**odd, "block_q": rows, "block_k": keys}]


def scratch_formula_bytes(implementation: str, case: Case) -> int:
    """Bytes of scratch that a form should take in a case."""
    return teaching.scratch_formula_bytes(
        case.q_shape,
        FORMS[implementation],
        block_q=case.get("block_q"),
        block_k=case.get("block_k"),
        threads=case.threads,
    )


class AttentionParts(Suite):
    """The suite; see the module."""

    name = NAME
    what = "four teaching forms of attention on a CPU: time, scratch and where the time goes"
    baseline = SDPA_FLASH
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
                threads=count,
                block_q=BLOCK,
                block_k=BLOCK,
                softmax=SAFE,
                inputs=RANDN,
            )
            for count in sorted({1, *threads})
        ]

    def implementations(self, device: str) -> tuple[Implementation, ...]:
        """Four forms and PyTorch's two."""
        return IMPLEMENTATIONS

    def supports(self, implementation: Implementation, case: Case) -> Refusal | None:
        """The forms have as many keys as queries; PyTorch's softmax is always safe."""
        if implementation.name in FORMS:
            if case.Nq != case.Nk:
                text = f"as many keys as queries; {case.Nq} queries, {case.Nk} keys"
                return Refusal("unsupported", "shape", text)
            return None
        if case.get("softmax") == UNSAFE:
            text = "PyTorch subtracts the maximum; it stands beside the safe softmax"
            return Refusal("skipped", "policy", text)
        return torch_refusal(implementation, case)

    def needs(self, implementation: Implementation, case: Case, phase: str) -> Needs:
        """Inputs stay; output and scratch come and go. PyTorch's unfused form holds the scores and
        the weights."""
        if implementation.name in FORMS:
            scratch = scratch_formula_bytes(implementation.name, case)
        else:
            scratch = 2 * case.scores_bytes if implementation.name == SDPA_MATH else 0
        return Needs(case.input_bytes, case.output_bytes + scratch)

    def measures_memory(self, case: Case, is_quick: bool) -> bool:
        """Of a quick run only the course's case, which has published figures."""
        return not is_quick or case.tier == "course"

    def start(self, implementation: str, threads: int) -> None:
        """Import what computes and set its threads."""
        from .attention_parts_programs import start

        start(implementation, threads)

    def load(self, implementation: str, case: Case, seed: int) -> Program:
        """The program of an implementation."""
        from .attention_parts_programs import make_program

        return make_program(implementation, case, seed)


SUITE = AttentionParts()
