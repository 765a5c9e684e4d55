"""What PyTorch's flash backend takes on a CPU. This module does not import torch."""

from __future__ import annotations

from ...case import Case

# Rows of queries and of keys in a tile, at most.
TILE = (256, 512)


def sdpa_tile_bytes(case: Case) -> int:
    """Return the bytes that a call takes for a tile of scores on each thread, at most: scores,
    output, maxima and sums, in float32 whatever the case's type is."""
    rows, keys = min(TILE[0], case.Nq), min(TILE[1], case.Nk)
    return case.threads * 4 * (rows * keys + rows * case.d + 2 * rows)
