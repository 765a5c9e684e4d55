"""A run of a further suite as text, and its rows beside those of a summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from ablation_report.conditions import condition_facts
from ablation_report.load import without_rows
from ablation_report.metrics import median_interval, rounds_ns
from ablation_report.published import PublishedSuites
from ablation_report.sources import Gathered
from ablation_report.suite_detail_tables import detail_tables
from ablation_report.suite_published import published_sources
from ablation_report.suite_rows import SuiteRun
from ablation_report.suite_sources import Measure, SuiteSource, recorded_source
from ablation_report.suite_tables import LEGEND, suite_tables
from ablation_report.tables import facts_text

# What a row of a further suite has besides the columns of a summary
SUITE_SUMMARY: Mapping[str, pl.DataType | type[pl.DataType]] = {
    **dict.fromkeys(("suite", "phase", "reason"), pl.String),
    **dict.fromkeys(("p05_ns", "p95_ns", "mean_ns", "std_ns"), pl.Float64),
    **dict.fromkeys(("gflops_fa", "of_ceiling", "of_sgemm", "error"), pl.Float64),
    **dict.fromkeys(("mem_op_peak_bytes", "mem_scratch_bytes", "mem_saved_bytes"), pl.Int64),
}


def show_suite(content: SuiteRun | PublishedSuites, layout: str) -> str:
    """Return the tables of one run of a further suite, or of published figures, as text or
    Markdown."""
    if isinstance(content, SuiteRun):
        sources = [recorded_source(content)]
    else:
        sources = published_sources(content.path, content.rows)
    parts = [part for source in sources for part in _source_parts(source, layout == "md")]
    if not content.rows:
        parts.append(f"{without_rows(content).capitalize()}.")
    return "\n\n".join([*parts, "\n".join(LEGEND)])


def _source_parts(source: SuiteSource, is_markdown: bool) -> list[str]:
    """What is known of a source and its tables."""
    facts = suite_facts(source) if source.header else {"Source": f"{source.label}, {source.suite}"}
    tables = [*suite_tables(source), *detail_tables(source)]
    return [
        facts_text(facts, is_markdown),
        *(table.markdown() if is_markdown else table.text() for table in tables),
    ]


def suite_facts(source: SuiteSource) -> dict[str, str]:
    """Say when a run was made, by which command, where, with what and for how long."""
    header: Mapping[str, Any] = source.header or {}
    machine, limits = header["machine"], header["limits"]
    ended = header["finished_utc"] or "not finished"
    elapsed = "" if header["elapsed_s"] is None else f", {header['elapsed_s'] / 60:.1f} minutes"
    memory = f"{(machine['memory_bytes'] or 0) / 2**30:.1f} GiB"
    facts = {
        "Run": f"{header['run_id']}, {header['created_utc']} to {ended}{elapsed}",
        "Command": " ".join(header["command"]),
        "Machine": f"{machine['cpu_model']}, {machine['cores']} cores, {memory}, "
        f"{machine['os']} {machine['arch']}",
        **condition_facts(machine),
        "Device": f"{header['device']}, threads {', '.join(map(str, header['threads']))}",
        "Providers": ", ".join(f"{k} {v}" for k, v in header["providers"].items() if v),
        "Versions": ", ".join(f"{name} {v}" for name, v in header["versions"].items() if v),
        "Ceilings": _ceilings(header["ceilings"]),
        "Seed": f"{header['seed']}, sessions {header['sessions']}, {header['budget_s']:g} s a row"
        if header["budget_s"] is not None
        else f"{header['seed']}, sessions {header['sessions']}",
    }
    limit = limits.get("memory_limit_bytes")
    if limit is not None:
        facts["Limit"] = f"{limit / 2**30:.1f} GiB of memory for an implementation"
    measured = sum(measure["status"] == "ok" for measure in source.measures)
    facts["Rows"] = f"{measured} of {len(source.measures)} timed, {len(source.cases)} cases"
    return facts


def _ceilings(found: Mapping[str, Any] | None) -> str:
    """Write what the machine can do at best on each number of threads, as the run measured it."""
    parts = []
    for threads, rates in (found or {}).items():
        flops, sgemm = rates.get("multiply_add_flops_per_s"), rates.get("sgemm_1024_flops_per_s")
        said = [f"{flops / 1e9:.0f} GFLOP/s"] if flops else []
        said += [f"{sgemm / 1e9:.0f} by PyTorch's product"] if sgemm else []
        if said:
            parts.append(f"{', '.join(said)} on {threads} thread{'s' if threads != '1' else ''}")
    return "; ".join(parts) or "not measured"


def with_suites(frame: pl.DataFrame, gathered: Gathered) -> pl.DataFrame:
    """Add the rows of the recorded runs of further suites to a summary.

    Returns:
        The frame as it is without such runs; otherwise with their rows and the columns of
        `SUITE_SUMMARY`. `config` is the case, `variant` the implementation, `group` its origin;
        `vs_baseline` is over the suite's baseline.
    """
    sources = [source for source in gathered.suite_sources if not source.is_published]
    rows = [_summary(source, measure) for source in sources for measure in source.measures]
    if not rows:
        return frame
    schema = {**frame.schema, **SUITE_SUMMARY}
    added = pl.DataFrame(rows, schema=schema, orient="row")
    return pl.concat([frame, added], how="diagonal")


def _summary(source: SuiteSource, measure: Measure) -> dict[str, Any]:
    known = {
        "run": source.name,
        "suite": source.suite,
        "config": measure["case"],
        "variant": measure["impl"],
        "group": measure["origin"],
        **{name: measure[name] for name in ("phase", "threads", "status", "reason")},
        **{name: measure[name] for name in SUITE_SUMMARY if name.startswith("mem_")},
        "error": measure.error,
    }
    timing = measure.timing
    if timing is None:
        return known
    interval = median_interval(list(rounds_ns(measure.row).values()))
    ratio = source.against(measure)
    return known | {
        "n": timing.n,
        "rounds": interval.n,
        "median_ns": timing.time_ns,
        "low_ns": interval.low,
        "high_ns": interval.high,
        "min_ns": timing.min_ns,
        "is_noisy": timing.is_noisy,
        **{name: getattr(timing, name) for name in ("p05_ns", "p95_ns", "mean_ns", "std_ns")},
        **{n: getattr(measure, n) for n in ("gflops", "gflops_fa", "of_ceiling", "of_sgemm")},
        "vs_baseline": ratio.median if ratio else None,
    }
