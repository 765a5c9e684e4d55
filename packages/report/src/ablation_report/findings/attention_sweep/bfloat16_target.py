"""Our flash forward in bfloat16 against PyTorch's SDPA."""

from __future__ import annotations

from ablation_report.findings.attention_sweep import FLASH_BF16, SDPA, SUITE
from ablation_report.findings.base import Finding, Outcome, not_measured
from ablation_report.findings.judge import judge_target, pairs
from ablation_report.run import Run
from ablation_report.series import MIN_LENGTH

SPEED_UP = 2.0
RATIO = 1 / SPEED_UP


def evaluate(run: Run) -> Outcome:
    """Judge our time over that of SDPA at every length that counts."""
    found = pairs(run, FLASH_BF16, SDPA, lambda row: bool(row["sizes"]["Nk"] >= MIN_LENGTH))
    if not found:
        return not_measured(
            f"no case of N of {MIN_LENGTH} or more with times of both {FLASH_BF16} and {SDPA}"
        )
    return judge_target(run, found, RATIO)


FINDING = Finding(
    key="bfloat16_target",
    suite=SUITE,
    claim=f"In bfloat16 our flash forward is at least {SPEED_UP:.0f} times as fast as PyTorch's "
    f"SDPA at N of {MIN_LENGTH} or more.",
    published=None,
    evaluate=evaluate,
    is_target=True,
)
