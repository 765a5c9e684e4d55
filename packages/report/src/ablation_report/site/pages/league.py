"""Ours against others: the ratio by size and machine, then five columns for each machine.

"Ours" is our fastest variant, "the best other" the fastest runtime that a user would run instead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

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
from ablation_report.site.data_table import Cell, Column, Line, Mark, data_table, markdown_table
from ablation_report.site.figures import league_figure
from ablation_report.site.inputs import Inputs
from ablation_report.site.sections import section
from ablation_report.site.text import (
    banners,
    details,
    join,
    once,
    rows_of,
    setting_title,
    slug,
)
from ablation_report.stats import Verdict
from ablation_report.tables import duration, interval_text, marked, threads_text
from ablation_report.tables.layout import times

MARKS: Mapping[Verdict, Mark] = {
    "faster": "better",
    "slower": "worse",
    "same": "same",
    "not resolved": "unresolved",
}
COLUMNS = (
    Column("Case", is_left=True, name="case"),
    Column("Ours", duration, name="ours_ns", is_prose=True),
    Column("Best other", duration, name="other_ns", is_prose=True),
    Column("Ours / best other", times, name="ratio"),
    Column("95% interval", name="interval"),
    *(Column(name, is_hidden=True) for name in ("ours", "other", "verdict", "run")),
)
RUNTIMES = (
    Column("Runtime", is_left=True, name="runtime"),
    Column("Whose", is_left=True, name="whose"),
    Column("Time", duration, name="time_ns"),
    Column("Time / the best other's", times, name="ratio"),
)
# More machines than this do not fit a phone: the next ones have a table of their own
MOST_MACHINES = 5
CALL_TITLE = "One call of a block, float32, "
NO_OTHER = "*No recorded run compares ours with another runtime.*"
LEGEND = (
    "Each figure is the time of our fastest variant over that of the fastest other runtime. Below "
    "1, in blue, ours is faster; above 1, in orange, the other is. Gray with ~ is not resolved "
    "beyond the noise floor, or of a run that is too noisy."
)
# A case by its name, perhaps with a link, and what is said of it
Told = tuple[Cell, Run, Comparison]
Named = tuple[str | Cell, Run, Comparison]


def ratio_cell(said: Comparison | None, page: str | None = None, *, noisy: bool = False) -> Cell:
    """The ratio of a comparison with the color of its verdict; that of a noisy run is unresolved.

    A ~ stands where the distance from 1 may be noise.
    """
    if said is None:
        return Cell(None)
    names = f"{said.row['printed_name']} / {said.base['printed_name']}"
    text = marked(said)
    if noisy and not text.endswith("~"):
        text += " ~"
    tip = f"{names}: {interval_text(said.ratio)}{', a run that is too noisy' if noisy else ''}"
    mark: Mark = "unresolved" if noisy else MARKS[said.verdict]
    return Cell(said.ratio.value, text, page, mark, tip)


def against_table(found: Iterable[Named]) -> str:
    """Lay out comparisons of ours with the best other, for a page of the site."""
    return data_table(COLUMNS, map(_line, found))


def against_markdown(found: Iterable[Named]) -> str:
    """Lay out the same for a text that runs no script, such as the README."""
    return markdown_table(COLUMNS, map(_line, found))


def _line(told: Named) -> Line:
    name, run, said = told
    return [
        name,
        *(_named_time(run, row) for row in (said.row, said.base)),
        ratio_cell(said),
        interval_text(said.ratio),
        *(row["printed_name"] for row in (said.row, said.base)),
        said.verdict,
        run.name,
    ]


def _named_time(run: Run, row: Row) -> Cell:
    time = run.time(row)
    ns = time.value if time else None
    return Cell(ns, f"{duration(ns)} ({row['printed_name']})")


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


def told_of(shown: Mapping[str, Place], pages: Mapping[str, str]) -> list[Told]:
    """What each case of a setting says, a phase after another; `pages` has the page of a case."""
    return [
        (_case(name, place, said, pages), place.run, said)
        for name, place in shown.items()
        for said in against_others(place)
    ]


def against_parts(shown: Mapping[str, Place], pages: Mapping[str, str], root: str = "") -> str:
    """The table of the cases of one setting, with the runs that it is made from."""
    runs = [place.run for place in shown.values()]
    return join(
        banners(runs),
        against_table(told_of(shown, pages)),
        rows_of(runs, root),
        _apart(shown),
    ).rstrip()


def _apart(shown: Mapping[str, Place]) -> str:
    """Ours with another arithmetic, folded: its error has another bound. Empty where none was
    measured."""
    found = [
        (Cell(name), place.run, other)
        for name, place in shown.items()
        for said in against_others(place)
        if (other := _other_arithmetic(place.run, said))
    ]
    return details("Ours with another arithmetic", against_table(found)) if found else ""


def _other_arithmetic(run: Run, said: Comparison) -> Comparison | None:
    row = run.best(said.case, is_other_arithmetic, said.row["phase"])
    return run.compare(row, said.base)


def _case(name: str, place: Place, said: Comparison, pages: Mapping[str, str]) -> Cell:
    is_one_phase = len({row["phase"] for row in place.rows}) == 1
    return Cell(name if is_one_phase else f"{name}, {said.row['phase']}", page=pages.get(name))


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


League = tuple[Setting, dict[str, Place]]


def league_block(inputs: Inputs) -> str:
    """The ratio of each size on each machine, then a section for each machine."""
    found = leagues(inputs)
    if not found:
        return NO_OTHER + "\n"
    machines: dict[str, list[League]] = {}
    for pair in found:
        machines.setdefault(pair[0].machine, []).append(pair)
    return join(
        matrix(found, inputs.configs),
        *(_machine(name, group, inputs.configs) for name, group in machines.items()),
    )


def matrix(found: Sequence[League], pages: Mapping[str, str]) -> str:
    """A line for each size, a column for each machine and number of threads: ours over the best
    other, with a link to the table of the machine."""
    columns: dict[tuple[str, int, str | None], list[League]] = {}
    for setting, shown in found:
        key = setting.hardware, setting.threads, setting.simd
        columns.setdefault(key, []).append((setting, shown))
    groups = list(columns.values())
    titles = _short_titles([group[0][0] for group in groups])
    parts = []
    for begin in range(0, len(groups), MOST_MACHINES):
        some = range(begin, min(begin + MOST_MACHINES, len(groups)))
        header = [Column("Size", is_left=True), *(Column(titles[i], times) for i in some)]
        lines = [
            [Cell(name, page=pages[name]), *(_matrix_cell(groups[i], name) for i in some)]
            for name in pages
            if any(name in shown for i in some for _, shown in groups[i])
        ]
        parts.append(data_table(header, lines))
    return join(*parts, LEGEND).rstrip()


def _matrix_cell(group: Sequence[League], name: str) -> Cell:
    for setting, shown in group:
        if place := shown.get(name):
            said = next(iter(against_others(place)), None)
            page = f"#{slug(setting_title(setting))}"
            return ratio_cell(said, page, noisy=is_noisy(place.run))
    return Cell(None)


def _short_titles(found: Sequence[Setting]) -> list[str]:
    """Machine and threads of each setting, and its instruction set where these are not enough."""
    short = [f"{setting.machine}, {threads_text(setting.threads)}" for setting in found]
    counts = Counter(short)
    return [
        title if counts[title] == 1 else f"{title}, {setting.simd or 'no SIMD'}"
        for title, setting in zip(short, found, strict=True)
    ]


def _machine(name: str, found: Sequence[League], pages: Mapping[str, str]) -> str:
    """A machine: the five columns of each of its settings."""
    title = f"## {escape(name)} {{ #{slug('machine ' + name)} }}"
    return section(join(title, *(_setting(*pair, pages) for pair in found)), name)


def _setting(setting: Setting, shown: Mapping[str, Place], pages: Mapping[str, str]) -> str:
    """The five columns of a setting; charts and every runtime are folded."""
    title = setting_title(setting)
    runs = once(place.run for place in shown.values())
    charts = "\n\n".join(map(league_figure, runs))
    every = join(*(f"**{escape(name)}**\n\n{runtimes_table(p)}" for name, p in shown.items()))
    return join(
        f"### {escape(title)} {{ #{slug(title)} }}",
        against_parts(shown, pages),
        details("Every runtime at each size", every.rstrip()),
        details("Charts: ours against each runtime", charts),
    )


def runtimes_table(place: Place) -> str:
    """Ours and the others by time, with the ratio to the best of the others."""
    run = place.run
    rival = run.best(place.case, is_other)
    timed = [(time.value, row) for row in place.rows if (time := run.time(row))]
    timed.sort(key=lambda pair: pair[0])
    lines: list[Line] = [
        [
            *_runtime(row),
            time,
            Cell(1.0, "1") if row is rival else ratio_cell(run.compare(row, rival)),
        ]
        for time, row in timed
    ]
    lines += [
        [*_runtime(row), Cell(None, str(row["status"])), None]
        for row in place.rows
        if not run.time(row)
    ]
    return data_table(RUNTIMES, lines)


def _runtime(row: Row) -> list[str]:
    name = f"{row['printed_name']}{' (what compile takes)' if row['variant'] == DEFAULT else ''}"
    whose = "ours, other arithmetic" if is_other_arithmetic(row) else "ours"
    return [name, "theirs" if is_other(row) else whose]
