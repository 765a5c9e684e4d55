"""Float32 transformer kernels, from scalar to SIMD to parallel, and a compiled loop over them."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

from ablation_kernels import _native
from ablation_kernels._native import Program
from ablation_kernels.functions import (
    add,
    attention,
    bias_relu,
    div,
    gelu,
    layer_norm,
    matmul,
    mul,
    permute,
    relu,
    slice,
    softmax,
    sub,
    where,
)
from ablation_kernels.table import (
    Ceilings,
    KernelInfo,
    OpInfo,
    best_kernel,
    build_info,
    clock_overhead_ns,
    get_num_threads,
    infer_shape,
    measure_ceilings,
    op_table,
    ops,
    scratch_bytes,
    set_num_threads,
)
from ablation_kernels.timing import KernelTime, time_kernels

__version__ = version("ablation-kernels")

__all__ = [
    "Ceilings",
    "KernelInfo",
    "KernelTime",
    "OpInfo",
    "Program",
    "add",
    "attention",
    "best_kernel",
    "bias_relu",
    "build_info",
    "clock_overhead_ns",
    "div",
    "gelu",
    "get_num_threads",
    "infer_shape",
    "layer_norm",
    "matmul",
    "measure_ceilings",
    "mul",
    "op_table",
    "ops",
    "permute",
    "relu",
    "scratch_bytes",
    "set_num_threads",
    "slice",
    "softmax",
    "sub",
    "time_kernels",
    "where",
]


def _blas_path() -> str:
    """Path of the OpenBLAS library; empty where the provider needs none (Accelerate)."""
    if sys.platform == "darwin":
        return ""
    import scipy_openblas32

    return str(Path(scipy_openblas32.get_lib_dir()) / "libscipy_openblas.so")


_native.initialize(_blas_path())
