"""The page of each config of the block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ablation_report.escaping import escape
from ablation_report.machines import machine_of
from ablation_report.means import ratio_text
from ablation_report.run import BLOCK, SDPA, Comparison, Row, is_ours
from ablation_report.site.choose import (
    Place,
    against_others,
    by_machine,
    is_noisy,
    ladder,
    places,
    shown,
)
from ablation_report.site.data_table import Cell, Column, Line, data_table
from ablation_report.site.figures import beside_published, case_figures
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.league import against_table, leagues, ratio_cell
from ablation_report.site.sections import section
from ablation_report.site.text import (
    banners,
    details,
    join,
    label_of,
    legend,
    measures,
    origin,
    page_title,
    rows_of,
    run_page,
    setting_title,
)
from ablation_report.tables import duration
from ablation_report.tables.block import case_tables
from ablation_report.tables.layout import times

RUN = Column("Run shown", name="run", is_left=True)
BEST = (
    Column("Ours", name="ours", is_left=True),
    Column("Time", duration, "time_ns"),
    Column("Ours / PT SDPA", times, "ratio"),
)


def config_page(inputs: Inputs, config: str) -> str:
    """The page of a config: ours against others, the best run of each machine, and folded what was
    published and the other runs."""
    recorded, published = inputs.recorded(BLOCK), inputs.published(BLOCK)
    machines = by_machine(places(recorded, config), ladder)
    own = shown(inputs.own(BLOCK), config)
    any_place = places([*recorded, *inputs.own(BLOCK), *published], config)[0]
    first = next(iter(machines.values()), None)
    parts = [page_title(config), _size(any_place), _league(inputs, config)]
    parts += [section(_section(p, f"## {escape(n)}"), machine=n) for n, p in machines.items()]
    if not machines:
        parts.append("*No run has been recorded at this size.*")
    parts += [_section(own, "## Your machine")] if own else []
    parts += [_published(file, first) for file in places(published, config)]
    others = [other for other in places(recorded, config) if other not in machines.values()]
    parts += [details(f"Other runs: {len(others)}", _others(others))] if others else []
    return join(*parts, legend(first.run) if first else None)


def _published(file: Place, beside: Place | None) -> str:
    """A published file, folded; its shape beside the ladder of a recorded run, never a time of one
    machine over another's."""
    drawn = beside_published(beside, file.run) if beside else ""
    return details(label_of(file.run), join(_contents(file, is_titled=False), drawn))


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
    """The charts and tables of a place under a title."""
    return join(title, _contents(place)).rstrip()


def _contents(place: Place, is_titled: bool = True) -> str:
    """Where the rows come from, what they cannot say, their charts, and the table of all variants
    folded."""
    tables = case_tables(replace(place.run, rows=place.rows))
    return join(
        origin(place.run, "../"),
        *(f"*{escape(sentence)}*" for sentence in what_cannot_be_said(place)),
        _best(place),
        case_figures(place, is_titled),
        details("Every variant", "\n\n".join(measures(found, is_folded=True) for found in tables)),
    ).rstrip()


def _best(place: Place) -> str:
    """The best compiled variant in a sentence; empty without a time."""
    row, against = _best_compiled(place)
    time = place.run.time(row)
    if row is None or time is None:
        return ""
    name = escape(row["printed_name"])
    over = ratio_text(against.ratio.value) if against else ""
    told = f", {over} (time, {name} / PT SDPA; {against.verdict})" if against else ""
    return f"Our fastest variant is **{name}**: {duration(time.value)}{told}."


def what_cannot_be_said(place: Place) -> list[str]:
    """A sentence for each thing that the rows of a case leave open."""
    times = [time for row in place.rows if (time := place.run.time(row))]
    if not times:
        statuses = sorted({str(row["status"]) for row in place.rows})
        return [f"No variant has a time here ({', '.join(statuses)}): nothing can be compared."]
    found = []
    if len(times) == 1:
        found.append("Only one variant has a time: there is nothing to compare.")
    if place.run.is_published:
        found.append("One figure per row was published: there is no interval and no noise floor.")
        return found
    if place.run.floor(place.case) is None:
        found.append("No A/A pair was measured: without a noise floor, no difference is resolved.")
    if max(time.n for time in times) == 1:
        found.append("One round was measured: there is no interval, and nothing is resolved.")
    return found


def _league(inputs: Inputs, config: str) -> str:
    """Ours against the best other runtime, a line for each setting that has one."""
    found = [
        (setting_title(setting), shown[config])
        for setting, shown in leagues(inputs)
        if config in shown
    ]
    if not found:
        return ""
    lines = ((name, p.run, said) for name, p in found for said in against_others(p))
    runs = [p.run for _, p in found]
    return join(
        "## Against other runtimes { #against-other-runtimes }",
        against_table(lines),
        rows_of(runs, "../"),
        banners(runs),
    ).rstrip()


def _others(found: Sequence[Place]) -> str:
    """A line for each run: its best compiled variant, against PyTorch's SDPA."""
    lines = [[_run_cell(p, "../"), machine_of(p.run), p.threads, *_best_cells(p)] for p in found]
    return data_table([RUN, Column("Machine", is_left=True), Column("Threads"), *BEST], lines)


def _run_cell(place: Place, root: str = "") -> Cell:
    noisy = " (noisy)" if is_noisy(place.run) else ""
    return Cell(f"{place.run.name}{noisy}", page=f"{root}{run_page(place.run)}")


def _best_compiled(place: Place) -> tuple[Row | None, Comparison | None]:
    """The best compiled variant, and what is said of it over PyTorch's SDPA."""
    best = place.run.best(place.case, is_ours)
    return best, place.run.compare(best, SDPA)


def _best_cells(place: Place) -> Line:
    """The entries of `BEST`; nothing for each without a time."""
    best, against = _best_compiled(place)
    time = place.run.time(best)
    return [
        str(best["printed_name"]) if best else None,
        time.value if time else None,
        ratio_cell(against, noisy=is_noisy(place.run)),
    ]


def configs_block(inputs: Inputs) -> str:
    """A line for each config, with the run that its page shows."""
    lines: list[Line] = []
    for config, page in inputs.configs.items():
        place = shown(inputs.recorded(BLOCK), config)
        told = [_run_cell(place), machine_of(place.run), *_best_cells(place)] if place else []
        lines.append([Cell(config, page=page), *(told or [None] * (2 + len(BEST)))])
    if not lines:
        return "*No source has a config.*\n"
    columns = [Column("Config", is_left=True), RUN, Column("Machine", is_left=True), *BEST]
    return data_table(columns, lines) + "\n"
