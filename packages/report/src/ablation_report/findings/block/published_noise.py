"""Steps of the published ladder that the noise swallows."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.findings.base import Finding, Outcome, not_measured
from ablation_report.findings.block.steps import is_published_rung, steps
from ablation_report.findings.judge import judged, resolves, too_noisy, twins
from ablation_report.findings.words import case_name, change, listed, name_of, percent, place_of
from ablation_report.run import BLOCK, Comparison, Run
from ablation_report.stats import is_different


def evaluate(run: Run) -> Outcome:
    """Count the steps whose difference is not beyond the noise, and name them."""
    asked = steps(run, is_published_rung)
    if not asked:
        return not_measured("no rung of the published ladder has a time together with its parent")
    able = [comparison for comparison in asked if resolves(run, comparison)]
    if not able:
        return judged(
            run,
            "not resolved",
            f"None of {len(asked)} steps can be compared with the noise floor: there are too few "
            "rounds, no program ran twice, or the floor is too high.",
            asked,
        )
    lost = [comparison for comparison in able if not is_different(comparison.verdict)]
    sentence = _sentence(run, able, lost) + _twins(run)
    if len(able) < len(asked):
        sentence += f" {len(asked) - len(able)} more cannot be compared with the floor."
        sentence += too_noisy(run, asked)
    if lost:
        return judged(run, "does not hold", sentence, able)
    return judged(run, "holds" if len(able) == len(asked) else "not resolved", sentence, able)


def _sentence(run: Run, able: Sequence[Comparison], lost: Sequence[Comparison]) -> str:
    floors = [comparison.floor for comparison in able if comparison.floor is not None]
    least, most = percent(min(floors)), percent(max(floors))
    span = least if least == most else f"{least} to {most}"
    text = f"{len(lost)} of {len(able)} steps are within the noise (floor {span})"
    if not lost:
        return f"{text}."
    groups: dict[str, list[str]] = {}
    for comparison in lost:
        part = f"{place_of(run, comparison.row)} {change(comparison.ratio.value)}"
        groups.setdefault(comparison.variant, []).append(part)
    listing = "; ".join(
        f"{name_of(run, variant)} ({', '.join(parts)})" for variant, parts in groups.items()
    )
    counts = {variant: sum(c.variant == variant for c in able) for variant in groups}
    never = [name_of(run, v) for v, parts in groups.items() if len(parts) == counts[v] > 1]
    tail = f" Within the noise at every config: {listed(never)}." if never else ""
    return f"{text}: {listing}.{tail}"


def _twins(run: Run) -> str:
    """Say how far a published run is from itself, where it has one program under two names."""
    if not run.is_published:
        return ""
    found: dict[tuple[str, str], list[str]] = {}
    for case in run.cases:
        for first, second in twins(run, case):
            ratio = run.ratio(run.row(case, first), run.row(case, second))
            if ratio is not None:
                text = f"{change(ratio.value)} at {case_name(run, case)}"
                found.setdefault((first, second), []).append(text)
    return "".join(
        f" {name_of(run, first)} and {name_of(run, second)} are one program by their "
        f"kernels and passes; their times differ by {', '.join(parts)}."
        for (first, second), parts in found.items()
    )


FINDING = Finding(
    key="published_noise",
    suite=BLOCK,
    claim="Every step of the published ladder changes the time by more than the noise.",
    published="The table gives one figure for each variant, without an interval.",
    evaluate=evaluate,
)
