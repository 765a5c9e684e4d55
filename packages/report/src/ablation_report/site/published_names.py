"""What the suites are, and what the published names of their variants really are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Name:
    """Published names, the variant here that does the same (None where none does), and what
    it really is."""

    published: tuple[str, ...]
    variant: str | None
    what: str


SUITES: Mapping[str, str] = {
    "block": "The forward of one transformer block: the ladder of optimizations, and other "
    "runtimes.",
    "attribution": "Every program of a block that the optimizations make, switched on and off: the "
    "worth of each optimization over all orders.",
    "model": "Your module or a named model: PyTorch, other runtimes, and our ladder.",
    "attention-sweep": "Forward attention over lengths, heads, masks and threads.",
    "lm-step": "A training step of a decoder-only language model: forward, backward, optimizer.",
    "attention-backward": "Attention forward, backward, and the memory kept between them.",
    "attention-parts": "Four teaching forms of attention on a CPU: time, scratch, and where the "
    "time goes.",
}
NAMES: Mapping[str, tuple[Name, ...]] = {
    "attention-sweep": (
        Name(
            ("scaled_dot_prod_attention",),
            "torch_unfused_einsum",
            "Einsum, division, mask, softmax from maximum, exponentials and sum, einsum. Not "
            "PyTorch's scaled_dot_product_attention, which was never run.",
        ),
        Name(
            ("vectorized_torch",),
            "torch_unfused_lse",
            "Product, masked_fill, logsumexp, exponentials, product: all scores in memory too.",
        ),
        Name(
            ("vectorized_torch_compiled",),
            "torch_unfused_lse_compiled",
            "The same under torch.compile.",
        ),
        Name(
            ("flash_attention_triton",),
            "triton_flash",
            "A flash forward in Triton; the one here is written from the paper.",
        ),
    ),
    "lm-step": (
        Name(
            ("course_lm",),
            "course_unfused",
            "The course's model, attention with all scores in memory. Times printed as on CPU are "
            "those of a GPU by their rate.",
        ),
        Name(("course_lm_compiled",), "course_unfused_compiled", "The same under torch.compile."),
    ),
    "attention-backward": (
        Name(
            ("torch_unfused_own_softmax",),
            "torch_unfused_course",
            "Product, mask by where, softmax from its parts, product. The printed memory is a peak "
            "with two graphs alive; the backward starts from a sum, whose gradient has no strides.",
        ),
        Name(
            ("torch_unfused_own_softmax_compiled",),
            "torch_unfused_course_compiled",
            "The same under torch.compile, one compiled function for all shapes.",
        ),
    ),
    "attention-parts": (
        Name(
            ("student_naive",),
            "ablation_naive",
            "Three loops and all scores of a head; one cold run under the profiler.",
        ),
        Name(
            ("student_blocked_unfused",),
            "ablation_blocked",
            "The same with both products tile by tile.",
        ),
        Name(
            ("student_fused_row",),
            "ablation_fused_row",
            "A row of scores is finished before the next begins; the one form on several threads.",
        ),
        Name(
            ("student_flash",),
            "ablation_flash_course",
            "Tiles of scores. The printed memory is the output alone: the scratch was allocated "
            "before the profiler's range opened.",
        ),
        Name(
            (
                *("reference_naive", "reference_blocked_unfused"),
                *("reference_fused_row", "reference_flash"),
            ),
            None,
            "The course's own binary, which is neither used nor shipped here.",
        ),
    ),
}
