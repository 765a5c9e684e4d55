"""Findings: each claim, and what every source says of it."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.escaping import escape
from ablation_report.findings import FINDINGS, Outcome, attention_crossover, evaluate_all
from ablation_report.findings.text import rows_text
from ablation_report.site.choose import main_run, published, recorded
from ablation_report.site.text import (
    details,
    join,
    measures,
    origin,
    run_page,
    slug,
)
from ablation_report.sources import Gathered

# A source's name with its link, and its answer
Answer = tuple[str, Outcome]


def badge(verdict: str) -> str:
    """A verdict as a colored label."""
    return f'<span class="verdict verdict-{slug(verdict)}">{escape(verdict)}</span>'


def findings_block(gathered: Gathered) -> str:
    """A section for each finding: the claim, what was published, the answer of every source."""
    # The published file first, then the newest run
    sources = [*published(gathered), *recorded(gathered)]
    answers: dict[str, list[Answer]] = {}
    for finding, source, outcome in evaluate_all(sources):
        name = f"[{escape(source.label)}]({run_page(source)})"
        answers.setdefault(finding.key, []).append((name, outcome))
    parts = [
        finding_section(f.key, f.title, f.claim, f.published, answers[f.key])
        for f in FINDINGS
        if f.key in answers
    ]
    alone = [
        (
            f"[{escape(run.name)}](attention.md#{slug(run.name)})",
            attention_crossover.evaluate(run),
        )
        for run in gathered.attention
    ]
    if alone:
        title, claim = attention_crossover.TITLE, attention_crossover.CLAIM
        parts.append(finding_section("attention-alone", title, claim, None, alone))
    return join(*parts) if parts else "*There is no source to ask.*\n"


def _tells(outcome: Outcome) -> bool:
    return outcome.verdict != "not measured" or bool(outcome.rows)


def finding_section(
    key: str, title: str, claim: str, said: str | None, answers: Sequence[Answer]
) -> str:
    # Without the rows that were asked for, others may still tell why
    measured = [(n, outcome) for n, outcome in answers if _tells(outcome)]
    missing = [(n, outcome) for n, outcome in answers if not _tells(outcome)]
    lines = [
        f"- {badge(outcome.verdict)} {name}: {escape(outcome.sentence)} "
        f'<small class="rows">{escape(rows_text(outcome.rows))}</small>'
        for name, outcome in measured
    ]
    tables = [(name, found.table) for name, found in measured if found.table]
    return join(
        f"## {escape(title)} {{ #{slug(key)} }}",
        f"> {escape(claim)}",
        f"Published: {escape(said)}" if said else None,
        "\n".join(lines),
        *(details(found.title, measures(found)) for _, found in tables),
        details(
            f"Not measured by {len(missing)} of {len(answers)} sources",
            "\n".join(f"- {name}: {escape(outcome.sentence)}" for name, outcome in missing),
        )
        if missing
        else None,
    ).rstrip()


def home_findings_block(gathered: Gathered) -> str:
    """What the main run says of each finding, a line each; those it did not measure are counted."""
    run = main_run(gathered)
    if run is None:
        return "*No run has been recorded: no finding can be asked.*\n"
    outcomes = [(finding, outcome) for finding, _, outcome in evaluate_all([run])]
    measured = [(f, outcome) for f, outcome in outcomes if outcome.verdict != "not measured"]
    lines = [
        f"- {badge(outcome.verdict)} [{escape(finding.title)}](findings.md#{slug(finding.key)}): "
        f"{escape(outcome.sentence)}"
        for finding, outcome in measured
    ]
    n_missing = len(outcomes) - len(measured)
    missing = f"{n_missing} more are not measured by this run." if n_missing else None
    return join("\n".join(lines), missing, origin(run))
