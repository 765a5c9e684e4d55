"""The power of the length with which the time of flash attention grows."""

from __future__ import annotations

from ablation_report.findings.attention_sweep import (
    FLASH,
    FLASH_BF16,
    PUBLISHED_TRITON,
    SDPA,
    SUITE,
    TRITON,
)
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import combine, is_noisy, judged, within
from ablation_report.findings.words import ranged
from ablation_report.run import Row, Run
from ablation_report.series import MIN_LENGTH, series_of

SQUARE, TOLERANCE = 2.0, 0.2
FLASH_FORMS = (
    *(SDPA, FLASH, FLASH_BF16, TRITON),
    *(PUBLISHED_TRITON, "attention_flash_simd_parallel"),
)


def evaluate(run: Run) -> Outcome:
    """Judge the power of each series of lengths; where a time is noisy, only one that is met."""

    def time_ns(row: Row) -> float | None:
        time = run.time(row)
        return time.value if time else None

    figures: dict[str, float] = {}
    used: list[Row] = []
    for series in series_of(run):
        exponent = series.exponent(time_ns) if series.variant in FLASH_FORMS else None
        if exponent is not None:
            figures[f"{series.variant}, {series.where}"] = exponent
            used += [r for r in series.rows if run.time(r) and r["sizes"]["Nk"] >= MIN_LENGTH]
    if not figures:
        return not_measured(f"no flash form at two lengths of {MIN_LENGTH} or more")
    missed: OutcomeVerdict = (
        "not resolved" if any(is_noisy(run, row) for row in used) else "does not hold"
    )
    verdict = combine(
        "holds" if within(value, SQUARE, TOLERANCE) == "holds" else missed
        for value in figures.values()
    )
    span_text = ranged(figures, "{:.2f}".format, "series")
    sentence = f"Powers of N, fitted over N of {MIN_LENGTH} or more: {span_text}."
    return judged(run, verdict, sentence, (), used, figures)


FINDING = Finding(
    key="flash_time_grows",
    suite=SUITE,
    claim=f"The time of flash attention grows with the length to the power of {SQUARE} ± "
    f"{TOLERANCE}.",
    published=None,
    evaluate=evaluate,
)
