"""How findings write: figures with two significant digits, and cases by what is said of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from ablation_report.findings.base import OutcomeVerdict
from ablation_report.run import Comparison, Row, Run
from ablation_report.series import short_case
from ablation_report.stats import Verdict

# The order in which a reader asks for them.
_SAID: dict[Verdict, str] = {
    "faster": "faster at",
    "slower": "slower at",
    "same": "the same at",
    "not resolved": "not resolved at",
}
_MARKS: dict[Verdict, str] = {"faster": "", "slower": "", "same": " =", "not resolved": " ~"}
MARKS_NOTE = "~ not resolved; = the same within the practical margin"
# From here to its reciprocal, two digits of a ratio would leave one of its distance from 1.
NEAR = 0.9
# Below a tenth of a percent a second digit would be noise itself.
_SMALLEST_PERCENT = 0.1
# A sentence that lists more than this is a table.
MOST_LISTED = 4


def two_digits(value: float) -> str:
    """Write a number with two significant digits, without an exponent."""
    rounded = float(f"{value:.1e}")
    if rounded == 0:
        return "0"
    return f"{rounded:.{max(0, 1 - math.floor(math.log10(abs(rounded))))}f}"


def times(ratio: float) -> str:
    """Write a ratio: 7.2x, and near 1 with a digit more."""
    return f"{ratio:.2f}x" if NEAR < ratio < 1 / NEAR else f"{two_digits(ratio)}x"


def percent(part: float) -> str:
    """Write a part of a whole in percent: 62%."""
    return f"{two_digits(100 * part)}%"


def change(ratio: float) -> str:
    """Write a ratio of times as a change in percent: +4.4%, -12%."""
    part = 100 * (ratio - 1)
    if abs(part) < _SMALLEST_PERCENT:
        return f"{part:+.1f}%".replace("+0.0", "0.0").replace("-0.0", "0.0")
    return f"{'+' if part > 0 else '-'}{two_digits(abs(part))}%"


def counted(number: int, what: str) -> str:
    """Write a number of things: 1 thread, 2 threads."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """Write a list: Toy, Small and Medium."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def ranged(
    figures: Mapping[str, float], write: Callable[[float], str] = times, word: str = "cases"
) -> str:
    """Write the figure of each case, or of many the smallest and the largest, with their names."""
    if len(figures) <= MOST_LISTED:
        return ", ".join(f"{write(value)} ({name})" for name, value in figures.items())
    low, high = (choose(figures, key=lambda name: figures[name]) for choose in (min, max))
    return (
        f"{len(figures)} {word}, from {write(figures[low])} ({low}) to {write(figures[high])} "
        f"({high})"
    )


def placed(
    cases: Iterable[str], verdicts: Iterable[OutcomeVerdict], words: Mapping[OutcomeVerdict, str]
) -> list[str]:
    """Group cases by what a part of a claim comes to: inside at Toy, outside at Small."""
    groups: dict[OutcomeVerdict, list[str]] = {}
    for case, verdict in zip(cases, verdicts, strict=True):
        groups.setdefault(verdict, []).append(case)
    return [f"{words[verdict]} {listed(group)}" for verdict, group in groups.items()]


def name_of(run: Run, variant: str) -> str:
    """Write the name of a variant as tables print it, quoted."""
    return f'"{run.printed(variant)}"'


def place_of(run: Run, row: Row) -> str:
    """Write the case of a row in words, with its threads where its name does not settle them."""
    words = short_case(row)
    if row["threads"] is None:
        return words
    is_settled = "config" in row["sizes"] and len(run.header.get("threads") or ()) < 2
    return words if is_settled else f"{words}, {counted(row['threads'], 'thread')}"


def case_name(run: Run, case: str) -> str:
    """Write a case in words; one that has no row as it is called."""
    rows = run.by_case.get(case)
    return place_of(run, rows[0]) if rows else case


def time_change(comparison: Comparison) -> str:
    """Write by how much the variant's time differs from that of its base."""
    return change(comparison.ratio.value)


def ratio_text(comparison: Comparison) -> str:
    """Write the variant's time over that of its base."""
    return times(comparison.ratio.value)


def marked(comparison: Comparison | None) -> str:
    """Write the ratio of a comparison into a table, marked as `MARKS_NOTE` says."""
    if comparison is None:
        return "-"
    return f"{comparison.ratio.value:.2f}x{_MARKS[comparison.verdict]}"


def said(
    run: Run,
    comparisons: Iterable[Comparison],
    write: Callable[[Comparison], str] = time_change,
) -> str:
    """Group cases by verdict, each with a figure: faster at Toy (-12%); not resolved at ..."""
    groups: dict[Verdict, list[str]] = {verdict: [] for verdict in _SAID}
    for comparison in comparisons:
        text = f"{place_of(run, comparison.row)} ({write(comparison)})"
        groups[comparison.verdict].append(text)
    return "; ".join(f"{_SAID[key]} {', '.join(group)}" for key, group in groups.items() if group)
