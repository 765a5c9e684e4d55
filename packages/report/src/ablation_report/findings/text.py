"""Prints the findings: each claim, what was published, and a line for every source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from ablation_report.escaping import escape, list_item, path_code, visible
from ablation_report.findings import attention_crossover
from ablation_report.findings.base import NOT_MEASURED, Outcome
from ablation_report.findings.registry import FINDINGS, evaluate_all
from ablation_report.findings.suites_registry import SUITE_FINDINGS, evaluate_suites
from ablation_report.findings.words import counted
from ablation_report.metrics import Cell
from ablation_report.sources import Gathered, Source

Layout = Literal["text", "md"]


def findings_text(gathered: Gathered, layout: Layout) -> str:
    """Return all findings of all sources as text or Markdown.

    Markdown says besides which rows each sentence rests on, and has the tables of details.
    """
    outcomes = evaluate_all(gathered.sources)
    sections = []
    for finding in FINDINGS:
        mine = [(source.label, outcome) for asked, source, outcome in outcomes if asked is finding]
        if mine:
            head = _head(finding.title, finding.claim, finding.published, layout)
            sections.append(_section(head, mine, layout))
    alone = [(run.name, attention_crossover.evaluate(run)) for run in gathered.attention]
    if alone:
        head = _head(attention_crossover.TITLE, attention_crossover.CLAIM, None, layout)
        sections.append(_section(head, alone, layout))
    answers = evaluate_suites(gathered.suite_sources)
    for asked in SUITE_FINDINGS:
        said = [(source.label, outcome) for f, source, outcome in answers if f is asked]
        if said:
            title = f"{asked.suite}: {asked.title}"
            sections.append(
                _section(_head(title, asked.claim, asked.published, layout), said, layout)
            )
    facts = [*map(_machine, gathered.sources)]
    faults = [f"Not read: {problem}" for problem in gathered.problems]
    lines = map(list_item if layout == "md" else visible, [*facts, *faults])
    opening = ["\n".join(lines)]
    return "\n\n".join([part for part in opening if part] + sections)


def rows_text(rows: Iterable[Cell]) -> str:
    """Name rows by file and line, each file once: cells.jsonl:3,5,9-11."""
    lines: dict[str, set[int]] = {}
    for row in rows:
        lines.setdefault(row["path"], set()).add(row["line"])
    return ", ".join(
        f"{'/'.join(Path(path).parts[-2:])}:{_ranges(sorted(found))}"
        for path, found in lines.items()
    )


def _ranges(numbers: Sequence[int]) -> str:
    """Write ascending numbers, three or more in a row as a range."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(
        f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs
    )


def _machine(source: Source) -> str:
    threads = "" if source.threads is None else f", {counted(source.threads, 'thread')}"
    return f"{source.label}: {source.machine}{threads}, {counted(len(source.cells), 'row')}"


def _head(title: str, claim: str, published: str | None, layout: Layout) -> list[str]:
    lines = [f"Claim: {claim}"]
    if published is not None:
        lines.append(f"Published: {published}")
    if layout == "md":
        return [f"## {escape(title)}", *map(escape, lines)]
    return ["\n".join([title, "-" * len(title), *lines])]


def _section(head: list[str], outcomes: Iterable[tuple[str, Outcome]], layout: Layout) -> str:
    is_markdown = layout == "md"
    lines = []
    tables = []
    for label, outcome in outcomes:
        sentence = outcome.sentence.removeprefix(NOT_MEASURED)
        if is_markdown:
            rows = f" Rows: {path_code(rows_text(outcome.rows))}." if outcome.rows else ""
            lines.append(f"- **{escape(label)}**: *{outcome.verdict}*: {escape(sentence)}{rows}")
            tables += [outcome.table.markdown()] if outcome.table else []
        else:
            lines.append(visible(f"{label}: {outcome.verdict}: {sentence}"))
    body = "\n".join(lines)
    if is_markdown:
        return "\n\n".join([*head, body, *tables])
    return "\n".join([*head, "", body])
