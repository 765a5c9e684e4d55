"""Attention written plainly in four forms, for teaching: what each idea costs and saves.

| form | its idea | scratch of a worker, floats |
|---|---|---|
| `naive` | the definition: all scores of a head in memory | N² |
| `blocked` | naive, with both products tile by tile | N² |
| `fused_row` | naive, a row of scores finished before the next begins | N |
| `flash` | no row of scores is ever whole | 3 Br D + 2 Bc D + 2 Br Bc + N + 3 Br |

They are plain C++ without intrinsics or a library, far slower than `ablation_kernels.attention`,
and are not in its op table. The course is Stanford CS149, assignment 4; its sizes are N 1024, D
32, 4 heads, Br = Bc = 256, scale 1, and its math is `softmax="unsafe"`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Literal, NoReturn, TypeAlias, get_args

import numpy as np

from ablation_kernels import _native
from ablation_kernels._call import Array, Float32Array

Form: TypeAlias = Literal["naive", "blocked", "fused_row", "flash"]
Softmax: TypeAlias = Literal["safe", "unsafe"]

FORMS: tuple[Form, ...] = get_args(Form)
"""The forms, each after its parent."""

_FLOAT_BYTES = 4
_LARGEST_BLOCK = 2**31 - 1
_MOST_THREADS = 1024
_LARGEST_SCALE = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class SpanTime:
    """Self time of a span in nanoseconds, and how often it was entered."""

    time_ns: int
    count: int


@dataclass(frozen=True)
class Spans:
    """The time of a call by span, summed over its workers.

    `self_times` has the spans that the form has, of "qk", "softmax", "pv", "rescale" and "copy"
    (flash alone has the last two), and "other", which holds the rest: scratch being allocated, and
    the ends of ranges. They sum to `total_ns` exactly. On one thread that is the call without its
    checks; on more it is the time that the workers spent working, which is longer than the call.
    """

    total_ns: int
    self_times: Mapping[str, SpanTime]


@dataclass(frozen=True)
class TeachingResult:
    """The result of a call of `attention`.

    `scratch_bytes` is measured: the peak of the arena that all of the call's scratch came from.
    `scratch_formula_bytes` is what `scratch_formula_bytes()` says. `spans` is None unless asked
    for.
    """

    output: Float32Array
    scratch_bytes: int
    scratch_formula_bytes: int
    spans: Spans | None


def _reject(
    argument: str, given: str, accepted: str, kind: type[Exception] = ValueError
) -> NoReturn:
    raise kind(f"attention: argument '{argument}' {given}; accepted: {accepted}")


def _require_choice(argument: str, value: object, choices: tuple[str, ...]) -> None:
    accepted = ", ".join(map(repr, choices))
    if not isinstance(value, str):
        _reject(argument, f"is {type(value).__name__}", accepted, TypeError)
    if value not in choices:
        _reject(argument, f"is {value!r}", accepted)


def _integer(argument: str, value: object, largest: int, note: str = "") -> int:
    accepted = f"an integer from 1 to {largest}{note}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        _reject(argument, f"is {type(value).__name__}", accepted, TypeError)
    number = int(value)
    if not 1 <= number <= largest:
        _reject(argument, f"is {number}", accepted)
    return number


def _scale(value: object) -> float | None:
    accepted = "None (1 / sqrt(head_dim)) or a finite float32 number"
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real):
        _reject("scale", f"is {type(value).__name__}", accepted, TypeError)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not abs(number) <= _LARGEST_SCALE:
        _reject("scale", f"is {number}", accepted)
    return number


def scratch_formula_bytes(
    shape: Sequence[int],
    form: Form,
    *,
    block_q: int = 256,
    block_k: int = 256,
    threads: int = 1,
) -> int:
    """Return the bytes of scratch of `attention` for q of this shape, (batch, heads, N, head_dim).

    The formula of the table above for each worker, with Br = min(block_q, N) and Bc = min(block_k,
    N). The workers are the threads, but no more than there are heads (naive, blocked), rows
    (fused_row) or blocks of rows (flash) of all heads and batch items together.
    """
    _require_choice("form", form, FORMS)
    if len(shape) != 4 or min(shape) < 1:
        _reject("shape", f"is {tuple(shape)}", "(batch, heads, N, head_dim), each at least 1")
    batch, heads, n, d = shape
    rows = min(_integer("block_q", block_q, _LARGEST_BLOCK), n)
    keys = min(_integer("block_k", block_k, _LARGEST_BLOCK), n)
    if form == "flash":
        floats = 3 * rows * d + 2 * keys * d + 2 * rows * keys + n + 3 * rows
        items = batch * heads * math.ceil(n / rows)
    elif form == "fused_row":
        floats, items = n, batch * heads * n
    else:
        floats, items = n * n, batch * heads
    return _FLOAT_BYTES * floats * min(_integer("threads", threads, _MOST_THREADS), items)


def attention(
    q: Array,
    k: Array,
    v: Array,
    form: Form,
    *,
    block_q: int = 256,
    block_k: int = 256,
    scale: float | None = None,
    softmax: Softmax = "safe",
    threads: int = 1,
    spans: bool = False,
    out: Array | None = None,
) -> TeachingResult:
    """Return softmax(scale * q @ k^T) @ v for each batch item and head, in one of the four forms.

    q, k and v are C-contiguous float32 arrays (batch, heads, N, head_dim) of one shape, N at most
    2^24; out has their shape and overlaps none of them. scale None is 1 / sqrt(head_dim). block_q
    and block_k are the rows and keys of a tile, cut to N, in `blocked` and `flash`; the others have
    no tiles. softmax "unsafe" leaves out the subtraction of the row's maximum: scores above 88.7
    overflow to NaN. threads is 1 to get_num_threads(); the result does not depend on it. spans asks
    for self times, by the clock of `Program.run_timed`; without it no clock is read.

    Raises TypeError or ValueError with the argument's name, what was given and what is accepted;
    MemoryError where the scratch does not fit.
    """
    _require_choice("form", form, FORMS)
    _require_choice("softmax", softmax, get_args(Softmax))
    block_q = _integer("block_q", block_q, _LARGEST_BLOCK)
    block_k = _integer("block_k", block_k, _LARGEST_BLOCK)
    threads = _integer("threads", threads, _native.get_num_threads(), " (get_num_threads)")
    if not isinstance(spans, bool | np.bool_):
        _reject("spans", f"is {type(spans).__name__}", "a bool", TypeError)
    output, shape, scratch_bytes, measured = _native.teaching_attention(
        q, k, v, form, block_q, block_k, _scale(scale), softmax == "safe", threads, bool(spans), out
    )
    formula = scratch_formula_bytes(shape, form, block_q=block_q, block_k=block_k, threads=threads)
    return TeachingResult(output, scratch_bytes, formula, _spans(measured))


def _spans(measured: tuple[int, list[tuple[str, int, int]]] | None) -> Spans | None:
    if measured is None:
        return None
    total_ns, rows = measured
    return Spans(total_ns, {name: SpanTime(time_ns, count) for name, time_ns, count in rows})
