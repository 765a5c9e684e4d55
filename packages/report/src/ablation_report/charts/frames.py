"""What the frames behind the charts share: whose a row is, its order, its time, ratio and unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ablation_report.run import FORWARD, LEAGUE, Comparison, Row, Run, detail
from ablation_report.series import short_case
from ablation_report.stats import Interval, is_too_noisy, median
from ablation_report.tables.layout import status_text, threads_text

Schema = Mapping[str, pl.DataType | type[pl.DataType]]

IDENTITY: Schema = dict.fromkeys(
    (
        *("case", "phase", "variant", "printed_name", "published_name", "group", "origin"),
        *("status", "reason"),
    ),
    pl.String,
)
RATIO: Schema = {
    **dict.fromkeys(("ratio", "ratio_low", "ratio_high", "floor"), pl.Float64),
    "n_rounds": pl.Int64,
    "verdict": pl.String,
}
TIME_MS: Schema = dict.fromkeys(("time_ms", "low_ms", "high_ms"), pl.Float64)


@dataclass(frozen=True)
class TimeUnit:
    """A unit of time: how columns and axes write it, and its nanoseconds."""

    suffix: str
    symbol: str
    ns: float


MICROSECONDS, MILLISECONDS = TimeUnit("us", "µs", 1e3), TimeUnit("ms", "ms", 1e6)
UNITS = (MICROSECONDS, MILLISECONDS, TimeUnit("s", "s", 1e9))


def unit_for(run: Run, case: str) -> TimeUnit:
    """Return the largest unit in which a typical time of the case is at least 1."""
    times = [time.value for row in run.by_case.get(case, ()) if (time := run.time(row))]
    typical = median(times) if times else 0.0
    return next((unit for unit in reversed(UNITS) if typical >= unit.ns), UNITS[0])


def frame_of(rows: Sequence[Mapping[str, Any]], schema: Schema) -> pl.DataFrame:
    """Return rows as a frame of these columns; what a row lacks is null."""
    return pl.DataFrame(rows, schema=dict(schema), orient="row")


def case_name(row: Row) -> str:
    """Return the case of a row without what its tier has in common; the label where that is all."""
    return short_case(row) or str(row["case"])


def case_names(run: Run) -> dict[str, str]:
    """Return a name for each case of a run, in order; those that share one have their threads too,
    or their labels where that does not tell them apart."""
    first = {case: rows[0] for case, rows in run.by_case.items()}
    names = {case: case_name(row) for case, row in first.items()}
    for case in _shared(names):
        names[case] += threads_end(first[case])
    for case in _shared(names):
        names[case] = case
    return names


def _shared(names: Mapping[str, str]) -> list[str]:
    counts = Counter(names.values())
    return [case for case, name in names.items() if counts[name] > 1]


def threads_end(row: Row) -> str:
    """Write the threads of a row as the end of a title; nothing where they are not known."""
    return "" if row["threads"] is None else f", {threads_text(row['threads'])}"


def main_phase(run: Run) -> str:
    """Return the phase that the charts of a ladder are of: the forward, or the first that ran."""
    phases = dict.fromkeys(row["phase"] for row in run.rows)
    return FORWARD if FORWARD in phases else next(iter(phases), FORWARD)


def rungs(run: Run, case: str) -> list[Row]:
    """Return the rows of the main phase of a case in the order of the table, the league last."""
    phase = main_phase(run)
    rows = [row for row in run.by_case.get(case, ()) if row["phase"] == phase]
    return sorted(rows, key=lambda row: row["group"] == LEAGUE)


def variant_rows(run: Run) -> dict[str, Row]:
    """Return a row of each variant of a run, in the order of the table, the league last."""
    listed = {name: index for index, name in enumerate(run.header.get("variants", ()))}
    found: dict[str, Row] = {}
    for case in run.cases:
        for row in rungs(run, case):
            found.setdefault(row["variant"], row)

    def place(row: Row) -> tuple[bool, int]:
        return row["group"] == LEAGUE, listed.get(row["variant"], len(listed))

    return {row["variant"]: row for row in sorted(found.values(), key=place)}


def identity(row: Row, case: str | None = None) -> dict[str, Any]:
    """Return the columns that say whose a row is, with the name of its case among those of its run;
    the status has its reason with it."""
    names = ("phase", "variant", "printed_name", "published_name", "group", "origin")
    return {
        "case": case or case_name(row),
        **{name: row[name] for name in names},
        "status": status_text(row),
        "reason": row["reason_text"],
    }


def ends(interval: Interval | None, scale: float = 1.0) -> tuple[float | None, float | None]:
    """Return the ends of an interval over `scale`; a single value has none."""
    if interval is None or interval.width is None:
        return None, None
    return interval.low / scale, interval.high / scale


def time_columns(time: Interval | None, unit: TimeUnit = MILLISECONDS) -> dict[str, float | None]:
    """Return a time and the ends of its interval, as time_ms, low_ms and high_ms or in another
    unit; empty without a time."""
    if time is None:
        return {}
    values = (time.value / unit.ns, *ends(time, unit.ns))
    names = ("time", "low", "high")
    return {f"{name}_{unit.suffix}": value for name, value in zip(names, values, strict=True)}


def memory_of(row: Row) -> int | None:
    """Return the bytes of one call at its highest, or those that were published as its memory."""
    found: int | None = row["memory"]["peak"] or detail(row, "published_memory_bytes")
    return found


def ratio_columns(comparison: Comparison | None) -> dict[str, Any]:
    """Return the columns of `RATIO`; empty without a comparison."""
    if comparison is None:
        return {}
    low, high = ends(comparison.ratio)
    return {
        "ratio": comparison.ratio.value,
        "ratio_low": low,
        "ratio_high": high,
        "floor": comparison.floor,
        "n_rounds": comparison.ratio.n,
        "verdict": comparison.verdict,
    }


def why_no_time(run: Run, case: str | None = None) -> str | None:
    """Say why a case, or a whole run, has nothing to draw; None where there is a time."""
    rows = run.rows if case is None else run.by_case.get(case, ())
    where = run.label if case is None else case_names(run).get(case, case)
    if not rows:
        return f"{where} was not measured."
    if any(run.time(row) for row in rows):
        return None
    counts = Counter(row["status"] for row in rows)
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"No time was measured at {where}: {said}."


def floor_note(run: Run, case: str) -> str:
    """Say what two times of a case must differ by, or that it is not known."""
    floor = run.floor(case)
    if run.is_published:
        return f"One figure a variant: differences within {floor:.0%} are not resolved"
    if floor is None:
        return "No A/A pair: the noise is not known, nothing is resolved"
    return f"Noise floor {floor:.1%}" + (", too noisy to compare" if is_too_noisy(floor) else "")


def floor_notes(run: Run) -> list[str]:
    """Name the cases of a run in which nothing is resolved, or too noisy to compare."""
    names = case_names(run)
    without = [name for case, name in names.items() if run.floor(case) is None]
    noisy = [name for case, name in names.items() if is_too_noisy(run.floor(case))]
    notes = []
    if without:
        notes.append(f"No A/A pair, so that nothing is resolved: {', '.join(without)}")
    if noisy:
        notes.append(f"Too noisy to compare: {', '.join(noisy)}")
    return notes
