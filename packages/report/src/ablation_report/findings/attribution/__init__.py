"""Findings of attribution: the worth of each factor, the order, pairs, and what costs time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ablation_report.attribution import Attribution, worths
from ablation_report.findings.base import Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import Gap, combine, gaps_text, judged, missing
from ablation_report.findings.words import case_name, percent
from ablation_report.run import Row, Run
from ablation_report.stats import is_too_noisy
from ablation_report.tables import Table

SUITE = worths.SUITE


@dataclass(frozen=True)
class Said:
    """What one case says of a claim: a clause without the name of the case, and its figures."""

    verdict: OutcomeVerdict
    text: str
    figures: Mapping[str, float] = field(default_factory=dict)


def evaluate_cases(
    run: Run,
    say: Callable[[Run, Attribution], Said | str],
    table: Callable[[Run, Mapping[str, Attribution]], Table] | None = None,
) -> Outcome:
    """Ask every case of a run; `say` returns what it says, or why it can say nothing."""
    gaps: list[Gap] = []
    parts: list[str] = []
    verdicts: list[OutcomeVerdict] = []
    rows: list[Row] = []
    figures: dict[str, float] = {}
    asked: dict[str, Attribution] = {}
    for case in run.cases:
        name, found = case_name(run, case), worths.attribution_of(run, case)
        said = worths.why_none(run, case) if found is None else say(run, found)
        if found is None or isinstance(said, str):
            gaps.append((name, str(said)))
            continue
        asked[name] = found
        noise = f" (floor {percent(found.floor)})" if found.floor else ""
        noise = f", too noisy to compare{noise}" if is_too_noisy(found.floor) else ""
        parts.append(f"{name}{noise}: {said.text}.")
        verdicts.append(said.verdict)
        rows += [found.base, found.top]
        figures |= {f"{name}: {key}": value for key, value in said.figures.items()}
    if not parts:
        return not_measured(gaps_text(gaps) or "no case")
    sentence = " ".join(parts) + missing(gaps)
    laid_out = table(run, asked) if table else None
    return judged(run, combine(verdicts), sentence, (), rows, figures, laid_out)
