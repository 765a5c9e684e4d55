"""Sizes of the language model: parameters, operations and predicted bytes, without a framework."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...case import Case
from ...suite import Needs

FLOAT32_BYTES = 4
# The attention that has all scores in memory, of which the predictions must know.
UNFUSED = "course_unfused"
# Phases that leave gradients behind, and all that run the forward with autograd.
BACKWARD_PHASES = ("bwd", "fwd_bwd", "step")
GRAD_PHASES = ("fwd_grad", *BACKWARD_PHASES)
PHASES = ("fwd_nograd", *GRAD_PHASES)


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only model: its widths, its depth, its vocabulary and the tokens it sees."""

    d_model: int
    d_ff: int
    n_layers: int
    n_heads: int
    vocab: int
    context: int

    def __post_init__(self) -> None:
        """ValueError for widths that heads and rotated pairs do not divide."""
        if self.d_model % (2 * self.n_heads):
            raise ValueError(
                f"d_model {self.d_model} with n_heads {self.n_heads}; accepted: a multiple of "
                "2 * n_heads, since rotary embeddings turn pairs within a head"
            )

    @property
    def head_dim(self) -> int:
        """Width of a head."""
        return self.d_model // self.n_heads

    @property
    def block_matrix_parameters(self) -> int:
        """Elements of a block's seven matrices: four of attention, three of SwiGLU."""
        return 4 * self.d_model**2 + 3 * self.d_model * self.d_ff

    @property
    def n_params(self) -> int:
        """Elements of all parameters: embedding, blocks with two norms each, norm, untied head."""
        blocks = self.n_layers * (self.block_matrix_parameters + 2 * self.d_model)
        return blocks + self.d_model + 2 * self.vocab * self.d_model

    @property
    def weights_bytes(self) -> int:
        """Bytes of the float32 parameters."""
        return FLOAT32_BYTES * self.n_params


@dataclass(frozen=True)
class NamedSize:
    """A row of a table of sizes; `table_year` where the same name means another size elsewhere."""

    d_model: int
    d_ff: int
    n_layers: int
    n_heads: int
    table_year: int | None = None

    def shape(self, vocab: int, context: int) -> ModelShape:
        """The model of this size."""
        return ModelShape(self.d_model, self.d_ff, self.n_layers, self.n_heads, vocab, context)


TINY: Mapping[str, NamedSize] = {"tiny": NamedSize(256, 1024, 4, 4)}
# The tables of assignment 2 of Stanford's CS336. "xl" of 2026 is what 2025 called 2.7B.
COURSE: Mapping[str, NamedSize] = {
    "small": NamedSize(768, 3072, 12, 12),
    "medium": NamedSize(1024, 4096, 24, 16),
    "large": NamedSize(1280, 5120, 36, 20),
    "xl-2025": NamedSize(1600, 6400, 48, 25, 2025),
    "2.7B-2025": NamedSize(2560, 10240, 32, 32, 2025),
}


def model_shape(case: Case) -> ModelShape:
    """The model of a case of lm-step: `H` heads of `d`, `Nq` tokens in each of `B` sequences."""
    return ModelShape(
        d_model=case.H * case.d,
        d_ff=case.get("d_ff"),
        n_layers=case.get("layers"),
        n_heads=case.H,
        vocab=case.get("vocab"),
        context=case.Nq,
    )


def tokens(case: Case) -> int:
    """Tokens of a batch."""
    return case.B * case.Nq


def model_flops(case: Case, phase: str) -> int:
    """Operations of the matrix products of a phase.

    Two for each token and element of a matrix, the head included and the embedding, which is
    looked up, left out; those of attention over the pairs that the mask leaves. The backward does
    twice the forward. Norms, activations, the softmax of the loss and the optimizer, which are no
    matrix products, count nothing.
    """
    shape = model_shape(case)
    matrices = shape.n_layers * shape.block_matrix_parameters + shape.vocab * shape.d_model
    forward = 2 * tokens(case) * matrices + shape.n_layers * case.flops_useful
    return forward * {"fwd_nograd": 1, "fwd_grad": 1, "bwd": 2}.get(phase, 3)


def saved_bytes(case: Case, attention: str) -> int:
    """Estimate of what autograd keeps between forward and backward, in float32.

    Per block and token: the input and the normalized form of both norms and what they give, the
    rotated queries and keys, the values and what attention gives (10 d_model); both products of
    SwiGLU, the activation and the gated product (4 d_ff). Attention that is written out keeps the
    exponentials and the probabilities of all pairs. The loss keeps the logits' log-softmax.
    Autocast keeps half as much and adds a copy of the weights: both are counted as if in full.
    """
    shape = model_shape(case)
    per_token = 10 * shape.d_model + 4 * shape.d_ff
    blocks = shape.n_layers * tokens(case) * per_token
    pairs = 2 * shape.n_layers * case.B * case.H * case.Nq**2 if attention == UNFUSED else 0
    ends = tokens(case) * (3 * shape.d_model + 2 * shape.vocab)
    return FLOAT32_BYTES * (blocks + pairs + ends)


def needs(case: Case, attention: str, phase: str) -> Needs:
    """Predicted bytes of a phase of the float32 model.

    Between calls there are the weights, after a backward the gradients, and from the first step on
    both moments of AdamW. A call takes besides what it saves for the backward, and working memory:
    of a block, of the logits and their gradient, and of the largest tensor that the optimizer
    updates.
    """
    shape = model_shape(case)
    weights, count = shape.weights_bytes, tokens(case)
    resident = weights
    if phase in BACKWARD_PHASES:
        resident += weights
    if phase == "step":
        resident += 2 * weights
    pairs = 4 * case.B * case.H * case.Nq**2 if attention == UNFUSED else 0
    working = FLOAT32_BYTES * (
        count * max(4 * shape.d_model + 3 * shape.d_ff, 2 * shape.vocab) + pairs
    )
    if phase in GRAD_PHASES:
        working += saved_bytes(case, attention)
    if phase == "step":
        largest = shape.d_model * max(shape.vocab, shape.d_ff)
        # On a GPU all parameters are updated at once, in one temporary list as large as they are.
        working += weights if case.device == "cuda" else 2 * FLOAT32_BYTES * largest
    if case.get("autocast") != "none":
        working += weights // 2
    return Needs(resident, working)


def forward_needs(case: Case) -> Needs:
    """Predicted bytes of the forward outside PyTorch.

    Between calls there are the weights, with the columns of each matrix filled up to whole panels
    of the kernels, the rows of the embedding, the logits, and the arena of a block. While it is
    built, and when it is checked, there is a model of PyTorch besides.
    """
    shape, count = model_shape(case), tokens(case)
    per_token = shape.d_model + shape.vocab + 4 * shape.d_model + 3 * shape.d_ff
    panels = shape.weights_bytes // 50
    resident = shape.weights_bytes + panels + FLOAT32_BYTES * count * per_token
    return Needs(resident, needs(case, UNFUSED, "fwd_nograd").total_bytes)
