"""Why PyTorch or Triton cannot run here. This module imports neither."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

from ...case import Case
from ...suite import Refusal, Variant

COMPILERS = ("g++", "clang++")


def torch_refusal(variant: Variant, case: Case) -> Refusal | None:
    """Say that PyTorch is missing, or what torch.compile needs on a CPU; None if all is there."""
    if find_spec("torch") is None:
        return Refusal("unsupported", "no_torch", "PyTorch is not installed")
    is_compiled = variant.origin == "inductor"
    if is_compiled and case.device == "cpu" and not any(map(shutil.which, COMPILERS)):
        needed = " nor ".join(COMPILERS)
        text = f"torch.compile needs a C++ compiler, and neither {needed} is here"
        return Refusal("unsupported", "no_compiler", text)
    return None


def triton_refusal(case: Case) -> Refusal | None:
    """Say why our Triton kernel cannot run, or return None."""
    if find_spec("triton") is None:
        text = "Triton is not installed; pip install 'ablation-executor[triton]'"
        return Refusal("unsupported", "no_triton", text)
    if case.device != "cuda":
        text = "Triton has no driver for a CPU; its interpreter is for tests, not for times"
        return Refusal("unsupported", "no_triton_driver", text)
    if case.dtype == "bfloat16":
        text = "our Triton kernel takes float32 and float16"
        return Refusal("unsupported", "dtype_not_accelerated", text)
    return None
