"""The tiers of attention-sweep and the cases in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...case import Case, CustomTier, make_case

NAME = "attention-sweep"

PAPER_LENGTHS = (2048, 4096, 8192, 16384)
CPU_LENGTHS = (256, 512, 1024, 2048, 4096)
RECTANGLES = ((1, 4096), (128, 4096), (2048, 512))
ODD_LENGTH, ODD_HEAD_DIM = 1000, 80
CROSSOVER_LENGTHS, CROSSOVER_HEADS = (128, 256, 512, 1024, 2048, 4096, 8192), (1, 4, 12)
QUICK_LENGTH, QUICK_RECTANGLE = 1024, (128, 4096)

TIERS: Mapping[str, str] = {
    "paper": "the published sizes: B4 H12 d64 causal, N from 2048 to 16384",
    "cpu": "B1 H12 d64, causal and full, N from 256 to 4096",
    "rect": "B1 H12 d64, fewer or more queries than keys, one query among them",
    "odd": "N 1000, d 80: sizes that no tile divides",
    "half": "B1 H12 d64 in 16 bits: bfloat16 at N 1024 full and causal and 4096 causal, float16 at "
    "N 1024 causal",
    "crossover": "B1 d64, N from 128 to 8192 by 1, 4 and 12 heads: where tiles win over scores",
}


def tier_cases(tier: str, threads: Sequence[int], device: str) -> list[Case]:
    """Return the cases of a tier; on a GPU in float16, as published, on a CPU in float32."""
    return [
        make_case(
            NAME,
            tier,
            shape,
            dtype=dtype or usual_dtype(device),
            causal=causal,
            threads=count,
            device=device,
        )
        for count in threads
        for shape, causal, dtype in _shapes(tier)
    ]


def quick_cases(threads: Sequence[int], device: str) -> list[Case]:
    """Return the short cases of the cpu tier, one rectangle and one odd size."""
    return [
        case
        for tier in ("cpu", "rect", "odd")
        for case in tier_cases(tier, threads, device)
        if (tier == "cpu" and case.Nq <= QUICK_LENGTH)
        or (tier == "rect" and (case.Nq, case.Nk) == QUICK_RECTANGLE and not case.causal)
        or (tier == "odd" and case.causal)
    ]


def is_main(case: Case) -> bool:
    """Whether quick runs compile in a case and measure its memory: in one of them."""
    return case.Nq == case.Nk == QUICK_LENGTH and case.causal


def custom_cases(custom: CustomTier, threads: Sequence[int], device: str) -> list[Case]:
    """Return the sizes of the command line, full and causal."""
    return [
        make_case(
            NAME,
            custom.name,
            custom.shape,
            dtype=usual_dtype(device),
            causal=causal,
            threads=count,
            device=device,
        )
        for count in threads
        for causal in (False, True)
    ]


def usual_dtype(device: str) -> str:
    """Return the type of a case that names none."""
    return "float16" if device == "cuda" else "float32"


def _shapes(tier: str) -> Iterator[tuple[tuple[int, int, int, int, int], bool, str | None]]:
    """(B, H, Nq, Nk, d), causal and type of the cases of a tier; None is the device's usual."""
    if tier == "paper":
        for length in PAPER_LENGTHS:
            yield (4, 12, length, length, 64), True, None
    elif tier == "crossover":
        for causal in (False, True):
            for heads in CROSSOVER_HEADS:
                for length in CROSSOVER_LENGTHS:
                    yield (1, heads, length, length, 64), causal, None
    elif tier == "half":
        yield (1, 12, 1024, 1024, 64), False, "bfloat16"
        for length, dtype in ((1024, "bfloat16"), (1024, "float16"), (4096, "bfloat16")):
            yield (1, 12, length, length, 64), True, dtype
    else:
        pairs = {
            "cpu": [(length, length) for length in CPU_LENGTHS],
            "rect": list(RECTANGLES),
            "odd": [(ODD_LENGTH, ODD_LENGTH)],
        }[tier]
        head_dim = ODD_HEAD_DIM if tier == "odd" else 64
        for length_q, length_k in pairs:
            for causal in (False, True):
                yield (1, 12, length_q, length_k, head_dim), causal, None
