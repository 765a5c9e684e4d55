"""Our bfloat16 attention in the forward sweep. This module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

import ablation_kernels

from ...case import Case
from ...suite import Needs, Refusal
from ..attention.check import Inputs, Single
from .kernels import OP, KernelProgram

FLASH_BF16 = "ablation_flash_bf16"
FUNCTION = "attention_bf16"
NATIVE = ("amx_bf16", "avx512_bf16")

Bits = npt.NDArray[np.uint16]


def to_bits(x: Single) -> Bits:
    """Each number to the nearest bfloat16, ties to even."""
    wide = x.view(np.uint32)
    return ((wide + np.uint32(0x7FFF) + ((wide >> 16) & np.uint32(1))) >> 16).astype(np.uint16)


def from_bits(bits: Bits) -> Single:
    """The same numbers as float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def bf16_scratch(case: Case) -> int:
    """Bytes of scratch of a call, exactly."""
    return ablation_kernels.attention_bf16_scratch_bytes(
        case.q_shape, case.k_shape, causal=case.causal, threads=case.threads
    )


def bf16_needs(case: Case) -> Needs:
    """The inputs stay, the output and the scratch come and go."""
    return Needs(case.input_bytes, case.output_bytes + bf16_scratch(case))


def bf16_refusal(case: Case) -> Refusal | None:
    """Another type, or a CPU on which the kernel converts to float32 and computes there."""
    if case.dtype != "bfloat16":
        text = f"the kernel computes on bfloat16, the case is {case.dtype}"
        return Refusal("unsupported", "dtype_not_accelerated", text)
    used = ablation_kernels.attention_bf16_instruction_set()
    if used not in NATIVE:
        text = f"without {' or '.join(NATIVE)} the kernel is that of float32 ({used}) behind a "
        text += "conversion"
        return Refusal("unsupported", "isa", text)
    return None


class Bf16Attention(KernelProgram):
    """`attention_bf16` on the inputs of a case, rounded to bfloat16 before any call."""

    def _bind(self, case: Case, inputs: Inputs) -> Any:
        q, k, v = map(to_bits, inputs)
        causal, scale = case.causal, case.scale
        return lambda: ablation_kernels.attention_bf16(q, k, v, causal=causal, scale=scale)

    def _attend(self, case: Case, inputs: Inputs) -> tuple[Inputs, dict[str, npt.NDArray[Any]]]:
        q, k, v = (from_bits(to_bits(x)) for x in inputs)
        return (q, k, v), {"o": from_bits(self._bind(case, inputs)())}

    def _scratch_bytes(self) -> int:
        return bf16_scratch(self._case)

    def _kernels(self) -> Mapping[str, str]:
        return {OP: f"{FUNCTION}:{ablation_kernels.attention_bf16_instruction_set()}"}
