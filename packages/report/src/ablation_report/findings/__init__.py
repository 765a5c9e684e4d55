"""Findings: claims, the published ones and ours, and what the rows of each run say of them.

A file holds one claim about one suite, in the folder of that suite. `registry` lists them in
reading order; `evaluate_all` asks every run; `findings_text` prints the answers.
"""

from __future__ import annotations

from ablation_report.findings.base import VERDICTS, Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.registry import FINDINGS, evaluate_all
from ablation_report.findings.text import findings_text

__all__ = [
    "FINDINGS",
    "VERDICTS",
    "Finding",
    "Outcome",
    "OutcomeVerdict",
    "evaluate_all",
    "findings_text",
    "not_measured",
]
