"""Suite attention-sweep: the forward of attention over lengths, heads, masks and threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ablation_kernels

from ...case import Case, CustomTier
from ...runtimes import make_adapter
from ...suite import Loaded, Needs, OneProgram, Program, Refusal, Suite, Variant
from ..attention.sdpa import sdpa_tile_bytes
from ..twins import program_name
from . import cases
from .bfloat16 import FLASH_BF16, bf16_needs
from .kernels import kernel_needs, unfused_needs
from .variants import (
    QUICK_SERIAL_PAIRS,
    RUNTIME_NAMES,
    SDPA_FLASH,
    SDPA_MATH,
    TWINS,
    all_variants,
    attention_kernels,
    is_serial,
    products,
    refusal,
    slowdown,
)


class AttentionSweep(Suite):
    """The suite; see the module."""

    name = cases.NAME
    what = "forward attention over lengths, heads, masks and threads"
    baseline = SDPA_FLASH
    tiers = cases.TIERS
    twins = TWINS

    def __init__(self) -> None:
        self._adapters: dict[str, Any] = {}

    def default_tiers(self, device: str) -> Sequence[str]:
        """On a CPU not the published sizes, where the longest call takes a minute, nor the grid of
        the crossover."""
        return ("cpu", "rect", "odd", "half") if device == "cpu" else ("paper", "rect", "odd")

    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """The cases of a tier."""
        return cases.tier_cases(tier, threads, device)

    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """The short cases of the cpu tier, one rectangle and one odd size."""
        return cases.quick_cases(threads, device)

    def custom_cases(
        self, custom: CustomTier, threads: Sequence[int], device: str
    ) -> list[Case] | None:
        """Sizes of the command line, full and causal."""
        return cases.custom_cases(custom, threads, device)

    def variants(self, device: str) -> tuple[Variant, ...]:
        """PyTorch's, Triton's, and on a CPU other runtimes' and ours."""
        return all_variants(device)

    def supports(self, variant: Variant, case: Case) -> Refusal | None:
        """Packages and devices that are not here, types that are not fast here."""
        return refusal(variant, case)

    def quick_refusal(self, variant: Variant, case: Case) -> Refusal | None:
        """To build takes seconds a case, and a scalar kernel is slow: one case of each is enough
        to see that they run."""
        if variant.name in RUNTIME_NAMES:
            text = "quick runs leave out other runtimes"
            return Refusal("skipped", "policy", text)
        if variant.origin == "inductor" and not cases.is_main(case):
            text = f"quick runs compile only for N {cases.QUICK_LENGTH} causal"
            return Refusal("skipped", "policy", text)
        if is_serial(variant.name) and case.Nq * case.Nk > QUICK_SERIAL_PAIRS:
            text = f"quick runs of kernels on one thread end at {QUICK_SERIAL_PAIRS} pairs"
            return Refusal("skipped", "policy", text)
        return None

    def slowdown(self, variant: Variant, case: Case) -> float:
        """Whole scores go through memory several times."""
        return slowdown(program_name(variant.name))

    def needs(self, variant: Variant, case: Case, phase: str) -> Needs:
        """Whole scores by how many of them are alive at a time, tiles by their size."""
        name = program_name(variant.name)
        if name in products():
            return unfused_needs(products()[name], case)
        if name == FLASH_BF16:
            return bf16_needs(case)
        if name in attention_kernels():
            return kernel_needs(attention_kernels()[name], case)
        mask = case.Nq * case.Nk if case.causal else 0
        resident = case.input_bytes + mask
        unfused = ("torch_unfused_einsum", "torch_unfused_lse", SDPA_MATH, *RUNTIME_NAMES)
        if name in unfused:
            # Scores, those less the maximum or the logarithm, and exp of that
            return Needs(resident, 3 * case.scores_bytes + case.output_bytes)
        if name == "torch_unfused_lse_compiled":
            return Needs(resident, 2 * case.scores_bytes + case.output_bytes)
        return Needs(case.input_bytes, case.output_bytes + sdpa_tile_bytes(case))

    def measures_memory(self, case: Case, is_quick: bool) -> bool:
        """In quick runs of one case, since every variant takes a new process."""
        return not is_quick or cases.is_main(case)

    def start(self, worker: str, threads: int) -> None:
        """PyTorch for its own, the kernels for ours, or another runtime."""
        name = program_name(worker)
        if name in RUNTIME_NAMES:
            self._adapters[name] = make_adapter(name, threads)
            return
        if name in (*products(), *attention_kernels(), FLASH_BF16):
            ablation_kernels.set_num_threads(threads)
        else:
            from .torch_programs import start_torch

            start_torch(name, threads)

    def load(self, worker: str, case: Case, seed: int) -> Loaded:
        """The one program of a worker."""
        name = program_name(worker)
        if name in RUNTIME_NAMES:
            from .runtimes import RuntimeAttention

            return OneProgram(lambda _: RuntimeAttention(self._adapters[name], case, seed))
        return OneProgram(lambda _: _make_program(name, case, seed))


def _make_program(name: str, case: Case, seed: int) -> Program:
    if name == FLASH_BF16:
        from .bfloat16 import Bf16Attention

        return Bf16Attention(case, seed)
    if name in products():
        from .kernels import UnfusedKernels

        return UnfusedKernels(products()[name], case, seed)
    if name in attention_kernels():
        from .kernels import AttentionKernel

        return AttentionKernel(attention_kernels()[name], case, seed)
    from .torch_programs import TorchAttention

    return TorchAttention(name, case, seed)


SUITE = AttentionSweep()
