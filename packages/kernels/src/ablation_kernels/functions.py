"""One function per op: NumPy in and out, each on any kernel of the table.

Arrays are C-contiguous float32 on the CPU, taken without a copy from anything that speaks DLPack or
the buffer protocol (NumPy, torch, jax, ctypes, memoryview, ...). An object is refused if its memory
does not hold its values: a tensor that requires grad, has a forward-mode tangent, is negated lazily
or has no storage; a masked array. A call holds the memory of its arrays until it returns. It cannot
hold memory that the owner frees on purpose. While another thread computes, do not call
`ndarray.resize(refcheck=False)`, `storage().resize_()` or `ctypes.resize`, and do not truncate a
mapped file.

The functions share two keywords: `kernel` names a line of `op_table()`, whole (`"softmax_simd"`) or
without the op (`"simd"`), and None takes the best for this shape and machine; `out` is the array to
write, which is then returned, and None makes a new NumPy array. An op of several results writes
them one after another into one flat array, which `out` may be, and returns NumPy views of it.

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
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ablation_kernels import _native

Array: TypeAlias = Any
"""Anything that speaks DLPack or the buffer protocol."""
Float32Array: TypeAlias = NDArray[np.float32]

__all__ = [
    "add",
    "attention",
    "attention_backward",
    "attention_lse",
    "bias_relu",
    "div",
    "gelu",
    "layer_norm",
    "matmul",
    "mul",
    "permute",
    "relu",
    "rms_norm",
    "rotary",
    "rsqrt",
    "silu",
    "silu_mul",
    "slice",
    "softmax",
    "sub",
    "where",
]


def _call(
    op: str,
    inputs: tuple[Array | None, ...],
    attributes: dict[str, Any],
    kernel: str | None,
    out: Array | None,
) -> Float32Array:
    result: Float32Array = _native.call(op, inputs, attributes, kernel, out)
    return result


def _numpy(x: Array) -> Float32Array:
    """The same memory as a NumPy array."""
    # A read-only array is refused by NumPy's own DLPack
    is_plain = isinstance(x, np.ndarray) or not hasattr(x, "__dlpack__")
    return np.asarray(x if is_plain else np.from_dlpack(x), np.float32)


def _parts(flat: Array, *shapes: tuple[int, ...]) -> list[Float32Array]:
    """Views of a flat array's consecutive parts."""
    ends = list(accumulate(math.prod(shape) for shape in shapes))
    parts = np.split(_numpy(flat), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def matmul(
    a: Array,
    b: Array,
    *,
    transpose_b: bool = False,
    alpha: float = 1.0,
    bias: Array | None = None,
    addend: Array | None = None,
    activation: Literal["relu", "gelu", "gelu_tanh"] | None = None,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Matrix product with its epilogue: activation(alpha * a @ b + bias + addend).

    a is (..., M, K). b is (K, N), used for every matrix of a, or (..., K, N) with the batch axes of
    a; with transpose_b its last two axes are (N, K). bias is (N,), addend has the output's shape
    (..., M, N) and may be the array given as out. The kernels strassen_simd and others of that name
    are another arithmetic, with a larger error (see `ablation_kernels.strassen`): NaN or infinity
    in a row of a or a column of b reaches other rows or columns of the output there.
    """
    attributes = {"transpose_b": transpose_b, "alpha": alpha, "activation": activation}
    return _call("matmul", (a, b, bias, addend), attributes, kernel, out)


def permute(
    x: Array, perm: Sequence[int], *, kernel: str | None = None, out: Array | None = None
) -> Float32Array:
    """Axes of x in another order, copied: output axis i is axis perm[i] of x."""
    return _call("permute", (x,), {"perm": perm}, kernel, out)


def slice(
    x: Array,
    axis: int,
    start: int,
    stop: int,
    *,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Copy of x[start:stop] along one axis, 0 <= start < stop <= size."""
    return _call("slice", (x,), {"axis": axis, "start": start, "stop": stop}, kernel, out)


def add(a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """a + b with NumPy's broadcasting. out may be an input of the output's shape."""
    return _call("add", (a, b), {}, kernel, out)


def sub(a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """a - b with NumPy's broadcasting. out may be an input of the output's shape."""
    return _call("sub", (a, b), {}, kernel, out)


def mul(a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """a * b with NumPy's broadcasting. out may be an input of the output's shape."""
    return _call("mul", (a, b), {}, kernel, out)


def div(a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """a / b with NumPy's broadcasting. out may be an input of the output's shape."""
    return _call("div", (a, b), {}, kernel, out)


def where(
    condition: Array,
    x: Array,
    y: Array,
    *,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """x where condition is not zero, else y, with NumPy's broadcasting. condition is float32."""
    return _call("where", (condition, x, y), {}, kernel, out)


def relu(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """max(x, 0), any shape. out may be x."""
    return _call("relu", (x,), {}, kernel, out)


def gelu(
    x: Array,
    *,
    approximate: Literal["none", "tanh"] = "none",
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """x * Phi(x) or its tanh approximation (Hendrycks and Gimpel, 2016). out may be x."""
    return _call("gelu", (x,), {"approximate": approximate}, kernel, out)


def silu(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """x / (1 + exp(-x)), any shape. out may be x."""
    return _call("silu", (x,), {}, kernel, out)


def silu_mul(
    a: Array, b: Array, *, kernel: str | None = None, out: Array | None = None
) -> Float32Array:
    """silu(a) * b, of one shape: the middle of SwiGLU (Shazeer, 2020). out may be a or b."""
    return _call("silu_mul", (a, b), {}, kernel, out)


def rsqrt(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """1 / sqrt(x), any shape: infinity for 0, NaN for x < 0. out may be x."""
    return _call("rsqrt", (x,), {}, kernel, out)


def bias_relu(
    x: Array, bias: Array, *, kernel: str | None = None, out: Array | None = None
) -> Float32Array:
    """max(x + bias, 0) with x (..., N) and bias (N,). out may be x."""
    return _call("bias_relu", (x, bias), {}, kernel, out)


def softmax(x: Array, *, kernel: str | None = None, out: Array | None = None) -> Float32Array:
    """Softmax over the last axis; a row of only -infinity gives NaN, as in torch. out may be x."""
    return _call("softmax", (x,), {}, kernel, out)


def layer_norm(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    eps: float = 1e-5,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Layer normalization over the last axis: (x - mean) / sqrt(variance + eps) * weight + bias.

    x is (..., D), weight and bias are (D,); the variance is the biased one. out may be x.
    """
    return _call("layer_norm", (x, weight, bias), {"eps": eps}, kernel, out)


def rms_norm(
    x: Array,
    weight: Array,
    *,
    eps: float = 1e-5,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """x / sqrt(mean(x^2) + eps) * weight over the last axis (Zhang and Sennrich, 2019).

    x is (..., D), weight is (D,). out may be x.
    """
    return _call("rms_norm", (x, weight), {"eps": eps}, kernel, out)


def rotary(
    x: Array,
    cos: Array,
    sin: Array,
    *,
    layout: Literal["bhsd", "bshd"] = "bhsd",
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """Turn each pair (x[2i], x[2i+1]) of position s by the angle of cos[s, i], sin[s, i].

    layout "bhsd": x is (batch, heads, seq_len, head_dim), "bshd": (batch, seq_len, heads,
    head_dim); head_dim is even, cos and sin are (seq_len, head_dim / 2). Source: Su et al.,
    RoFormer (2021). out may be x.
    """
    return _call("rotary", (x, cos, sin), {"layout": layout}, kernel, out)


def attention(
    q: Array,
    k: Array | None = None,
    v: Array | None = None,
    *,
    layout: Literal["bhsd", "bshd", "qkv"] = "bhsd",
    mask: Array | None = None,
    causal: bool = False,
    scale: float | None = None,
    tile_q: int = 0,
    tile_k: int = 0,
    mask_replaces: bool = False,
    mask_is_causal: bool = False,
    strict: bool = False,
    kernel: str | None = None,
    out: Array | None = None,
) -> Float32Array:
    """softmax(scale * q @ k^T + mask) @ v for each batch and head.

    layout "bhsd": q is (batch, heads, Sq, head_dim), k and v are (batch, heads, Sk, head_dim).
    "bshd": heads after the sequence, (batch, Sq, heads, head_dim) and (batch, Sk, heads, head_dim).
    "qkv": q is (batch, S, 3, heads, head_dim) and holds all three, k and v stay None. The output
    lies as q does, in "qkv" as (batch, S, heads, head_dim).

    mask is added to the scores (-infinity hides a key) and broadcasts to (batch, heads, Sq, Sk) in
    every layout. causal hides key j from query i where j > i, counted from the top left as in
    torch's is_causal. scale None is 1 / sqrt(head_dim). A row whose keys are all hidden gives 0, as
    torch's scaled_dot_product_attention. tile_q and tile_k are rows and keys per tile; 0 lets the
    kernel choose from the cache sizes.

    mask_replaces: a score whose mask is not 0 becomes the mask, whatever the score was, instead of
    their sum. mask_is_causal: you vouch that the mask is 0 where causal shows a key and at most
    -1e31 elsewhere; the kernel may then leave hidden keys out. strict: NaN and infinity as in
    softmax(scores) @ v written out. A row whose keys are all hidden gives NaN, and a NaN or an
    infinity in v reaches every query, as NaN where its key has the weight 0.
    """
    attributes = {
        "scale": scale,
        "causal": causal,
        "layout": layout,
        "mask_replaces": mask_replaces,
        "mask_is_causal": mask_is_causal,
        "strict": strict,
        "tile_q": tile_q,
        "tile_k": tile_k,
    }
    return _call("attention", (q, k, v, mask), attributes, kernel, out)


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
    """Attention, and log(sum(exp(scale * q @ k^T))) of each row: what `attention_backward` needs.

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
    """Gradients of a loss by q, k and v of attention from its gradient by the output.

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
