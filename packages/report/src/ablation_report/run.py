"""A recorded run or published file of any suite, as tables, findings, charts and pages see it.

A `Run` answers for a case, a variant and a phase: the time, the ratio to another variant, the noise
floor, the verdict. Every figure is defined in `stats`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ablation_report.rows import is_float32, is_nominal, peak_flops_per_s
from ablation_report.stats import (
    BUSY_SHARE,
    MOST_NOISY,
    Interval,
    Verdict,
    floor_of,
    median_time,
    quartile_interval,
    ratio_interval,
    round_times,
    verdict,
)

BLOCK = "block"
FORWARD = "fwd"
# Roles in the block's ladder; every other variant is known by its row alone.
NAIVE, SDPA, DEFAULT = "torch-naive", "torch-sdpa", "beyond-default"
LEAGUE = "League"
# A published figure has no interval. Two of them differ from this difference on: several
# times the floor of a quiet run, and above the rounding of three digits.
PUBLISHED_FLOOR = 0.05

# The columns of `rows`, and `path` and `line` of the file that the row stands in.
Row = Mapping[str, Any]
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Comparison:
    """The time of one row over that of another of its case and phase, and what may be said of it.

    `ratio` is of common rounds; of rows that share no round it is a single quotient, n = 1. `floor`
    is that of the case, None where no program ran twice.
    """

    row: Row
    base: Row
    ratio: Interval
    floor: float | None
    verdict: Verdict

    @property
    def case(self) -> str:
        """The label of the case."""
        return str(self.row["case"])

    @property
    def variant(self) -> str:
        """The variant whose time is divided."""
        return str(self.row["variant"])

    @property
    def base_variant(self) -> str:
        """The variant that it is divided by."""
        return str(self.base["variant"])

    @property
    def is_resolved(self) -> bool:
        """True where the times differ, or are the same, beyond noise."""
        return self.verdict != "not resolved"


@dataclass(frozen=True)
class Run:
    """One recorded run, or what one published source says of a suite.

    `header` has the columns of `rows.HEADER_COLUMNS`; of a published source only what is known:
    suite, baseline, twins, device. Rows of published sources have the columns of recorded ones,
    one sample, and under `details` how it was taken (`time_kind`).
    """

    name: str
    path: Path
    header: Mapping[str, Any]
    rows: tuple[Row, ...] = field(repr=False)
    is_published: bool = False

    @property
    def label(self) -> str:
        """What headlines call it: its name, and that it was published where it was."""
        return f"Published: {self.name}" if self.is_published else self.name

    @property
    def suite(self) -> str:
        """The suite that measured it."""
        return str(self.header["suite"])

    @property
    def baseline(self) -> str:
        """The variant that ratios are to."""
        return str(self.header["baseline"])

    @property
    def twins(self) -> tuple[tuple[str, str], ...]:
        """Pairs of variants that are one program: what their times differ by is noise."""
        return tuple((first, second) for first, second in self.header["twins"])

    @cached_property
    def noisy_times(self) -> tuple[int, int]:
        """How many times are noisy, and how many have an interval."""
        flags = [t.is_noisy for row in self.rows if (t := self.time(row)) is not None]
        known = [flag for flag in flags if flag is not None]
        return sum(known), len(known)

    @cached_property
    def open_ratios(self) -> tuple[int, int]:
        """How many ratios to the baseline are not resolved, and how many there are; without those
        of the baseline's own twins."""
        same = {name for pair in self.twins if self.baseline in pair for name in pair}
        rows = (row for row in self.rows if row["variant"] not in {self.baseline, *same})
        found = [each for row in rows if (each := self.compare(row, self.baseline)) is not None]
        return sum(not each.is_resolved for each in found), len(found)

    @property
    def is_too_noisy(self) -> bool:
        """True where at least half of the times are noisy, and at least half of the ratios to the
        baseline are not resolved: the run is not to be used."""
        noisy, timed = self.noisy_times
        if not timed or noisy < MOST_NOISY * timed:
            return False
        n_open, n_compared = self.open_ratios
        return n_open >= MOST_NOISY * n_compared

    @property
    def busy_share(self) -> float | None:
        """The largest share of the processors that other programs used before a case; None where
        no session recorded it."""
        entries = (self.header.get("machine") or {}).get("conditions")
        found = [
            entry.get("busy_share")
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, dict)
        ]
        return max((share for share in found if isinstance(share, (int, float))), default=None)

    @property
    def is_disturbed(self) -> bool:
        """True where other programs used a tenth of the processors or more before a case: its times
        are not those of a free machine, however steady they are."""
        return (self.busy_share or 0.0) >= BUSY_SHARE

    @property
    def ceilings(self) -> Mapping[str, Any]:
        """What the machine does at most, by number of threads; empty where nothing was measured or
        the run's own rows refute it."""
        return self.header.get("ceilings") or {}

    @cached_property
    def by_case(self) -> Mapping[str, tuple[Row, ...]]:
        """The rows of each case: cases as listed in the header, rows in the order of the table."""
        order = {name: index for index, name in enumerate(self.header.get("variants", ()))}
        found: dict[str, list[Row]] = {
            label: [] for label in self.header.get("cases", ()) if label in self._labels
        }
        for row in self.rows:
            found.setdefault(row["case"], []).append(row)
        for rows in found.values():
            rows.sort(key=lambda row: order.get(row["variant"], len(order)))
        return {label: tuple(rows) for label, rows in found.items()}

    @cached_property
    def _labels(self) -> set[str]:
        return {row["case"] for row in self.rows}

    @property
    def cases(self) -> tuple[str, ...]:
        """The labels of the cases that have a row."""
        return tuple(self.by_case)

    @cached_property
    def _places(self) -> Mapping[Key, Row]:
        places = reversed(self.rows)
        return {(row["case"], row["variant"], row["phase"]): row for row in places}

    def row(self, case: str, variant: str | None, phase: str = FORWARD) -> Row | None:
        """Return a row, whatever its status; of several the first, None without one."""
        return self._places.get((case, variant or "", phase))

    def variants(self, case: str) -> tuple[str, ...]:
        """Return the variants that have a row in a case, in the order of the table."""
        return tuple(dict.fromkeys(row["variant"] for row in self.by_case.get(case, ())))

    def printed(self, variant: str) -> str:
        """Return the name of a variant as tables print it."""
        return self._printed.get(variant, variant)

    @cached_property
    def _printed(self) -> Mapping[str, str]:
        return {row["variant"]: row["printed_name"] for row in self.rows}

    def select(
        self, wanted: Callable[[Row], bool] = lambda row: True, *, timed: bool = False
    ) -> list[Row]:
        """Return the rows that are wanted, in order of measuring; `timed` those with a time."""
        return [row for row in self.rows if wanted(row) and (not timed or self.time(row))]

    def round_times(self, row: Row | None) -> dict[int, float]:
        """Return the nanoseconds of a row by round; empty without a time."""
        return {} if row is None or not row["samples_ns"] else self._timed(row)[1]

    def time(self, row: Row | None) -> Interval | None:
        """Return the nanoseconds of a call with their interval; None where there is no time."""
        return None if row is None or not row["samples_ns"] else self._timed(row)[2]

    def median(self, row: Row | None) -> float | None:
        """Return the median nanoseconds of a call, a second figure next to `time`; None where there
        is no time."""
        if row is None or not row["samples_ns"]:
            return None
        return median_time(row["samples_ns"], row["sample_rounds"])

    def _timed(self, row: Row) -> tuple[Row, dict[int, float], Interval]:
        """Compute the times of a row once: a row is asked for hundreds of times."""
        known = self._times.get(id(row))
        if known is None:
            times = round_times(row["samples_ns"], row["sample_rounds"])
            # With the row itself, so that no other one can have its identity.
            known = self._times[id(row)] = row, times, quartile_interval(list(times.values()))
        return known

    @cached_property
    def _times(self) -> dict[int, tuple[Row, dict[int, float], Interval]]:
        return {}

    def ratio(self, row: Row | None, base: Row | None) -> Interval | None:
        """Return the time of a row over that of another of its case; None where one has no time.

        Of their common rounds where they took turns; otherwise the quotient of both times with
        n = 1, which resolves nothing.
        """
        times, bases = self.round_times(row), self.round_times(base)
        if row is None or base is None or not times or not bases:
            return None
        if row["session"] == base["session"] and row["interleaved"] and base["interleaved"]:
            ratio = ratio_interval(times, bases)
            if ratio is not None:
                return ratio
        time, other = self.time(row), self.time(base)
        if time is None or other is None or not other.value:
            return None
        quotient = time.value / other.value
        return Interval(quotient, quotient, quotient, 1)

    def twin_ratios(self, case: str) -> dict[tuple[str, str], Interval]:
        """Return the ratio of each pair of twins in a case, by the name of the first and the phase.

        A pair is left out when it has fewer than two common rounds: they say nothing of noise.
        """
        ratios = {}
        phases = dict.fromkeys(row["phase"] for row in self.by_case.get(case, ()))
        for first, second in self.twins:
            for phase in phases:
                ratio = self.ratio(self.row(case, first, phase), self.row(case, second, phase))
                if ratio is not None and ratio.n > 1:
                    ratios[first, phase] = ratio
        return ratios

    def floor(self, case: str) -> float | None:
        """Return the part by which two times of a case must differ to be called different; None
        where no program ran twice."""
        if case not in self._floors:
            if self.is_published:
                self._floors[case] = PUBLISHED_FLOOR
            else:
                found = floor_of(self.twin_ratios(case).values())
                # A run from before every suite had twins names what stands in for it.
                self._floors[case] = self.header.get("assumed_floor") if found is None else found
        return self._floors[case]

    @cached_property
    def _floors(self) -> dict[str, float | None]:
        return {}

    def compare(self, row: Row | None, base: Row | str | None) -> Comparison | None:
        """Compare a row with another of its case, or with the variant of this name in its phase.

        None where one of them has no time.
        """
        if row is not None and isinstance(base, str):
            base = self.row(row["case"], base, row["phase"])
        if row is None or base is None or isinstance(base, str):
            return None
        # A comparison keeps its rows, so that no others can have their identity.
        key = id(row), id(base)
        known = self._comparisons.get(key) or self._compare(row, base)
        if known is not None:
            self._comparisons[key] = known
        return known

    def _compare(self, row: Row, base: Row) -> Comparison | None:
        ratio = self.ratio(row, base)
        if ratio is None:
            return None
        floor = self.floor(row["case"])
        said: Verdict = verdict(ratio, floor)
        if self.is_published and abs(ratio.value - 1) > PUBLISHED_FLOOR:
            said = "faster" if ratio.value < 1 else "slower"
        return Comparison(row, base, ratio, floor, said)

    @cached_property
    def _comparisons(self) -> dict[tuple[int, int], Comparison]:
        return {}

    @cached_property
    def derived(self) -> dict[str, Any]:
        """What other modules compute of a run once, by name."""
        return {}

    def best(self, case: str, wanted: Callable[[Row], bool], phase: str = FORWARD) -> Row | None:
        """Return the row with the smallest time of those that are wanted; None without a time.

        A program that runs again as its own twin has one chance: the less of two times of one
        program is luck.
        """
        again = {second for first, second in self.twins if second == f"{first}_again"}
        times = [
            (time.value, index, row)
            for index, row in enumerate(self.by_case.get(case, ()))
            if row["phase"] == phase and row["variant"] not in again and wanted(row)
            if (time := self.time(row))
        ]
        return min(times)[2] if times else None

    def gflops(self, row: Row, convention: bool = False) -> float | None:
        """Return the useful GFLOP/s of a row, or those by the field's convention."""
        flops = row["flops_convention" if convention else "flops"]
        time = self.time(row)
        return flops / time.value if flops and time else None

    def of_ceiling(self, row: Row) -> float | None:
        """Return the share of the multiply-adds that the run measured on as many threads; None for
        what float32 on a CPU does not bound, and for a nominal rate."""
        peak = peak_flops_per_s(self.ceilings, row["threads"]) if row["threads"] else None
        rate = self.gflops(row)
        is_bound = is_float32(row) and not is_nominal(row)
        return rate * 1e9 / peak if peak and rate and is_bound else None


