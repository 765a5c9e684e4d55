"""The tiled form against the one that finishes row by row, on as many threads."""

from __future__ import annotations

from ablation_report.findings.attention_parts import FLASH, FUSED, SUITE, published_pairs
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import combine, compare, judged, pairs
from ablation_report.findings.words import place_of, ranged
from ablation_report.run import Comparison, Run
from ablation_report.stats import Verdict

_JUDGED: dict[Verdict, OutcomeVerdict] = {
    "slower": "holds",
    "faster": "does not hold",
    "same": "does not hold",
    "not resolved": "not resolved",
}


def evaluate(run: Run) -> Outcome:
    """Judge whether the tiled form is slower."""
    if run.is_published:
        couples = (compare(run, row, other) for row, other in published_pairs(run))
        found = [comparison for comparison in couples if comparison is not None]
    else:
        found = pairs(run, FLASH, FUSED)
    if not found:
        return not_measured("no case has times of both a tiled form and one that works row by row")
    verdicts = [_judge(run, comparison) for comparison in found]
    figures = {_where(run, comparison): comparison.ratio.value for comparison in found}
    sentence = f"Time of the tiled form over the form that works row by row: {ranged(figures)}."
    n_open = verdicts.count("not resolved")
    if n_open and not run.is_published:
        sentence += f" {n_open} of {len(found)} are not resolved."
    if run.is_published:
        sentence += (
            " Where threads are stated, only the fused form used several: the ratio mixes "
            "the algorithm and the number of threads."
        )
    return judged(run, combine(verdicts), sentence, found, figures=figures)


def _where(run: Run, comparison: Comparison) -> str:
    if run.is_published:
        return f"{comparison.variant} over {comparison.base_variant}"
    return place_of(run, comparison.row)


def _judge(run: Run, comparison: Comparison) -> OutcomeVerdict:
    if run.is_published:
        # Another number of threads on each side: the claim about the algorithm stays open.
        return "not resolved" if comparison.verdict == "slower" else "does not hold"
    return _JUDGED[comparison.verdict]


FINDING = Finding(
    key="flash_slower",
    suite=SUITE,
    claim="On as many threads, the course's flash form is slower than its form that finishes row "
    "by row.",
    published="It is slower, which the handout asks to be explained.",
    evaluate=evaluate,
)
