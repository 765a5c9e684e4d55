"""The ways to attention: PyTorch's, whole scores from our kernels, and each kernel of the op.

This module does not import torch, so that a process of our kernels never loads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

import ablation_kernels

from .cases import BATCH, Array, Case

OP = "attention"
TORCH_SDPA = "torch-sdpa"
TORCH_MATERIALIZED = "torch-materialized"
KERNELS_MATERIALIZED = "kernels-materialized"
# Rows of queries and of keys in a tile of PyTorch's CPU kernel, at most.
SDPA_TILE = (256, 512)


@dataclass(frozen=True)
class Implementation:
    """One way; `form` is sdpa, materialized (all scores at once), or the kernel's own form.

    `product` names the kernel that multiplies, where our kernels materialize the scores.
    """

    name: str
    form: str
    product: str | None = None

    @property
    def is_torch(self) -> bool:
        """True when PyTorch runs it."""
        return self.name.startswith("torch-")


@dataclass(frozen=True)
class Memory:
    """Bytes that an implementation keeps between calls, and those of a call besides."""

    resident_bytes: int
    transient_bytes: int


class Runner(Protocol):
    """An implementation with the inputs of a case."""

    def __call__(self) -> Any:
        """One call; the result is freshly allocated, as for any caller."""

    def output(self, result: Any) -> Array:
        """The result as a NumPy array."""


def implementations() -> list[Implementation]:
    """PyTorch's two, ours over whole scores with every parallel kernel of the op matmul (that with
    BLAS goes without a suffix), and every parallel kernel of the op attention."""
    kernels = [kernel for kernel in ablation_kernels.op_table() if kernel.parallel]
    ways = [
        Implementation(TORCH_SDPA, "sdpa"),
        Implementation(TORCH_MATERIALIZED, "materialized"),
    ]
    for kernel in kernels:
        if kernel.op == "matmul":
            suffix = "" if kernel.gemm == "blas" else f"-{kernel.gemm}"
            name = KERNELS_MATERIALIZED + suffix
            ways.append(Implementation(name, "materialized", kernel.name))
    ways += [Implementation(kernel.name, kernel.form) for kernel in kernels if kernel.op == OP]
    return ways


def product_scratch_bytes(product: str, case: Case) -> int:
    """Scratch of the larger of the two products over whole scores."""
    scores = (*case.shape[:2], case.seq_len, case.seq_len)
    scratch = ablation_kernels.scratch_bytes
    return max(
        scratch(product, [case.shape, case.shape, None, None], {"transpose_b": True}, case.threads),
        scratch(product, [scores, case.shape, None, None], {}, case.threads),
    )


def scratch_bytes(implementation: Implementation, case: Case) -> int | None:
    """Scratch of a call: exactly for ours, None for PyTorch's."""
    if implementation.is_torch:
        return None
    if implementation.product is not None:
        return case.scores_bytes + product_scratch_bytes(implementation.product, case)
    shapes = [case.shape, case.shape, case.shape, None]
    attributes = {"causal": case.causal}
    return ablation_kernels.scratch_bytes(implementation.name, shapes, attributes, case.threads)


def memory(implementation: Implementation, case: Case) -> Memory:
    """What a call is predicted to take beside its inputs: the result, and scores or scratch."""
    result = case.array_bytes
    mask = case.seq_len**2 if case.causal else 0
    if implementation.name == TORCH_SDPA:
        rows, keys = SDPA_TILE
        tile = 4 * (rows * keys + rows * case.head_dim + 2 * rows)
        return Memory(0, result + case.threads * tile)
    if implementation.name == TORCH_MATERIALIZED:
        # The scores and the softmax of them; the scaled queries; a mask of bytes.
        return Memory(mask, 2 * case.scores_bytes + 2 * result)
    if implementation.product is not None:
        # The mask is float32, as every input of a kernel.
        packed = product_scratch_bytes(implementation.product, case)
        return Memory(case.scores_bytes + 4 * mask, result + packed)
    return Memory(0, result + (scratch_bytes(implementation, case) or 0))


class AttentionKernel:
    """One kernel of the op attention."""

    def __init__(self, kernel: str, case: Case, inputs: tuple[Array, Array, Array]) -> None:
        self._kernel = kernel
        self._causal = case.causal
        self._inputs = inputs

    def __call__(self) -> Array:
        """One call."""
        q, k, v = self._inputs
        return ablation_kernels.attention(q, k, v, causal=self._causal, kernel=self._kernel)

    def output(self, result: Any) -> Array:
        """It is NumPy's already."""
        return np.asarray(result)


class MaterializedKernels:
    """Product, mask, softmax, product over all scores at once; mask and softmax by their best.

    The scores lie in one array that every call uses again, as a planned arena would have them.
    """

    def __init__(self, product: str, case: Case, inputs: tuple[Array, Array, Array]) -> None:
        self._product = product
        self._inputs = inputs
        self._scale = case.head_dim**-0.5
        self._scores = np.empty((BATCH, case.heads, case.seq_len, case.seq_len), np.float32)
        self._mask: Array | None = None
        if case.causal:
            shape = (case.seq_len, case.seq_len)
            self._mask = np.triu(np.full(shape, -np.inf, np.float32), k=1)

    def __call__(self) -> Array:
        """One call."""
        q, k, v = self._inputs
        scores = self._scores
        ablation_kernels.matmul(
            q, k, transpose_b=True, alpha=self._scale, kernel=self._product, out=scores
        )
        if self._mask is not None:
            ablation_kernels.add(scores, self._mask, out=scores)
        ablation_kernels.softmax(scores, out=scores)
        return ablation_kernels.matmul(scores, v, kernel=self._product)

    def output(self, result: Any) -> Array:
        """It is NumPy's already."""
        return np.asarray(result)


def kernels_used(implementation: Implementation, case: Case) -> list[str]:
    """Names of our kernels that a call runs, in order; none for PyTorch's."""
    if implementation.is_torch:
        return []
    product = implementation.product
    if product is None:
        return [implementation.name]
    scores = (*case.shape[:2], case.seq_len, case.seq_len)
    best = ablation_kernels.best_kernel
    mask = [best("add", [scores, scores[2:]])] if case.causal else []
    return [product, *mask, best("softmax", [scores]), product]


def runner_maker(name: str, threads: int) -> Callable[[Case, tuple[Array, Array, Array]], Runner]:
    """What makes runners of an implementation in this process, its runtime set up.

    Raises ValueError for an unknown name.
    """
    known = {implementation.name: implementation for implementation in implementations()}
    if name not in known:
        raise ValueError(f"implementation {name!r}; accepted: {', '.join(known)}")
    if known[name].is_torch:
        from .torch_runners import make_torch_runner, prepare_torch

        prepare_torch(threads)
        return lambda case, inputs: make_torch_runner(name, case, inputs)
    ablation_kernels.set_num_threads(threads)
    product = known[name].product
    if product is not None:
        return lambda case, inputs: MaterializedKernels(product, case, inputs)
    return lambda case, inputs: AttentionKernel(name, case, inputs)
