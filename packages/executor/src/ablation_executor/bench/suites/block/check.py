"""The float64 reference of the block, the tolerance of a float32 run, and the comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...suite import Verdict
from .configs import Config
from .weights import Array

Double = npt.NDArray[np.float64]

UNIT_ROUNDOFF = 2.0**-24
# A dot product of float32 vectors a, b is off by about UNIT_ROUNDOFF * |a| * |b| (rounding errors
# of random sign; the worst case is sqrt(K) times that). The factor covers the largest of all
# elements, fused or split accumulation, and the few roundings of exp and 1/sqrt.
SAFETY = 2.0
LAYER_NORM_EPS = 1e-5
ALL_ROWS_UP_TO = 1 << 19
SAMPLED_ROWS = 64


@dataclass(frozen=True)
class Reference:
    """Expected output (rows, d_model) at `rows`, and the tolerance of each of those rows."""

    rows: npt.NDArray[np.int64]
    expected: Double
    tolerance: Double

    def save(self, path: Path) -> None:
        """Write as .npz."""
        with path.open("wb") as file:
            np.savez(file, rows=self.rows, expected=self.expected, tolerance=self.tolerance)

    @staticmethod
    def load(path: Path) -> Reference:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return Reference(arrays["rows"], arrays["expected"], arrays["tolerance"])


def sampled_rows(config: Config) -> npt.NDArray[np.int64]:
    """All rows of a small config; of a big one 64 spread rows, the first and the last included."""
    if config.seq_len <= SAMPLED_ROWS or config.seq_len * config.d_model <= ALL_ROWS_UP_TO:
        return np.arange(config.seq_len, dtype=np.int64)
    return np.unique(np.linspace(0, config.seq_len - 1, SAMPLED_ROWS).round().astype(np.int64))


def _layer_norm(x: Double, error: Double, weight: Array, bias: Array) -> tuple[Double, Double]:
    """Normalised rows and the error of their elements, given the error of x's (rows, 1)."""
    mean = x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + LAYER_NORM_EPS)
    y = (x - mean) / deviation * weight + bias
    gain = float(np.abs(weight).max())
    size = np.abs(x).max(axis=-1, keepdims=True) / deviation * gain + float(np.abs(bias).max())
    return y, error / deviation * gain + SAFETY * UNIT_ROUNDOFF * size


def _linear(x: Double, error: Double, weight: Array, bias: Array) -> tuple[Double, Double]:
    """x @ weight^T + bias and its error: (error of x + rounding) times the longest weight row."""
    matrix = weight.astype(np.float64)
    y = x @ matrix.T + bias
    longest = float(np.sqrt(np.square(matrix).sum(axis=1).max()))
    rounding = SAFETY * UNIT_ROUNDOFF * np.linalg.norm(x, axis=-1, keepdims=True)
    return y, (error + rounding) * longest


def attention_head(
    q: Double, k: Double, v: Double, errors: tuple[Double, float, float], hidden: npt.NDArray[Any]
) -> tuple[Double, Double]:
    """One head's rows and their error (rows, 1); `errors` are those of q, k and v.

    An error e of the scores changes a probability by a factor of up to 1 + 2 e; independent
    changes of the summands add up like sqrt(sum p^2).
    """
    error_q, error_k, error_v = errors
    scale = q.shape[-1] ** -0.5
    scores = np.where(hidden, -np.inf, q @ k.T * scale)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - top)
    weights /= weights.sum(axis=-1, keepdims=True)
    size_q = np.linalg.norm(q, axis=-1, keepdims=True)
    size_k = float(np.linalg.norm(k, axis=-1).max())
    error_scores = scale * (error_q * size_k + error_k * size_q)
    rounding = SAFETY * UNIT_ROUNDOFF
    relative = 2 * (error_scores + rounding * (scale * size_q * size_k + 1 + np.abs(top)))
    spread = np.sqrt(np.square(weights).sum(axis=-1, keepdims=True))
    size_v = float(np.abs(v).max())
    error = np.expm1(relative) * spread * size_v + error_v * spread + rounding * size_v
    return weights @ v, error


