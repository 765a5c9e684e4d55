"""The variants of attention-parts."""

from __future__ import annotations

from ablation_kernels import teaching

from ...case import Case
from ...suite import Variant
from ..twins import twins_of

NAIVE, BLOCKED = "ablation_naive", "ablation_blocked"
FUSED_ROW, FLASH_COURSE = "ablation_fused_row", "ablation_flash_course"
# The teaching form of a variant.
FORMS: dict[str, teaching.Form] = {
    NAIVE: "naive",
    BLOCKED: "blocked",
    FUSED_ROW: "fused_row",
    FLASH_COURSE: "flash",
}
SDPA_MATH, SDPA_FLASH = "torch_sdpa_math", "torch_sdpa_flash"

TWINS = twins_of(SDPA_FLASH, FUSED_ROW)
_TILES = "tiles of scores by the course's handout, with a softmax that does not overflow"
_NAIVE = "three loops and all scores of a head, plain C++"
_ROW = "a row of scores is finished before the next begins"
VARIANTS = (
    Variant(NAIVE, "ablation", _NAIVE, "student_naive"),
    Variant(BLOCKED, "ablation", "the same with both products by tiles", "student_blocked_unfused"),
    Variant(FUSED_ROW, "ablation", _ROW, "student_fused_row"),
    Variant(FLASH_COURSE, "ablation", _TILES, "student_flash"),
    Variant(SDPA_MATH, "torch", "scaled_dot_product_attention's unfused backend"),
    Variant(SDPA_FLASH, "torch", "scaled_dot_product_attention's flash backend"),
)


def scratch_formula_bytes(program: str, case: Case) -> int:
    """Return the bytes of scratch that a form should take in a case."""
    return teaching.scratch_formula_bytes(
        case.q_shape,
        FORMS[program],
        block_q=case.get("block_q"),
        block_k=case.get("block_k"),
        threads=case.threads,
    )
