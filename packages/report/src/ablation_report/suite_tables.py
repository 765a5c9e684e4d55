"""Lays out a run of a further suite: every row of it by tier, growth over the length, and means."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.metrics import MIN_ROUNDS
from ablation_report.suite_series import MIN_LENGTH, mean_ratios, series_of, short_case
from ablation_report.suite_sources import Measure, SuiteSource
from ablation_report.tables import NOTHING, Table, duration

LEGEND = (
    "Time: median of the samples (of a published row the mean, or the one cold run, that was",
    "printed), with the 5th and 95th of a hundred, mean ± standard deviation, and the minimum.",
    "noisy: samples vary by more than 10%. GFLOP/s: useful, over the pairs of query and key that",
    "count; FA: by the convention of the FlashAttention papers. of ceiling, of sgemm: share of the",
    "multiply-adds and of PyTorch's product of 1024 x 1024 that the run measured on as many",
    "threads. over BASELINE: time over that of the baseline in the same rounds, with its 95%",
    "interval; ~: fewer than six common rounds, nothing is resolved. Peak: bytes of one call above",
    "what was there before, its result included; * where two ways to measure it disagree. Error:",
    "the largest of any output against float64, over the largest value there. lowered to SDPA: the",
    "compiler put PyTorch's fused attention in the place of what was written.",
)
_MIB = 2**20


def suite_tables(source: SuiteSource) -> list[Table]:
    """Return the tables of a source: one for each tier and number of threads, then growth and
    means."""
    tables = []
    for tier, threads in dict.fromkeys((m["tier"], m["threads"]) for m in source.measures):
        measures = [m for m in source.measures if (m["tier"], m["threads"]) == (tier, threads)]
        tables.append(tier_table(source, tier, threads, measures))
    return [*tables, *(table for table in (growth_table(source), mean_table(source)) if table.rows)]


def tier_title(source: SuiteSource, tier: str, threads: int | None) -> str:
    """Name a tier and its threads."""
    if threads is None:
        return f"{source.suite}: {tier}"
    return f"{source.suite}/{tier}, {threads} thread{'s' if threads > 1 else ''}"


def tier_table(
    source: SuiteSource, tier: str, threads: int | None, measures: Sequence[Measure]
) -> Table:
    """Lay out the rows of a tier, a group for each case."""
    header = (
        *("Implementation", "Published name", "Phase", "Time", "p05", "p95", "Mean ± std", "Min"),
        *("GFLOP/s", "FA", "of ceiling", "of sgemm", f"over {source.baseline}", "95%"),
        *("Peak MiB", "Error", "Status"),
    )
    groups: dict[str, list[list[str]]] = {}
    notes: dict[str, None] = {}
    for measure in measures:
        groups.setdefault(short_case(measure), []).append(_row(source, measure))
        if measure["status"] != "ok" and measure["reason_text"]:
            notes[f"{measure['impl']}: {measure['status']}, {measure['reason_text']}"] = None
    return Table(tier_title(source, tier, threads), header, list(groups.items()), list(notes))


def _row(source: SuiteSource, measure: Measure) -> list[str]:
    name = [measure["impl"], measure["published_name"] or NOTHING, measure["phase"]]
    timing = measure.timing
    if timing is None:
        error = _error(measure) if measure["status"] == "incorrect" else NOTHING
        return [*name, *[NOTHING] * 12, error, status_text(measure)]
    mean = duration(timing.mean_ns)
    if timing.std_ns is not None:
        mean += f" ± {duration(timing.std_ns)}"
    return [
        *name,
        duration(timing.time_ns),
        duration(timing.p05_ns),
        duration(timing.p95_ns),
        mean,
        duration(timing.min_ns),
        _number(measure.gflops),
        _number(measure.gflops_fa),
        _percent(measure.of_ceiling),
        _percent(measure.of_sgemm),
        *_against(source, measure),
        _peak(measure),
        _error(measure),
        _remarks(measure),
    ]


def _remarks(measure: Measure) -> str:
    """Write what a time is to be read with: its noise, and what a compiler made of the program."""
    told = ["noisy"] if measure.timing and measure.timing.is_noisy else ["ok"]
    if measure.is_published:
        return told[0]
    if measure["lowered_to_sdpa"]:
        told.append("lowered to SDPA")
    if measure["graph_breaks"]:
        told.append(f"{measure['graph_breaks']} graph breaks")
    if measure["recompiles_timed"]:
        told.append(f"{measure['recompiles_timed']} recompilations while timed")
    return ", ".join(told)


def status_text(measure: Measure) -> str:
    """Write a status with its reason: oom (predicted)."""
    reason = measure["reason"]
    return f"{measure['status']} ({reason})" if reason else str(measure["status"])


def _against(source: SuiteSource, measure: Measure) -> list[str]:
    ratio = source.against(measure)
    if ratio is None:
        return [NOTHING, NOTHING]
    if ratio.n == 1:
        return [f"{ratio.median:.2f}x~", NOTHING]
    mark = "~" if ratio.n < MIN_ROUNDS else ""
    return [f"{ratio.median:.2f}x{mark}", f"{ratio.low:.2f}-{ratio.high:.2f}"]


def _peak(measure: Measure) -> str:
    peak = measure["mem_op_peak_bytes"]
    if measure.is_published or peak is None:
        return NOTHING
    return f"{peak / _MIB:.2f}" + ("*" if measure["mem_disagree"] else "")


def _error(measure: Measure) -> str:
    return NOTHING if measure.error is None else f"{measure.error:.1e}"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"


def _percent(part: float | None) -> str:
    return NOTHING if part is None else f"{100 * part:.0f}%"


def growth_table(source: SuiteSource) -> Table:
    """Lay out the powers of the length with which time and memory grow, and the first OOM."""
    rows = []
    for series in series_of(source):
        time = series.exponent(lambda m: m.time_ns)
        peak = series.exponent(lambda m: m["mem_op_peak_bytes"])
        saved = series.exponent(lambda m: m["mem_saved_bytes"])
        oom = series.first_oom
        if (time, peak, saved, oom) != (None,) * 4:
            figures = [NOTHING if f is None else f"{f:.2f}" for f in (time, peak, saved)]
            first = f"{oom['Nk']} ({oom['reason']})" if oom else NOTHING
            rows.append([series.impl, series.phase, series.where, *figures, first])
    header = ("Implementation", "Phase", "Cases", "Time", "Peak memory", "Saved", "First OOM at N")
    note = f"Powers of N, fitted over N of {MIN_LENGTH} and more; at least two lengths"
    return Table("Growth over the length", header, [("", rows)], [note])


def mean_table(source: SuiteSource) -> Table:
    """Lay out the geometric mean of each implementation's time over that of the baseline, by tier
    and number of threads, with the cells that it lacks."""
    groups = []
    for tier, threads in dict.fromkeys((m["tier"], m["threads"]) for m in source.measures):
        measures = [m for m in source.measures if (m["tier"], m["threads"]) == (tier, threads)]
        rows = []
        for (impl, phase), mean in mean_ratios(source, measures).items():
            if mean.value is not None:
                figures = [f"{mean.value:.2f}x", str(mean.n), str(len(mean.missing))]
                rows.append([impl, phase, *figures, "; ".join(mean.missing) or NOTHING])
        if rows:
            groups.append((tier_title(source, tier, threads), rows))
    header = ("Implementation", "Phase", f"over {source.baseline}", "n", "missing", "Missing cells")
    return Table(f"Geometric means of time over that of {source.baseline}", header, groups)
