"""Forward and backward against both together, and the parts of a step against the step."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import combine, is_noisy, judged
from ablation_report.findings.lm_step import SUITE
from ablation_report.findings.words import ranged
from ablation_report.run import Row, Run, detail
from ablation_report.series import short_case
from ablation_report.stats import MIN_ROUNDS, median

WHOLE, PARTS = "fwd_bwd", ("fwd_grad", "bwd")
SUM_TOLERANCE, STEP_TOLERANCE = 0.15, 0.10
# What is summed, the sum over the whole, what it may be off, and the rows.
Sum = tuple[str, float, float, list[Row]]


def evaluate(run: Run) -> Outcome:
    """Judge whether forward with gradient and backward, and the parts of a step, make the whole.

    Not in the study of warm-up, where each sample is of a process of its own and pays for what a
    first call pays.
    """
    verdicts: list[OutcomeVerdict] = []
    off: dict[str, float] = {}
    figures: dict[str, float] = {}
    used: list[Row] = []
    for row in run.rows:
        if row["sizes"].get("study_warmup") is not None:
            continue
        for name, share, tolerance, rows in (*_halves(run, row), *_marks(run, row)):
            verdicts.append(_judge(run, share, tolerance, rows))
            key = f"{name} of {row['variant']}, {short_case(row)}"
            figures[key] = share
            used += rows
            if verdicts[-1] != "holds":
                off[key] = share
    if not figures:
        return not_measured(f"no case has {WHOLE} and its halves, and no step has its parts")
    held = sum(said == "holds" for said in verdicts)
    sentence = f"{held} of {len(verdicts)} sums equal the whole"
    sentence += f"; not equal, or not resolved: {ranged(off)}." if off else "."
    return judged(run, combine(verdicts), sentence, (), used, figures)


def _judge(run: Run, share: float, tolerance: float, rows: list[Row]) -> OutcomeVerdict:
    times = [run.time(row) for row in rows]
    if any(time is None or time.n < MIN_ROUNDS for time in times):
        return "not resolved"
    if abs(share - 1) <= tolerance:
        return "holds"
    return "not resolved" if any(is_noisy(run, row) for row in rows) else "does not hold"


def _halves(run: Run, row: Row) -> list[Sum]:
    """Return the sum of forward and backward over both together."""
    whole = run.time(row)
    if row["phase"] != WHOLE or not whole:
        return []
    halves = [run.row(row["case"], row["variant"], phase) for phase in PARTS]
    known = [(half, time) for half in halves if half is not None and (time := run.time(half))]
    if len(known) < len(PARTS):
        return []
    total = sum(time.value for _, time in known)
    rows = [row, *(half for half, _ in known)]
    return [("fwd_grad + bwd", total / whole.value, SUM_TOLERANCE, rows)]


def _marks(run: Run, row: Row) -> list[Sum]:
    """Return the sum of a step's parts over the step."""
    parts = [median(ns) for ns in (detail(row, "parts_ns") or {}).values() if ns]
    whole = run.median(row)
    if row["phase"] != "step" or not parts or not whole:
        return []
    return [("parts of a step", sum(parts) / whole, STEP_TOLERANCE, [row])]


FINDING = Finding(
    key="parts_add_up",
    suite=SUITE,
    claim=f"Forward and backward sum to both together within {SUM_TOLERANCE:.0%}, and the parts "
    f"of a step to the step within {STEP_TOLERANCE:.0%}.",
    published=None,
    evaluate=evaluate,
)
