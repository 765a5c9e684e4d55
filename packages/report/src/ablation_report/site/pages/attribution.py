"""What each optimization is worth: one page of machines and sizes, and a page for each machine with
its charts and the ladders inside the brackets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from ablation_report import charts
from ablation_report.attribution import Attribution, Worth, brackets
from ablation_report.attribution import worths as telling
from ablation_report.compare.conditions import hardware
from ablation_report.escaping import escape
from ablation_report.naming import slugs
from ablation_report.run import BLOCK, Row, Run
from ablation_report.series import short_case
from ablation_report.site.choose import (
    Place,
    Setting,
    by_evidence,
    created,
    ladder,
    places,
    settings,
    worths,
)
from ablation_report.site.data_table import Cell, Column, Mark, data_table
from ablation_report.site.figures import case_figures, figure
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.findings import ask, findings_list
from ablation_report.site.sections import section
from ablation_report.site.text import (
    banners,
    details,
    folded,
    join,
    label_of,
    measures,
    once,
    origin,
    page_title,
    rows_of,
    setting_title,
    slug,
    table,
)
from ablation_report.stats import Interval
from ablation_report.tables import NOTHING, duration
from ablation_report.tables.attribution import LEGEND, counter_table, worth_table

SUITE = telling.SUITE
# More recorded ladders than this hide each other
MOST_LADDERS = 4
YOUR_MACHINE = "Your machine: "
# More sizes than this do not fit a phone: the next ones have a table of their own
MOST_SIZES = 5
NOTHING_RECORDED = "*No run of the suite attribution has been recorded.*"
WHAT_A_WORTH_IS = (
    "A worth is the time of a call without the optimization over the time with it: the mean over "
    "all orders in which optimizations can be switched on. Above 1, in blue, it saves time; below "
    "1, in orange, it costs time. Gray with ~ is not resolved beyond the noise floor. Other pages "
    "compare two programs: there a ratio below 1 is faster."
)
LEGEND_OF_WORTHS = (
    f"{WHAT_A_WORTH_IS} The worths of a size multiply to *all together*. Optimizations that change "
    "no program are left out."
)
WORTH_MARKS: Mapping[str, Mark] = {
    "worth": "better",
    "costs": "worse",
    telling.NOT_RESOLVED: "unresolved",
}


@dataclass(frozen=True)
class Page:
    """The page of a machine: the setting that its cases were measured in."""

    path: str
    title: str
    setting: Setting


def attribution_pages(inputs: Inputs) -> list[Page]:
    """Return a page for each machine, threads and instruction set that has an attribution, the
    reader's own last."""
    titled = [
        *_titled(inputs.recorded(SUITE)),
        *((YOUR_MACHINE + title, each) for title, each in _titled(inputs.own(SUITE))),
    ]
    paths = slugs(title for title, _ in titled)
    return [Page(f"attribution/{paths[title]}.md", title, each) for title, each in titled]


def _titled(runs: Iterable[Run]) -> list[tuple[str, Setting]]:
    """The settings of runs, each with a title of its own: processors of one name may differ in
    their caches."""
    counts: Counter[str] = Counter()
    found = []
    for setting in settings(places(runs)):
        title = setting_title(setting)
        counts[title] += 1
        found.append((title if counts[title] == 1 else f"{title} ({counts[title]})", setting))
    return found


def worths_block(inputs: Inputs) -> str:
    """A matrix of optimizations and sizes for each machine."""
    pages = attribution_pages(inputs)
    if not pages:
        return NOTHING_RECORDED + "\n"
    return join(*(section(_worths(page), page.setting.machine) for page in pages))


