"""The crossover of flash in attention alone: by mask, heads and threads, without a block around.

It is asked of runs of attention alone, which are no sources, and so stands beside `FINDINGS`.
"""

from __future__ import annotations

from collections.abc import Iterable

from ablation_report.attention_rows import AttentionRun
from ablation_report.attention_tables import Case, cases_of
from ablation_report.findings.base import Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.flash_crossover import crossover
from ablation_report.findings.judge import combine
from ablation_report.findings.words import change, counted
from ablation_report.metrics import (
    Cell,
    Interval,
    Verdict,
    median,
    rounds_ns,
    rounds_ratio,
    verdict,
)

KEY = "attention_crossover"
TITLE = "The crossover of flash in attention alone"
CLAIM = (
    "For every mask, number of heads and number of threads there is a measured sequence length "
    "from which on our flash kernels are faster than our fused one."
)
# Such a run has no program twice and so no floor; this stands in for it
ASSUMED_FLOOR = 0.05

Point = tuple[int, Verdict, Interval]


def evaluate(run: AttentionRun) -> Outcome:
    """Look for the crossover in each series of lengths; each form by its fastest kernel."""
    rows = [
        {"line": place, **row, "path": str(run.path / run.rows_name)}
        for place, row in enumerate(run.rows, start=1)
    ]
    series: dict[str, list[Point]] = {}
    used: list[Cell] = []
    for case in cases_of(rows):
        pair = fastest(case, "flash"), fastest(case, "fused")
        ratio = rounds_ratio(pair[0], pair[1]) if pair[0] and pair[1] else None
        if pair[0] and pair[1] and ratio:
            point = (case.keys, verdict(ratio, ASSUMED_FLOOR), ratio)
            series.setdefault(_name(case), []).append(point)
            used += [pair[0], pair[1]]
    if not series:
        return not_measured("no case with both a flash and a fused kernel of ours")
    found = {name: crossover([point[:2] for point in points]) for name, points in series.items()}
    lines = [_line(name, series[name], *found[name]) for name in series]
    figures = {name: float(start) for name, (_, start) in found.items() if start is not None}
    sentence = f"{'; '.join(lines)}. Assumed floor {ASSUMED_FLOOR:.0%}."
    return Outcome(combine(said for said, _ in found.values()), sentence, tuple(used), figures)


def fastest(case: Case, form: str) -> Cell | None:
    """The kernel of ours with the smallest median of a form; flash_packed is flash too."""
    times = {
        impl: median(list(by_round.values()))
        for impl, row in case.rows.items()
        if row["form"].startswith(form) and row["kernels"] and (by_round := rounds_ns(row))
    }
    return case.rows[min(times, key=lambda impl: times[impl])] if times else None


def _name(case: Case) -> str:
    mask = "causal" if case.causal else "full"
    return f"{mask}, {counted(case.heads, 'head')}, {counted(case.threads, 'thread')}"


def _line(name: str, points: Iterable[Point], said: OutcomeVerdict, start: int | None) -> str:
    """Write one series: where it crosses, and what is known at the lengths that do not win."""
    ordered = sorted(points, key=lambda point: point[0])
    figures = ", ".join(f"{length} {change(ratio.median)}" for length, _, ratio in ordered)
    if start is not None:
        where = f"flash wins from seq_len {start} on"
    else:
        where = "no crossover" if said == "does not hold" else "a crossover is not resolved"
    return f"{name}: {where} ({figures})"
