"""The variants of attention-sweep, and why one of them cannot run in a case."""

from __future__ import annotations

from collections.abc import Mapping

import ablation_kernels

from ...case import Case
from ...runtimes import BY_NAME, missing_reason
from ...suite import Refusal, Variant
from ..pytorch import torch_refusal, triton_refusal
from ..twins import program_name, twins_of, with_twins
from .bfloat16 import FLASH_BF16, FUNCTION, bf16_refusal
from .kernels import OP

SDPA_FLASH, SDPA_MATH, TRITON = "torch_sdpa_flash", "torch_sdpa_math", "triton_flash"
FLASH_KERNEL, FLASH = "attention_flash_packed_simd_parallel", "ablation_flash"
UNFUSED = "ablation_unfused"
# The baseline, and of ours one that starts without PyTorch.
TWINS = twins_of(SDPA_FLASH, FLASH)
# Beyond this a kernel on one thread would take longer than all others together; quick runs stop
# at the second.
SERIAL_PAIRS, QUICK_SERIAL_PAIRS = 1024**2, 256**2

TORCH = (
    Variant(
        "torch_unfused_einsum",
        "torch",
        "einsum, divide, mask, softmax from its parts, einsum: not PyTorch's SDPA",
        "scaled_dot_prod_attention",
    ),
    Variant(
        "torch_unfused_lse",
        "torch",
        "matmul, masked_fill, logsumexp, exp, matmul",
        "vectorized_torch",
    ),
    Variant(
        "torch_unfused_lse_compiled",
        "inductor",
        "torch_unfused_lse by torch.compile",
        "vectorized_torch_compiled",
    ),
    Variant(TRITON, "triton", "our FlashAttention-2 forward in Triton", "flash_attention_triton"),
    Variant(SDPA_FLASH, "torch", "PyTorch's SDPA by its flash backend"),
    Variant(SDPA_MATH, "torch", "PyTorch's SDPA by its math backend"),
    Variant("torch_flex_compiled", "inductor", "PyTorch's flex_attention by torch.compile"),
)
CUDA = (
    Variant("torch_sdpa_cudnn", "torch", "PyTorch's SDPA by its cuDNN backend"),
    Variant("torch_sdpa_efficient", "torch", "PyTorch's SDPA by its efficient backend"),
)


# Those whose packages are an extra; for another, a line here.
RUNTIMES = tuple(
    Variant(name, BY_NAME[name].origin, f"{what}, by {BY_NAME[name].printed_name}")
    for name, what in (
        ("torch-compile", "scaled_dot_product_attention"),
        ("onnxruntime", "scaled_dot_product_attention, exported"),
        ("openvino", "scaled_dot_product_attention, converted"),
        ("jax", "attention written out in jax.numpy"),
    )
)
RUNTIME_NAMES = tuple(variant.name for variant in RUNTIMES)


# Of those that are far from the ceiling, as recorded on two machines.
SLOWDOWNS: Mapping[str, float] = {
    **dict.fromkeys(("torch_unfused_einsum", "torch_unfused_lse"), 12.0),
    **dict.fromkeys((SDPA_MATH, "torch_unfused_lse_compiled", "onnxruntime", "jax"), 8.0),
    "torch_flex_compiled": 4.0,
}


def slowdown(name: str) -> float:
    """Return about how many times longer a program takes than its operations at the ceiling."""
    if name in products():
        return 4.0
    return 14.0 if is_serial(name) else SLOWDOWNS.get(name, 2.0)


def products() -> dict[str, str]:
    """Return variants over whole scores with the kernel of the op matmul that multiplies."""
    return {
        UNFUSED if kernel.gemm == "blas" else f"{UNFUSED}_{kernel.gemm}": kernel.name
        for kernel in ablation_kernels.op_table()
        if kernel.op == "matmul" and kernel.parallel
    }


def attention_kernels() -> dict[str, str]:
    """Return variants with their kernel of the op attention.

    The packed flash kernel has the name by which all suites know it, the others have their own.
    """
    names = [kernel.name for kernel in ablation_kernels.op_table() if kernel.op == OP]
    return {FLASH if name == FLASH_KERNEL else name: name for name in names}


def is_serial(name: str) -> bool:
    """Whether a variant's kernel runs on one thread, whatever it is given."""
    kernel = attention_kernels().get(name)
    table = ablation_kernels.op_table()
    return any(entry.name == kernel and not entry.parallel for entry in table)


def all_variants(device: str) -> tuple[Variant, ...]:
    """Return PyTorch's, Triton's, and on a CPU other runtimes' and ours."""
    if device == "cuda":
        return tuple(with_twins((*TORCH, *CUDA), twins_of(SDPA_FLASH)))
    ideas = {kernel.name: kernel.idea for kernel in ablation_kernels.op_table()}
    ours = [
        Variant(name, "ablation", f"{kernel}: {ideas[kernel]}")
        for name, kernel in attention_kernels().items()
    ]
    ours += [
        Variant(name, "ablation", f"all scores in memory, products by {kernel}")
        for name, kernel in products().items()
    ]
    ours.append(Variant(FLASH_BF16, "ablation", f"{FUNCTION}: the packed flash form on bfloat16"))
    return tuple(with_twins((*TORCH, *RUNTIMES, *ours), TWINS))


def refusal(variant: Variant, case: Case) -> Refusal | None:
    """Say which package or device is missing, or which type is not fast here."""
    name = program_name(variant.name)
    if name == TRITON:
        return triton_refusal(case)
    if name == FLASH_BF16:
        return bf16_refusal(case)
    if variant.origin == "ablation":
        return _kernel_refusal(name, case)
    if name in RUNTIME_NAMES:
        return _runtime_refusal(name, case)
    if case.device == "cpu" and case.dtype == "float16":
        text = "PyTorch multiplies float16 on a CPU without its matrix library"
        return Refusal("unsupported", "dtype_not_accelerated", text)
    return torch_refusal(variant, case)


def _runtime_refusal(name: str, case: Case) -> Refusal | None:
    missing = missing_reason(name)
    if missing is not None:
        return Refusal("unsupported", "not_installed", missing)
    if case.dtype != "float32":
        text = f"measured in float32, the case is {case.dtype}"
        return Refusal("unsupported", "dtype_not_accelerated", text)
    return None


def _kernel_refusal(name: str, case: Case) -> Refusal | None:
    if case.dtype != "float32":
        text = f"this kernel computes in float32, the case is {case.dtype}"
        return Refusal("unsupported", "dtype_not_accelerated", text)
    if is_serial(name) and case.B * case.Nq * case.Nk > SERIAL_PAIRS:
        text = f"a kernel on one thread is not run beyond {SERIAL_PAIRS} pairs of a head"
        return Refusal("skipped", "policy", text)
    return None
