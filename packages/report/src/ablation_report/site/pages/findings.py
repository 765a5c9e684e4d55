"""Findings: a matrix of claims and machines, each claim's answer, and the sentences behind it.

Recorded runs alone are asked here; `published.py` has what published figures say of each claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ablation_report.escaping import escape
from ablation_report.findings import FINDINGS, Finding, Outcome
from ablation_report.findings.text import rows_text
from ablation_report.findings.words import counted, listed
from ablation_report.machines import machine_of
from ablation_report.run import Run
from ablation_report.site.choose import created, is_noisy, is_whole, places
from ablation_report.site.data_table import Cell, Column, data_table
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import (
    details,
    folded,
    join,
    link,
    slug,
)
from ablation_report.stats import median
from ablation_report.tables.layout import times

PAGE, PUBLISHED_PAGE = "findings.md", "published.md"
NOT_MEASURED = "not measured"
NO_SOURCE = "*No run has been recorded.*\n"
LEGEND = (
    "Each verdict comes from the run of that machine that resolves most of the claim. *Not "
    "resolved*: the noise is too large for a verdict. No verdict: no run of the machine has rows."
)


@dataclass(frozen=True)
class Answer:
    """What a machine says of a claim: by the run that resolves most of it, and by its others."""

    machine: str
    run: Run
    outcome: Outcome
    others: tuple[tuple[Run, Outcome], ...] = ()


def badge(verdict: str) -> str:
    """A verdict as a colored label."""
    return f'<span class="verdict verdict-{slug(verdict)}">{escape(verdict)}</span>'


def ask(runs: Iterable[Run]) -> list[tuple[Finding, Run, Outcome]]:
    """Ask runs for the findings that readers have a use for: not whether this project has reached
    what it set out for. A run is asked once, whatever number of pages it stands on."""
    asked = tuple(runs)
    return [
        (finding, run, _outcome(finding, run))
        for finding in FINDINGS
        for run in asked
        if run.suite == finding.suite and not finding.is_target
    ]


def _outcome(finding: Finding, run: Run) -> Outcome:
    known: dict[str, Outcome] = run.derived.setdefault("findings", {})
    if finding.key not in known:
        known[finding.key] = finding.evaluate(run)
    return known[finding.key]


def answers_of(runs: Iterable[Run]) -> list[tuple[Finding, list[Answer]]]:
    """Return the claims that a run has measured, each with what every machine says of it."""
    found: dict[str, tuple[Finding, dict[str, list[tuple[Run, Outcome]]]]] = {}
    for finding, run, outcome in ask(runs):
        if outcome.verdict != NOT_MEASURED:
            by_machine = found.setdefault(finding.key, (finding, {}))[1]
            by_machine.setdefault(machine_of(run), []).append((run, outcome))
    return [
        (finding, [_answer(machine, said) for machine, said in by_machine.items()])
        for finding, by_machine in found.values()
    ]


def _answer(machine: str, said: Sequence[tuple[Run, Outcome]]) -> Answer:
    """Choose the run that says most: no noisy one, of the whole machine, the most comparisons
    resolved, the lowest floor, the newest."""

    def weight(pair: tuple[Run, Outcome]) -> tuple[bool, bool, int, float, str]:
        run, outcome = pair
        asked = outcome.comparisons
        n_resolved = sum(each.is_resolved for each in asked) if asked else _is_resolved(outcome)
        floors = [floor for case in run.cases if (floor := run.floor(case)) is not None]
        quiet = -median(floors) if floors else -1.0
        return not is_noisy(run), _uses_all(run), n_resolved, quiet, created(run)

    first, *others = sorted(said, key=weight, reverse=True)
    return Answer(machine, *first, tuple(others))


def _is_resolved(outcome: Outcome) -> bool:
    return outcome.verdict != "not resolved"


def _uses_all(run: Run) -> bool:
    return any(map(is_whole, places([run])))


def findings_block(inputs: Inputs, suite: str | None = None, root: str = "") -> str:
    """All claims of all suites; or of one suite its matrix alone, with links into the whole."""
    found = answers_of(inputs.recorded(suite))
    if not found:
        return NO_SOURCE
    if suite is not None:
        return join("## Findings { #findings }", matrix(found, f"{root}{PAGE}"))
    parts = [matrix(found), LEGEND]
    for name, group in _by_suite(found).items():
        parts.append(f"## {escape(name)}")
        parts += [_section(finding, said, root) for finding, said in group]
    return join(*parts)


Found = Sequence[tuple[Finding, Sequence[Answer]]]


def _by_suite(found: Found) -> dict[str, Found]:
    suites = dict.fromkeys(finding.suite for finding, _ in found)
    return {name: [pair for pair in found if pair[0].suite == name] for name in suites}


def matrix(found: Found, page: str = "") -> str:
    """A line for each claim, a column for each machine, verdicts in it; each leads to its section
    of a page."""
    counts: dict[str, int] = {}
    for _, said in found:
        for answer in said:
            counts[answer.machine] = counts.get(answer.machine, 0) + _is_resolved(answer.outcome)
    machines = sorted(counts, key=lambda machine: counts[machine], reverse=True)
    columns = [
        Column("Claim", is_left=True, is_prose=True),
        *(Column(name, is_left=True, is_prose=True) for name in machines),
    ]
    groups: Mapping[str, list[list[Cell]]] = {
        suite: [_line(finding, said, machines, page) for finding, said in group]
        for suite, group in _by_suite(found).items()
    }
    return data_table(columns, groups if len(groups) > 1 else next(iter(groups.values())))


def _line(
    finding: Finding, said: Sequence[Answer], machines: Sequence[str], page: str
) -> list[Cell]:
    at = {answer.machine: answer.outcome for answer in said}
    verdicts = [at[machine].verdict if machine in at else None for machine in machines]
    return [
        Cell(finding.claim, page=f"{page}#{slug(finding.key)}"),
        *(Cell(v, mark="unresolved" if v == "not resolved" else None) for v in verdicts),
    ]


def answer_sentence(said: Sequence[Answer]) -> str:
    """Say in a sentence on which machines a claim holds, with the range of the ratios judged."""
    by_verdict: dict[str, list[str]] = {}
    for answer in said:
        by_verdict.setdefault(answer.outcome.verdict, []).append(
            f"{answer.machine}{_range(answer.outcome)}"
        )
    text = "; ".join(f"{verdict} on {listed(names)}" for verdict, names in by_verdict.items())
    return f"{text[:1].upper()}{text[1:]}."


def _range(outcome: Outcome) -> str:
    """Write from where to where the ratios of time go that a verdict rests on."""
    ratios = sorted(comparison.ratio.value for comparison in outcome.comparisons)
    if not ratios:
        return ""
    ends = dict.fromkeys((times(ratios[0]), times(ratios[-1])))
    span = f"from {' to '.join(ends)}" if len(ends) > 1 else f"of {times(ratios[0])}"
    return f" ({counted(len(ratios), 'ratio')} of time {span})"


def _section(finding: Finding, said: Sequence[Answer], root: str) -> str:
    """A claim with its answer; what each machine says is folded."""
    parts = [part for answer in said for part in _told(answer, root)]
    return join(
        f"### {escape(finding.claim)} {{ #{slug(finding.key)} }}",
        escape(answer_sentence(said)),
        details("What the rows say, by machine", "\n\n".join(parts)),
    ).rstrip()


def _told(answer: Answer, root: str) -> list[str]:
    """The sentence of the run that says most, its table, and the verdicts of the other runs."""
    outcome = answer.outcome
    sentence = (
        f"{badge(outcome.verdict)} **{escape(answer.machine)}**, {link(answer.run, root)}: "
        f"{escape(outcome.sentence)} "
        f'<small class="rows">{escape(rows_text(outcome.rows))}</small>'
    )
    parts = [sentence, _others(answer, root)]
    if outcome.table:
        parts.append(folded(outcome.table))
    return [part for part in parts if part]


def _others(answer: Answer, root: str) -> str:
    """Count what the other runs of a machine say, noisy ones apart."""
    by_verdict: dict[str, list[str]] = {}
    for run, outcome in answer.others:
        noisy = " (noisy)" if is_noisy(run) else ""
        by_verdict.setdefault(outcome.verdict, []).append(f"{link(run, root)}{noisy}")
    lines = [f"- *{verdict}*: {', '.join(links)}" for verdict, links in by_verdict.items()]
    if not lines:
        return ""
    return f"Other runs of this machine:\n\n{chr(10).join(lines)}"


def findings_list(
    answers: Iterable[tuple[Finding, Outcome]], root: str = "", page: str = PAGE
) -> str:
    """What one run says of each finding, a line each with a link into the page of findings, or that
    of published figures; those it did not measure are counted."""
    asked = list(answers)
    measured = [(f, outcome) for f, outcome in asked if outcome.verdict != NOT_MEASURED]
    lines = [
        f"- {badge(outcome.verdict)} [{escape(finding.claim)}]"
        f"({root}{page}#{slug(finding.key)}) {escape(outcome.sentence)}"
        for finding, outcome in measured
    ]
    n_missing = len(asked) - len(measured)
    missing = f"This run did not measure {n_missing} of {len(asked)} findings."
    return join("\n".join(lines), missing if n_missing else None).rstrip()
