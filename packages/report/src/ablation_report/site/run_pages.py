"""Runs and machines: what could not be read, what there is, and a page for each source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation_report.attention_rows import AttentionRun
from ablation_report.conditions import condition_facts
from ablation_report.escaping import code, escape, path_code
from ablation_report.schema import Problem
from ablation_report.site import suite_pages
from ablation_report.site.choose import published, recorded
from ablation_report.site.config_pages import (
    config_page_path,
    config_table,
    legend,
    rungs,
    summary,
)
from ablation_report.site.text import (
    join,
    page_title,
    run_page,
    slug,
    table,
)
from ablation_report.sources import Gathered, Source
from ablation_report.tables import NOTHING

# A file with more faults than this is damaged as a whole; `ablation-report check` lists them all
MOST_FAULTS = 8


def runs_block(gathered: Gathered) -> str:
    """Every source and every machine; what could not be read stands first."""
    runs = recorded(gathered)
    return join(
        unreadable(gathered.problems),
        noted(gathered.notes),
        "## Recorded",
        _run_list(runs) if runs else "*No run has been recorded.*",
        _attention_list(gathered.attention),
        suite_pages.suites_list(gathered),
        "## Published",
        _published_list(gathered),
        "## Machines",
        _machines([*(run.header for run in runs), *(run.header for run in gathered.attention)]),
    )


def unreadable(problems: Sequence[Problem]) -> str:
    """A box with the faults of every file that was left out; empty without one."""
    if not problems:
        return ""
    by_path: dict[Path, list[Problem]] = {}
    for problem in problems:
        by_path.setdefault(problem.path, []).append(problem)
    lines = []
    for path, faults in by_path.items():
        lines += [f"    - {code(str(fault))}" for fault in faults[:MOST_FAULTS]]
        if len(faults) > MOST_FAULTS:
            lines.append(f"    - {code(str(path))}: {len(faults) - MOST_FAULTS} faults more")
    return join(
        '!!! failure "Left out: these files could not be read as rows"',
        "    Every page of this site was made without them. The others are not concerned.",
        "\n".join(lines),
    ).rstrip()


def noted(notes: Sequence[Problem]) -> str:
    """A box with the runs that have no rows or are there twice; empty without one."""
    if not notes:
        return ""
    lines = [f"    - {code(str(note))}" for note in notes]
    return join('!!! note "To be known of what was read"', "\n".join(lines)).rstrip()


def _run_list(runs: Sequence[Source]) -> str:
    rows = []
    for run in runs:
        floors = [floor for config in run.configs if (floor := run.floor(config)) is not None]
        n_ok = sum(cell["status"] == "ok" for cell in run.cells)
        configs = [f"[{escape(name)}]({config_page_path(name)})" for name in run.configs]
        rows.append(
            [
                f"[{escape(run.name)}]({run_page(run)})",
                ", ".join(configs),
                str(run.threads),
                str(len({cell["variant"] for cell in run.cells})),
                f"{n_ok} of {len(run.cells)}",
                f"{min(floors):.1%} to {max(floors):.1%}" if floors else "no A/A pair",
            ]
        )
    header = ["Run", "Configs", "Threads", "Variants", "Cells timed", "Noise floor"]
    return table(header, rows, n_left=2)


def _attention_list(runs: Sequence[AttentionRun]) -> str:
    if not runs:
        return ""
    names = [f"[{escape(run.name)}](attention.md#{slug(run.name)})" for run in runs]
    return f"Of attention alone: {', '.join(names)}."


def _published_list(gathered: Gathered) -> str:
    lines = [
        f"- [{escape(file.label)}]({run_page(file)}): {path_code(file.path.as_posix())}, "
        f"{len(file.cells)} cells of {len(file.configs)} configs."
        for file in published(gathered)
    ]
    if gathered.suites:
        lines.append(f"- {len(gathered.suites)} figures of further suites, on the suites' pages.")
    return "\n".join(lines) or "*No published figures were given.*"


def _machines(headers: Sequence[Mapping[str, Any] | None]) -> str:
    """A line for each machine that a run names, with what it could do at best."""
    chosen: dict[str, Mapping[str, Any]] = {}
    for header in headers:
        if header is None:
            continue
        machine = header["machine"]
        key = f"{machine['cpu_model']} {machine['cores']} {machine['os']} {header['providers']}"
        # The run on the most threads says the most, and of several the highest ceiling is the one
        if key not in chosen or _ceiling_rank(header) > _ceiling_rank(chosen[key]):
            chosen[key] = header
    if not chosen:
        return "*No machine is known: the runs name it, and there is none.*"
    columns = ["Machine", "Memory", "System", "Providers", "Ceilings, measured"]
    return table(columns, map(_machine, chosen.values()), n_left=len(columns))


def _machine(header: Mapping[str, Any]) -> list[str]:
    machine, providers = header["machine"], header["providers"]
    ceilings = header.get("ceilings")
    return [
        f"{escape(machine['cpu_model'])}, {machine['cores']} cores",
        _gib(machine["memory_bytes"]),
        escape(f"{machine['os']} {machine['arch']}"),
        escape(", ".join(f"{name} {value}" for name, value in providers.items() if value)),
        _rates(ceilings) if ceilings else NOTHING,
    ]


def _ceiling_rank(header: Mapping[str, Any]) -> tuple[int, float]:
    ceilings = header.get("ceilings")
    return (ceilings["threads"], ceilings["multiply_add_flops_per_s"]) if ceilings else (0, 0.0)


def _gib(n_bytes: int | None) -> str:
    return NOTHING if not n_bytes else f"{n_bytes / 2**30:.1f} GiB"


def _rates(ceilings: Mapping[str, Any]) -> str:
    flops, memory = ceilings["multiply_add_flops_per_s"], ceilings["memory_bytes_per_s"]
    return f"{flops / 1e9:.0f} GFLOP/s, {memory / 1e9:.0f} GB/s on {ceilings['threads']} threads"


def run_page_text(source: Source) -> str:
    """The page of one source: how it was made, its summary, and the table of each config."""
    made = facts(source.header) if source.header else "Published elsewhere, kept as data."
    return join(
        page_title(source.label),
        f"Rows: {path_code(source.path.as_posix())}",
        made,
        f"- Ceilings: {_rates(source.ceilings)}" if source.ceilings else None,
        summary(source, "## Summary"),
        "## What each rung is worth",
        rungs(source),
        *(
            join(f"## {escape(config)} {{ #{slug(config)} }}", config_table(source, config))
            for config in source.configs
        ),
        legend(),
    )


def facts(header: Mapping[str, Any]) -> str:
    """When, by which command, where and with what."""
    machine = header["machine"]
    ended = header["finished_utc"] or "not finished"
    elapsed = "" if header["elapsed_s"] is None else f", {header['elapsed_s'] / 60:.1f} minutes"
    versions = ", ".join(f"{name} {v}" for name, v in header["versions"].items() if v)
    providers = ", ".join(f"{name} {v}" for name, v in header["providers"].items() if v)
    lines = [
        f"Run {header['run_id']}, {header['created_utc']} to {ended}{elapsed}",
        f"Machine: {machine['cpu_model']}, {machine['cores']} cores, "
        f"{_gib(machine['memory_bytes'])}, {machine['os']} {machine['arch']}",
        *(f"{name}: {fact}" for name, fact in condition_facts(machine).items()),
        f"Providers: {providers}",
        f"Versions: {versions}",
        f"Seed: {header['seed']}",
    ]
    command = f"- Command: {code(' '.join(header['command']))}"
    return "\n".join([*(f"- {escape(line)}" for line in lines), command])
