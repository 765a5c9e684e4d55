"""Recorded runs and published figures of the further suites as tables, charts and findings see
them: a `SuiteSource` each, with a `Measure` for every case, implementation and phase."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ablation_report.escaping import visible
from ablation_report.metrics import Interval, Verdict, median, rounds_ns, rounds_ratio, verdict
from ablation_report.naming import name_of
from ablation_report.suite_rows import (
    BASELINES,
    ROWS_NAME,
    Row,
    SuiteRun,
    ceiling_of,
    peak_flops_per_s,
)

# A suite runs no program twice and so has no floor; this stands in for it
ASSUMED_FLOOR = 0.05
# Samples that vary by more than this part of their mean are noisy
NOISY_CV = 0.10


@dataclass(frozen=True)
class Timing:
    """Times of a call in ns. `kind` says what `time_ns` is: the median of samples, or for a
    published figure the mean or the one cold run that was printed. None is not known."""

    kind: str
    time_ns: float
    n: int | None = None
    p05_ns: float | None = None
    p95_ns: float | None = None
    min_ns: float | None = None
    mean_ns: float | None = None
    std_ns: float | None = None

    @property
    def cv(self) -> float | None:
        """The standard deviation over the mean."""
        if self.std_ns is None or self.mean_ns is None:
            return None
        return self.std_ns / self.mean_ns

    @property
    def is_noisy(self) -> bool | None:
        """True where samples vary by more than `NOISY_CV`."""
        return None if self.cv is None else self.cv > NOISY_CV


# Compared by identity: two rows of one content are two measurements
@dataclass(frozen=True, eq=False)
class Measure:
    """One case, implementation and phase: `row` is the recorded or published row.

    Published rows have the columns of recorded ones that are known, `path` and `line`, and
    `published_memory_bytes` where the source printed a figure of memory.
    """

    row: Row
    timing: Timing | None
    is_published: bool
    peak_flops_per_s: float | None = None
    sgemm_flops_per_s: float | None = None

    def __getitem__(self, name: str) -> Any:
        """A column of the row; KeyError for one that there is not."""
        return self.row[name]

    @property
    def time_ns(self) -> float | None:
        """The time of a call; None where there is none."""
        return self.timing.time_ns if self.timing else None

    @property
    def gflops(self) -> float | None:
        """Useful GFLOP/s, over the pairs that count."""
        return self._rate("flops_useful")

    @property
    def gflops_fa(self) -> float | None:
        """GFLOP/s by the convention of the FlashAttention papers."""
        return self._rate("flops_fa")

    @property
    def of_ceiling(self) -> float | None:
        """Share of the multiply-adds that the run measured on as many threads; float32 on a CPU."""
        return self._share(self.peak_flops_per_s)

    @property
    def of_sgemm(self) -> float | None:
        """Share of the rate of PyTorch's own product of 1024 x 1024 matrices."""
        return self._share(self.sgemm_flops_per_s)

    @property
    def error(self) -> float | None:
        """The largest error of any output, over the largest value of the reference."""
        errors = self.row["errors"]
        return max(errors.values()) if errors else None

    @property
    def mask(self) -> str:
        """The mask in a word."""
        return "causal" if self.row["causal"] else "full"

    @property
    def length(self) -> str:
        """The sequence's length, or queries x keys."""
        queries, keys = self.row["Nq"], self.row["Nk"]
        return str(keys) if queries == keys else f"{queries}x{keys}"

    def detail(self, name: str) -> Any:
        """What the suite told besides its columns; None where it did not."""
        return (self.row["details"] or {}).get(name)

    def parameter(self, name: str) -> Any:
        """A parameter of the suite's own; None where the case has none of this name."""
        return self.row["parameters"].get(name)

    def _rate(self, column: str) -> float | None:
        flops = self.row[column]
        return flops / self.timing.time_ns if flops and self.timing else None

    def _share(self, ceiling: float | None) -> float | None:
        is_known = self.row["dtype"] == "float32" and self.row["device"] == "cpu"
        # The ceilings are those of float32, which autocast leaves
        is_known = is_known and self.parameter("autocast") in (None, "none")
        if ceiling is None or self.gflops is None or not is_known:
            return None
        return self.gflops * 1e9 / ceiling


