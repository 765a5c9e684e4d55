"""What is measured: the shapes of attention, their inputs, and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

BATCH = 1


@dataclass(frozen=True)
class Case:
    """Self-attention of (1, heads, seq_len, head_dim) float32 arrays on `threads` threads.

    causal hides key j from query i where j > i. `gain` multiplies the queries: 1 gives scores of
    unit variance, as a trained model's are about; probes have them far apart.
    """

    seq_len: int
    heads: int
    head_dim: int
    causal: bool
    threads: int
    gain: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of each of q, k, v and the output."""
        return (BATCH, self.heads, self.seq_len, self.head_dim)

    @property
    def array_bytes(self) -> int:
        """Bytes of one such array."""
        return 4 * BATCH * self.heads * self.seq_len * self.head_dim

    @property
    def scores_bytes(self) -> int:
        """Bytes of all scores, (1, heads, seq_len, seq_len)."""
        return 4 * BATCH * self.heads * self.seq_len**2

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key that it sees, in one head."""
        return self.seq_len * (self.seq_len + 1) // 2 if self.causal else self.seq_len**2

    @property
    def flops_useful(self) -> int:
        """Floating-point operations of both products over the pairs that count: 4 d a pair."""
        return 4 * BATCH * self.heads * self.head_dim * self.pairs

    @property
    def name(self) -> str:
        """Short label: full H12 S1024 d64 t2."""
        mask = "causal" if self.causal else "full"
        return f"{mask} H{self.heads} S{self.seq_len} d{self.head_dim} t{self.threads}"

    def to_dict(self) -> dict[str, Any]:
        """For a message to a worker; `Case(**message)` is the way back."""
        return asdict(self)


def make_inputs(case: Case, seed: int) -> tuple[Array, Array, Array]:
    """Normal random q, k and v of a case, distinct in every head; the same for full and causal,
    and for any number of threads."""
    rng = np.random.default_rng([seed, case.seq_len, case.heads, case.head_dim])
    q, k, v = (rng.standard_normal(case.shape, dtype=np.float32) for _ in range(3))
    q *= np.float32(case.gain)
    return q, k, v


def probes(case: Case) -> list[Case]:
    """Small cases that are hard to get right by accident, as large a head as the case's.

    Scores so far apart that exp of them overflows without their maximum; a prime length, which no
    tile divides; several heads.
    """
    return [Case(67, 3, case.head_dim, causal, case.threads, gain=40.0) for causal in (False, True)]


def grid(
    seq_lens: Sequence[int],
    heads: Sequence[int],
    head_dim: int,
    masks: Sequence[bool],
    threads: Sequence[int],
) -> list[Case]:
    """Every combination, the threads outermost; `masks` are values of `causal`."""
    return [
        Case(seq_len, n_heads, head_dim, causal, n_threads)
        for n_threads in threads
        for causal in masks
        for n_heads in heads
        for seq_len in seq_lens
    ]
