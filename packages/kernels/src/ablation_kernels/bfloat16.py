"""Attention of bfloat16 arrays. It is not in the op table, which is float32 throughout.

An array of bfloat16 shares its memory by DLPack with that type (torch tensors), or it is an array
of uint16 that holds the bits, the upper half of each float32: NumPy has no bfloat16 of its own. The
bits of ml_dtypes' arrays are `x.view(numpy.uint16)`, without a copy. Results are tensors where an
input is one, and NumPy arrays otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablation_kernels import _native
from ablation_kernels._call import Array, Float32Array

__all__ = [
    "attention_bf16",
    "attention_bf16_instruction_set",
    "attention_bf16_lse",
    "attention_bf16_scratch_bytes",
]


def _reject_type(argument: str, value: object, accepted: str) -> TypeError:
    given = type(value).__name__
    return TypeError(f"attention_bf16: argument '{argument}' is {given}; accepted: {accepted}")


def _call(
    q: Array, k: Array, v: Array, causal: bool, scale: float | None, lse: bool, out: Array | None
) -> tuple[Any, Float32Array | None]:
    if not isinstance(causal, bool | np.bool_):
        raise _reject_type("causal", causal, "a bool")
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, Real)):
        raise _reject_type("scale", scale, "None (1 / sqrt(head_dim)) or a number")
    return _native.attention_bf16(q, k, v, bool(causal), scale, lse, out)


def attention_bf16(
    q: Array,
    k: Array,
    v: Array,
    *,
    causal: bool = False,
    scale: float | None = None,
    out: Array | None = None,
) -> NDArray[np.uint16]:
    """Return softmax(scale * q @ k^T) @ v for each batch and head, of bfloat16.

    q is (batch, heads, Sq, head_dim), k and v are (batch, heads, Sk, head_dim), C-contiguous on the
    CPU; causal and scale are those of `attention`. Returns the output, of the shape of q: `out`, an
    array of bfloat16 as this module takes them; or else a new tensor of bfloat16 where an input is
    a tensor, and a new NumPy array of uint16 with the bits where none is. It is the same, bit by
    bit, for any number of threads.

    Sums, maxima and exponentials are float32, the output is rounded once, to nearest even. Where
    `attention_bf16_instruction_set()` is "amx_bf16" or "avx512_bf16" the CPU multiplies bfloat16 as
    it is: the weights of the softmax are then rounded to bfloat16, and numbers below 2^-126 count
    as 0. Elsewhere q, k and v are converted to float32 for the kernel `attention_flash_packed`.

    Raises TypeError (not an array, wrong dtype or device) or ValueError (shape, layout, overlap)
    with the argument's name, what was given and what is accepted, and MemoryError where the scratch
    does not fit. Source: Dao, FlashAttention-2 (2023).
    """
    output: NDArray[np.uint16] = _call(q, k, v, causal, scale, False, out)[0]
    return output


def attention_bf16_lse(
    q: Array,
    k: Array,
    v: Array,
    *,
    causal: bool = False,
    scale: float | None = None,
    out: Array | None = None,
) -> tuple[NDArray[np.uint16], Float32Array]:
    """Return `attention_bf16` and log(sum(exp(scale * q @ k^T))), (batch, heads, Sq) float32.

    The logarithm is -infinity for a row whose scores all are, and that of weights before they are
    rounded. `out` is the output's array alone.
    """
    output, lse = _call(q, k, v, causal, scale, True, out)
    assert lse is not None
    return output, lse


def attention_bf16_scratch_bytes(
    q: Sequence[int], k: Sequence[int], *, causal: bool = False, threads: int
) -> int:
    """Return the bytes of scratch of a call on that many threads, for shapes of q and k.

    Raises ValueError for shapes that do not fit and for threads below 1 or above 1024.
    """
    return _native.attention_bf16_scratch_bytes(q, k, causal, threads)


def attention_bf16_instruction_set() -> str:
    """Return the instruction set of the products of `attention_bf16`: "amx_bf16", "avx512_bf16", or
    that of the float32 kernels.

    Unless ABLATION_SIMD forces one (avx512 and lower ones are of float32), AMX where the CPU has it
    and Linux, from 5.16 on, grants it; else AVX512_BF16 where its multiply-adds are measured to be
    faster than those of float32, which on Intel's server CPUs they are not.
    """
    name: str = _native.build_info()["isa_bf16"]
    return name
