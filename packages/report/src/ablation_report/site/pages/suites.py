"""The page of each suite: what it measures, what was found, and its runs."""

from __future__ import annotations

from ablation_report.attribution.worths import SUITE as ATTRIBUTION
from ablation_report.escaping import code, escape
from ablation_report.machines import machine_of
from ablation_report.run import BLOCK, Run
from ablation_report.site.choose import (
    Place,
    by_evidence,
    is_noisy,
    places,
    settings,
    verdicts,
)
from ablation_report.site.figures import run_figures
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.attribution import attribution_pages
from ablation_report.site.pages.findings import findings_block
from ablation_report.site.pages.league import against_parts, best_by_case
from ablation_report.site.pages.runs import facts, run_list
from ablation_report.site.published_names import NAMES, SUITES
from ablation_report.site.text import (
    banners,
    details,
    join,
    label_of,
    link,
    measures,
    once,
    page_title,
    setting_title,
    slug,
    table,
)
from ablation_report.tables import NOTHING, run_tables
from ablation_report.tables.suite import mean_table


def all_suites(inputs: Inputs) -> list[str]:
    """The suites of this project, then any other that a run is of."""
    return list(dict.fromkeys((*SUITES, *(run.suite for run in inputs.gathered.runs))))


def shown_runs(inputs: Inputs, suite: str) -> list[Run]:
    """The runs that a suite's page draws: for each device and tier that of the case that says
    most; noisy runs last."""
    groups: dict[tuple[str, str], list[Place]] = {}
    for place in places(inputs.recorded(suite)):
        if any(map(place.run.time, place.rows)):
            row = place.rows[0]
            device = machine_of(place.run) if row["device"] == "cpu" else str(row["device_name"])
            groups.setdefault((device, str(row["tier"])), []).append(place)
    best = once(by_evidence(group, verdicts)[0].run for group in groups.values())
    return sorted(best, key=is_noisy)


def suite_page_text(inputs: Inputs, suite: str) -> str:
    """The page of a suite: names, findings, the runs that say most, published figures, all runs."""
    recorded, own = inputs.recorded(suite), inputs.own(suite)
    # Both have pages of their own, by config and by machine
    shown = [] if suite in (BLOCK, ATTRIBUTION) else shown_runs(inputs, suite)
    option = "" if suite == BLOCK else f" --suite {suite}"
    return join(
        page_title(suite),
        SUITES.get(suite),
        f"```\npython -m nox -s bench --{option} --quick\n```",
        _names(suite),
        *_results(inputs, suite),
        *map(_recorded, shown),
        None if recorded else "## Recorded\n\n*No run of this suite has been recorded.*",
        *(map(_published, inputs.published(suite)) if suite != BLOCK else ()),
        "## Your machine" if own else None,
        run_list(own, "../") if own else None,
        "## All runs" if recorded else None,
        run_list(recorded, "../") if recorded else None,
    )


def _names(suite: str) -> str:
    rows = [
        [
            ", ".join(map(code, name.published)),
            code(name.variant) if name.variant else NOTHING,
            escape(name.what),
        ]
        for name in NAMES.get(suite, ())
    ]
    if not rows:
        return ""
    names = table(["Published as", "Here", "What it really is"], rows, n_left=3)
    return f"## What was published under which name\n\n{names}"


def _results(inputs: Inputs, suite: str) -> list[str]:
    if suite == BLOCK:
        return [
            "Results: [the ladder](../ladder.md), [the league](../league.md), "
            "[configs](../configs.md), [findings](../findings.md)."
        ]
    if suite == ATTRIBUTION:
        return [_machines(inputs), findings_block(inputs, suite, "../").rstrip()]
    return [findings_block(inputs, suite, "../").rstrip(), _against(inputs, suite)]


def _machines(inputs: Inputs) -> str:
    """Links to the pages of attribution."""
    pages = attribution_pages(inputs)
    links = (f"[{escape(page.title)}](../{page.path})" for page in pages)
    return f"Results by machine: {'; '.join(links)}." if pages else ""


def _against(inputs: Inputs, suite: str) -> str:
    """Ours against the best other, a table for each setting, and what they were made from."""
    parts = []
    for setting in settings(places(inputs.recorded(suite))):
        if shown := best_by_case(setting):
            parts.append(details(setting_title(setting), against_parts(shown, {}, "../")))
    return join("## Ours against others { #ours-against-others }", *parts).rstrip() if parts else ""


def _recorded(run: Run) -> str:
    """A run's facts and charts; its tables have a page of their own."""
    means = mean_table(run)
    return join(
        f"## Recorded: {escape(run.name)} {{ #{slug('recorded ' + run.name)} }}",
        banners([run]),
        f"On {escape(machine_of(run))}. Every row has its place on {link(run, '../')}.",
        facts(run),
        run_figures(run, is_whole=False),
        measures(means, f"### {escape(means.title)}") if means.rows else None,
    ).rstrip()


def _published(run: Run) -> str:
    """Published figures in charts of their own, by the device that they really come from."""
    return join(
        f"## {escape(label_of(run))} {{ #{slug('published ' + run.name)} }}",
        f"On {escape(machine_of(run))}. Shapes and ratios within this source may be compared with "
        "those of another; times of two devices may not.",
        facts(run),
        run_figures(run, is_whole=False),
        details("Every published row", "\n\n".join(map(measures, run_tables(run)))),
    ).rstrip()
