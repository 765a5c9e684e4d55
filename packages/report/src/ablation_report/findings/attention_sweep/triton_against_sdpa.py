"""A flash kernel in Triton against PyTorch's SDPA, as the published text has it."""

from __future__ import annotations

from ablation_report.findings.attention_sweep import (
    PUBLISHED_EINSUM,
    PUBLISHED_TRITON,
    SDPA,
    SUITE,
    TRITON,
)
from ablation_report.findings.base import Finding, Outcome, not_measured
from ablation_report.findings.judge import at_most, combine, judged, pairs, ratios_by_place
from ablation_report.findings.words import ranged, ratio_text
from ablation_report.run import Run
from ablation_report.series import length_of

PUBLISHED_SPEED_UP = 7.8
RATIO = 1 / PUBLISHED_SPEED_UP


def evaluate(run: Run) -> Outcome:
    """Judge the published ratio where both sides of it were run."""
    found = pairs(run, TRITON, SDPA)
    if found:
        sentence = f"Time of the Triton kernel over SDPA: {ranged(ratios_by_place(run, found))}."
        return judged(run, combine(at_most(c, RATIO) for c in found), sentence, found)
    against = pairs(run, PUBLISHED_TRITON, PUBLISHED_EINSUM)
    if not against:
        return not_measured(f"no case with times of both {TRITON} and {SDPA}")
    parts = [f"{ratio_text(c)} at N {length_of(c.row)}" for c in against]
    said = (
        f"PyTorch's SDPA was never run. The row named {PUBLISHED_EINSUM} is an unfused einsum, and "
        f"{', '.join(parts)} is the time of the Triton kernel over that einsum"
    )
    return not_measured(said, [row for c in against for row in (c.row, c.base)])


FINDING = Finding(
    key="triton_against_sdpa",
    suite=SUITE,
    claim=f"A flash kernel in Triton is at least {PUBLISHED_SPEED_UP} times as fast as PyTorch's "
    "SDPA.",
    published=f"The table reads as {PUBLISHED_SPEED_UP}x at N 2048, by a row named "
    f"{PUBLISHED_EINSUM}.",
    evaluate=evaluate,
)
