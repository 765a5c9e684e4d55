"""Prints the findings: each claim, what was published, and a line for every source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from ablation_report.escaping import escape, list_item, path_code, visible
from ablation_report.findings.base import NOT_MEASURED, Finding, Outcome
from ablation_report.findings.registry import FINDINGS, evaluate_all
from ablation_report.findings.words import counted
from ablation_report.load import Gathered
from ablation_report.machines import machine_name
from ablation_report.run import BLOCK, Row, Run

Layout = Literal["text", "md"]


def findings_text(gathered: Gathered, layout: Layout) -> str:
    """Return all findings of all runs as text or Markdown.

    Markdown names the rows that each sentence rests on, and has the tables of details.
    """
    runs = [run for run in gathered.runs if run.rows]
    answers: dict[str, list[tuple[str, Outcome]]] = {}
    for finding, run, outcome in evaluate_all(runs):
        answers.setdefault(finding.key, []).append((label_of(run), outcome))
    sections = [
        _section(_head(finding, layout), answers[finding.key], layout)
        for finding in FINDINGS
        if finding.key in answers
    ]
    faults = [f"Not read: {problem}" for problem in gathered.problems]
    lines = map(list_item if layout == "md" else visible, [*map(_facts, runs), *faults])
    opening = ["\n".join(lines)]
    return "\n\n".join([part for part in opening if part] + sections)


def label_of(run: Run) -> str:
    """Return the name of a run, and that it is published where it is."""
    return f"Published: {run.name}" if run.is_published else run.name


def rows_text(rows: Iterable[Row]) -> str:
    """Name rows by file and line, each file once: rows.jsonl:3,5,9-11."""
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


def _facts(run: Run) -> str:
    """Say of which suite, machine and size a run is."""
    parts = [run.suite]
    machine = run.header.get("machine")
    if machine:
        parts.append(machine_name(machine))
    threads = run.header.get("threads") or []
    if threads:
        named = ", ".join(map(str, threads))
        parts.append(f"{named} thread{'' if threads == [1] else 's'}")
    return f"{label_of(run)}: {', '.join([*parts, counted(len(run.rows), 'row')])}"


def _head(finding: Finding, layout: Layout) -> list[str]:
    claim = finding.claim if finding.suite == BLOCK else f"{finding.suite}: {finding.claim}"
    published = [f"Published: {finding.published}"] if finding.published is not None else []
    if layout == "md":
        return [f"## {escape(claim)}", *map(escape, published)]
    return ["\n".join([claim, "-" * len(claim), *published])]


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
