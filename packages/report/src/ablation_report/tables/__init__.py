"""The tables of a run of any suite, as the bench and the report print them.

`run_tables` chooses by what the rows have: points of factors have a table of worths; a ladder has
the published columns, a summary and its rungs; every other run has a table of its rows for each
tier, growth and means. Tables of a suite's own figures follow. Light to import: the bench prints
through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ablation_report.attribution.points import places_of
from ablation_report.escaping import visible
from ablation_report.load import without_rows
from ablation_report.machines import full_name
from ablation_report.run import Run
from ablation_report.tables import attribution, block, crossover, model, suite
from ablation_report.tables.details import detail_tables
from ablation_report.tables.fitting import filled
from ablation_report.tables.layout import (
    NOTHING,
    Table,
    duration,
    facts_text,
    interval_text,
    marked,
    percent,
    threads_text,
)
from ablation_report.tables.noise import busy_note, run_warning, times_note, trusted

__all__ = [
    "NOTHING",
    "Table",
    "busy_note",
    "condition_facts",
    "duration",
    "facts",
    "facts_text",
    "interval_text",
    "legend",
    "marked",
    "percent",
    "run_tables",
    "run_warning",
    "show",
    "threads_text",
    "times_note",
]


def run_tables(run: Run) -> list[Table]:
    """Return the tables of a run; none of a run without rows."""
    return [trusted(table, [run]) for table in _tables(run) if table.rows]


def _tables(run: Run) -> list[Table]:
    if places_of(run):
        return attribution.attribution_tables(run)
    details = [*detail_tables(run), *crossover.crossover_tables(run)]
    if block.has_ladder(run):
        # The answer stands last, where a terminal shows it
        cases, answers = block.case_tables(run), block.summary_tables(run)
        modules = [model.module_table(run), model.summary_table(run)]
        return [*cases, *details, *answers, *modules]
    return [*suite.tier_tables(run), suite.growth_table(run), suite.mean_table(run), *details]


def legend(run: Run) -> tuple[str, ...]:
    """Return the lines that say what the columns of a run's tables are."""
    if places_of(run):
        return attribution.LEGEND
    lines = block.LEGEND if block.has_ladder(run) else suite.LEGEND
    return (*lines, *(crossover.LEGEND if crossover.crossover_cases(run) else ()))


def show(run: Run, layout: str, width: int | None = None) -> str:
    """Return what is known of a run and its tables, as "md" or as "text" that fits a width."""
    is_markdown = layout == "md"
    parts = [facts_text(facts(run), is_markdown, width)]
    if not run.rows:
        return "\n\n".join([*parts, f"{visible(run.path)}: {without_rows(run)}"])
    parts += [table.markdown() if is_markdown else table.text(width) for table in run_tables(run)]
    explained = legend(run) if width is None else filled(" ".join(legend(run)), width)
    return "\n\n".join([*parts, "\n".join(explained)])


def facts(run: Run) -> dict[str, str]:
    """Return when a run was made, by which command, where, with what and for how long; of published
    figures their source."""
    header = run.header
    if run.is_published:
        return {"Source": f"{run.name}, {run.suite}, published"}
    machine, limit = header["machine"], header["limits"].get("memory_limit_bytes")
    ended = header["finished_utc"] or "not finished"
    elapsed = "" if header["elapsed_s"] is None else f", {header['elapsed_s'] / 60:.1f} minutes"
    memory = f"{(machine['memory_bytes'] or 0) / 2**30:.1f} GiB"
    budget = "" if header["budget_s"] is None else f", {header['budget_s']:g} s a row"
    found = {
        "Run": f"{header['run_id']}, {header['created_utc']} to {ended}{elapsed}",
        "Command": " ".join(header["command"]),
        "Machine": f"{full_name(machine)}, {memory}, {machine['os']} {machine['arch']}",
        **condition_facts(machine),
        "Device": f"{header['device']}, threads {', '.join(map(str, header['threads']))}",
        "Providers": ", ".join(f"{name} {v}" for name, v in header["providers"].items() if v),
        "Versions": ", ".join(f"{name} {v}" for name, v in header["versions"].items() if v),
        "Ceilings": _ceilings(header),
        "Seed": f"{header['seed']}, sessions {header['sessions']}{budget}",
    }
    if limit is not None:
        found["Limit"] = f"{limit / 2**30:.1f} GiB of memory for a worker"
    measured = len(run.select(timed=True))
    found["Rows"] = f"{measured} of {len(run.rows)} timed, {len(run.cases)} cases"
    if (noise := run_warning(run) or times_note(run)) is not None:
        found["Noise"] = noise
    return found


def condition_facts(machine: Mapping[str, Any]) -> dict[str, str]:
    """Return the quota of processor time that a run had, and what made its times untrustworthy.

    Empty for a run that had neither, and for one from before there were conditions. What is not of
    the expected form is left out.
    """
    found = {}
    quota, entries = machine.get("processor_quota"), machine.get("conditions")
    if isinstance(quota, float):
        found["Quota"] = f"{quota:g} processors"
    warnings: dict[str, None] = {}
    for entry in entries if isinstance(entries, list) else ():
        listed = entry.get("warnings") if isinstance(entry, dict) else None
        for warning in listed if isinstance(listed, list) else ():
            if isinstance(warning, str):
                warnings[warning] = None
    if warnings:
        found["Warnings"] = "; ".join(warnings)
    return found


def _ceilings(header: Mapping[str, Any]) -> str:
    """Write what the machine can do at most on each number of threads, as the run measured it."""
    refuted = header.get("refuted_ceilings")
    parts: Sequence[str] = [
        f"{', '.join(rates_text)} on {threads} thread{'s' if threads != '1' else ''}"
        for threads, rates in (header["ceilings"] or refuted or {}).items()
        if (rates_text := _rates(rates or {}))
    ]
    text = "; ".join(parts) or "not measured"
    return f"{text}; not used: rows of this run exceed it" if refuted else text


def _rates(rates: Mapping[str, Any]) -> list[str]:
    flops, sgemm, memory = (
        rates.get(name)
        for name in ("multiply_add_flops_per_s", "sgemm_1024_flops_per_s", "memory_bytes_per_s")
    )
    provider = f" ({rates['provider']})" if rates.get("provider") else ""
    rates_text = [f"{flops / 1e9:.0f} GFLOP/s{provider}"] if flops else []
    rates_text += [f"{sgemm / 1e9:.0f} by PyTorch's product"] if sgemm else []
    return rates_text + ([f"{memory / 1e9:.0f} GB/s"] if memory else [])
