"""The page of each suite: what it measures, what was found, and its runs."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.attribution.worths import SUITE as ATTRIBUTION
from ablation_report.escaping import escape
from ablation_report.machines import machine_of
from ablation_report.run import BLOCK, Run
from ablation_report.site.choose import (
    Place,
    Setting,
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
from ablation_report.site.pages.league import best_by_case
from ablation_report.site.pages.runs import against_short, facts, run_list
from ablation_report.site.published_names import NAMES, SUITES
from ablation_report.site.sections import section
from ablation_report.site.text import (
    details,
    folded,
    join,
    label_of,
    measures,
    once,
    origin,
    page_title,
    setting_title,
    slug,
)
from ablation_report.tables import run_tables
from ablation_report.tables.suite import mean_table

NAMES_LINK = "[What was published under which name](../published.md#names)."


def all_suites(inputs: Inputs) -> list[str]:
    """The suites of this project, then any other that a run is of."""
    return list(dict.fromkeys((*SUITES, *(run.suite for run in inputs.gathered.runs))))


def shown_runs(inputs: Inputs, suite: str) -> list[Run]:
    """The runs that a suite's page draws: for each device and tier that of the case that says
    most; noisy runs last."""
    groups: dict[tuple[str, str], list[Place]] = {}
    for place in places(inputs.recorded(suite)):
        if any(map(place.run.time, place.rows)):
            key = device_of(place.run), str(place.rows[0]["tier"])
            groups.setdefault(key, []).append(place)
    best = once(by_evidence(group, verdicts)[0].run for group in groups.values())
    return sorted(best, key=is_noisy)


def suite_page_text(inputs: Inputs, suite: str) -> str:
    """The page of a suite: its results by machine and its claims first; names, published figures
    and all runs are folded."""
    recorded, own = inputs.recorded(suite), inputs.own(suite)
    option = "" if suite == BLOCK else f" --suite {suite}"
    return join(
        page_title(suite),
        SUITES.get(suite),
        *_results(inputs, suite),
        None if recorded else "*No run of this suite has been recorded.*",
        *(_published(run) for run in inputs.published(suite) if suite != BLOCK),
        NAMES_LINK if suite in NAMES else None,
        f"## Your machine\n\n{run_list(own, '../')}" if own else None,
        details(f"All runs: {len(recorded)}", run_list(recorded, "../")) if recorded else None,
        f"Measure it:\n\n```\npython -m nox -s bench --{option} --quick\n```",
    )


def _results(inputs: Inputs, suite: str) -> list[str]:
    if suite == BLOCK:
        return [
            "Results: [the ladder](../ladder.md), [the league](../league.md), "
            "[configs](../configs.md), [findings](../findings.md)."
        ]
    claims = findings_block(inputs, suite, "../").rstrip()
    if suite == ATTRIBUTION:
        return [_machines(inputs), claims]
    return [*_by_machine(inputs, suite), claims]


def _machines(inputs: Inputs) -> str:
    """Links to the pages of attribution."""
    pages = attribution_pages(inputs)
    links = (f"[{escape(page.title)}](../{page.path})" for page in pages)
    return f"Results by machine: {'; '.join(links)}." if pages else ""


def _by_machine(inputs: Inputs, suite: str) -> list[str]:
    """A section for each machine or device: ours against others, then the runs that say most."""
    against: dict[str, list[Setting]] = {}
    for setting in settings(places(inputs.recorded(suite))):
        if best_by_case(setting):
            against.setdefault(setting.machine, []).append(setting)
    runs: dict[str, list[Run]] = {}
    for run in shown_runs(inputs, suite):
        runs.setdefault(device_of(run), []).append(run)
    names = [*runs, *(name for name in against if name not in runs)]
    return [
        section(
            join(
                f"## {escape(name)} {{ #{slug(name)} }}",
                *_against(against.get(name, [])),
                *_recorded(runs.get(name, [])),
            ),
            machine=name,
        )
        for name in names
    ]


def device_of(run: Run) -> str:
    """What a run ran on: its machine, or the device of its rows where that is no CPU."""
    row = run.rows[0]
    return machine_of(run) if row["device"] == "cpu" else str(row["device_name"])


def _against(found: Sequence[Setting]) -> list[str]:
    """Ours against the best other in each setting of a machine; those after the first folded."""
    parts: list[str] = []
    for setting in found:
        told = against_short(best_by_case(setting), "../")
        title = f"Ours against others: {setting_title(setting)}"
        parts.append(details(title, told) if parts else f"**{escape(title)}**\n\n{told}")
    return parts


def _recorded(found: Sequence[Run]) -> list[str]:
    """The means and charts of runs; those after the first folded."""
    parts: list[str] = []
    for run in found:
        means = mean_table(run)
        told = join(
            origin(run, "../"),
            run_figures(run, is_whole=False, is_titled=not parts),
            folded(means) if means.rows else None,
        ).rstrip()
        parts.append(details(f"{run.name}: charts", told) if parts else told)
    return parts


def _published(run: Run) -> str:
    """Published figures in charts of their own, folded, by the device that they come from."""
    rows = "\n\n".join(measures(found, is_folded=True) for found in run_tables(run))
    told = join(
        f"On {escape(machine_of(run))}. Compare shapes and ratios with those of other sources. Do "
        "not compare times: the devices differ.",
        facts(run),
        run_figures(run, is_whole=False, is_titled=False),
        details("Every published row", rows),
    ).rstrip()
    return details(label_of(run), told)
