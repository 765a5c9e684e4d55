"""The page of each config, and the tables that it shares with other pages."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from ablation_report.charts import against_published
from ablation_report.escaping import escape
from ablation_report.ladder import CONFIGS, PARENTS, SDPA
from ablation_report.means import geometric_mean
from ablation_report.metrics import is_different
from ablation_report.naming import slug_among
from ablation_report.site.choose import fuller_run, published, recorded, shown_run
from ablation_report.site.figures import CONFIG_CHARTS, figure, figures
from ablation_report.site.text import (
    details,
    join,
    measures,
    origin,
    page_title,
    run_page,
    slug,
    table,
)
from ablation_report.sources import Comparison, Gathered, Source
from ablation_report.tables import (
    LEGEND,
    MEAN_HEADER,
    NOTHING,
    config_tables,
    duration,
    summary_table,
)

BEST = ("Best compiled", "Time", "vs PT SDPA")


def config_page_path(config: str) -> str:
    """The path of a config's page, from the root of the site."""
    return f"configs/{slug_among(config, CONFIGS)}.md"


def all_configs(gathered: Gathered) -> tuple[str, ...]:
    """The nine configs of the ladder, then any other that a source has."""
    found = dict.fromkeys(config for source in gathered.sources for config in source.configs)
    return (*CONFIGS, *(config for config in found if config not in CONFIGS))


def config_table(source: Source, config: str) -> str:
    """The table of one config of a source, without its title, which names the size alone."""
    frame = source.frame.filter(pl.col("config") == config)
    return "\n\n".join(measures(found) for found in config_tables(frame))


def summary(source: Source, title: str | None = None) -> str:
    """The best compiled variant of each config of a source beside the others."""
    found = summary_table(source.frame, source.ceiling_flops_per_s)
    return measures(found, title)


def rungs(source: Source) -> str:
    """What each rung is worth in a source: its time over its parent's, a column for each config."""
    rows = []
    for variant in PARENTS:
        found = {c: source.compare(c, variant, source.parent(c, variant)) for c in source.configs}
        if any(found.values()):
            base = next(worth.base for worth in found.values() if worth)
            names = [escape(source.printed(name)) for name in (variant, base)]
            ratios = {c: worth.ratio.median if worth else None for c, worth in found.items()}
            worths = [_worth(found[config]) for config in source.configs]
            mean = [geometric_mean(ratios).text()] if len(source.configs) > 1 else []
            rows.append([*names, *worths, *mean])
    if not rows:
        return "*No rung has a time beside its parent's.*"
    mean = [MEAN_HEADER] if len(source.configs) > 1 else []
    return table(["Rung", "over", *map(escape, source.configs), *mean], rows, n_left=2)


def _worth(found: Comparison | None) -> str:
    if found is None:
        return NOTHING
    return f"{found.ratio.median:.2f}x" + ("" if is_different(found.verdict) else " ~")


def legend() -> str:
    """What the columns of the tables mean."""
    return details("What the columns mean", escape(" ".join(LEGEND)))


def config_page(gathered: Gathered, config: str) -> str:
    """The page of a config: the run shown first, the published file, the other runs."""
    sources = [*recorded(gathered, config), *published(gathered, config)]
    title = page_title(config)
    if not sources:
        return join(title, f"*No source has a cell of {escape(config)}: nothing can be said.*")
    shown, fuller = shown_run(gathered, config), fuller_run(gathered, config)
    parts = [title, _size(sources[0], config)]
    if shown:
        parts += [_section(shown, config, "## Recorded"), legend()]
        parts.append(_section(fuller, config, "## Recorded, with more rungs") if fuller else "")
    else:
        parts.append("*No run has been recorded at this size.*")
    for file in published(gathered, config):
        parts.append(_section(file, config, "## Published"))
        if shown:
            parts += ["## Published beside recorded", _beside(shown, file, config)]
    others = [run for run in recorded(gathered, config) if run not in (shown, fuller)]
    if others:
        parts += ["## Other runs", _others(others, config)]
    return join(*parts)


def _size(source: Source, config: str) -> str:
    cell = next(iter(source.by_config[config].values()))
    return (
        f"d_model {cell['d_model']}, {cell['n_heads']} heads, seq_len {cell['seq_len']}, "
        f"batch {cell['batch']}: {cell['flops'] / 1e9:.3g} GFLOP a block."
    )


def _section(source: Source, config: str, title: str) -> str:
    """A source's charts and table of a config, and what it cannot say."""
    return join(
        title,
        origin(source, "../"),
        *(f"*{escape(sentence)}*" for sentence in what_cannot_be_said(source, config)),
        figures(CONFIG_CHARTS, source, config),
        "### Table" + f" {{ #{slug('table ' + source.name)} }}",
        config_table(source, config),
    ).rstrip()


def what_cannot_be_said(source: Source, config: str) -> list[str]:
    """A sentence for each thing that the rows of a config leave open."""
    cells = source.by_config[config]
    timed = [variant for variant in cells if source.time(config, variant)]
    if not timed:
        statuses = sorted({str(cell["status"]) for cell in cells.values()})
        return [f"No variant has a time here ({', '.join(statuses)}): nothing can be compared."]
    found = []
    if len(timed) == 1:
        found.append("One variant alone has a time: there is nothing to compare it with.")
    if source.is_published:
        found.append("One figure a cell was published: there is no interval and no noise floor.")
        return found
    if source.floor(config) is None:
        found.append("No A/A pair was measured: without a noise floor no difference is resolved.")
    rounds = {variant: time.n for variant in timed if (time := source.time(config, variant))}
    if max(rounds.values()) == 1:
        found.append("One round was measured: there is no interval, and nothing is resolved.")
    return found


def _beside(shown: Source, file: Source, config: str) -> str:
    """The shapes of both ladders in one chart; never a time of one machine over another's."""
    return figure(against_published(file), shown, f"{shown.name} {file.name}", config)


def _others(runs: Sequence[Source], config: str) -> str:
    """A line for each run: its best compiled variant, against PyTorch's SDPA."""
    rows = [
        [
            f"[{escape(run.name)}](../{run_page(run)})",
            str(run.threads),
            *_best_compiled(run, config),
        ]
        for run in runs
    ]
    return table(["Run", "Threads", *BEST], rows)


def _best_compiled(run: Source | None, config: str) -> list[str]:
    """The cells of `BEST` of a run; a nothing for what it has no time of."""
    best = run.best(config) if run else None
    if run is None or best is None:
        return [NOTHING] * len(BEST)
    time, against = run.time(config, best), run.compare(config, best, SDPA)
    return [
        escape(run.printed(best)),
        duration(time.median if time else None),
        f"{against.ratio.median:.2f}x, {against.verdict}" if against else NOTHING,
    ]


def configs_block(gathered: Gathered) -> str:
    """A line for each config, with the run that its page shows."""
    shown = {config: shown_run(gathered, config) for config in all_configs(gathered)}
    rows = [
        [
            f"[{escape(config)}]({config_page_path(config)})",
            f"[{escape(run.name)}]({run_page(run)})" if run else "no run",
            *_best_compiled(run, config),
        ]
        for config, run in shown.items()
    ]
    return table(["Config", "Run shown", *BEST], rows, n_left=2)
