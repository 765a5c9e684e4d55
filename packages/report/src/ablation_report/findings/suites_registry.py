"""The findings of the further suites in reading order."""

from __future__ import annotations

from collections.abc import Iterable

from ablation_report.findings import suites_backward, suites_parts, suites_steps, suites_sweep
from ablation_report.findings.base import Outcome
from ablation_report.findings.suites_base import SuiteFinding
from ablation_report.suite_sources import SuiteSource

SUITE_FINDINGS: tuple[SuiteFinding, ...] = (
    *suites_sweep.FINDINGS,
    *suites_steps.FINDINGS,
    *suites_backward.FINDINGS,
    *suites_parts.FINDINGS,
)


def evaluate_suites(
    sources: Iterable[SuiteSource],
) -> list[tuple[SuiteFinding, SuiteSource, Outcome]]:
    """Ask every source for the findings of its suite, in the order of the findings."""
    asked = tuple(sources)
    return [
        (finding, source, finding.evaluate(source))
        for finding in SUITE_FINDINGS
        for source in asked
        if source.suite == finding.suite
    ]
