"""How far two runs agree in the order of variants."""

from __future__ import annotations

import itertools

from ablation_report.run import Run
from ablation_report.series import short_case
from ablation_report.stats import is_different


def agree(first: Run, second: Run) -> list[str]:
    """Say how far two runs agree in the order of variants, each by the other's verdicts."""
    lines = []
    for here, there in ((first, second), (second, first)):
        said, same, contradicted = order_agreement(here, there)
        lines.append(
            f"{here.name}: {said} pairs faster or slower; {same} in the same order in "
            f"{there.name}, {len(contradicted)} contradicted beyond its floor"
        )
        lines += [f"  {case}: {a}, {b}" for case, a, b in contradicted]
    return lines


def order_agreement(first: Run, second: Run) -> tuple[int, int, list[tuple[str, str, str]]]:
    """Compare what two runs say of every pair of variants of a case and phase.

    Returns:
        The number of pairs that the first calls faster or slower, the number of these in the same
        order in the second, and those (case and variants) that the second calls the opposite. A
        pair counts when both runs have both variants.
    """
    said = same = 0
    contradicted = []
    for case, rows in first.by_case.items():
        for a, b in itertools.combinations(rows, 2):
            if a["phase"] != b["phase"]:
                continue
            claim = first.compare(a, b)
            pair = (second.row(case, row["variant"], row["phase"]) for row in (a, b))
            other = second.compare(*pair)
            if claim is None or other is None or not is_different(claim.verdict):
                continue
            said += 1
            same += (claim.ratio.value < 1) == (other.ratio.value < 1)
            if is_different(other.verdict) and other.verdict != claim.verdict:
                contradicted.append((short_case(a), a["variant"], b["variant"]))
    return said, same, contradicted
