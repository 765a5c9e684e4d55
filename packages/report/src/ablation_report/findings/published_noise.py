"""Steps of the published ladder that the noise swallows."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.findings.base import Finding, Outcome, judged, not_measured
from ablation_report.findings.judge import is_published_rung, resolves, steps, twins
from ablation_report.findings.words import change, listed, name_of, percent
from ablation_report.metrics import is_different
from ablation_report.sources import Comparison, Source


def evaluate(source: Source) -> Outcome:
    """Count the steps whose difference is not beyond the noise, and name them."""
    asked = steps(source, is_published_rung)
    if not asked:
        return not_measured("no rung of the published ladder together with the one below it")
    able = [comparison for comparison in asked if resolves(source, comparison)]
    if not able:
        return judged(
            "not resolved",
            f"None of {len(asked)} steps can be set against the noise: too few rounds, or no "
            "program twice.",
            asked,
        )
    lost = [comparison for comparison in able if not is_different(comparison.verdict)]
    sentence = _sentence(source, able, lost) + _twins(source)
    if len(able) < len(asked):
        sentence += f" {len(asked) - len(able)} more cannot be set against it."
    if lost:
        return judged("does not hold", sentence, able)
    return judged("holds" if len(able) == len(asked) else "not resolved", sentence, able)


def _sentence(source: Source, able: Sequence[Comparison], lost: Sequence[Comparison]) -> str:
    floors = [comparison.floor for comparison in able if comparison.floor is not None]
    least, most = percent(min(floors)), percent(max(floors))
    span = least if least == most else f"{least} to {most}"
    text = f"{len(lost)} of {len(able)} steps are not told from no change (floor {span})"
    if not lost:
        return f"{text}."
    groups: dict[str, list[str]] = {}
    for comparison in lost:
        part = f"{comparison.config} {change(comparison.ratio.median)}"
        groups.setdefault(comparison.variant, []).append(part)
    listing = "; ".join(
        f"{name_of(source, variant)} ({', '.join(parts)})" for variant, parts in groups.items()
    )
    counts = {variant: sum(c.variant == variant for c in able) for variant in groups}
    never = [name_of(source, v) for v, parts in groups.items() if len(parts) == counts[v] > 1]
    tail = f" At every config that has it: {listed(never)}." if never else ""
    return f"{text}: {listing}.{tail}"


def _twins(source: Source) -> str:
    """Say how far a published file is from itself, where it has one program under two names."""
    if not source.is_published:
        return ""
    found: dict[tuple[str, str], list[str]] = {}
    for config in source.configs:
        for first, second in twins(source, config):
            comparison = source.compare(config, first, second)
            if comparison is not None:
                text = f"{change(comparison.ratio.median)} at {config}"
                found.setdefault((first, second), []).append(text)
    return "".join(
        f" {name_of(source, first)} and {name_of(source, second)} are one program by their "
        f"kernels and passes, and differ by {', '.join(parts)}."
        for (first, second), parts in found.items()
    )


FINDING = Finding(
    key="published_noise",
    title="Differences that the noise swallows",
    claim="Every step of the published ladder changes the time by more than the noise.",
    published="The table gives one figure a cell, without an interval.",
    evaluate=evaluate,
)
