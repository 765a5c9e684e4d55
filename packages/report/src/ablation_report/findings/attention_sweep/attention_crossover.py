"""The crossover of flash in attention alone: by mask, heads and threads, without a block around."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ablation_report.findings.attention_sweep import SUITE
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.block.flash_crossover import crossover
from ablation_report.findings.judge import combine, compare, judged
from ablation_report.findings.words import change, counted
from ablation_report.run import Comparison, Row, Run
from ablation_report.series import mask_of
from ablation_report.tables.crossover import FLASH, FUSED, crossover_cases, fastest_of


def evaluate(run: Run) -> Outcome:
    """Look for the crossover in each series of lengths; each form by its fastest kernel."""
    series: dict[str, list[Comparison]] = {}
    for rows in crossover_cases(run).values():
        comparison = compare(run, fastest_of(run, rows, FLASH), fastest_of(run, rows, FUSED))
        # Rows that share no round have no interval, and say nothing of a crossover.
        if comparison is not None and comparison.ratio.n > 1:
            series.setdefault(_name(comparison.row), []).append(comparison)
    if not series:
        return not_measured("no case with both a flash and a fused kernel of ours")
    found = {
        name: crossover([(_length(point), point.verdict) for point in points])
        for name, points in series.items()
    }
    lines = [_line(name, series[name], *found[name]) for name in series]
    figures = {name: float(start) for name, (_, start) in found.items() if start is not None}
    points = [point for points in series.values() for point in points]
    sentence = f"{'; '.join(lines)}. {_floor(run, points)}."
    return judged(
        run, combine(verdict for verdict, _ in found.values()), sentence, points, figures=figures
    )


def _length(comparison: Comparison) -> int:
    return int(comparison.row["sizes"]["Nk"])


def _name(row: Row) -> str:
    heads, threads = counted(row["sizes"]["H"], "head"), counted(row["threads"], "thread")
    return f"{mask_of(row)}, {heads}, {threads}"


def _floor(run: Run, points: Iterable[Comparison]) -> str:
    """Write the floor of the cases, or the one that is assumed where no program ran twice."""
    floors = [point.floor for point in points if point.floor is not None]
    if not floors:
        return "No program ran twice"
    word = "Assumed floor" if run.header.get("assumed_floor") in floors else "Largest floor"
    return f"{word} {max(floors):.0%}"


def _line(name: str, points: Sequence[Comparison], said: OutcomeVerdict, start: int | None) -> str:
    """Write one series: where it crosses, and the change of time at each length."""
    ordered = sorted(points, key=_length)
    figures = ", ".join(f"{_length(point)} {change(point.ratio.value)}" for point in ordered)
    if start is not None:
        where = f"flash wins from seq_len {start} on"
    else:
        where = "no crossover" if said == "does not hold" else "a crossover is not resolved"
    return f"{name}: {where} ({figures})"


FINDING = Finding(
    key="attention_crossover",
    suite=SUITE,
    claim="In attention alone, our flash kernels are faster than our fused one from some length "
    "on.",
    published=None,
    evaluate=evaluate,
)
