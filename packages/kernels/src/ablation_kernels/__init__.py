"""Float32 transformer kernels, from scalar to SIMD to parallel, and a compiled loop over them."""

from __future__ import annotations

import sys
import warnings
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from ablation_kernels import _native, teaching
from ablation_kernels._native import Program, Workspace
from ablation_kernels.bfloat16 import (
    attention_bf16,
    attention_bf16_instruction_set,
    attention_bf16_lse,
    attention_bf16_scratch_bytes,
)
from ablation_kernels.elementwise import (
    abs,
    add,
    bias_relu,
    cos,
    div,
    equal,
    erf,
    exp,
    gelu,
    less,
    less_equal,
    log,
    maximum,
    minimum,
    mul,
    pow,
    relu,
    rsqrt,
    sigmoid,
    silu,
    silu_mul,
    sin,
    sqrt,
    sub,
    tanh,
    where,
)
from ablation_kernels.functions import (
    amax,
    attention,
    attention_backward,
    attention_lse,
    concat,
    cumsum,
    layer_norm,
    matmul,
    permute,
    rms_norm,
    rotary,
    slice,
    softmax,
    sum,
    take,
)
from ablation_kernels.limits import default_threads
from ablation_kernels.table import (
    AttributeInfo,
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
    packed_bytes,
    scratch_bytes,
    set_num_threads,
)
from ablation_kernels.timing import KernelTime, time_kernels

__version__ = version("ablation-kernels")

__all__ = [
    "AttributeInfo",
    "Ceilings",
    "KernelInfo",
    "KernelTime",
    "OpInfo",
    "Program",
    "Workspace",
    "abs",
    "add",
    "amax",
    "attention",
    "attention_backward",
    "attention_bf16",
    "attention_bf16_instruction_set",
    "attention_bf16_lse",
    "attention_bf16_scratch_bytes",
    "attention_lse",
    "best_kernel",
    "bias_relu",
    "build_info",
    "clock_overhead_ns",
    "concat",
    "cos",
    "cumsum",
    "default_threads",
    "div",
    "equal",
    "erf",
    "exp",
    "gelu",
    "get_num_threads",
    "infer_shape",
    "layer_norm",
    "less",
    "less_equal",
    "log",
    "matmul",
    "maximum",
    "measure_ceilings",
    "minimum",
    "mul",
    "op_table",
    "ops",
    "packed_bytes",
    "permute",
    "pow",
    "relu",
    "rms_norm",
    "rotary",
    "rsqrt",
    "scratch_bytes",
    "set_num_threads",
    "sigmoid",
    "silu",
    "silu_mul",
    "sin",
    "slice",
    "softmax",
    "sqrt",
    "sub",
    "sum",
    "take",
    "tanh",
    "teaching",
    "time_kernels",
    "where",
]


def __dir__() -> list[str]:
    """List the API alone: not what this file imports to make it."""
    return sorted([*__all__, "__version__"])


def _blas_path() -> str:
    """Path of the OpenBLAS library; empty where the provider needs none (Accelerate)."""
    if sys.platform == "darwin":
        return ""
    # Not imported: that would load the library, which chooses its kernels when it is loaded.
    spec = find_spec("scipy_openblas32")
    if spec is None or spec.origin is None:
        raise ImportError("ablation_kernels needs the package scipy-openblas32")
    return str(Path(spec.origin).parent / "lib" / "libscipy_openblas.so")


def _load_blas() -> None:
    _native.initialize(_blas_path())
    info = build_info()
    used, wanted = info["blas_core"], info["blas_core_wanted"]
    if wanted and used != wanted:
        warnings.warn(
            f"OpenBLAS runs its {used} kernels instead of {wanted}: scipy_openblas32 was loaded "
            "before; import ablation_kernels first",
            RuntimeWarning,
            stacklevel=3,
        )


_load_blas()
# The native half knows the affinity mask alone.
if default_threads() < get_num_threads():
    set_num_threads(default_threads())
