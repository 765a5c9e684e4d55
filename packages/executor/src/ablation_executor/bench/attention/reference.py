"""The float64 reference of attention at some query rows, with the tolerance of a float32 run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..check import Reference, Verdict, attention_head, compare
from .cases import Array, Case, make_inputs

ALL_ROWS_UP_TO = 256
SAMPLED_ROWS = 64


def sampled_rows(case: Case, seed: int) -> npt.NDArray[np.int64]:
    """All query rows of a short sequence; of a long one the first, the last and random others."""
    if case.seq_len <= ALL_ROWS_UP_TO:
        return np.arange(case.seq_len, dtype=np.int64)
    rng = np.random.default_rng([seed, case.seq_len])
    inner = rng.choice(np.arange(1, case.seq_len - 1), SAMPLED_ROWS - 2, replace=False)
    return np.sort(np.concatenate([[0, case.seq_len - 1], inner]).astype(np.int64))


def attention_reference(case: Case, seed: int) -> Reference:
    """The sampled rows of every head in float64, side by side as (rows, heads * head_dim).

    The tolerance of a row is the largest among its heads; see `check.attention_head`.
    """
    q, k, v = make_inputs(case, seed)
    rows = sampled_rows(case, seed)
    hidden = np.zeros((len(rows), case.seq_len), dtype=bool)
    if case.causal:
        hidden = np.arange(case.seq_len)[None, :] > rows[:, None]
    exact = (np.zeros((len(rows), 1)), 0.0, 0.0)
    expected, tolerance = [], np.zeros((len(rows), 1))
    for head in range(case.heads):
        query, key, value = (
            array.astype(np.float64) for array in (q[0, head, rows], k[0, head], v[0, head])
        )
        out, error = attention_head(query, key, value, exact, hidden)
        expected.append(out)
        tolerance = np.maximum(tolerance, error)
    return Reference(rows, np.concatenate(expected, axis=1), tolerance)


def compare_attention(output: Array, reference: Reference) -> Verdict:
    """Compare an output (1, heads, seq_len, head_dim); a column of the verdict counts through the
    heads."""
    if output.ndim != 4 or output.shape[0] != 1:
        tolerance = float(reference.tolerance.max())
        reason = f"output has shape {output.shape}, expected (1, heads, seq_len, head_dim)"
        return Verdict(None, tolerance, None, len(reference.rows), reason)
    _, heads, seq_len, head_dim = output.shape
    merged = output.transpose(0, 2, 1, 3).reshape(1, seq_len, heads * head_dim)
    return compare(merged, reference)
