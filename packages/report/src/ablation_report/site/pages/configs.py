"""The page of each config of the block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ablation_report.escaping import escape
from ablation_report.machines import machine_of
from ablation_report.run import BLOCK, SDPA, Run, is_ours
from ablation_report.site.choose import Place, against_others, places, shown
from ablation_report.site.figures import beside_published, case_figures
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.league import against_table, leagues
from ablation_report.site.text import (
    banners,
    join,
    legend,
    link,
    measures,
    origin,
    page_title,
    rows_of,
    setting_title,
    slug,
    table,
)
from ablation_report.tables import NOTHING, duration
from ablation_report.tables.block import case_tables

BEST = ("Best compiled", "Time", "vs PT SDPA")


def config_page(inputs: Inputs, config: str) -> str:
    """The page of a config: the run that says most, the league, the published file, other runs."""
    recorded, published = inputs.recorded(BLOCK), inputs.published(BLOCK)
    place, own = shown(recorded, config), shown(inputs.own(BLOCK), config)
    any_place = places([*recorded, *inputs.own(BLOCK), *published], config)[0]
    parts = [page_title(config), _size(any_place)]
    if place:
        parts += [_section(place, "## Recorded"), legend(place.run)]
    else:
        parts.append("*No run has been recorded at this size.*")
    parts += [_section(own, "## Your machine")] if own else []
    parts.append(_league(inputs, config))
    for file in places(published, config):
        parts.append(_section(file, "## Published"))
        if place:
            # The shapes of both ladders; never a time of one machine over another's
            beside = beside_published(place, file.run)
            parts += ["## Published and recorded", beside]
    others = [other for other in places(recorded, config) if other != place]
    if others:
        parts += ["## Other runs", _others(others)]
    return join(*parts)


def _size(place: Place) -> str:
    row = place.rows[0]
    sizes = row["sizes"]
    return (
        f"d_model {sizes['H'] * sizes['d']}, {sizes['H']} heads, seq_len {sizes['Nq']}, "
        f"batch {sizes['B']}{_layers(place)}: {(row['flops'] or 0) / 1e9:.3g} GFLOP a call."
    )


def _layers(place: Place) -> str:
    return f", {place.layers} layers with weights of their own" if place.layers != 1 else ""


def _section(place: Place, title: str) -> str:
    """The charts and tables of a place, and what it cannot say."""
    return join(
        title,
        origin(place.run, "../"),
        *(f"*{escape(sentence)}*" for sentence in what_cannot_be_said(place)),
        case_figures(place),
        "### Table" + f" {{ #{slug('table ' + place.run.name)} }}",
        "\n\n".join(map(measures, case_tables(replace(place.run, rows=place.rows)))),
    ).rstrip()


def what_cannot_be_said(place: Place) -> list[str]:
    """A sentence for each thing that the rows of a case leave open."""
    times = [time for row in place.rows if (time := place.run.time(row))]
    if not times:
        statuses = sorted({str(row["status"]) for row in place.rows})
        return [f"No variant has a time here ({', '.join(statuses)}): nothing can be compared."]
    found = []
    if len(times) == 1:
        found.append("One variant alone has a time: there is nothing to compare it with.")
    if place.run.is_published:
        found.append("One figure a row was published: there is no interval and no noise floor.")
        return found
    if place.run.floor(place.case) is None:
        found.append("No A/A pair was measured: without a noise floor no difference is resolved.")
    if max(time.n for time in times) == 1:
        found.append("One round was measured: there is no interval, and nothing is resolved.")
    return found


def _league(inputs: Inputs, config: str) -> str:
    """Ours against the best other runtime, a line for each setting that has one."""
    found = [
        (escape(setting_title(setting)), shown[config])
        for setting, shown in leagues(inputs)
        if config in shown
    ]
    if not found:
        return ""
    lines = ((name, p.run, said) for name, p in found for said in against_others(p))
    runs = [p.run for _, p in found]
    return join(
        "## Against other runtimes { #against-other-runtimes }",
        banners(runs),
        against_table(lines),
        rows_of(runs, "../"),
    ).rstrip()


def _others(found: Sequence[Place]) -> str:
    """A line for each run: its best compiled variant, against PyTorch's SDPA."""
    rows = [
        [link(p.run, "../"), escape(machine_of(p.run)), str(p.threads), *_best_compiled(p)]
        for p in found
    ]
    return table(["Run", "Machine", "Threads", *BEST], rows, n_left=2)


def _best_compiled(place: Place | None) -> list[str]:
    """The entries of `BEST`; a nothing for each without a time."""
    run: Run | None = place.run if place else None
    best = run.best(place.case, is_ours) if run and place else None
    if run is None or best is None:
        return [NOTHING] * len(BEST)
    time, against = run.time(best), run.compare(best, SDPA)
    return [
        escape(best["printed_name"]),
        duration(time.value if time else None),
        f"{against.ratio.value:.2f}x, {against.verdict}" if against else NOTHING,
    ]


def configs_block(inputs: Inputs) -> str:
    """A line for each config, with the run that its page shows."""
    found = {config: shown(inputs.recorded(BLOCK), config) for config in inputs.configs}
    if not found:
        return "*No source has a config.*\n"
    rows = [
        [
            f"[{escape(config)}]({inputs.configs[config]})",
            link(place.run) if place else "no run",
            *_best_compiled(place),
        ]
        for config, place in found.items()
    ]
    return table(["Config", "Run shown", *BEST], rows, n_left=2)
