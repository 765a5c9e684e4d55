"""Ours against what a user would run instead: five columns, for any suite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ablation_report.escaping import escape
from ablation_report.run import (
    BLOCK,
    DEFAULT,
    LEAGUE,
    Comparison,
    Row,
    Run,
    is_other,
    is_other_arithmetic,
)
from ablation_report.series import short_case
from ablation_report.site.choose import (
    Place,
    Setting,
    against_others,
    is_noisy,
    places,
    settings,
)
from ablation_report.site.figures import league_figure
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import (
    banners,
    details,
    join,
    once,
    rows_of,
    setting_title,
    slug,
    table,
)
from ablation_report.tables import NOTHING, duration, interval_text, marked

HEADER = ("Case", "Ours", "Best other", "Ours / best other", "95% interval")
# Stands apart: its error has another bound. Only where it was measured.
OTHER_HEADER = ("Other arithmetic", "Other arithmetic / best other")
CALL_TITLE = "One call of a block, float32, "
NO_OTHER = "*No recorded run compares ours with another runtime.*"


def against_table(found: Iterable[tuple[str, Run, Comparison]]) -> str:
    """Lay out comparisons of ours with the best other, each with the text of its case."""
    rows, apart = [], []
    for name, run, said in found:
        times = [_named_time(run, row) for row in (said.row, said.base)]
        rows.append([name, *times, marked(said), interval_text(said.ratio)])
        apart.append(_other_arithmetic(run, said))
    if not any(apart):
        return table(HEADER, rows)
    nothing = [NOTHING] * len(OTHER_HEADER)
    rows = [[*row, *(told or nothing)] for row, told in zip(rows, apart, strict=True)]
    return table((*HEADER, *OTHER_HEADER), rows)


def _other_arithmetic(run: Run, said: Comparison) -> list[str]:
    """The time of our fastest row with another arithmetic, and its ratio to the best other; empty
    without one."""
    row = run.best(said.case, is_other_arithmetic, said.row["phase"])
    against = run.compare(row, said.base)
    return [] if row is None else [_named_time(run, row), marked(against)]


def _named_time(run: Run, row: Row) -> str:
    time = run.time(row)
    return f"{duration(time.value if time else None)} ({escape(row['printed_name'])})"


def best_by_case(setting: Setting, order: Iterable[str] = ()) -> dict[str, Place]:
    """The place that says most of each case in a setting, by the words of the case: in an order of
    names, and beyond it the one with the fewest operations first."""
    ranks = {name: rank for rank, name in enumerate(order)}
    groups: dict[str, list[Place]] = {}
    for place in setting.places:
        groups.setdefault(short_case(place.rows[0]), []).append(place)
    found = {name: setting.best(against_others, group) for name, group in groups.items()}
    best = {name: place for name, place in found.items() if place}
    return dict(
        sorted(
            best.items(),
            key=lambda item: (ranks.get(item[0], len(ranks)), item[1].rows[0]["flops"] or 0),
        )
    )


def against_parts(shown: Mapping[str, Place], pages: Mapping[str, str], root: str = "") -> str:
    """The table of the cases of one setting, with the runs that it is made from."""
    found = (
        (_case(name, place, said, pages), place.run, said)
        for name, place in shown.items()
        for said in against_others(place)
    )
    runs = [place.run for place in shown.values()]
    return join(banners(runs), against_table(found), rows_of(runs, root)).rstrip()


def _case(name: str, place: Place, said: Comparison, pages: Mapping[str, str]) -> str:
    link = f"[{escape(name)}]({pages[name]})" if name in pages else escape(name)
    is_one_phase = len({row["phase"] for row in place.rows}) == 1
    return link if is_one_phase else f"{link}, {escape(said.row['phase'])}"


def has_league(place: Place) -> bool:
    """True where a runtime of the league has a time."""
    return any(row["group"] == LEAGUE and place.run.time(row) for row in place.rows)


def leagues(inputs: Inputs) -> list[tuple[Setting, dict[str, Place]]]:
    """The settings of the block that have other runtimes, with the place shown of each config: the
    one whose rows resolve most first, noisy ones last; single blocks before several layers."""
    found = filter(has_league, places(inputs.recorded(BLOCK)))
    pairs = [(setting, best_by_case(setting, inputs.configs)) for setting in settings(found)]

    def weight(pair: tuple[Setting, dict[str, Place]]) -> tuple[bool, bool, bool, int, float]:
        setting, shown = pair
        said = [each for place in shown.values() for each in against_others(place)]
        floors = [place.run.floor(place.case) or 0.0 for place in shown.values()]
        is_quiet = not any(is_noisy(place.run) for place in shown.values())
        n_resolved = sum(each.is_resolved for each in said)
        is_single = setting.layers == setting.batch == 1
        return is_single, setting.is_whole, is_quiet, n_resolved, -sum(floors) / len(floors)

    return sorted((pair for pair in pairs if pair[1]), key=weight, reverse=True)


def league_block(inputs: Inputs) -> str:
    """Each setting that has other runtimes: its table, its charts, every runtime by config."""
    found = leagues(inputs)
    parts = []
    for setting, shown in found:
        title = setting_title(setting)
        parts += [f"## {escape(title)} {{ #{slug(title)} }}"]
        parts.append(against_parts(shown, inputs.configs))
        parts += map(league_figure, once(place.run for place in shown.values()))
        parts += [
            details(f"{name}: all runtimes", runtimes_table(place)) for name, place in shown.items()
        ]
    return join(*parts) if found else NO_OTHER + "\n"


def runtimes_table(place: Place) -> str:
    """Ours and the others by time, with the ratio to the best of the others."""
    run = place.run
    rival = run.best(place.case, is_other)
    timed = [(time.value, row) for row in place.rows if (time := run.time(row))]
    timed.sort(key=lambda pair: pair[0])
    rows = [
        [
            *_runtime(row),
            duration(time),
            NOTHING if row is rival else marked(run.compare(row, rival)),
        ]
        for time, row in timed
    ]
    rows += [
        [*_runtime(row), escape(str(row["status"])), NOTHING]
        for row in place.rows
        if not run.time(row)
    ]
    against = f"/ {escape(rival['printed_name'])}" if rival else "/ the best other"
    return table(["Runtime", "Whose", "Time", against], rows, n_left=2)


def _runtime(row: Row) -> list[str]:
    name = escape(row["printed_name"])
    is_default = row["variant"] == DEFAULT
    whose = "ours, other arithmetic" if is_other_arithmetic(row) else "ours"
    return [f"**{name}**" if is_default else name, "theirs" if is_other(row) else whose]


def result_block(inputs: Inputs) -> str:
    """Ours against the best other runtime by size, on the machine whose rows resolve most."""
    found = leagues(inputs)
    if not found:
        return NO_OTHER + "\n"
    setting, shown = found[0]
    title = f"{CALL_TITLE}{escape(setting_title(setting))}:"
    return join(title, against_parts(shown, inputs.configs))
