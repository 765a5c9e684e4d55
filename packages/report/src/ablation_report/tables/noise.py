"""What the tables of a run say that is too noisy to use: no verdict, and a warning."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ablation_report.run import Run
from ablation_report.stats import NOISY_WIDTH
from ablation_report.tables.layout import NOTHING, Table

TOO_NOISY, VERDICT = "too noisy", "verdict"
# Verdicts that claim nothing
_OPEN = ("", NOTHING, "not resolved")


def run_warning(run: Run) -> str | None:
    """Say that a run is not to be used, and why; None of one that may be."""
    if not run.is_too_noisy:
        return None
    noisy, timed = run.noisy_times
    return (
        f"Too noisy: do not use {run.name}. {noisy} of {timed} times have an interval wider than "
        f"{NOISY_WIDTH:.0%}: end other programs, and run again"
    )


def trusted(table: Table, runs: Iterable[Run]) -> Table:
    """Return a table of some runs; where one is too noisy it has a warning, and no verdict."""
    warnings = [told for run in runs if (told := run_warning(run)) is not None]
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
