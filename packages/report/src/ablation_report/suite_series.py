"""What several cases of a suite say together: growth over the length, and means over cases."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ablation_report.fit import slope
from ablation_report.means import GeometricMean, geometric_mean
from ablation_report.suite_sources import Measure, SuiteSource

# Shorter calls are start-up as much as work
MIN_LENGTH = 1024
# What most cases of a suite have, and is not repeated in each name
USUAL = {"autocast": "none", "inputs": "randn", "softmax": "safe", "scale": 1}


@dataclass(frozen=True)
class Series:
    """The measures of one implementation and phase that differ in length alone, shortest first."""

    impl: str
    phase: str
    where: str
    measures: tuple[Measure, ...]

    def exponent(self, value: Callable[[Measure], float | None]) -> float | None:
        """The power of the length with which a value grows, fitted over N of 1024 and more; None
        without two lengths that have it."""
        return slope(self.points(value))

    def points(self, value: Callable[[Measure], float | None]) -> list[tuple[float, float]]:
        """Length and value of each measure of N of 1024 and more that has one."""
        return [
            (measure["Nk"], found)
            for measure in self.measures
            if measure["Nk"] >= MIN_LENGTH and (found := value(measure))
        ]

    @property
    def first_oom(self) -> Measure | None:
        """The shortest length that did not fit into memory."""
        return next((m for m in self.measures if m["status"] == "oom"), None)


def series_of(source: SuiteSource) -> list[Series]:
    """Group the square cases of a source by what they have in common besides the length.

    Of a tier's measures of one length (a published case that was run twice) the first counts.
    """
    groups: dict[tuple[str, str, str, str], dict[int, Measure]] = {}
    for measure in source.measures:
        if measure["Nq"] == measure["Nk"]:
            # The words leave out what is usual
            parameters = str(sorted(measure["parameters"].items()))
            key = (measure["impl"], measure["phase"], where(measure), parameters)
            groups.setdefault(key, {}).setdefault(measure["Nk"], measure)
    return [
        Series(impl, phase, words, tuple(found[length] for length in sorted(found)))
        for (impl, phase, words, _), found in groups.items()
    ]


def where(measure: Measure) -> str:
    """Write what a case has besides its length: tier, mask, batch, heads, head size, type."""
    words = [
        str(measure["tier"]),
        measure.mask,
        f"B{measure['B']} H{measure['H']} d{measure['d']}",
        str(measure["dtype"]),
    ]
    if measure["threads"] is not None:
        words.append("1 thread" if measure["threads"] == 1 else f"{measure['threads']} threads")
    return ", ".join([*words, *_parameter_words(measure)])


def mean_ratios(
    source: SuiteSource, measures: Iterable[Measure]
) -> dict[tuple[str, str], GeometricMean]:
    """Return for each implementation and phase the geometric mean of its time over that of the
    baseline, over the cases of these measures; a case without a ratio is missing."""
    groups: dict[tuple[str, str], dict[str, float | None]] = {}
    for measure in measures:
        if measure["impl"] == source.baseline:
            continue
        ratio = source.against(measure)
        key = (measure["impl"], measure["phase"])
        name = f"{short_case(measure)} ({measure['status']})" if ratio is None else measure["case"]
        groups.setdefault(key, {})[name] = ratio.median if ratio else None
    return {key: geometric_mean(ratios) for key, ratios in groups.items()}


def short_case(measure: Measure) -> str:
    """Write a case without what its tier has in common: mask, length, batch, heads, head size."""
    words = [
        measure.mask,
        f"N {measure.length}",
        f"B{measure['B']} H{measure['H']} d{measure['d']}",
    ]
    if measure["dtype"] != "float32":
        words.append(str(measure["dtype"]))
    return ", ".join([*words, *_parameter_words(measure)])


def _parameter_words(measure: Measure) -> list[str]:
    """Write what a suite's own parameters say; what is usual is left out, and widths where they
    have a name."""
    left = {k: v for k, v in measure["parameters"].items() if USUAL.get(k) != v}
    if "size" in left:
        left = {k: v for k, v in left.items() if k not in ("layers", "d_ff", "vocab", "table_year")}
    words = [str(left.pop("size"))] if "size" in left else []
    if "layers" in left:
        words.append(f"{left.pop('layers')} layers")
        left.pop("d_ff", None)
        left.pop("vocab", None)
    if "block_q" in left and "block_k" in left:
        words.append(f"tile {left.pop('block_q')}x{left.pop('block_k')}")
    return [*words, *(_written(name, value) for name, value in sorted(left.items()))]


def _written(name: str, value: object) -> str:
    words = {"study_warmup": "calls before", "inputs": "inputs", "softmax": "softmax"}
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"{words.get(name, name)} {text}"
