"""PyTorch's two ways to attention, eager and in inference mode."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from .cases import Array, Case
from .implementations import TORCH_SDPA, Runner

# Kept for the life of the process: the mode ends with the object.
_INFERENCE_MODE = torch.inference_mode()


def prepare_torch(threads: int) -> None:
    """Set the threads of this process, and enter inference mode for good."""
    torch.set_num_threads(threads)
    _INFERENCE_MODE.__enter__()


class Sdpa:
    """torch.nn.functional.scaled_dot_product_attention."""

    def __init__(self, case: Case, inputs: tuple[Array, Array, Array]) -> None:
        self._causal = case.causal
        self._inputs = tuple(torch.from_numpy(array) for array in inputs)

    def __call__(self) -> torch.Tensor:
        """One call."""
        q, k, v = self._inputs
        return F.scaled_dot_product_attention(q, k, v, is_causal=self._causal)

    def output(self, result: Any) -> Array:
        """The tensor as a NumPy array."""
        array: Array = result.numpy()
        return array


class Materialized:
    """matmul, softmax, matmul over all scores; the scale goes to the queries, the smaller array."""

    def __init__(self, case: Case, inputs: tuple[Array, Array, Array]) -> None:
        self._scale = case.head_dim**-0.5
        self._inputs = tuple(torch.from_numpy(array) for array in inputs)
        self._hidden: torch.Tensor | None = None
        if case.causal:
            shape = (case.seq_len, case.seq_len)
            self._hidden = torch.ones(shape, dtype=torch.bool).triu_(1)

    def __call__(self) -> torch.Tensor:
        """One call."""
        q, k, v = self._inputs
        scores = torch.matmul(q * self._scale, k.transpose(-2, -1))
        if self._hidden is not None:
            scores.masked_fill_(self._hidden, float("-inf"))
        return torch.matmul(torch.softmax(scores, dim=-1), v)

    def output(self, result: Any) -> Array:
        """The tensor as a NumPy array."""
        array: Array = result.numpy()
        return array


def make_torch_runner(name: str, case: Case, inputs: tuple[Array, Array, Array]) -> Runner:
    """The runner of one of the two names."""
    return Sdpa(case, inputs) if name == TORCH_SDPA else Materialized(case, inputs)
