"""The tables of any suite: all rows by tier and threads, growth over the length, and means."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ablation_report.rows import is_float32
from ablation_report.run import Row, Run, detail, error_of
from ablation_report.series import MIN_LENGTH, mean_ratios, series_of, short_case
from ablation_report.stats import percentile
from ablation_report.tables.block import noise_warning
from ablation_report.tables.layout import (
    NOTHING,
    Table,
    duration,
    interval_text,
    marked,
    mib,
    number,
    percent,
    status_text,
    tier_title,
)

LEGEND = (
    "Time: first quartile over rounds of each round's least sample; of a published row the",
    "printed mean or cold run. Median: over rounds, of each round's median. p05, p95: 5th and",
    "95th percentiles of the samples. Mean ± std, Min: of the samples. noisy: the time's interval",
    "is wider than 5% of it. GFLOP/s: useful, over the pairs of query and key that count. FA: by",
    "the convention of the FlashAttention papers. of ceiling, of sgemm: share of the",
    "multiply-adds, and of PyTorch's product of 1024 x 1024, that the run measured on as many",
    "threads. over BASELINE: time over that of the baseline in the same rounds, with its 95%",
    "interval; ~ not resolved. Peak: bytes that one call adds, with its result; * two methods",
    "disagree. Error: the largest of any output against float64, over the largest value. lowered",
    "to SDPA: the compiler replaced the attention by PyTorch's SDPA.",
)
# What a narrow terminal does without, the first to go first; then the interval of the ratio.
_LEAST = (
    *("p05", "p95", "Mean ± std", "Published name", "Min", "FA", "of sgemm", "Median", "95%"),
    *("of ceiling", "Error", "Peak MiB", "GFLOP/s"),
)
# What a table has of each row that was timed, by the head of its column. A new column is a line.
Figure = Callable[[Run, Row], str]


def tier_tables(run: Run) -> list[Table]:
    """Return a table for each tier and number of threads, without columns that no row fills."""
    return [_tier_table(run, *place).without_empty() for place in _by_tier(run)]


def _tier_table(run: Run, tier: str, threads: int | None) -> Table:
    """Lay out the rows of a tier, a group for each case."""
    figures = {**FIGURES, f"over {run.baseline}": _ratio, "95%": _interval}
    header = ("Variant", "Published name", "Phase", *figures, *LAST, "Status")
    groups: dict[str, list[list[str]]] = {}
    notes: dict[str, None] = {}
    warnings: dict[str, None] = {}
    for case, rows in run.by_case.items():
        if (rows[0]["tier"], rows[0]["threads"]) != (tier, threads):
            continue
        name = short_case(rows[0])
        lines = groups.setdefault(_group(run, case, name), [])
        for row in rows:
            lines.append(_line(run, row, {**figures, **LAST}))
            if row["status"] != "ok" and row["reason_text"]:
                notes[f"{row['printed_name']}: {row['status']}, {row['reason_text']}"] = None
        if warning := noise_warning(run.floor(case), name):
            warnings[warning] = None
    if run.header.get("assumed_floor") and not run.is_published:
        notes[f"Noise floor {percent(run.header['assumed_floor'])} assumed"] = None
    title = tier_title(run, tier, threads)
    return Table(title, header, list(groups.items()), list(notes), list(warnings), _LEAST)


def _group(run: Run, case: str, name: str) -> str:
    """Name a case with its floor, where a program ran twice."""
    return f"{name}; floor {percent(run.floor(case))}" if run.twin_ratios(case) else name


def _line(run: Run, row: Row, figures: Mapping[str, Figure]) -> list[str]:
    name = [row["printed_name"], row["published_name"] or NOTHING, row["phase"]]
    if run.time(row) is None:
        error = _error(run, row) if row["status"] == "incorrect" else NOTHING
        shown = (error if head == "Error" else NOTHING for head in figures)
        return [*name, *shown, status_text(row)]
    return [*name, *(figure(run, row) for figure in figures.values()), _remarks(run, row)]


def _remarks(run: Run, row: Row) -> str:
    """Write the noise of a time, and what a compiler made of the program."""
    time = run.time(row)
    remarks = ["noisy"] if time and time.is_noisy else ["ok"]
    if detail(row, "lowered_to_sdpa"):
        remarks.append("lowered to SDPA")
    if detail(row, "graph_breaks"):
        remarks.append(f"{detail(row, 'graph_breaks')} graph breaks")
    if detail(row, "recompiles_timed"):
        remarks.append(f"{detail(row, 'recompiles_timed')} recompilations while timed")
    return ", ".join(remarks)


def _time(run: Run, row: Row) -> str:
    time = run.time(row)
    return duration(time.value if time else None)


def _percentile(share: float) -> Figure:
    def write(run: Run, row: Row) -> str:
        return NOTHING if run.is_published else duration(percentile(row["samples_ns"], share))

    return write


def _mean(run: Run, row: Row) -> str:
    """Write the mean of the samples with their standard deviation, over n - 1."""
    if run.is_published:
        mean, std = detail(row, "mean_ns"), detail(row, "std_ns")
    else:
        mean, std = mean_std(row["samples_ns"])
    return duration(mean) + ("" if std is None else f" ± {duration(std)}")


def mean_std(samples: Sequence[int]) -> tuple[float, float | None]:
    """Return the mean of samples, and their standard deviation over n - 1; None of a single one."""
    n, mean = len(samples), math.fsum(samples) / len(samples)
    if n < 2:
        return mean, None
    return mean, math.sqrt(math.fsum((sample - mean) ** 2 for sample in samples) / (n - 1))


def _least(run: Run, row: Row) -> str:
    return duration(detail(row, "min_ns") if run.is_published else min(row["samples_ns"]))


def of_sgemm(run: Run, row: Row) -> float | None:
    """Return the share of the rate of PyTorch's own product that the run measured on as many
    threads; None for what is no float32 on a CPU."""
    rates: Mapping[str, Any] = run.ceilings.get(str(row["threads"])) or {}
    most, rate = rates.get("sgemm_1024_flops_per_s"), run.gflops(row)
    return rate * 1e9 / most if most and rate and is_float32(row) else None


def _ratio(run: Run, row: Row) -> str:
    return NOTHING if row["variant"] == run.baseline else marked(run.compare(row, run.baseline))


def _interval(run: Run, row: Row) -> str:
    compared = None if row["variant"] == run.baseline else run.compare(row, run.baseline)
    return interval_text(compared.ratio if compared else None)


def _peak(run: Run, row: Row) -> str:
    peak = row["memory"]["peak"]
    return mib(peak) + ("*" if peak is not None and row["memory"]["disagree"] else "")


def _error(run: Run, row: Row) -> str:
    error = error_of(row)
    return NOTHING if error is None else f"{error:.1e}"


FIGURES: Mapping[str, Figure] = {
    "Time": _time,
    "Median": lambda run, row: NOTHING if run.is_published else duration(run.median(row)),
    "p05": _percentile(0.05),
    "p95": _percentile(0.95),
    "Mean ± std": _mean,
    "Min": _least,
    "GFLOP/s": lambda run, row: number(run.gflops(row)),
    "FA": lambda run, row: number(run.gflops(row, convention=True)),
    "of ceiling": lambda run, row: percent(run.of_ceiling(row), digits=0),
    "of sgemm": lambda run, row: percent(of_sgemm(run, row), digits=0),
}
LAST: Mapping[str, Figure] = {"Peak MiB": _peak, "Error": _error}


def _by_tier(run: Run) -> dict[tuple[str, int | None], list[Row]]:
    """The rows of each tier and number of threads, in order of measuring."""
    found: dict[tuple[str, int | None], list[Row]] = {}
    for row in run.rows:
        found.setdefault((row["tier"], row["threads"]), []).append(row)
    return found


def growth_table(run: Run) -> Table:
    """Lay out the powers of the length with which time and memory grow, and the first OOM."""
    rows = []
    for series in series_of(run):
        time = series.exponent(lambda row: t.value if (t := run.time(row)) else None)
        peak = series.exponent(lambda row: row["memory"]["peak"])
        saved = series.exponent(lambda row: row["memory"]["saved"])
        oom = series.first_oom
        if (time, peak, saved, oom) != (None,) * 4:
            figures = [NOTHING if f is None else f"{f:.2f}" for f in (time, peak, saved)]
            first = f"{oom['sizes']['Nk']} ({oom['reason']})" if oom else NOTHING
            name = run.printed(series.variant)
            rows.append([name, series.phase, series.where, *figures, first])
    header = ("Variant", "Phase", "Cases", "Time", "Peak memory", "Saved", "First OOM at N")
    note = f"Powers of N, fitted over two or more lengths N of {MIN_LENGTH} or more"
    return Table("Growth over the length", header, [("", rows)], [note], least=["Saved"])


def mean_table(run: Run) -> Table:
    """Lay out the geometric mean of each variant's time over that of the baseline, by tier and
    number of threads, with the cases that it lacks."""
    groups = []
    for (tier, threads), measured in _by_tier(run).items():
        rows = []
        for (variant, phase), mean in mean_ratios(run, measured).items():
            if mean.value is not None:
                figures = [mean.value_text(), str(mean.n), str(len(mean.missing))]
                missing = "; ".join(mean.missing) or NOTHING
                rows.append([run.printed(variant), phase, *figures, missing])
        if rows:
            groups.append((tier_title(run, tier, threads), rows))
    header = ("Variant", "Phase", f"over {run.baseline}", "n", "missing", "Missing cases")
    title = f"Geometric means of time over that of {run.baseline}"
    return Table(title, header, groups, least=["Missing cases"])