@dataclass(frozen=True)
class SuiteSource:
    """One recorded run of a suite, or what one published source says of it."""

    name: str
    suite: str
    path: Path
    header: Mapping[str, Any] | None
    measures: tuple[Measure, ...]

    @property
    def is_published(self) -> bool:
        """True for figures published elsewhere."""
        return self.header is None

    @property
    def label(self) -> str:
        """The name as pages print it."""
        return f"Published: {self.name}" if self.is_published else self.name

    @property
    def baseline(self) -> str:
        """The implementation that ratios are to."""
        return BASELINES[self.suite]

    @cached_property
    def cases(self) -> dict[str, list[Measure]]:
        """The measures of each case, in order of measuring."""
        found: dict[str, list[Measure]] = {}
        for measure in self.measures:
            found.setdefault(measure["case"], []).append(measure)
        return found

    @cached_property
    def _places(self) -> dict[tuple[str, str, str], Measure]:
        return {(m["case"], m["impl"], m["phase"]): m for m in reversed(self.measures)}

    def find(self, case: str, impl: str, phase: str) -> Measure | None:
        """The measure of a case, whatever its status; of several the first, None without one."""
        return self._places.get((case, impl, phase))

    def against(self, measure: Measure, base: str | None = None) -> Interval | None:
        """The time of a measure over that of another implementation (the suite's baseline) in its
        case; None where there is none, and for the baseline itself."""
        name = base or self.baseline
        other = self.find(measure["case"], name, measure["phase"])
        return None if other is None or other is measure else ratio_of(measure, other)


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lies, between two neighbors linearly."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def timing_of(samples: Sequence[int]) -> Timing:
    """Return what the samples of a row, in ns, come to; the standard deviation is over n - 1."""
    n = len(samples)
    mean = math.fsum(samples) / n
    variance = math.fsum((sample - mean) ** 2 for sample in samples) / (n - 1) if n > 1 else None
    return Timing(
        "median",
        median(samples),
        n,
        percentile(samples, 0.05),
        percentile(samples, 0.95),
        float(min(samples)),
        mean,
        None if variance is None else math.sqrt(variance),
    )


def ratio_of(measure: Measure, base: Measure) -> Interval | None:
    """Return the time of a measure over that of another of the same source.

    Paired by round where both ran in the same rounds; otherwise the quotient of both times with
    n = 1, which resolves nothing. None where one has no time.
    """
    first, second = measure.time_ns, base.time_ns
    if first is None or second is None:
        return None
    if not measure.is_published and _share_rounds(measure, base):
        paired = rounds_ratio(measure.row, base.row)
        if paired is not None:
            return paired
    quotient = first / second
    return Interval(quotient, quotient, quotient, 1)


def _share_rounds(measure: Measure, base: Measure) -> bool:
    is_one_session = measure["session"] == base["session"]
    return bool(is_one_session and measure["interleaved"] and base["interleaved"])


def said_of(ratio: Interval | None) -> Verdict:
    """Say faster, slower, same or not resolved of a ratio, beyond the floor that is assumed."""
    return verdict(ratio, ASSUMED_FLOOR)


def n_rounds(measure: Measure) -> int:
    """Return in how many rounds a recorded row was sampled."""
    return len(rounds_ns(measure.row)) if measure.row["samples_ns"] else 0


def recorded_source(run: SuiteRun) -> SuiteSource:
    """Return a recorded run as a source."""
    header = run.header
    measures = []
    for line, row in enumerate(run.rows, start=1):
        placed = {**row, "path": visible(run.path / ROWS_NAME), "line": line}
        timing = timing_of(row["samples_ns"]) if row["status"] == "ok" else None
        peak = peak_flops_per_s(header, row["threads"])
        sgemm = ceiling_of(header, row["threads"], "sgemm_1024_flops_per_s")
        measures.append(Measure(placed, timing, False, peak, sgemm))
    return SuiteSource(name_of(run.path), header["suite"], run.path, header, tuple(measures))
