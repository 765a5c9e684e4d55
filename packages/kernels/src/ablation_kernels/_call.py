"""What the functions of the ops share: the types of their arrays, and the native call."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ablation_kernels import _native

Array: TypeAlias = Any
"""Anything that speaks DLPack or the buffer protocol."""
Float32Array: TypeAlias = NDArray[np.float32]


def call(
    op: str,
    inputs: tuple[Array | None, ...],
    attributes: dict[str, Any],
    kernel: str | None,
    out: Array | None,
) -> Float32Array:
    """Run one op on arrays in the order of its slots; return `out`, or a new array or tensor."""
    result: Float32Array = _native.call(op, inputs, attributes, kernel, out)
    return result
