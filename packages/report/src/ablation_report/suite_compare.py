"""Sets two runs of one further suite beside each other, row by row, and says whether they agree.

Runs share no round, and a machine that others use is not as fast from one hour to the next. So two
things are compared: the medians as they are, and each implementation's ratio to the suite's
baseline, which is paired by the rounds of its own run and does not see what slows both alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ablation_report.compare import told_differences, version_pairs
from ablation_report.metrics import median
from ablation_report.sources import hardware
from ablation_report.suite_sources import Measure, SuiteSource
from ablation_report.suite_tables import status_text
from ablation_report.tables import NOTHING, Table, duration

# Medians of two runs of a quiet machine that differ by no more than this agree
AGREEMENT = 0.10


@dataclass(frozen=True)
class SuiteChange:
    """One row in two runs; None where a run lacks it. Quotients are second over first, None where
    one has no such figure: `time` of the medians, `relative` of the ratios to the baseline, `peak`
    of the bytes of a call."""

    first: Measure | None
    second: Measure | None
    time: float | None
    relative: float | None
    peak: float | None
    verdict: str

    @property
    def measure(self) -> Measure:
        """The row in the second run, or in the first where it is only there."""
        found = self.second or self.first
        assert found is not None
        return found


def suite_differences(first: SuiteSource, second: SuiteSource) -> list[str]:
    """Say in which respects two recorded runs are not of the same suite, machine and versions."""
    a, b = first.header or {}, second.header or {}
    return told_differences(
        ("suite", first.suite, second.suite),
        ("device", a["device"], b["device"]),
        ("machine", a["machine"]["cpu_model"], b["machine"]["cpu_model"]),
        ("instruction sets, caches and quota", hardware(a), hardware(b)),
        *version_pairs(a, b),
        ("instruction set used", a["providers"].get("simd"), b["providers"].get("simd")),
    )


def compare_suites(first: SuiteSource, second: SuiteSource) -> list[SuiteChange]:
    """Compare every row that either run has, in the order of the second.

    The verdict is "agrees", "slower" or "faster" beyond `AGREEMENT`; "noisy" where the samples of
    either vary too much to say; the status where one has no time; "only in" the run that has it.
    """
    places = dict.fromkeys(
        (m["case"], m["impl"], m["phase"]) for source in (second, first) for m in source.measures
    )
    changes = []
    for place in places:
        pair = first.find(*place), second.find(*place)
        peaks = [m["mem_op_peak_bytes"] if m else None for m in pair]
        ratios = [s.against(m) if m else None for s, m in zip((first, second), pair, strict=True)]
        paired = [ratio.median if ratio and ratio.n > 1 else None for ratio in ratios]
        time = _quotient([m.time_ns if m else None for m in pair])
        verdict = _verdict(first, second, pair, time)
        changes.append(SuiteChange(*pair, time, _quotient(paired), _quotient(peaks), verdict))
    return changes


def _quotient(pair: Sequence[float | None]) -> float | None:
    before, after = pair
    return after / before if before and after else None


def _verdict(
    first: SuiteSource,
    second: SuiteSource,
    pair: tuple[Measure | None, Measure | None],
    time: float | None,
) -> str:
    if pair[0] is None or pair[1] is None:
        return f"only in {(first if pair[1] is None else second).name}"
    if time is None:
        return " and ".join(dict.fromkeys(status_text(m) for m in pair if m))
    if any(m and m.timing and m.timing.is_noisy for m in pair):
        return "noisy"
    if _agrees(time):
        return "agrees"
    return "slower" if time > 1 else "faster"


def _agrees(quotient: float) -> bool:
    return max(quotient, 1 / quotient) <= 1 + AGREEMENT


def suite_compare_table(
    first: SuiteSource, second: SuiteSource, changes: Sequence[SuiteChange]
) -> Table:
    """Lay out the comparison, a group for each case, with how many rows agree below it."""
    header = (
        *("Implementation", "Phase", "First", "Second", "second / first"),
        *(f"of its ratio to {second.baseline}", "of its peak memory", "verdict"),
    )
    groups: dict[str, list[Sequence[str]]] = {}
    for change in changes:
        measure = change.measure
        row = [
            *(measure["impl"], measure["phase"]),
            *(duration(m.time_ns if m else None) for m in (change.first, change.second)),
            *(_times(figure) for figure in (change.time, change.relative, change.peak)),
            change.verdict,
        ]
        groups.setdefault(measure["case"], []).append(row)
    title = f"{first.name} and {second.name}"
    return Table(title, header, list(groups.items()), _notes(second.baseline, changes))


def _times(figure: float | None) -> str:
    return NOTHING if figure is None else f"{figure:.3f}x"


def _notes(baseline: str, changes: Sequence[SuiteChange]) -> list[str]:
    counts = Counter(change.verdict for change in changes)
    compared = sum(counts[verdict] for verdict in ("agrees", "slower", "faster"))
    notes = [", ".join(f"{count} {said}" for said, count in counts.most_common())]
    notes.append(
        f"medians: {counts['agrees']} of {compared} agree within {AGREEMENT:.0%}, "
        f"{counts['noisy']} noisy ones left out"
    )
    relative = [c.relative for c in changes if c.relative is not None and c.verdict != "noisy"]
    notes.append(
        f"ratios to {baseline} in the same rounds, noisy ones left out: "
        f"{sum(map(_agrees, relative))} of {len(relative)} agree within {AGREEMENT:.0%}"
    )
    products = [
        median(c.second["calibration_before_ns"]) / median(c.first["calibration_before_ns"])
        for c in changes
        if c.first and c.second
        if c.first["calibration_before_ns"] and c.second["calibration_before_ns"]
    ]
    if products:
        notes.append(
            "the fixed product that is timed before each case, second over first: "
            f"{median(products):.2f}x in the median, {min(products):.2f} to {max(products):.2f}"
        )
    return notes
