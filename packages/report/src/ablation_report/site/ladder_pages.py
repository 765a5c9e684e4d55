"""The ladder's page and the league's."""

from __future__ import annotations

from ablation_report.escaping import code, escape
from ablation_report.ladder import CONFIGS, DEFAULT, LEAGUE, PARENTS, SDPA, rank
from ablation_report.metrics import Cell
from ablation_report.site.choose import (
    fuller_run,
    league_runs,
    main_run,
    published,
    recorded,
    shown_run,
)
from ablation_report.site.config_pages import (
    all_configs,
    config_page_path,
    legend,
    rungs,
    summary,
)
from ablation_report.site.figures import LADDER_CHARTS, LEAGUE_CHARTS, figures
from ablation_report.site.text import details, join, origin, rows_of, slug, table
from ablation_report.sources import Gathered, Source
from ablation_report.tables import NOTHING, duration
from ablation_report.traffic import least_bytes, memory_share

NO_RUN = "*No run has been recorded: there is nothing to show.*"
# What a row calls the axis that its rung changes, in words
AXES = {
    "": NOTHING,
    "executor": "who runs the graph",
    "passes": "passes",
    "attention": "attention",
    "softmax": "softmax",
    "layer_norm": "LayerNorm",
    "matmul": "matrix products",
    "share_rows": "shared fork-joins",
    "kernels": "who chooses the kernels",
}


def ladder_block(gathered: Gathered) -> str:
    """The rungs with what each changes, and what each is worth in the main run and as published."""
    run = main_run(gathered)
    parts = [_rung_list(gathered)]
    fuller = {r.name: r for c in CONFIGS if (r := fuller_run(gathered, c))}
    runs = [*([run] if run else []), *(r for r in fuller.values() if r is not run)]
    sources = [*runs, *published(gathered)]
    if not sources:
        parts.append(NO_RUN)
    for source in sources:
        parts += [f"## {escape(source.label)}", origin(source)]
        parts.append(figures(LADDER_CHARTS, source))
        parts += [
            f"### What each rung is worth {{ #{slug('worth ' + source.name)} }}",
            rungs(source),
        ]
        parts.append(summary(source, f"### Summary {{ #{slug('summary ' + source.name)} }}"))
    return join(*parts, legend())


def _rung_list(gathered: Gathered) -> str:
    """A line for each rung of the ladder: what it changes, and what it then consists of."""
    cells: dict[str, Cell] = {}
    for source in (*recorded(gathered), *published(gathered)):
        for row in source.cells:
            cells.setdefault(row["variant"], row)
    rows = []
    for variant in PARENTS:
        cell = cells.get(variant)
        parent = (cell["parent"] if cell else None) or PARENTS[variant]
        if cell is None:
            rows.append([code(variant), NOTHING, _name(cells, parent), "no source has it", "", ""])
            continue
        rows.append(
            [
                code(variant),
                escape(cell["printed_name"]),
                _name(cells, parent),
                AXES.get(cell["changed"] or "", escape(cell["changed"] or NOTHING)),
                code(cell["attention_kernel"]) if cell["attention_kernel"] else NOTHING,
                code(cell["linear_kernel"]) if cell["linear_kernel"] else NOTHING,
            ]
        )
    header = ["Variant", "In tables", "Above", "Changes", "Attention kernel", "Product kernel"]
    return table(header, rows, n_left=len(header))


def _name(cells: dict[str, Cell], variant: str | None) -> str:
    if variant is None:
        return NOTHING
    return escape(cells[variant]["printed_name"]) if variant in cells else code(variant)


def league_block(gathered: Gathered) -> str:
    """Each run that has other runtimes beside ours: its summary, and the table of each config."""
    runs = league_runs(gathered)
    if not runs:
        return "*No recorded run has another runtime beside ours.*\n"
    parts = []
    for run in runs:
        parts += [f"## {escape(run.name)}", origin(run), summary(run)]
        parts.append(figures(LEAGUE_CHARTS, run))
        parts += [
            details(f"{config}: all runtimes", league_table(run, config)) for config in run.configs
        ]
    return join(*parts, legend())


def league_table(run: Source, config: str) -> str:
    """Ours and the others by time, with the paired ratio to the best of the others."""
    rival = run.best(config, ours=False)
    cells = run.by_config[config]
    timed = {name: time.median for name in cells if (time := run.time(config, name)) is not None}
    order = sorted(cells, key=lambda name: (name not in timed, timed.get(name, 0.0), rank(name)))
    rows = []
    for name in order:
        cell = cells[name]
        against = run.compare(config, name, rival) if name != rival else None
        rows.append(
            [
                f"**{escape(cell['printed_name'])}**"
                if name == DEFAULT
                else escape(cell["printed_name"]),
                "theirs" if cell["group"] in (LEAGUE, "Baselines") else "ours",
                duration(timed[name]) if name in timed else escape(str(cell["status"])),
                f"{against.ratio.median:.2f}x, {against.verdict}" if against else NOTHING,
            ]
        )
    against_whom = f"vs {escape(run.printed(rival))}" if rival else "vs the best other"
    return table(["Runtime", "Whose", "Time", against_whom], rows, n_left=2)


def floors_block(gathered: Gathered) -> str:
    """For each config the least time that its FLOPs need, and how near the best variant comes.

    The last share is of the memory's rate, where the least that is moved cannot stay in a cache.
    """
    rows = []
    runs: dict[str, Source] = {}
    for config in all_configs(gathered):
        run = shown_run(gathered, config)
        best = run.best(config) if run else None
        time = run.time(config, best) if run and best else None
        if run is None or best is None or time is None or run.ceiling_flops_per_s is None:
            continue
        cell = run.by_config[config][best]
        floor_ns = cell["flops"] / run.ceiling_flops_per_s * 1e9
        sdpa = run.time(config, SDPA)
        moved = least_bytes(cell)
        machine = run.header["machine"] if run.header else {}
        share = memory_share(cell, time.median, machine, run.ceilings)
        rows.append(
            [
                f"[{escape(config)}]({config_page_path(config)})",
                duration(floor_ns),
                f"{duration(time.median)} ({escape(run.printed(best))})",
                f"{floor_ns / time.median:.0%}",
                NOTHING if moved is None else f"{moved / 2**20:.3g} MiB",
                NOTHING if share is None else f"{share:.0%}",
                duration(sdpa.median if sdpa else None),
            ]
        )
        runs[run.name] = run
    if not rows:
        return "*No run has measured its ceiling: no floor is known.*\n"
    header = ["Config", "Floor", "Best compiled", "Of ceiling", "Least traffic", "Of memory rate"]
    return join(table([*header, "PT SDPA"], rows), rows_of(runs.values()))
