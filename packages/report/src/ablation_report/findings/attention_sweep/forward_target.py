"""Our flash forward in float32 against PyTorch's SDPA, on one thread."""

from __future__ import annotations

from ablation_report.findings.attention_sweep import FLASH, SDPA, SUITE
from ablation_report.findings.base import Finding, Outcome, not_measured
from ablation_report.findings.judge import judge_target, pairs
from ablation_report.run import Row, Run
from ablation_report.series import MIN_LENGTH

SPEED_UP = 1.5
RATIO = 1 / SPEED_UP


def is_target(row: Row) -> bool:
    """True for a full, square case of d 64 on one thread in float32, of N of 1024 and more."""
    sizes = row["sizes"]
    is_square = sizes["Nq"] == sizes["Nk"] >= MIN_LENGTH
    is_plain = not sizes["causal"] and sizes["d"] == 64 and row["threads"] == 1
    return bool(is_square and is_plain and row["dtype"] == "float32")


def evaluate(run: Run) -> Outcome:
    """Judge our time over that of SDPA in each of these cases."""
    found = pairs(run, FLASH, SDPA, is_target)
    if not found:
        wanted = f"full, d 64, N of {MIN_LENGTH} or more, one thread, float32"
        return not_measured(f"no case ({wanted}) with times of both {FLASH} and {SDPA}")
    return judge_target(run, found, RATIO)


FINDING = Finding(
    key="forward_target",
    suite=SUITE,
    claim=f"On one thread our flash forward is at least {SPEED_UP} times as fast as PyTorch's "
    f"SDPA, in float32 without a mask, at d 64 and N of {MIN_LENGTH} or more.",
    published=None,
    evaluate=evaluate,
    is_target=True,
)
