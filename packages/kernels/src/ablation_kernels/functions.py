"""One function per op: arrays in and out, each on any kernel of the table.

Arrays are C-contiguous float32 on the CPU, taken without a copy from anything that speaks DLPack or
the buffer protocol (NumPy, torch, jax, ctypes, memoryview, ...). An object is refused if its memory
does not hold its values: a tensor that requires grad, has a forward-mode tangent, is negated lazily
or has no storage; a masked array. A call holds the memory of its arrays until it returns. It cannot
hold memory that the owner frees on purpose. While another thread computes, do not call
`ndarray.resize(refcheck=False)`, `storage().resize_()` or `ctypes.resize`, and do not truncate a
mapped file.

The functions share two keywords: `kernel` names a line of `op_table()`, whole (`"softmax_simd"`) or
without the op (`"simd"`), and None takes the best for this shape and machine; `out` is the array to
write, which is then returned. None makes a new NumPy array, or a tensor where an input is a tensor
of torch. An op of several results writes them one after another into one flat array, which `out`
may be, and returns views of it.

Each raises TypeError (not an array, wrong dtype or device) or ValueError (shape, layout, overlap,
unknown kernel or attribute) with the argument's name, what was given and what is accepted. Where an
object refuses to share its memory, its own error is the cause; other errors of its code come
through. Numbers may be NumPy's scalars; a finite number that float32 cannot hold is refused. NaN
and infinity propagate as in PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Literal

import numpy as np

from ablation_kernels import _native
from ablation_kernels._call import Array, Float32Array, call

__all__ = [
    "amax",
    "attention",
    "attention_backward",
    "attention_lse",
    "concat",
    "cumsum",
    "layer_norm",
    "matmul",
    "permute",
    "rms_norm",
    "rotary",
    "slice",
    "softmax",
    "sum",
    "take",
]


def _numpy(x: Array) -> Float32Array:
    """Return the same memory as a NumPy array."""
    # A read-only array is refused by NumPy's own DLPack
    is_plain = isinstance(x, np.ndarray) or not hasattr(x, "__dlpack__")
    return np.asarray(x if is_plain else np.from_dlpack(x), np.float32)


def _parts(flat: Array, *shapes: tuple[int, ...]) -> list[Float32Array]:
    """Return views of consecutive parts of a flat array or tensor."""
    sizes = [math.prod(shape) for shape in shapes]
    if hasattr(flat, "untyped_storage"):
        parts = flat.split(sizes)
    else:
        parts = np.split(_numpy(flat), list(accumulate(sizes))[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def matmul(
    a: Array,
    b: Array,
    *,
    transpose_b: bool = False,
    alpha: float = 1.0,
    bias: Array | None = None,
    addend: Array | None = None,
    activation: Literal["relu", "gelu", "gelu_tanh", "gelu_sigmoid", "silu"] | None = None,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Return a matrix product with its epilogue: activation(alpha * a @ b + bias + addend).

    a is (..., M, K). b is (K, N), used for every matrix of a, or (..., K, N) with the batch axes of
    a; with transpose_b its last two axes are (N, K). bias is (N,), addend has the output's shape
    (..., M, N) and may be the array given as out. "gelu_tanh" and "gelu_sigmoid" are the
    approximations of `gelu`. The kernels strassen_simd and others of that name use another
    arithmetic, with a larger error (see `ablation_kernels.strassen`). There, NaN or infinity in a
    row of a or a column of b also reaches other rows or columns of the output.
    """
    attributes = {"transpose_b": transpose_b, "alpha": alpha, "activation": activation}
    return call("matmul", (a, b, bias, addend), attributes, kernel, out)


def permute(
    x: Array, perm: Sequence[int], *, kernel: str | None = None, out: Array | None = None
) -> Float32Array:
    """Return a copy of x with its axes in another order: output axis i is axis perm[i] of x."""
    return call("permute", (x,), {"perm": perm}, kernel, out)


