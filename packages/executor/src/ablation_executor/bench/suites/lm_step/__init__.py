"""Suite lm-step: what a step of training a language model costs, part by part."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_kernels.limits import default_threads

from ...case import Case
from ...suite import Flops, Loaded, Needs, OneProgram, Program, Refusal, Suite, Variant
from ..pytorch import torch_refusal
from ..twins import program_name, with_twins
from .cases import NAME, PARALLEL, TIERS, TINY_TIER, WARM_UP, tier_cases
from .sizes import forward_needs, model_flops, model_shape, needs
from .variants import (
    COMPILED_SUFFIX,
    FORWARD,
    SDPA,
    TWINS,
    VARIANTS,
    uses_kernels,
    world_size_of,
)


class LanguageModelStep(Suite):
    """The suite; see the module."""

    name = NAME
    what = "a training step of a decoder-only language model: forward, backward, optimizer"
    baseline = SDPA
    twins = TWINS
    tiers = TIERS

    def default_tiers(self, device: str) -> Sequence[str]:
        """The longer contexts and the published batches are for a GPU."""
        usual = (TINY_TIER, "course", WARM_UP, PARALLEL)
        return usual if device == "cpu" else (*usual, "course-512", "published")

    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """Each size without autocast and with bfloat16; studies without."""
        found = (case for count in threads for case in tier_cases(tier, count, device))
        return list(dict.fromkeys(found))

    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """The tiny model, and the same data parallel."""
        parallel = self.cases(PARALLEL, threads, device)
        tiny = [case for case in parallel if case.get("size") == "tiny"]
        return [*self.cases(TINY_TIER, threads, device), *tiny]

    def variants(self, device: str) -> tuple[Variant, ...]:
        """Three attentions, eager and compiled, the forward outside PyTorch, and data parallel
        training."""
        return tuple(with_twins(VARIANTS, TWINS))

    def supports(self, variant: Variant, case: Case) -> Refusal | None:
        """Data parallel training has a tier of its own, the study of warm-up one attention, and our
        kernels compute on the CPU; the whole forward outside PyTorch is float32."""
        name = program_name(variant.name)
        world_size = world_size_of(name)
        if (world_size is not None) != (case.tier == PARALLEL):
            text = f"tier {PARALLEL} measures data parallel training, and nothing else"
            return Refusal("skipped", "policy", text)
        if case.tier == WARM_UP and name != SDPA:
            return Refusal("skipped", "policy", f"the study of warm-up measures {SDPA} alone")
        if world_size is not None and case.device == "cpu":
            used, there = world_size * case.threads, default_threads()
            if used > there:
                text = f"{used} threads on {there} cores would wait for each other"
                return Refusal("skipped", "policy", text)
        autocast = case.get("autocast")
        if uses_kernels(name) and case.device != "cpu":
            text = f"our kernels compute on the CPU; device {case.device}"
            return Refusal("unsupported", "no_kernel", text)
        if name == FORWARD and autocast != "none":
            text = f"the native program computes in float32; autocast {autocast}"
            return Refusal("unsupported", "no_kernel", text)
        return torch_refusal(variant, case)

    def quick_refusal(self, variant: Variant, case: Case) -> Refusal | None:
        """One compilation, which takes longer than all other calls, is enough of a look."""
        name = program_name(variant.name)
        is_compiled = name.endswith(COMPILED_SUFFIX)
        if is_compiled and (name != SDPA + COMPILED_SUFFIX or case.get("autocast") != "none"):
            text = f"a quick run compiles the model once, with {SDPA} and without autocast"
            return Refusal("skipped", "policy", text)
        return None

    def needs(self, variant: Variant, case: Case, phase: str) -> Needs:
        """Of one process by the formulas of `lm_sizes`, times the number of them."""
        name = program_name(variant.name)
        attention = name.removesuffix(COMPILED_SUFFIX)
        if attention == FORWARD:
            return forward_needs(case)
        one = needs(case, attention, phase)
        world_size = world_size_of(name)
        if world_size is None:
            return one
        # The buckets in which gradients travel are as large as the gradients.
        resident = world_size * (one.resident_bytes + model_shape(case).weights_bytes)
        return Needs(resident, world_size * one.transient_bytes)

    def flops(self, case: Case, phase: str) -> Flops:
        """The matrix products of the model, attention by the pairs that count."""
        return Flops(model_flops(case, phase))

    def measures_memory(self, case: Case, is_quick: bool) -> bool:
        """Not where other processes compute."""
        return not is_quick and case.tier not in (WARM_UP, PARALLEL)

    def start(self, worker: str, threads: int) -> None:
        """Import PyTorch, and set its threads and those of our kernels where they are used."""
        import torch

        torch.set_num_threads(threads)
        if uses_kernels(program_name(worker)):
            import ablation_kernels

            ablation_kernels.set_num_threads(threads)

    def load(self, worker: str, case: Case, seed: int) -> Loaded:
        """The one program of a worker."""
        return OneProgram(lambda variant: make_program(program_name(variant), case, seed))


def make_program(name: str, case: Case, seed: int) -> Program:
    """Return a program with the model and the batch of a case."""
    world_size = world_size_of(name)
    if world_size is not None:
        from .parallel.program import ParallelProgram

        return ParallelProgram(world_size, case, seed)
    if name == FORWARD:
        from .forward import ForwardProgram

        return ForwardProgram(case, seed)
    attention = name.removesuffix(COMPILED_SUFFIX)
    if case.tier == WARM_UP:
        from .warm_up import FreshProgram

        return FreshProgram(attention, case, seed)
    from .program import StepProgram

    return StepProgram(attention, attention != name, case, seed)


SUITE = LanguageModelStep()
