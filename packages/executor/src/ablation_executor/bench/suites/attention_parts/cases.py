"""The cases of attention-parts: the course's, and what the tiers change in it."""

from __future__ import annotations

from typing import Any

from ...case import Case, make_case

NAME = "attention-parts"
SAFE, UNSAFE = "safe", "unsafe"
RANDN, RAMP = "randn", "ramp"

BATCH, HEADS, LENGTH, HEAD_DIM = 1, 4, 1024, 32
BLOCK = 256
LENGTHS = (128, 256, 512, 1000, 1024, 2048, 4096)
HEAD_DIMS = (32, 64)
BLOCKS = ((32, 32), (64, 64), (128, 128), (256, 256), (256, 512), (100, 60))
# Neither a power of two nor a multiple of a block.
ODD_LENGTH, ODD_HEAD_DIM, ODD_BLOCKS = 1000, 40, (100, 60)


def course_case(
    tier: str, threads: int, length: int = LENGTH, head_dim: int = HEAD_DIM, **changes: Any
) -> Case:
    """The course's case, with some of its sizes changed.

    `block_q` and `block_k` are the rows and keys of a tile, `softmax` safe or unsafe (no maximum is
    subtracted), `inputs` randn or ramp (rising, and the same in every head).
    """
    sizes = {
        "scale": 1,
        "block_q": BLOCK,
        "block_k": BLOCK,
        "softmax": SAFE,
        "inputs": RANDN,
        **changes,
    }
    shape = (BATCH, HEADS, length, length, head_dim)
    return make_case(NAME, tier, shape, causal=False, threads=threads, **sizes)


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
