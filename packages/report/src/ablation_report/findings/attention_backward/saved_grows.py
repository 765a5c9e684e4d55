"""The power of the length with which the bytes grow that a forward keeps."""

from __future__ import annotations

from ablation_report.findings.attention_backward import FLASH_FORMS, SUITE, is_unfused
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import combine, judged, within
from ablation_report.findings.published_memory import published_bytes, with_memory_line
from ablation_report.findings.words import ranged
from ablation_report.run import Row, Run
from ablation_report.series import MIN_LENGTH, mask_of, series_of

UNFUSED_POWER, FLASH_POWER, TOLERANCE = 2.0, 1.0, 0.05


def evaluate(run: Run) -> Outcome:
    """Judge the power of each series of lengths."""
    if run.is_published:
        return _published(run)
    verdicts: list[OutcomeVerdict] = []
    figures: dict[str, float] = {}
    used: list[Row] = []
    for series in series_of(run):
        power = series.exponent(_kept)
        if power is None or not (is_unfused(series.variant) or series.variant in FLASH_FORMS):
            continue
        target = UNFUSED_POWER if is_unfused(series.variant) else FLASH_POWER
        said = within(power, target, TOLERANCE)
        mine = [row for row in series.rows if row["sizes"]["Nk"] >= MIN_LENGTH and _kept(row)]
        is_open = said != "holds" and any(row["memory"]["disagree"] for row in mine)
        verdicts.append("not resolved" if is_open else said)
        figures[f"{series.variant}, d {mine[0]['sizes']['d']}, {mask_of(mine[0])}"] = power
        used += mine
    if not figures:
        return not_measured(f"no bytes kept at two lengths of {MIN_LENGTH} or more")
    span_text = ranged(figures, "{:.3f}".format, "series")
    sentence = f"Powers of N, fitted over N of {MIN_LENGTH} or more: {span_text}."
    return judged(run, combine(verdicts), sentence, (), used, figures)


def _kept(row: Row) -> int | None:
    found: int | None = row["memory"]["saved"]
    return found


def _published(run: Run) -> Outcome:
    """The published column is another quantity: its growth says nothing of the kept bytes."""
    powers: list[float] = []
    used: list[Row] = []
    for series in series_of(run):
        power = series.exponent(published_bytes)
        if power is not None:
            powers.append(power)
            used += [row for row in series.rows if published_bytes(row)]
    if not powers:
        return not_measured("no memory at two lengths")
    return not_measured(
        "the published column is a peak with inputs, two graphs and a fixed workspace; it "
        f"grows with powers of N from {min(powers):.2f} to {max(powers):.2f}",
        with_memory_line(used),
    )


FINDING = Finding(
    key="saved_grows",
    suite=SUITE,
    claim=f"What a forward keeps grows with the length to the power of {UNFUSED_POWER} ± "
    f"{TOLERANCE} unfused, and {FLASH_POWER} ± {TOLERANCE} in flash forms.",
    published="The memory grows with the square of the length.",
    evaluate=evaluate,
)
