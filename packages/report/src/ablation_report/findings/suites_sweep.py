"""Findings of attention-sweep: what the published comparison with SDPA was, and ours against it."""

from __future__ import annotations

from ablation_report.findings.base import Outcome, OutcomeVerdict
from ablation_report.findings.judge import combine
from ablation_report.findings.suites_base import (
    SuiteFinding,
    at_least,
    never_run,
    outcome,
    pairs,
    ranged,
    target_outcome,
    within,
)
from ablation_report.findings.words import times
from ablation_report.metrics import is_different
from ablation_report.suite_series import MIN_LENGTH, series_of
from ablation_report.suite_sources import Measure, SuiteSource, said_of

SUITE = "attention-sweep"
SDPA, FLASH, TRITON = "torch_sdpa_flash", "ablation_flash", "triton_flash"
FLASH_BF16 = "ablation_flash_bf16"
EINSUM = "torch_unfused_einsum"
PUBLISHED_EINSUM, PUBLISHED_TRITON = "scaled_dot_prod_attention", "flash_attention_triton"
PUBLISHED_SPEED_UP = 7.8
FORWARD_TARGET, SHORT_TYPE_TARGET = 1.5, 2.0
SQUARE, TIME_TOLERANCE = 2.0, 0.2
FLASH_FORMS = (
    *(SDPA, FLASH, FLASH_BF16, TRITON),
    *(PUBLISHED_TRITON, "attention_flash_simd_parallel"),
)


def triton_against_sdpa(source: SuiteSource) -> Outcome:
    """Judge the published speed-up where both sides of it were run."""
    found = pairs(source, TRITON, SDPA)
    if found:
        judged = {pair.where: at_least(pair, PUBLISHED_SPEED_UP) for pair in found}
        measures = [m for pair in found for m in (pair.measure, pair.base)]
        figures = {pair.where: 1 / pair.ratio.median for pair in found}
        sentence = f"Against SDPA itself: {ranged(figures)}."
        return outcome(combine(judged.values()), sentence, measures, figures)
    against = pairs(source, PUBLISHED_TRITON, PUBLISHED_EINSUM)
    if not against:
        return never_run(f"no case with times of both {TRITON} and {SDPA}")
    parts = [f"{times(1 / p.ratio.median)} at N {p.measure.length}" for p in against]
    said = (
        f"PyTorch's SDPA was never run. The row named {PUBLISHED_EINSUM} is an unfused einsum, and "
        f"{', '.join(parts)} is against that"
    )
    return never_run(said, [m for pair in against for m in (pair.measure, pair.base)])


def einsum_is_sdpa(source: SuiteSource) -> Outcome:
    """Judge whether the published baseline takes the time of what its name says."""
    found = pairs(source, EINSUM, SDPA)
    if not found:
        return never_run(f"no case with times of both {EINSUM} and {SDPA}")
    verdicts: list[OutcomeVerdict] = []
    for pair in found:
        said = said_of(pair.ratio)
        if said == "not resolved":
            verdicts.append("not resolved")
        else:
            verdicts.append("does not hold" if is_different(said) else "holds")
    figures = {pair.where: pair.ratio.median for pair in found}
    measures = [m for pair in found for m in (pair.measure, pair.base)]
    sentence = f"Its time over that of SDPA: {ranged(figures)}."
    return outcome(combine(verdicts), sentence, measures, figures)


def flash_is_quadratic(source: SuiteSource) -> Outcome:
    """Judge the power of the length with which the time of flash attention grows."""
    figures: dict[str, float] = {}
    used: list[Measure] = []
    for series in series_of(source):
        exponent = series.exponent(lambda m: m.time_ns)
        if series.impl in FLASH_FORMS and exponent is not None:
            figures[f"{series.impl}, {series.where}"] = exponent
            used += [m for m in series.measures if m.timing and m["Nk"] >= MIN_LENGTH]
    if not figures:
        return never_run(f"no flash form at two lengths of {MIN_LENGTH} and more")
    if any(measure.timing and measure.timing.is_noisy for measure in used):
        verdicts: set[OutcomeVerdict] = {
            "holds" if within(value, SQUARE, TIME_TOLERANCE) == "holds" else "not resolved"
            for value in figures.values()
        }
    else:
        verdicts = {within(value, SQUARE, TIME_TOLERANCE) for value in figures.values()}
    told = ranged(figures, "{:.2f}".format, "series")
    sentence = f"Powers of N, fitted over N of {MIN_LENGTH} and more: {told}."
    return outcome(combine(verdicts), sentence, used, figures)


def _is_target(measure: Measure, dtype: str) -> bool:
    """A full, square case of d 64 on one thread, of N of 1024 and more."""
    is_square = measure["Nq"] == measure["Nk"] >= MIN_LENGTH
    is_plain = not measure["causal"] and measure["d"] == 64 and measure["threads"] == 1
    return bool(is_square and is_plain and measure["dtype"] == dtype)


def forward_target(source: SuiteSource) -> Outcome:
    """Judge our flash forward in float32 against SDPA."""
    found = pairs(source, FLASH, SDPA, lambda m: _is_target(m, "float32"))
    if not found:
        wanted = f"full, d 64, N of {MIN_LENGTH} and more, one thread, float32"
        return never_run(f"no case ({wanted}) with times of both {FLASH} and {SDPA}")
    return target_outcome(found, FORWARD_TARGET)


def bfloat16_target(source: SuiteSource) -> Outcome:
    """Judge our flash forward in bfloat16 against SDPA."""
    found = pairs(source, FLASH_BF16, SDPA, lambda m: bool(m["Nk"] >= MIN_LENGTH))
    if not found:
        return never_run(
            f"no case of N of {MIN_LENGTH} and more with times of both {FLASH_BF16} and {SDPA}"
        )
    return target_outcome(found, SHORT_TYPE_TARGET)


FINDINGS = (
    SuiteFinding(
        "suite-triton-against-sdpa",
        SUITE,
        "Triton against PyTorch's SDPA",
        f"A flash kernel in Triton is {PUBLISHED_SPEED_UP} times as fast as PyTorch's SDPA.",
        f"The table reads as {PUBLISHED_SPEED_UP}x at N 2048, by a row named {PUBLISHED_EINSUM}.",
        triton_against_sdpa,
    ),
    SuiteFinding(
        "suite-einsum-is-sdpa",
        SUITE,
        "What was published as SDPA",
        f"What was published as {PUBLISHED_EINSUM} takes the time of PyTorch's SDPA.",
        "The name is that of PyTorch's function; the code is einsum, mask, softmax, einsum.",
        einsum_is_sdpa,
    ),
    SuiteFinding(
        "suite-flash-time-grows",
        SUITE,
        "Growth of flash attention's time",
        f"The time of flash attention grows with the length to the power of {SQUARE} ± "
        f"{TIME_TOLERANCE}.",
        None,
        flash_is_quadratic,
    ),
    SuiteFinding(
        "suite-forward-target",
        SUITE,
        "Our forward against SDPA",
        f"On one thread, in float32 without a mask, our flash forward is {FORWARD_TARGET} times as "
        f"fast as PyTorch's SDPA at d 64 and N of {MIN_LENGTH} and more.",
        None,
        forward_target,
    ),
    SuiteFinding(
        "suite-bfloat16-target",
        SUITE,
        "Our bfloat16 forward against SDPA",
        f"In bfloat16 our flash forward is {SHORT_TYPE_TARGET:.0f} times as fast as PyTorch's SDPA "
        f"at N of {MIN_LENGTH} and more.",
        None,
        bfloat16_target,
    ),
)
