"""Dispatch at small sizes: which part of PyTorch's time the compiled block takes."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.block.steps import cases_of, is_published_rung
from ablation_report.findings.judge import (
    Gap,
    combine,
    compare,
    compare_at,
    gaps_text,
    judged,
    missing,
    resolves,
    why_not,
)
from ablation_report.findings.words import case_name, name_of, place_of, placed, ratio_text, times
from ablation_report.run import BLOCK, NAIVE, Comparison, Run

CONFIGS = ("Toy", "Small")
# The published range, 7 to 10 times as fast, as time over time.
LOW, HIGH = 1 / 10, 1 / 7
# The rung that leaves the graph as it is.
PLAIN = "passes-none"


def evaluate(run: Run) -> Outcome:
    """Set the fastest compiled variant of the published ladder against PT naive."""
    found: list[Comparison] = []
    gaps: list[Gap] = []
    cases = cases_of(run, CONFIGS)
    for case in cases:
        best = run.best(case, is_published_rung)
        comparison = compare(run, best, NAIVE)
        if comparison is not None:
            found.append(comparison)
        elif best is None and case in run.by_case:
            gaps.append((case_name(run, case), "no compiled variant has a time"))
        else:
            asked = [best["variant"]] if best else []
            gaps.append((case_name(run, case), why_not(run, case, *asked, NAIVE)))
    if not found:
        return not_measured(gaps_text(gaps))
    verdicts = [in_range(run, comparison) for comparison in found]
    alone, _ = compare_at(run, cases, PLAIN, NAIVE)
    sentence = _sentence(run, found, verdicts, alone) + missing(gaps)
    return judged(run, combine(verdicts), sentence, [*found, *alone])


def in_range(run: Run, comparison: Comparison) -> OutcomeVerdict:
    """Say whether a ratio, with its interval and the floor, lies in the range or outside it."""
    floor = comparison.floor
    if floor is None or not resolves(run, comparison):
        return "not resolved"
    least, most = comparison.ratio.low, comparison.ratio.high
    if least * (1 - floor) >= LOW and most * (1 + floor) <= HIGH:
        return "holds"
    if least * (1 - floor) > HIGH or most * (1 + floor) < LOW:
        return "does not hold"
    return "not resolved"


def _sentence(
    run: Run,
    found: Sequence[Comparison],
    verdicts: Sequence[OutcomeVerdict],
    alone: Sequence[Comparison],
) -> str:
    places = [place_of(run, comparison.row) for comparison in found]
    best = [
        f"{ratio_text(comparison)} at {place} ({name_of(run, comparison.variant)})"
        for place, comparison in zip(places, found, strict=True)
    ]
    text = f"Time of the best compiled variant over {name_of(run, NAIVE)}: {', '.join(best)}"
    if alone:
        plain = ", ".join(f"{ratio_text(c)} at {place_of(run, c.row)}" for c in alone)
        text += f"; of {name_of(run, PLAIN)}, which leaves the graph as it is: {plain}"
    words: dict[OutcomeVerdict, str] = {
        "holds": "inside at",
        "does not hold": "outside at",
        "not resolved": "not resolved at",
    }
    parts = ", ".join(placed(places, verdicts, words))
    return f"{text}. The claimed range is {times(LOW)} to {times(HIGH)}: {parts}."


FINDING = Finding(
    key="dispatch_overhead",
    suite=BLOCK,
    claim="At Toy and Small the best of the published ladder takes a seventh to a tenth of "
    "PyTorch's time.",
    published="Dispatch overhead dominates at small sizes: compiled is 7-10x faster than PyTorch "
    "at Toy and Small.",
    evaluate=evaluate,
)