def _worths(page: Page) -> str:
    """A machine: its worths by size, and where the rest stands."""
    shown = shown_places(page.setting)
    runs = once(place.run for place in shown)
    found = {
        short_case(place.rows[0]): (place.run, each)
        for place in shown
        if (each := telling.attribution_of(place.run, place.case))
    }
    names = list(found)
    groups = [names[i : i + MOST_SIZES] for i in range(0, len(names), MOST_SIZES)]
    return join(
        f"## {escape(page.title)} {{ #{slug(page.title)} }}",
        banners(runs),
        LEGEND_OF_WORTHS,
        *(worth_matrix({name: found[name] for name in group}, page.path) for group in groups),
        f"[Charts, every order and exact counters of each size]({page.path}). "
        f"{rows_of(runs).rstrip()}",
    )


def worth_matrix(found: Mapping[str, tuple[Run, Attribution]], page: str) -> str:
    """A line for each optimization, a column for each size with its worth, which leads to the size
    on the page of the machine; the whole last."""
    factors = {
        factor["name"]: factor["printed_name"]
        for run, _ in found.values()
        for factor in run.header["factors"]
    }
    at = {size: {w.name: w for w in each.worths} for size, (_, each) in found.items()}
    ordered = sorted(
        (key for key in factors if any(key in worths_at for worths_at in at.values())),
        key=lambda key: -max(w[key].phi.value for w in at.values() if key in w),
    )
    targets = {size: f"{page}#{slug('case ' + size)}" for size in found}
    lines = [
        [factors[key], *(_worth_cell(at[size].get(key), targets[size]) for size in found)]
        for key in ordered
    ]
    whole = [each for _, each in found.values()]
    lines.append(["All together", *(_total_cell(each) for each in whole)])
    lines.append(["Time of a call, all off", *(_time_cell(each.base_ns) for each in whole)])
    lines.append(["Time of a call, all on", *(_time_cell(each.top_ns) for each in whole)])
    columns = [Column("Optimization", is_left=True), *(Column(size) for size in found)]
    return data_table(columns, lines)


def _worth_cell(worth: Worth | None, page: str) -> Cell:
    if worth is None:
        return Cell(None, "no effect")
    is_open = worth.verdict == telling.NOT_RESOLVED
    tip = f"{worth.what} Interval {_ends(worth.phi)}."
    text = f"{telling.text(worth.phi.value)}{' ~' if is_open else ''}"
    return Cell(telling.ratio(worth.phi.value), text, page, WORTH_MARKS[worth.verdict], tip)


def _total_cell(found: Attribution) -> Cell:
    value = found.total.value
    return Cell(telling.ratio(value), telling.text(value), tip=f"Interval {_ends(found.total)}.")


def _ends(log: Interval) -> str:
    return f"{telling.text(log.low)} to {telling.text(log.high)}"


def _time_cell(ns: float) -> Cell:
    return Cell(ns, duration(ns))


def attribution_page(inputs: Inputs, page: Page) -> str:
    """Write the page of a machine: each case from the run that says most, and its findings."""
    shown = shown_places(page.setting)
    runs = once(place.run for place in shown)
    shapes = brackets.shapes_of(inputs.recorded(BLOCK))
    return join(
        page_title(page.title),
        f"What each optimization is worth on this machine, by size. {WHAT_A_WORTH_IS} "
        "[All machines](../worth.md).",
        *(section(_case(inputs, place, shapes), size=short_case(place.rows[0])) for place in shown),
        *map(_findings, runs),
    )


def shown_places(setting: Setting) -> list[Place]:
    """Return the place of each case of a setting that says most, in the order of the newest run."""
    groups: dict[str, list[Place]] = {}
    for place in sorted(setting.places, key=lambda place: created(place.run), reverse=True):
        groups.setdefault(short_case(place.rows[0]), []).append(place)
    best = [by_evidence(group, worths)[0] for group in groups.values()]
    return sorted(best, key=lambda place: place.rows[0]["flops"] or 0)


def _findings(run: Run) -> str:
    answers = [(finding, outcome) for finding, _, outcome in ask([run])]
    return details(f"Findings: {label_of(run)}", findings_list(answers, "../"))


