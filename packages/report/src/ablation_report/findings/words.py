"""How findings write: figures with two significant digits, and configs by what is said of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

from ablation_report.findings.base import OutcomeVerdict
from ablation_report.metrics import Verdict
from ablation_report.sources import Comparison, Source

# A change is told in the order in which a reader asks for it
_SAID: dict[Verdict, str] = {
    "faster": "faster at",
    "slower": "slower at",
    "same": "the same at",
    "not resolved": "not resolved at",
}
_MARKS: dict[Verdict, str] = {"faster": "", "slower": "", "same": " =", "not resolved": " ~"}
MARKS_NOTE = "~ not resolved from 1; = the same within the noise floor"
# From here to its reciprocal, two digits of a ratio would leave one of its distance from 1
NEAR = 0.9
# Below a tenth of a percent a second digit would be noise itself
_SMALLEST_PERCENT = 0.1


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


def placed(
    configs: Iterable[str], verdicts: Iterable[OutcomeVerdict], words: Mapping[OutcomeVerdict, str]
) -> list[str]:
    """Group configs by what a part of a claim comes to: inside at Toy, outside at Small."""
    groups: dict[OutcomeVerdict, list[str]] = {}
    for config, verdict in zip(configs, verdicts, strict=True):
        groups.setdefault(verdict, []).append(config)
    return [f"{words[verdict]} {listed(group)}" for verdict, group in groups.items()]


def name_of(source: Source, variant: str) -> str:
    """Write the name of a variant as tables print it, quoted."""
    return f'"{source.printed(variant)}"'


def time_change(comparison: Comparison) -> str:
    """Write by how much the variant's time differs from that of its base."""
    return change(comparison.ratio.median)


def speed_up(comparison: Comparison) -> str:
    """Write how many times the variant's time the base takes."""
    return times(1 / comparison.ratio.median)


def marked(comparison: Comparison | None) -> str:
    """Write the ratio of a comparison into a table, marked as `MARKS_NOTE` says."""
    if comparison is None:
        return "-"
    return f"{comparison.ratio.median:.2f}x{_MARKS[comparison.verdict]}"


def said(
    comparisons: Iterable[Comparison], write: Callable[[Comparison], str] = time_change
) -> str:
    """Group configs by verdict, each with a figure: faster at Toy (-12%); not resolved at ..."""
    groups: dict[Verdict, list[str]] = {verdict: [] for verdict in _SAID}
    for comparison in comparisons:
        groups[comparison.verdict].append(f"{comparison.config} ({write(comparison)})")
    return "; ".join(f"{_SAID[key]} {', '.join(group)}" for key, group in groups.items() if group)
