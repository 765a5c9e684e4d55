"""One cold run under the profiler against the time of a call."""

from __future__ import annotations

from ablation_report.findings.attention_parts import SUITE
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import combine, is_noisy, judged
from ablation_report.findings.words import place_of, ranged
from ablation_report.run import Row, Run, detail

TOLERANCE = 0.15


def evaluate(run: Run) -> Outcome:
    """Judge whether one cold run under the profiler takes the time of a call."""
    found: list[tuple[Row, float]] = []
    for row in run.rows:
        cold, median = detail(row, "published_style_ns"), run.median(row)
        if cold and median:
            found.append((row, cold / median))
    if not found:
        return not_measured(
            "no row has both a cold run under the profiler and a time of many calls"
        )
    verdicts = [_judge(run, row, ratio) for row, ratio in found]
    figures = {f"{row['variant']}, {place_of(run, row)}": ratio for row, ratio in found}
    sentence = (
        "Time of a first call in a new process, under the profiler, over the median call: "
        f"{ranged(figures)}."
    )
    return judged(run, combine(verdicts), sentence, (), [row for row, _ in found], figures)


def _judge(run: Run, row: Row, ratio: float) -> OutcomeVerdict:
    if abs(ratio - 1) <= TOLERANCE:
        return "holds"
    return "not resolved" if is_noisy(run, row) else "does not hold"


FINDING = Finding(
    key="cold_run",
    suite=SUITE,
    claim=f"One cold run under the profiler takes the time of a call, within {TOLERANCE:.0%}.",
    published="Every published time is from one such run.",
    evaluate=evaluate,
)
