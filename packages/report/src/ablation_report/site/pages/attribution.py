"""The pages of attribution: for each machine its cases, with what each optimization is worth there,
and the ladders inside the brackets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from ablation_report import charts
from ablation_report.attribution import Attribution, brackets
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
from ablation_report.site.figures import case_figures, figure
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.findings import ask, findings_list
from ablation_report.site.text import (
    banners,
    details,
    join,
    label_of,
    measures,
    once,
    origin,
    page_title,
    setting_title,
    slug,
    table,
)
from ablation_report.tables import NOTHING
from ablation_report.tables.attribution import LEGEND, counter_table, worth_table

SUITE = telling.SUITE
# More recorded ladders than this hide each other
MOST_LADDERS = 4
YOUR_MACHINE = "Your machine: "


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


def attribution_page(inputs: Inputs, page: Page) -> str:
    """Write the page of a machine: its findings, and each case from the run that says most."""
    shown = shown_places(page.setting)
    runs = once(place.run for place in shown)
    shapes = brackets.shapes_of(inputs.recorded(BLOCK))
    return join(
        page_title(page.title),
        banners(runs),
        "What each optimization is worth, whatever the order in which they are switched on. "
        "[The suite](../suites/attribution.md) has the claims and all runs.",
        *map(_findings, runs),
        *(_case(inputs, place, shapes) for place in shown),
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
    title = f"## Findings: {escape(label_of(run))} {{ #{slug('findings ' + run.name)} }}"
    return join(title, findings_list(answers, "../")).rstrip()


def _case(inputs: Inputs, place: Place, shapes: Mapping[str, Row]) -> str:
    """The section of a case: its figures, its charts, and the ladders inside the brackets."""
    name = short_case(place.rows[0])
    title = f"## {escape(name)} {{ #{slug('case ' + name)} }}"
    found = telling.attribution_of(place.run, place.case)
    counters = counter_table(place.run, place.case, place.rows[0]["phase"])
    counted = details(counters.title, measures(counters)) if counters.rows else None
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
        figure(charts.inside_brackets(rungs), place.run, place),
        _rungs(place, rungs),
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
