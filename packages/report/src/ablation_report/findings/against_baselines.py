"""The best of our variants against each runtime of others, PyTorch's two blocks among them."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.findings.base import Finding, Outcome, judged, not_measured
from ablation_report.findings.judge import (
    Gap,
    combine,
    compare,
    faster_holds,
    gaps_text,
    missing,
    why_not,
)
from ablation_report.findings.words import MARKS_NOTE, marked, name_of, said, speed_up
from ablation_report.ladder import LEAGUE, NAIVE, SDPA, rank
from ablation_report.metrics import Cell
from ablation_report.sources import Comparison, Source
from ablation_report.tables import Table


def is_baseline(cell: Cell) -> bool:
    """True for PyTorch's two blocks and the runtimes of the league."""
    return cell["variant"] in (NAIVE, SDPA) or cell["group"] == LEAGUE


def evaluate(source: Source) -> Outcome:
    """Compare the best of ours with every baseline of every config."""
    asked = dict.fromkeys(
        cell["variant"] for cell in sorted(source.cells, key=_order) if is_baseline(cell)
    )
    found: dict[str, list[Comparison]] = {variant: [] for variant in asked}
    gaps: list[Gap] = []
    for config in source.configs:
        best = source.best(config)
        if best is None:
            gaps.append((config, "no compiled variant with a time"))
            continue
        for baseline in asked:
            comparison = compare(source, config, best, baseline)
            if comparison is None:
                gaps.append((config, why_not(source, config, baseline)))
            else:
                found[baseline].append(comparison)
    every = [comparison for group in found.values() for comparison in group]
    if not every:
        return not_measured(gaps_text(gaps) or "no baseline")
    lines = [
        f"{name_of(source, baseline)}: {said(group, speed_up)}"
        for baseline, group in found.items()
        if group
    ]
    sentence = (
        "The best of ours, with the other's time over its own, against "
        f"{'. Against '.join(lines)}.{missing(gaps)}"
    )
    verdict = combine(faster_holds(comparison) for comparison in every)
    return judged(verdict, sentence, every, table=_table(source, list(asked), every))


def _order(cell: Cell) -> tuple[bool, int]:
    return cell["group"] == LEAGUE, rank(cell["variant"])


def _table(source: Source, baselines: Sequence[str], every: Sequence[Comparison]) -> Table:
    at = {(comparison.config, comparison.base): comparison for comparison in every}
    best = {comparison.config: comparison.variant for comparison in every}
    rows = [
        [
            config,
            source.printed(best[config]),
            *(marked(at.get((config, baseline))) for baseline in baselines),
        ]
        for config in source.configs
        if config in best
    ]
    header = ("Config", "best of ours", *(f"over {source.printed(name)}" for name in baselines))
    return Table(f"Against baselines: {source.label}", header, [("", rows)], (MARKS_NOTE,))


FINDING = Finding(
    key="against_baselines",
    title="Ours against each baseline",
    claim="The best of our variants is faster than every baseline at every config.",
    published=None,
    evaluate=evaluate,
)
