"""The float64 reference of the block, the tolerance of a float32 run, and the comparison."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ...suite import Verdict
from .configs import Config
from .weights import Array, layers_of

Double = npt.NDArray[np.float64]

UNIT_ROUNDOFF = 2.0**-24
# A dot product of float32 vectors a, b is off by about UNIT_ROUNDOFF * |a| * |b| (rounding errors
# of random sign; the worst case is sqrt(K) times that). The factor covers the largest of all
# elements, fused or split accumulation, and the few roundings of exp and 1/sqrt.
SAFETY = 2.0
LAYER_NORM_EPS = 1e-5
ALL_ROWS_UP_TO = 1 << 19
SAMPLED_ROWS = 64
# Of one head in float64: 32 MiB.
SCORES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Reference:
    """Expected output (rows, d_model) at `rows`, and the tolerance of each of those rows; the rows
    of all sequences of a batch are counted on."""

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


def _row_norms(matrix: Double) -> Double:
    """The length of each row."""
    return np.asarray(np.sqrt(np.einsum("ij,ij->i", matrix, matrix)))


def dot_product_rounding(x: Double, matrix: Double) -> Double:
    """What sums of K products in any order are off by, (rows, 1): see `SAFETY`."""
    sizes = np.linalg.norm(x, axis=-1, keepdims=True)
    return np.asarray(SAFETY * UNIT_ROUNDOFF * sizes * _row_norms(matrix).max())


@dataclass(frozen=True)
class Error:
    """What the elements of a row may be off by: (rows, 1), absolute.

    `own` is from the roundings of this layer, passed on by the largest gain of each step.
    `carried` is from the layers below, passed on by the root mean square of the gains, since
    independent errors add up by their squares. By largest gains it would grow seven to forty times
    a layer, where errors grow by half or less: four layers of Toy would be allowed 0.8.
    """

    own: Double
    carried: Double

    def at(self, rows: npt.NDArray[np.int64] | slice) -> Error:
        """Those of some rows."""
        return Error(self.own[rows], self.carried[rows])

    def added(self, other: Error, result: Double) -> Error:
        """That of the sum of two values, `result`, rounded once."""
        rounding = UNIT_ROUNDOFF * np.abs(result).max(axis=-1, keepdims=True)
        return Error(self.own + other.own + rounding, np.hypot(self.carried, other.carried))


def _layer_norm(x: Double, error: Error, weight: Array, bias: Array) -> tuple[Double, Error]:
    """Normalised rows and their error, given that of x."""
    mean = x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt(x.var(axis=-1, keepdims=True) + LAYER_NORM_EPS)
    y = (x - mean) / deviation * weight + bias
    gain = float(np.abs(weight).max())
    size = np.abs(x).max(axis=-1, keepdims=True) / deviation * gain + float(np.abs(bias).max())
    own = error.own / deviation * gain + SAFETY * UNIT_ROUNDOFF * size
    usual = float(np.sqrt(np.square(weight, dtype=np.float64).mean()))
    return y, Error(own, error.carried / deviation * usual)


def _linear(x: Double, error: Error, weight: Array, bias: Array) -> tuple[Double, Error]:
    """x @ weight^T + bias and its error: that of x times the length of a weight row, and the
    rounding of the product."""
    matrix = weight.astype(np.float64)
    y = x @ matrix.T + bias
    lengths = _row_norms(matrix)
    rounding = dot_product_rounding(x, matrix)
    usual = float(np.sqrt(np.square(lengths).mean()))
    return y, Error(error.own * lengths.max() + rounding, error.carried * usual)


def attention_head(
    q: Double, k: Double, v: Double, errors: tuple[Error, Error, Error], hidden: npt.NDArray[Any]
) -> tuple[Double, Error]:
    """One head's rows and their error; `errors` are those of q, k and v.

    An error e of the scores changes a probability by a factor of up to 1 + 2 e; independent
    changes of the summands add up like sqrt(sum p^2). What is carried is small, and to first order
    sum_j p_j v_j changes by p_j v_j times the change of score j, and by p_j times that of v_j.
    """
    error_q, error_k, error_v = errors
    scale = q.shape[-1] ** -0.5
    scores = np.where(hidden, -np.inf, q @ k.T * scale)
    top = scores.max(axis=-1, keepdims=True)
    weights = np.exp(scores - top)
    weights /= weights.sum(axis=-1, keepdims=True)
    size_q = np.linalg.norm(q, axis=-1, keepdims=True)
    sizes_k = np.linalg.norm(k, axis=-1, keepdims=True)
    size_k = float(sizes_k.max())
    error_scores = scale * (error_q.own * size_k + error_k.own.max(axis=0) * size_q)
    rounding = SAFETY * UNIT_ROUNDOFF
    relative = 2 * (error_scores + rounding * (scale * size_q * size_k + 1 + np.abs(top)))
    squares = np.square(weights)
    spread = np.sqrt(squares.sum(axis=-1, keepdims=True))
    size_v = float(np.abs(v).max())
    own = np.expm1(relative) * spread * size_v + error_v.own.max(axis=0) * spread
    usual_v = np.square(v).mean(axis=-1, keepdims=True)
    of_scores = np.square(error_q.carried) * (squares @ (usual_v * np.square(sizes_k)))
    of_scores = of_scores + np.square(size_q) * (squares @ (usual_v * np.square(error_k.carried)))
    carried = scale**2 * of_scores + squares @ np.square(error_v.carried)
    return weights @ v, Error(own + rounding * size_v, np.sqrt(carried))


def _attention(
    config: Config,
    q: Double,
    k: Double,
    v: Double,
    errors: tuple[Error, Error, Error],
    rows: npt.NDArray[np.int64],
) -> tuple[Double, Error]:
    """Attention of the query rows q (rows, d) over all keys k, v (seq_len, d), head by head, some
    rows at a time; a row's error is that of the worst head."""
    out = np.empty_like(q)
    error_q, error_k, error_v = errors
    error = Error(np.zeros_like(error_q.own), np.zeros_like(error_q.own))
    step = max(1, SCORES_AT_ONCE // config.seq_len)
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        hidden = np.zeros((len(rows[some]), config.seq_len), dtype=bool)
        if config.causal:
            hidden = np.arange(config.seq_len)[None, :] > rows[some, None]
        given = error_q.at(some), error_k, error_v
        for head in range(config.n_heads):
            at = slice(head * config.head_dim, (head + 1) * config.head_dim)
            out[some, at], found = attention_head(q[some, at], k[:, at], v[:, at], given, hidden)
            error.own[some] = np.maximum(error.own[some], found.own)
            error.carried[some] = np.maximum(error.carried[some], found.carried)
    return out, error


def _layer(
    config: Config,
    weights: Mapping[str, Array],
    x: Double,
    carried: Double,
    rows: npt.NDArray[np.int64],
) -> tuple[Double, Double]:
    """A block of x (seq_len, d) at some rows in float64, and what those rows may be off by.

    The tolerance is a forward error analysis, one number per row: each operation adds its own
    rounding (SAFETY * UNIT_ROUNDOFF * size of what it sums) to what it passes on.
    """

    def linear(name: str, value: Double, error: Error) -> tuple[Double, Error]:
        return _linear(value, error, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def norm(name: str, value: Double, error: Error) -> tuple[Double, Error]:
        return _layer_norm(value, error, weights[f"{name}.weight"], weights[f"{name}.bias"])

    below = Error(np.zeros_like(carried), carried)
    h, error_h = norm("norm_attention", x, below)
    k, error_k = linear("key", h, error_h)
    v, error_v = linear("value", h, error_h)
    q, error_q = linear("query", h[rows], error_h.at(rows))
    context, error = _attention(config, q, k, v, (error_q, error_k, error_v), rows)
    context, error = linear("out", context, error)
    residual = x[rows] + context
    error = error.added(below.at(rows), residual)
    h, error_h = norm("norm_feed_forward", residual, error)
    up, error_up = linear("up", h, error_h)
    down, error_down = linear("down", np.maximum(up, 0), error_up)
    expected = residual + down
    error = error.added(error_down, expected)
    return expected, error.own + error.carried


def block_reference(config: Config, weights: Mapping[str, Array], x: Array) -> Reference:
    """The output in float64 at the sampled rows, and the tolerance of a float32 run; `weights` are
    those of `make_weights`."""
    return stack_reference(config, layers_of(config, weights), x)


def stack_reference(config: Config, layers: Iterable[Mapping[str, Array]], x: Array) -> Reference:
    """As `block_reference`, of the weights of one layer after another.

    Keys and values of a layer are made of all rows, so that all rows of every layer but the last
    are computed.
    """
    rows, every = sampled_rows(config), np.arange(config.seq_len, dtype=np.int64)
    values = [sequence.astype(np.float64) for sequence in x]
    errors = [np.zeros((config.seq_len, 1)) for _ in values]
    for number, weights in enumerate(layers, start=1):
        wanted = rows if number == config.layers else every
        for index, value in enumerate(values):
            values[index], errors[index] = _layer(config, weights, value, errors[index], wanted)
    places = [rows + index * config.seq_len for index in range(len(values))]
    return Reference(np.concatenate(places), np.concatenate(values), np.concatenate(errors))


def other_growth(levels: int) -> float:
    """By what the rounding of products grows under some levels of Strassen's scheme.

    A level computes each block from at most four products, of sums of two blocks by two, two by one
    (twice) and two by two: with rounding errors of random sign sqrt(4^2 + 2^2 + 2^2 + 4^2) times
    that of a dot product of the longest rows. (The strict bound has the sum, 12: Higham, Accuracy
    and Stability of Numerical Algorithms, 2nd edition, 23.2.2.)
    """
    return float(40.0 ** (levels / 2))


def compare(output: npt.NDArray[Any], reference: Reference, growth: float | None = None) -> Verdict:
    """Compare an output (batch, seq_len, d_model) with the reference at its rows.

    Each row has a tolerance of its own: `worst_ratio` is the largest error over it, and the limit
    the largest of them. With a `growth` (see `other_growth`) errors are bounded by norms: every row
    has the largest tolerance, times the growth.
    """
    tolerance = reference.tolerance
    if growth is not None:
        tolerance = np.full_like(tolerance, growth * tolerance.max())
    limits = {"output": float(tolerance.max())}
    checked = len(reference.rows)
    if output.ndim != 3 or output.shape[2] != reference.expected.shape[1]:
        reason = f"output has shape {output.shape}, expected (batch, seq_len, d_model)"
        return Verdict({}, limits, reason, checked)
    given = output.reshape(-1, output.shape[2])[reference.rows].astype(np.float64)
    if not np.isfinite(given).all():
        count = int(np.count_nonzero(~np.isfinite(given)))
        reason = f"{count} of {given.size} checked elements are not finite"
        return Verdict({}, limits, reason, checked)
    error = np.abs(given - reference.expected)
    ratio = error / tolerance
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
    """Bytes that the reference process needs at most.

    Float32 weights of a layer and, of several, the layer that is made next; a matrix in float64;
    five float64 arrays of the size of the input, and for each row that is computed twenty of its
    size; scores of some rows.
    """
    d, s = config.d_model, config.seq_len
    rows = len(sampled_rows(config)) if config.layers == 1 else s
    scores = min(rows * s, max(s, SCORES_AT_ONCE))
    weights = config.layer_bytes * min(config.layers, 2)
    inputs = 2 * (config.batch - 1) * s * d
    return weights + 8 * (8 * d * d + 5 * s * d + inputs + 20 * rows * d + 6 * scores)
