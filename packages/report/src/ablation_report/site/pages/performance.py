"""What the machines could do at best, what compile costs, and what single rungs are worth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ablation_report.escaping import escape
from ablation_report.means import geometric_mean
from ablation_report.rows import peak_flops_per_s
from ablation_report.run import BLOCK, DEFAULT, SDPA, Comparison, Row, Run, is_ours
from ablation_report.site.choose import (
    Place,
    Setting,
    configs_of,
    places,
    settings,
    shown,
)
from ablation_report.site.data_table import Cell, Column, Line, data_table
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.league import leagues, ratio_cell
from ablation_report.site.text import join, rows_of, setting_title, table
from ablation_report.tables import NOTHING, duration, marked, percent
from ablation_report.tables.block import MEAN_HEADER, error_ratio
from ablation_report.traffic import least_bytes, memory_share

BEYOND = "Beyond"


def floors_block(inputs: Inputs) -> str:
    """For each config the least time that its FLOPs need, and how near the best variant comes.

    The last share is of the memory's rate, where the least that is moved cannot stay in a cache.
    """
    rows, runs = [], []
    for config, page in inputs.configs.items():
        place = shown(inputs.recorded(BLOCK), config)
        line = _floor_line(place) if place else None
        if place and line:
            rows.append([f"[{escape(config)}]({page})", *line])
            runs.append(place.run)
    if not rows:
        return "*No run has measured its ceiling: no floor is known.*\n"
    header = ["Config", "Floor", "Best compiled", "Of ceiling", "Least traffic", "Of memory rate"]
    return join(table([*header, "PT SDPA"], rows), rows_of(runs))


def _floor_line(place: Place) -> list[str] | None:
    run = place.run
    best = run.best(place.case, is_ours)
    time, peak = run.time(best), peak_flops_per_s(run.ceilings, place.threads)
    if best is None or time is None or peak is None:
        return None
    sdpa = run.time(run.row(place.case, SDPA))
    moved = least_bytes(best)
    return [
        duration(best["flops"] / peak * 1e9),
        f"{duration(time.value)} ({escape(best['printed_name'])})",
        percent(run.of_ceiling(best), digits=0),
        NOTHING if moved is None else f"{moved / 2**20:.3g} MiB",
        percent(memory_share(run, best), digits=0),
        duration(sdpa.value if sdpa else None),
    ]


def costs_block(inputs: Inputs) -> str:
    """What compile chooses by itself, in each league: time, error, and what a user waits for."""
    parts = []
    for setting, found in leagues(inputs):
        rows = [[escape(name), *line] for name, place in found.items() if (line := _costs(place))]
        if rows:
            header = ["Config", "Over the published ladder", "Error / PT's", "Build", "First call"]
            parts += [f"**{escape(setting_title(setting))}**", table(header, rows)]
            parts.append(rows_of(place.run for place in found.values()))
    return join(*parts) if parts else "*No recorded run has the tuned default.*\n"


def _costs(place: Place) -> list[str] | None:
    """The tuned default over the fastest rung of the published ladder, and what it costs once."""
    run, row = place.run, place.run.row(place.case, DEFAULT)
    if row is None or run.time(row) is None:
        return None
    best = run.best(place.case, lambda row: is_ours(row) and row["group"] != BEYOND)
    sdpa = run.row(place.case, SDPA)
    return [
        marked(run.compare(row, best)),
        _error(row, sdpa),
        duration(row["build_ns"]),
        duration(row["first_call_ns"]),
    ]


def _error(row: Row, sdpa: Row | None) -> str:
    error = error_ratio(row, sdpa)
    return NOTHING if error is None else f"{error:.2f}x"


# A run and what it says, by config
Said = Mapping[str, tuple[Run, Comparison]]


def rungs_beyond_block(inputs: Inputs) -> str:
    """For each machine, what each rung beyond the published ladder is worth at each config."""
    parts = []
    for setting in settings(places(inputs.recorded(BLOCK))):
        rows = [row for place in setting.places for row in place.rows if row["group"] == BEYOND]
        variants = {row["variant"]: row["printed_name"] for row in rows}
        found = {name: _by_config(setting, _step(variant)) for variant, name in variants.items()}
        if setting.is_whole and any(found.values()):
            parts.append(_worth_table(setting, found))
    return join(*parts) if parts else "*No recorded run has a rung beyond the published ladder.*\n"


def _step(variant: str) -> Callable[[Place], Comparison | None]:
    """Compare a variant with the rung that its row stands on."""

    def compared(place: Place) -> Comparison | None:
        row = place.run.row(place.case, variant)
        return place.run.compare(row, row["parent"]) if row and row["parent"] else None

    return compared


def _by_config(setting: Setting, ask: Callable[[Place], Comparison | None]) -> Said:
    """The answer of the place of each config that says most of a question with one answer."""
    found = {}
    for config in configs_of(place.run for place in setting.places):
        of_config = [place for place in setting.places if place.config == config]
        place = setting.best(lambda place: [said] if (said := ask(place)) else [], of_config)
        said = ask(place) if place else None
        if place and said:
            found[config] = place.run, said
    return found


def _worth_table(setting: Setting, found: Mapping[str, Said]) -> str:
    """A line for each rung, a column for each config, and the mean over them."""
    configs = _columns(setting.places, found.values())
    rows: list[Line] = []
    for name, said in found.items():
        if said:
            mean = geometric_mean(
                {c: said[c][1].ratio.value if c in said else None for c in configs}
            )
            rows.append([name, *_cells(said, configs), Cell(mean.value, mean.text())])
    runs = [run for said in found.values() for run, _ in said.values()]
    columns = [Column("Rung", is_left=True), *map(Column, configs), Column(MEAN_HEADER)]
    return join(
        f"**{escape(setting_title(setting))}**", data_table(columns, rows), rows_of(runs)
    ).rstrip()


def _columns(asked: Iterable[Place], found: Iterable[Said]) -> list[str]:
    """The configs that have an answer, smallest first."""
    known = {config for said in found for config in said}
    return [config for config in configs_of(place.run for place in asked) if config in known]


def _cells(said: Said, configs: Sequence[str]) -> list[Cell]:
    return [ratio_cell(said[config][1] if config in said else None) for config in configs]


def instruction_sets_block(inputs: Inputs) -> str:
    """What compile chooses over PT SDPA, by each instruction set that a machine was run with."""
    groups: dict[tuple[str, int, int, int], list[Setting]] = {}
    for setting in settings(places(inputs.recorded(BLOCK))):
        key = setting.hardware, setting.threads, setting.layers, setting.batch
        groups.setdefault(key, []).append(setting)
    parts = [_instruction_sets(group) for group in groups.values() if len(group) > 1]
    return join(*parts) if parts else "*No machine was measured with two instruction sets.*\n"


def _instruction_sets(group: Sequence[Setting]) -> str:
    """The times of one machine over those of PT SDPA, then the errors."""

    def default(place: Place) -> Comparison | None:
        return place.run.compare(place.run.row(place.case, DEFAULT), SDPA)

    found = {setting.simd or "none": _by_config(setting, default) for setting in group}
    configs = _columns((p for setting in group for p in setting.places), found.values())
    times: list[Line] = [[simd, *_cells(said, configs)] for simd, said in found.items()]
    errors: list[Line] = [
        [simd, *(_error_of(said.get(config)) for config in configs)] for simd, said in found.items()
    ]
    layers = f", {group[0].layers} layers" if group[0].layers != 1 else ""
    layers += f", batch {group[0].batch}" if group[0].batch != 1 else ""
    machine = f"{group[0].machine}, {group[0].threads} threads{layers}"
    return join(
        f"**{escape(machine)}**",
        data_table([Column("Time / PT SDPA's", is_left=True), *map(Column, configs)], times),
        data_table([Column("Error / PT SDPA's", is_left=True), *map(Column, configs)], errors),
        rows_of(run for said in found.values() for run, _ in said.values()),
    ).rstrip()


def _error_of(said: tuple[Run, Comparison] | None) -> str:
    return NOTHING if said is None else _error(said[1].row, said[1].base)
