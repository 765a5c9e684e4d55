"""The tiers of lm-step and the cases in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ...case import Case, make_case
from .sizes import COURSE, TINY, NamedSize

NAME = "lm-step"
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

TIERS: Mapping[str, str] = {
    TINY_TIER: "5 M parameters, B 4, context 128, vocabulary 2000",
    "course": "small to 2.7B of the course's table of 2025, B 4, context 128, vocabulary 10000",
    **{f"course-{context}": f"the same at context {context}" for context in COURSE_CONTEXTS[1:]},
    "published": "small, medium and large at B 8, context 1024, vocabulary 50257, and four "
    "smaller sizes",
    WARM_UP: f"tiny, each sample after {', '.join(map(str, WARM_UPS))} calls of a new process",
    PARALLEL: "tiny and small, data parallel over processes",
}


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


def tier_cases(tier: str, threads: int, device: str) -> Iterator[Case]:
    """The cases of a tier on so many threads."""
    tiny = (COURSE_BATCH, COURSE_CONTEXTS[0], 2000)
    course = (COURSE_BATCH, COURSE_CONTEXTS[0], COURSE_VOCAB)
    if tier == TINY_TIER:
        yield from make_cases(tier, "tiny", TINY["tiny"], tiny, threads, device)
    elif tier == WARM_UP:
        for case in make_cases(tier, "tiny", TINY["tiny"], tiny, threads, device):
            if case.get("autocast") == "none":
                for count in WARM_UPS:
                    yield case.with_sizes(study_warmup=count)
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
