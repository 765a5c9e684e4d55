"""Our flash backward against that of PyTorch's SDPA, on one thread."""

from __future__ import annotations

from ablation_report.findings.attention_backward import ABLATION, SDPA, SUITE
from ablation_report.findings.base import Finding, Outcome, not_measured
from ablation_report.findings.judge import judge_target, pairs
from ablation_report.run import Row, Run
from ablation_report.series import MIN_LENGTH

SPEED_UP = 1.2
RATIO = 1 / SPEED_UP
BACKWARD = "bwd"


def is_target(row: Row) -> bool:
    """True for a backward on one thread, of N of 1024 and more."""
    is_long = row["sizes"]["Nk"] >= MIN_LENGTH
    return bool(row["phase"] == BACKWARD and is_long and row["threads"] == 1)


def evaluate(run: Run) -> Outcome:
    """Judge our time over that of SDPA in each of these cases."""
    found = pairs(run, ABLATION, SDPA, is_target)
    if not found:
        wanted = f"one thread, N of {MIN_LENGTH} or more"
        return not_measured(f"no backward ({wanted}) with times of both {ABLATION} and {SDPA}")
    return judge_target(run, found, RATIO)


FINDING = Finding(
    key="backward_target",
    suite=SUITE,
    claim=f"On one thread our flash backward is at least {SPEED_UP} times as fast as PyTorch's at "
    f"N of {MIN_LENGTH} or more.",
    published=None,
    evaluate=evaluate,
    is_target=True,
)
