"""lm-step: what a step of training a language model costs, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ablation_kernels.limits import default_threads

from .case import Case, make_case
from .lm_sizes import (
    COURSE,
    PHASES,
    TINY,
    UNFUSED,
    NamedSize,
    forward_needs,
    model_flops,
    model_shape,
    needs,
)
from .refusals import torch_refusal
from .suite import Flops, Implementation, Needs, Program, Refusal, Suite

NAME = "lm-step"
SDPA, ABLATION, FORWARD = "sdpa", "ablation", "ablation_fwd"
COMPILED_SUFFIX = "_compiled"
AUTOCASTS = ("none", "bfloat16")

COURSE_BATCH, COURSE_VOCAB = 4, 10_000
COURSE_CONTEXTS = (128, 256, 512, 1024)
PUBLISHED_VOCAB = 50_257
# batch, context, size: the published run at B 8, T 1024, and the four smaller ones of its second
# part.
PUBLISHED: Mapping[str, tuple[int, int, NamedSize]] = {
    **{name: (8, 1024, COURSE[name]) for name in ("small", "medium", "large")},
    "4-256-256-4-8": (4, 256, NamedSize(256, 1024, 4, 8)),
    "8-512-512-6-8": (8, 512, NamedSize(512, 2048, 6, 8)),
    "8-256-768-6-12": (8, 256, NamedSize(768, 2048, 6, 12)),
    "8-512-768-12-12": (8, 512, NamedSize(768, 3072, 12, 12)),
}
TINY_TIER, WARM_UP, PARALLEL = "tiny", "warm-up", "parallel"
WARM_UPS = (0, 1, 2, 5)
WORLD_SIZES = (1, 2, 4)
PARALLEL_PREFIX = "data_parallel_"


def parallel_implementation(world_size: int) -> Implementation:
    """Data parallel training over so many processes."""
    processes = "one process" if world_size == 1 else f"{world_size} processes"
    what = f"DistributedDataParallel over {processes}, each with the case's batch and threads"
    return Implementation(f"{PARALLEL_PREFIX}{world_size}", "torch", what, None, ("step",))


def world_size_of(name: str) -> int | None:
    """How many processes an implementation trains with; None for those that are no such thing."""
    text = name.removeprefix(PARALLEL_PREFIX)
    return int(text) if text != name else None


def uses_kernels(name: str) -> bool:
    """Whether an implementation computes with our kernels."""
    return name.removesuffix(COMPILED_SUFFIX) in (ABLATION, FORWARD)


_ATTENTION_WORDS = {
    UNFUSED: "attention and softmax written out, all scores in memory",
    SDPA: "PyTorch's scaled_dot_product_attention",
    ABLATION: "flash attention of our kernels, forward and backward, on the CPU",
}
_EAGER = tuple(
    Implementation(
        name,
        "ablation" if name == ABLATION else "torch",
        words,
        "course_lm" if name == UNFUSED else None,
        PHASES,
    )
    for name, words in _ATTENTION_WORDS.items()
)
_FORWARD = Implementation(
    FORWARD,
    "ablation",
    "the whole forward as a native program of our executor, from torch.export, float32 on the CPU; "
    "embedding rows by NumPy, the loss by our softmax and NumPy, PyTorch in no timed call",
    None,
    ("fwd_nograd",),
)
_COMPILED = tuple(
    Implementation(
        name + COMPILED_SUFFIX, "inductor", f"{words}; forward by torch.compile", None, PHASES
    )
    for name, words in _ATTENTION_WORDS.items()
)
_PARALLEL = tuple(parallel_implementation(size) for size in WORLD_SIZES)


def make_cases(
    tier: str,
    name: str,
    size: NamedSize,
    shape: tuple[int, int, int],
    threads: int,
    device: str,
) -> Iterator[Case]:
    """The cases of a size at (batch, context, vocab): without autocast and with bfloat16."""
    batch, context, vocab = shape
    model = size.shape(vocab, context)
    year = {} if size.table_year is None else {"table_year": size.table_year}
    for autocast in AUTOCASTS:
        yield make_case(
            NAME,
            tier,
            (batch, model.n_heads, context, context, model.head_dim),
            causal=True,
            threads=threads,
            device=device,
            size=name,
            d_ff=model.d_ff,
            layers=model.n_layers,
            vocab=vocab,
            autocast=autocast,
            **year,
        )


class LanguageModelStep(Suite):
    """The suite; see the module."""

    name = NAME
    what = "a step of training a decoder-only language model: forward, backward, optimizer"
    baseline = SDPA
    tiers: Mapping[str, str] = {
        TINY_TIER: "5 M parameters, B 4, context 128, vocabulary 2000",
        "course": "small to 2.7B of the course's table of 2025, B 4, context 128, vocabulary 10000",
        **{
            f"course-{context}": f"the same at context {context}" for context in COURSE_CONTEXTS[1:]
        },
        "published": "small, medium and large at B 8, context 1024, vocabulary 50257, and four "
        "smaller sizes",
        WARM_UP: f"tiny, each sample after {', '.join(map(str, WARM_UPS))} calls of a new process",
        PARALLEL: "tiny and small, data parallel over processes",
    }

    def default_tiers(self, device: str) -> Sequence[str]:
        """The longer contexts and the published batches are for a GPU."""
        usual = (TINY_TIER, "course", WARM_UP, PARALLEL)
        return usual if device == "cpu" else (*usual, "course-512", "published")

    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """Each size without autocast and with bfloat16; studies without."""
        found = (case for count in threads for case in self._tier(tier, count, device))
        return list(dict.fromkeys(found))

    def _tier(self, tier: str, threads: int, device: str) -> Iterator[Case]:
        tiny = (COURSE_BATCH, COURSE_CONTEXTS[0], 2000)
        course = (COURSE_BATCH, COURSE_CONTEXTS[0], COURSE_VOCAB)
        if tier == TINY_TIER:
            yield from make_cases(tier, "tiny", TINY["tiny"], tiny, threads, device)
        elif tier == WARM_UP:
            for case in make_cases(tier, "tiny", TINY["tiny"], tiny, threads, device):
                if case.get("autocast") == "none":
                    for count in WARM_UPS:
                        yield case.with_parameters(study_warmup=count)
        elif tier == PARALLEL:
            # Two processes have the cores that one has in the other tiers.
            threads = max(1, threads // 2)
            for name, size, shape in (
                ("tiny", TINY["tiny"], tiny),
                ("small", COURSE["small"], course),
            ):
                for case in make_cases(tier, name, size, shape, threads, device):
                    if case.get("autocast") == "none":
                        yield case
        elif tier == "published":
            for name, (batch, context, size) in PUBLISHED.items():
                shape = (batch, context, PUBLISHED_VOCAB)
                yield from make_cases(tier, name, size, shape, threads, device)
        else:
            context = int(tier.partition("-")[2] or COURSE_CONTEXTS[0])
            for name, size in COURSE.items():
                shape = (COURSE_BATCH, context, COURSE_VOCAB)
                yield from make_cases(tier, name, size, shape, threads, device)

    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """The tiny model, and the same data parallel."""
        parallel = self.cases(PARALLEL, threads, device)
        tiny = [case for case in parallel if case.get("size") == "tiny"]
        return [*self.cases(TINY_TIER, threads, device), *tiny]

    def implementations(self, device: str) -> tuple[Implementation, ...]:
        """Three attentions, eager and compiled, the forward outside PyTorch, and data parallel
        training."""
        return (*_EAGER, _FORWARD, *_COMPILED, *_PARALLEL)

    def supports(self, implementation: Implementation, case: Case) -> Refusal | None:
        """Data parallel training has a tier of its own, the study of warm-up one attention, and our
        kernels compute on the CPU; the whole forward outside PyTorch is float32."""
        name = implementation.name
        world_size = world_size_of(name)
        if (world_size is not None) != (case.tier == PARALLEL):
            text = f"data parallel training is measured in tier {PARALLEL}, and nothing else is"
            return Refusal("skipped", "policy", text)
        if case.tier == WARM_UP and name != SDPA:
            return Refusal("skipped", "policy", f"the study of warm-up is made with {SDPA}")
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
        return torch_refusal(implementation, case)

    def quick_refusal(self, implementation: Implementation, case: Case) -> Refusal | None:
        """One compilation, which takes longer than all other calls, is enough of a look."""
        name = implementation.name
        is_compiled = name.endswith(COMPILED_SUFFIX)
        if is_compiled and (name != SDPA + COMPILED_SUFFIX or case.get("autocast") != "none"):
            text = f"a quick run compiles the model once, with {SDPA} and without autocast"
            return Refusal("skipped", "policy", text)
        return None

    def needs(self, implementation: Implementation, case: Case, phase: str) -> Needs:
        """Of one process by the formulas of `lm_sizes`, times the number of them."""
        attention = implementation.name.removesuffix(COMPILED_SUFFIX)
        if attention == FORWARD:
            return forward_needs(case)
        one = needs(case, attention, phase)
        world_size = world_size_of(implementation.name)
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

    def start(self, implementation: str, threads: int) -> None:
        """Import PyTorch, and set its threads and those of our kernels where they are used."""
        import torch

        torch.set_num_threads(threads)
        if uses_kernels(implementation):
            import ablation_kernels

            ablation_kernels.set_num_threads(threads)

    def load(self, implementation: str, case: Case, seed: int) -> Program:
        """The program of an implementation."""
        world_size = world_size_of(implementation)
        if world_size is not None:
            from .lm_parallel_program import ParallelProgram

            return ParallelProgram(world_size, case, seed)
        if implementation == FORWARD:
            from .lm_forward import ForwardProgram

            return ForwardProgram(case, seed)
        attention = implementation.removesuffix(COMPILED_SUFFIX)
        is_compiled = attention != implementation
        if case.tier == WARM_UP:
            from .lm_warm_up import FreshProgram

            return FreshProgram(attention, case, seed)
        from .lm_program import StepProgram

        return StepProgram(attention, is_compiled, case, seed)


SUITE = LanguageModelStep()