def slice(
    x: Array,
    axis: int,
    start: int,
    stop: int,
    *,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Return a copy of x[start:stop] along one axis, 0 <= start < stop <= size."""
    return call("slice", (x,), {"axis": axis, "start": start, "stop": stop}, kernel, out)


def take(
    x: Array,
    ids: Array,
    axis: int,
    *,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Return a copy of the rows of x along one axis that ids names.

    The output's shape is x.shape[:axis] + ids.shape + x.shape[axis + 1:]. ids is float32 of any
    shape and holds whole numbers in [0, n), n the size of the axis: float32 can name each row up to
    n = 2^24. Any other id raises IndexError that names it and n; out is then partly written.
    """
    return call("take", (x, ids), {"axis": axis}, kernel, out)


def concat(
    a: Array,
    b: Array,
    c: Array | None = None,
    d: Array | None = None,
    e: Array | None = None,
    f: Array | None = None,
    g: Array | None = None,
    h: Array | None = None,
    *,
    axis: int,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Join two to eight arrays along one axis; their other axes are equal."""
    return call("concat", (a, b, c, d, e, f, g, h), {"axis": axis}, kernel, out)


def softmax(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return the softmax over the last axis. out may be x.

    A row of only -infinity gives NaN, as in torch.
    """
    return call("softmax", (x,), {}, kernel, out)


def sum(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return the sum over the last axis: (..., D) gives (..., 1).

    The error is at most 22 * 2^-24 times the sum of the magnitudes, whatever D. Whole numbers whose
    magnitudes add up to at most 2^24 are summed exactly.
    """
    return call("sum", (x,), {}, kernel, out)


def amax(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return the largest element of the last axis, NaN if one is: (..., D) gives (..., 1)."""
    return call("amax", (x,), {}, kernel, out)


def cumsum(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Return running sums along the last axis, each rounded once from a float64 sum.

    out may be x.
    """
    return call("cumsum", (x,), {}, kernel, out)


def layer_norm(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    eps: float = 1e-5,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Normalize the last axis: (x - mean) / sqrt(variance + eps) * weight + bias.

    x is (..., D), weight and bias are (D,); the variance is the biased one. out may be x.
    """
    return call("layer_norm", (x, weight, bias), {"eps": eps}, kernel, out)


def rms_norm(
    x: Array,
    weight: Array,
    *,
    addend: Array | None = None,
    eps: float = 1e-5,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Return x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich, 2019).

    x is (..., D), weight is (D,). Or x is (..., heads, D) and weight (n, D), a row for each of the
    first n heads; the other heads are copied. addend, of x's shape, is added to the result, as a
    residual. out may be x.
    """
    return call("rms_norm", (x, weight, addend), {"eps": eps}, kernel, out)


def rotary(
    x: Array,
    cos: Array,
    sin: Array,
    *,
    layout: Literal["bhsd", "bshd"] = "bhsd",
    pairs: Literal["interleaved", "halves"] = "interleaved",
    n_heads: int = 0,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Turn each pair of elements of position s by the angle of cos[s, i], sin[s, i].

    layout "bhsd": x is (batch, heads, seq_len, head_dim), "bshd": (batch, seq_len, heads,
    head_dim); cos and sin are (seq_len, r / 2), r at most head_dim. The first r elements of a head
    are turned, the others copied. pairs "interleaved": x[2i] and x[2i+1] are turned together,
    "halves": x[i] and x[i + r/2]. n_heads: only the first n heads are turned; 0: all. Source: Su et
    al., RoFormer (2021). out may be x.
    """
    attributes = {"layout": layout, "pairs": pairs, "n_heads": n_heads}
    return call("rotary", (x, cos, sin), attributes, kernel, out)


def attention(
    q: Array,
    k: Array | None = None,
    v: Array | None = None,
    *,
    layout: Literal["bhsd", "bshd", "qkv"] = "bhsd",
    n_heads: int = 0,
    mask: Array | None = None,
    causal: bool = False,
    scale: float | None = None,
    tile_q: int = 0,
    tile_k: int = 0,
    mask_replaces: bool = False,
    mask_is_causal: bool = False,
    strict: bool = False,
    window: int = 0,
    softcap: float = 0.0,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Return softmax(scale * q @ k^T + mask) @ v for each batch and head.

    layout "bhsd": q is (batch, heads, Sq, head_dim), k (batch, kv_heads, Sk, head_dim), v (batch,
    kv_heads, Sk, v_dim), the output (batch, heads, Sq, v_dim). "bshd": heads after the sequence in
    all four. "qkv": q is (batch, S, 3, heads, head_dim) and holds all three, k and v stay None, the
    output is (batch, S, heads, head_dim). With n_heads, q is (batch, S, n_heads + 2 * kv_heads,
    head_dim): the heads of q, then those of k, then those of v. kv_heads divides heads: query head
    h reads head h // (heads // kv_heads) of k and v, without a copy (Ainslie et al., GQA, 2023).

    mask is added to the scores (-infinity hides a key) and broadcasts to (batch, heads, Sq, Sk) in
    every layout, without a copy. causal hides key j from query i where j > i, counted from the top
    left as in torch's is_causal. window, if not 0, hides it also where i - j >= window; it needs
    causal or mask_is_causal, else ValueError. scale None is 1 / sqrt(head_dim). A row whose keys
    are all hidden gives 0, as torch's scaled_dot_product_attention. tile_q and tile_k are rows and
    keys per tile; 0 lets the kernel choose from the cache sizes. softcap c, if not 0, makes a score
    s to c * tanh(s / c) before causal and mask (Gemma 2, 2024).

    mask_replaces: a score whose mask is not 0 becomes the mask, whatever the score was, instead of
    their sum. mask_is_causal: you vouch that the mask is 0 where causal and window show a key and
    at most -1e31 elsewhere; the kernel may then leave hidden keys out. strict: NaN and infinity as
    in softmax(scores) @ v written out. A row whose keys are all hidden gives NaN, and a NaN or an
    infinity in v reaches every query, as NaN where its key has the weight 0.
    """
    attributes = {
        "scale": scale,
        "causal": causal,
        "layout": layout,
        "n_heads": n_heads,
        "mask_replaces": mask_replaces,
        "mask_is_causal": mask_is_causal,
        "strict": strict,
        "window": window,
        "softcap": softcap,
        "tile_q": tile_q,
        "tile_k": tile_k,
    }
    return call("attention", (q, k, v, mask), attributes, kernel, out)


def attention_lse(
    q: Array,
    k: Array,
    v: Array,
    *,
    causal: bool = False,
    scale: float | None = None,
    kernel: str | None = None,
    out: Array | None = None,
) -> tuple[Float32Array, Float32Array]:
    """Return attention and log(sum(exp(scale * q @ k^T))) of each row for `attention_backward`.

    q is (batch, heads, Sq, head_dim), k and v are (batch, heads, Sk, head_dim); causal and scale
    are those of `attention`. Returns the output, as q, and lse (batch, heads, Sq), which is
    -infinity for a row whose scores all are. out has the shape infer_shape("attention_lse", ...).
    """
    flat, shapes = _native.call_with_shapes(
        "attention_lse", (q, k, v), {"scale": scale, "causal": causal}, kernel, out
    )
    output, lse = _parts(flat, shapes[0], shapes[0][:-1])
    return output, lse


def attention_backward(
    q: Array,
    k: Array,
    v: Array,
    output: Array,
    lse: Array,
    grad_output: Array,
    *,
    causal: bool = False,
    scale: float | None = None,
    kernel: str | None = None,
    out: Array | None = None,
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Return the gradients by q, k and v of attention from the gradient by its output.

    output and lse are the results of `attention_lse` for the same q, k, v, causal and scale; they
    are not checked. grad_output has the shape of q. Returns the gradients of q, k and v, each of
    its shape: the same, bit by bit, for any number of threads. Source: Dao, FlashAttention-2
    (2023). out has the shape infer_shape("attention_backward", ...).
    """
    arrays = (q, k, v, output, lse, grad_output)
    attributes = {"scale": scale, "causal": causal}
    flat, shapes = _native.call_with_shapes("attention_backward", arrays, attributes, kernel, out)
    grad_q, grad_k, grad_v = _parts(flat, *shapes[:3])
    return grad_q, grad_k, grad_v
