"""Findings: each claim, and what every run says of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ablation_report.escaping import escape
from ablation_report.findings import Finding, Outcome, evaluate_all
from ablation_report.findings.text import rows_text
from ablation_report.run import BLOCK, Run
from ablation_report.site.choose import is_noisy, main_run
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import details, join, link, measures, origin, slug, suite_page

NOT_MEASURED = "not measured"


def badge(verdict: str) -> str:
    """A verdict as a colored label."""
    return f'<span class="verdict verdict-{slug(verdict)}">{escape(verdict)}</span>'


def findings_page(finding: Finding) -> str:
    """The page that a finding stands on, from the root of the site."""
    return "findings.md" if finding.suite == BLOCK else suite_page(finding.suite)


def ask(runs: Iterable[Run]) -> list[tuple[Finding, Run, Outcome]]:
    """Ask runs for the findings that readers have a use for: not whether this project has reached
    what it set out for."""
    return [said for said in evaluate_all(runs) if not said[0].is_target]


def findings_block(inputs: Inputs, suite: str = BLOCK, root: str = "") -> str:
    """A section for each finding of a suite: the claim, what was published, every answer.

    Published figures come first, then the newest run; noisy runs are the last.
    """
    runs = [*inputs.published(suite), *sorted(inputs.recorded(suite), key=is_noisy)]
    answers: dict[str, tuple[Finding, list[tuple[Run, Outcome]]]] = {}
    for finding, run, outcome in ask(runs):
        answers.setdefault(finding.key, (finding, []))[1].append((run, outcome))
    parts = [_section(finding, said, root) for finding, said in answers.values()]
    return join(*parts) if parts else "*There is no source to ask.*\n"


def _tells(outcome: Outcome) -> bool:
    # Without the rows that were asked for, others may still say why
    return outcome.verdict != NOT_MEASURED or bool(outcome.rows)


def _section(finding: Finding, answers: Sequence[tuple[Run, Outcome]], root: str) -> str:
    measured = [(run, outcome) for run, outcome in answers if _tells(outcome)]
    missing = [(run, outcome) for run, outcome in answers if not _tells(outcome)]
    lines = [
        f"- {badge(outcome.verdict)} {link(run, root)}: {escape(outcome.sentence)} "
        f'<small class="rows">{escape(rows_text(outcome.rows))}</small>'
        for run, outcome in measured
    ]
    without = "\n".join(f"- {link(run, root)}: {escape(o.sentence)}" for run, o in missing)
    return join(
        f"## {escape(finding.title)} {{ #{slug(finding.key)} }}",
        f"> {escape(finding.claim)}",
        f"Published: {escape(finding.published)}" if finding.published else None,
        "\n".join(lines),
        *(details(o.table.title, measures(o.table)) for _, o in measured if o.table),
        details(f"Not measured by {len(missing)} of {len(answers)} sources", without)
        if missing
        else None,
    ).rstrip()


def findings_list(answers: Iterable[tuple[Finding, Outcome]], root: str = "") -> str:
    """What one run says of each finding, a line each; those it did not measure are counted."""
    asked = list(answers)
    measured = [(f, outcome) for f, outcome in asked if outcome.verdict != NOT_MEASURED]
    lines = [
        f"- {badge(outcome.verdict)} [{escape(finding.title)}]"
        f"({root}{findings_page(finding)}#{slug(finding.key)}): {escape(outcome.sentence)}"
        for finding, outcome in measured
    ]
    n_missing = len(asked) - len(measured)
    missing = f"This run did not measure {n_missing} of {len(asked)} findings."
    return join("\n".join(lines), missing if n_missing else None).rstrip()


def home_findings_block(inputs: Inputs) -> str:
    """What the main run says of each finding."""
    run = main_run(inputs.recorded())
    if run is None:
        return "*No quiet run has been recorded: no finding can be asked.*\n"
    answers = [(finding, outcome) for finding, _, outcome in ask([run])]
    return join(findings_list(answers), origin(run))
