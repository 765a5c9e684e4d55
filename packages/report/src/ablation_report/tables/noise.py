"""How tables mark noise: a run that is too noisy to use has a warning and no verdict, a run of
which many times are noisy has a note."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ablation_report.escaping import visible
from ablation_report.run import Run
from ablation_report.stats import MOST_NOISY, NOISY_WIDTH
from ablation_report.tables.layout import NOTHING, Table

TOO_NOISY, VERDICT = "too noisy", "verdict"
# Verdicts that claim nothing
_OPEN = ("", NOTHING, "not resolved")


def run_warning(run: Run) -> str | None:
    """Write the warning of a run that is too noisy to use; None for any other run."""
    if not run.is_too_noisy:
        return None
    n_open, n_compared = run.open_ratios
    ratios = (
        f", and {n_open} of {n_compared} ratios to {run.printed(run.baseline)} are not resolved"
    )
    said = f"{_times_text(run)}{ratios if n_compared else ''}"
    return f"Too noisy: do not use {visible(run.name)}. {said}: end other programs, and run again"


def times_note(run: Run) -> str | None:
    """Write the note of a run of which many times are noisy, but whose ratios are resolved; None
    for any other run."""
    noisy, timed = run.noisy_times
    if run.is_too_noisy or not timed or noisy < MOST_NOISY * timed:
        return None
    return f"Noisy times: {_times_text(run)}. Each ratio is judged by its own interval"


def busy_note(run: Run) -> str | None:
    """Write the note of a run that other programs disturbed; None for any other run."""
    if not run.is_disturbed:
        return None
    return (
        f"Other programs: they used up to {run.busy_share:.0%} of the processors. The times are not"
        " those of a free machine"
    )


def _times_text(run: Run) -> str:
    noisy, timed = run.noisy_times
    return f"{noisy} of {timed} times have an interval wider than {NOISY_WIDTH:.0%}"


def trusted(table: Table, runs: Iterable[Run]) -> Table:
    """Return a table of some runs; where one is too noisy it has a warning, and no verdict."""
    warnings = [warning for run in runs if (warning := run_warning(run)) is not None]
    if not warnings:
        return table
    header = list(table.header)
    if VERDICT not in header:
        return table
    place = header.index(VERDICT)
    groups = [
        (
            name,
            [
                [
                    TOO_NOISY if i == place and text not in _OPEN else text
                    for i, text in enumerate(row)
                ]
                for row in group
            ],
        )
        for name, group in table.groups
    ]
    return replace(table, groups=groups, warnings=[*warnings, *table.warnings])