def _attention(
    config: Config,
    q: Double,
    k: Double,
    v: Double,
    errors: tuple[Double, float, float],
    rows: npt.NDArray[np.int64],
) -> tuple[Double, Double]:
    """Attention of the query rows q (rows, d) over all keys k, v (seq_len, d), head by head."""
    hidden = np.zeros((len(rows), config.seq_len), dtype=bool)
    if config.causal:
        hidden = np.arange(config.seq_len)[None, :] > rows[:, None]
    out = np.empty_like(q)
    error = np.zeros((len(rows), 1))
    for head in range(config.n_heads):
        at = slice(head * config.head_dim, (head + 1) * config.head_dim)
        out[:, at], error_head = attention_head(q[:, at], k[:, at], v[:, at], errors, hidden)
        error = np.maximum(error, error_head)
    return out, error


def block_reference(config: Config, weights: dict[str, Array], x: Array) -> Reference:
    """The block's output in float64 at the sampled rows, and the tolerance of a float32 run.

    The tolerance is a forward error analysis, one number per row: each operation adds its own
    rounding (SAFETY * UNIT_ROUNDOFF * size of what it sums) to what it passes on.
    """
    if config.batch != 1:
        raise ValueError(f"batch must be 1, got {config.batch}")
    rows = sampled_rows(config)

    def linear(name: str, value: Double, error: Double) -> tuple[Double, Double]:
        return _linear(value, error, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, value: Double, error: Double) -> tuple[Double, Double]:
        return _layer_norm(value, error, weights[f"{name}.weight"], weights[f"{name}.bias"])

    every = x[0].astype(np.float64)
    h, error_h = norm("norm_attention", every, np.zeros((config.seq_len, 1)))
    k, error_k = linear("key", h, error_h)
    v, error_v = linear("value", h, error_h)
    q, error_q = linear("query", h[rows], error_h[rows])
    errors = (error_q, float(error_k.max()), float(error_v.max()))
    context, error = _attention(config, q, k, v, errors, rows)
    context, error = linear("out", context, error)
    residual = every[rows] + context
    error = error + UNIT_ROUNDOFF * np.abs(residual).max(axis=-1, keepdims=True)
    h, error_h = norm("norm_feed_forward", residual, error)
    up, error_up = linear("up", h, error_h)
    down, error_down = linear("down", np.maximum(up, 0), error_up)
    expected = residual + down
    error = error + error_down + UNIT_ROUNDOFF * np.abs(expected).max(axis=-1, keepdims=True)
    return Reference(rows, expected, error)


def compare(output: npt.NDArray[Any], reference: Reference) -> Verdict:
    """Compare an output (batch, seq_len, d_model) with the reference at its rows.

    Each row has a tolerance of its own: `worst_ratio` is the largest error over it, and the limit
    the largest of them.
    """
    limits = {"output": float(reference.tolerance.max())}
    checked = len(reference.rows)
    if output.ndim != 3 or output.shape[2] != reference.expected.shape[1]:
        reason = f"output has shape {output.shape}, expected (1, seq_len, d_model)"
        return Verdict({}, limits, reason, checked)
    given = output[0, reference.rows].astype(np.float64)
    if not np.isfinite(given).all():
        count = int(np.count_nonzero(~np.isfinite(given)))
        reason = f"{count} of {given.size} checked elements are not finite"
        return Verdict({}, limits, reason, checked)
    error = np.abs(given - reference.expected)
    ratio = error / reference.tolerance
    worst = float(ratio.max())
    wrong: str | None = None
    if not worst <= 1:
        row, column = np.unravel_index(int(ratio.argmax()), ratio.shape)
        wrong = (
            f"row {int(reference.rows[row])} column {int(column)} is off by "
            f"{error[row, column]:.3g}, {worst:.3g} times its tolerance"
        )
    details = {"worst_ratio": worst}
    return Verdict({"output": float(error.max())}, limits, wrong, checked, details)


def reference_bytes(config: Config) -> int:
    """Bytes that the reference process needs at most: float32 weights, one of them in float64,
    and four float64 arrays of the size of the input."""
    d, s = config.d_model, config.seq_len
    rows = len(sampled_rows(config))
    return config.weights_bytes + 8 * (8 * d * d + 5 * s * d + 4 * rows * (s + 5 * d))