def _case(inputs: Inputs, place: Place, shapes: Mapping[str, Row]) -> str:
    """The section of a case: its figures, its charts, and the ladders inside the brackets."""
    name = short_case(place.rows[0])
    title = f"## {escape(name)} {{ #{slug('case ' + name)} }}"
    found = telling.attribution_of(place.run, place.case)
    counters = counter_table(place.run, place.case, place.rows[0]["phase"])
    counted = folded(counters) if counters.rows else None
    if found is None:
        said = telling.without(place.run, place.case) or ""
        return join(title, origin(place.run, "../"), f"*{escape(said)}*", counted).rstrip()
    rungs = brackets.rungs(place.run, found, ladders_of(inputs, place, found), shapes)
    return join(
        title,
        origin(place.run, "../"),
        measures(worth_table(place.run, found)),
        details("What the columns mean", escape(" ".join(LEGEND))),
        case_figures(place),
        _ladders(place, rungs),
        counted,
    ).rstrip()


def ladders_of(inputs: Inputs, place: Place, found: Attribution) -> list[Run]:
    """Return the ladders of the block at a case: of those recorded on this machine the ones that
    say most, then the published."""
    header = place.run.header
    own = hardware(header), header["providers"].get("simd")
    found_at = [
        Place(run, case)
        for run in (*inputs.recorded(BLOCK), *inputs.own(BLOCK))
        if (hardware(run.header), run.header["providers"].get("simd")) == own
        and (case := brackets.case_in(run, found))
    ]
    rising = (each for each in by_evidence(found_at, ladder) if ladder(each))
    best = list(islice((each.run for each in rising), MOST_LADDERS))
    published = [run for run in inputs.published(BLOCK) if brackets.case_in(run, found)]
    return best + published


def _ladders(place: Place, rungs: Mapping[str, Sequence[brackets.Rung]]) -> str:
    """The figure of each rung in the range of its step over all orders, folded; empty without."""
    spec = charts.inside_brackets(rungs)
    found = join(figure(spec, place.run, place, is_titled=False), _rungs(place, rungs)).rstrip()
    return details(spec.title, found) if found else ""


def _rungs(place: Place, rungs: Mapping[str, Sequence[brackets.Rung]]) -> str:
    """A line for each rung: the step that it is, and where its figure of each ladder lies."""
    by_ladder = {
        label: {rung.row["variant"]: rung for rung in found} for label, found in rungs.items()
    }
    variants = dict.fromkeys(variant for found in by_ladder.values() for variant in found)
    lines = []
    for variant in variants:
        every = [found.get(variant) for found in by_ladder.values()]
        known = [rung for rung in every if rung]
        told = next((rung for rung in known if rung.step), known[0])
        names = told.name, told.over_name, *_step(told)
        lines.append([*map(escape, names), *(escape(_lies(rung, told)) for rung in every)])
    if not lines:
        return ""
    header = ["Rung", "Over", "Is the step", "Over orders", *map(escape, by_ladder)]
    title = f"Each rung against its step: {short_case(place.rows[0])}"
    return details(title, table(header, lines, n_left=len(header)))


def _step(rung: brackets.Rung) -> tuple[str, str]:
    if rung.step is None or rung.worth is None:
        return f"none: {rung.why}", NOTHING
    name = brackets.step_name(rung.worth, rung.worth.steps.index(rung.step) + 1)
    return name, f"{telling.text(rung.step.lowest)} to {telling.text(rung.step.highest)}"


def _lies(rung: brackets.Rung | None, told: brackets.Rung) -> str:
    """Write the figure of a rung in one ladder, and where it lies; what was told of it already is
    not repeated."""
    if rung is None:
        return NOTHING
    if rung.figure is None or rung.said is None:
        return NOTHING if rung.why == told.why else rung.why
    why = f" ({rung.why})" if rung.why else ""
    return f"{telling.text(rung.figure.value)}, {rung.said}{why}"
