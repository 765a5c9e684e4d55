"""The variants of lm-step."""

from __future__ import annotations

from ...suite import Variant
from ..twins import twins_of
from .sizes import PHASES, UNFUSED

SDPA, ABLATION, FORWARD = "sdpa", "ablation", "ablation_fwd"
COMPILED_SUFFIX = "_compiled"
WORLD_SIZES = (1, 2, 4)
PARALLEL_PREFIX = "data_parallel_"


def parallel_variant(world_size: int) -> Variant:
    """Return the variant of data parallel training over so many processes."""
    processes = "one process" if world_size == 1 else f"{world_size} processes"
    what = f"DistributedDataParallel over {processes}, each with the case's batch and threads"
    return Variant(f"{PARALLEL_PREFIX}{world_size}", "torch", what, None, ("step",))


def world_size_of(name: str) -> int | None:
    """Return with how many processes a variant trains; None for those that are no such thing."""
    text = name.removeprefix(PARALLEL_PREFIX)
    return int(text) if text != name else None


def uses_kernels(name: str) -> bool:
    """Whether a program computes with our kernels."""
    return name.removesuffix(COMPILED_SUFFIX) in (ABLATION, FORWARD)


# The baseline, and of the tier that it is not in what others are compared with.
TWINS = twins_of(SDPA, f"{PARALLEL_PREFIX}1")
_ATTENTION_WORDS = {
    UNFUSED: "attention and softmax written out, all scores in memory",
    SDPA: "PyTorch's scaled_dot_product_attention",
    ABLATION: "flash attention of our kernels, forward and backward, on the CPU",
}
_EAGER = tuple(
    Variant(
        name,
        "ablation" if name == ABLATION else "torch",
        words,
        "course_lm" if name == UNFUSED else None,
        PHASES,
    )
    for name, words in _ATTENTION_WORDS.items()
)
_FORWARD = Variant(
    FORWARD,
    "ablation",
    "the whole forward as a native program of our executor, from torch.export, float32 on the CPU; "
    "embedding rows by NumPy, the loss by our softmax and NumPy, PyTorch in no timed call",
    None,
    ("fwd_nograd",),
)
_COMPILED = tuple(
    Variant(name + COMPILED_SUFFIX, "inductor", f"{words}; forward by torch.compile", None, PHASES)
    for name, words in _ATTENTION_WORDS.items()
)
_PARALLEL = tuple(parallel_variant(size) for size in WORLD_SIZES)

VARIANTS = (*_EAGER, _FORWARD, *_COMPILED, *_PARALLEL)