def layers_of(row: Row) -> int:
    """Return the blocks that a case of a config runs one after another; 1 of any other case."""
    sizes = row["sizes"]
    return int(sizes.get("layers", 1)) if "config" in sizes else 1


def batch_of(row: Row) -> int:
    """Return the sequences of a case of a config; 1 of any other case."""
    sizes = row["sizes"]
    return int(sizes.get("B", 1)) if "config" in sizes else 1


def by_layers(run: Run) -> list[Run]:
    """Return the rows of a run by the layers and the batch of their cases, fewest first: no mean is
    over two of them."""
    groups: dict[tuple[int, int], list[Row]] = {}
    for row in run.rows:
        groups.setdefault((layers_of(row), batch_of(row)), []).append(row)
    if len(groups) < 2:
        return [run]
    return [replace(run, rows=tuple(groups[key])) for key in sorted(groups)]


def is_ours(row: Row) -> bool:
    """True for a compiled program of this project that rounds as others do: one of another
    arithmetic is never compared as one of them."""
    return _is_compiled(row) and not is_other_arithmetic(row)


def _is_compiled(row: Row) -> bool:
    return bool(row["origin"] == "ablation" and row["factors"].get("executor") != "per_op")


def is_other_arithmetic(row: Row) -> bool:
    """True for a compiled program of this project whose products are not the plain ones."""
    return _is_compiled(row) and is_nominal(row)


def is_other(row: Row) -> bool:
    """True for the runtimes that a user would run instead: PyTorch as it is, and the league."""
    return row["origin"] not in ("ablation", "numpy")


def error_of(row: Row) -> float | None:
    """Return the largest error of any output; None where nothing was compared."""
    return max(row["errors"].values()) if row["errors"] else None


def detail(row: Row, name: str) -> Any:
    """Return a figure that the suite recorded in `details`; None where it did not."""
    return (row["details"] or {}).get(name)
