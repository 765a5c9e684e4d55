"""The pages of the further suites: one for each suite, and one for each recorded run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablation_report.charts.suites import suite_charts
from ablation_report.charts.suites_common import device_of
from ablation_report.escaping import code, escape, path_code
from ablation_report.findings.base import Outcome
from ablation_report.findings.suites_registry import SUITE_FINDINGS, evaluate_suites
from ablation_report.site.figures import figure
from ablation_report.site.finding_pages import finding_section
from ablation_report.site.text import details, join, measures, page_title, slug, table
from ablation_report.sources import Gathered
from ablation_report.suite_detail_tables import detail_tables
from ablation_report.suite_names import NAMES, SUITES
from ablation_report.suite_sources import SuiteSource
from ablation_report.suite_tables import LEGEND, mean_table, suite_tables
from ablation_report.suite_text import suite_facts
from ablation_report.tables import NOTHING, facts_text


def suite_page_path(suite: str) -> str:
    """The path of a suite's page, from the root of the site."""
    return f"suites/{slug(suite)}.md"


def suite_run_page(run: SuiteSource) -> str:
    """The path of a recorded run's own page, from the root of the site."""
    return f"runs/{slug(run.name)}.md"


def recorded_suites(gathered: Gathered, suite: str | None = None) -> list[SuiteSource]:
    """The recorded runs of one suite, or of all of them, newest first."""
    found = [
        source
        for source in gathered.suite_sources
        if not source.is_published and suite in (None, source.suite)
    ]
    return sorted(found, key=lambda run: str((run.header or {})["created_utc"]), reverse=True)


def shown_runs(gathered: Gathered, suite: str) -> list[SuiteSource]:
    """The runs that a suite's page draws: the newest first, those that are quick last, each that
    has times of a device and tier which none before it has."""
    shown: list[SuiteSource] = []
    covered: set[tuple[str, str]] = set()
    runs = recorded_suites(gathered, suite)
    for run in sorted(runs, key=lambda run: bool((run.header or {})["quick"])):
        timed = {(m["device_name"], m["tier"]) for m in run.measures if m.timing}
        if timed - covered:
            shown.append(run)
            covered |= timed
    return shown


def suite_pages(gathered: Gathered) -> dict[str, str]:
    """The page of every suite and of every recorded run, by their paths."""
    pages = {suite_page_path(suite): suite_page(gathered, suite) for suite in SUITES}
    return pages | {suite_run_page(run): run_page_text(run) for run in recorded_suites(gathered)}


def suite_page(gathered: Gathered, suite: str) -> str:
    """The page of a suite: names, findings, the newest runs, what was published, all runs."""
    shown = shown_runs(gathered, suite)
    published = [s for s in gathered.suite_sources if s.suite == suite and s.is_published]
    return join(
        f"# {suite}",
        SUITES[suite],
        f"```\npython -m nox -s bench -- --suite {suite} --quick\n```",
        "## What was published under which name",
        _names(suite),
        _findings(gathered, suite),
        *(_recorded(run) for run in shown),
        None if shown else "## Recorded\n\n*No run of this suite has been recorded with a time.*",
        *(_published(source) for source in published),
        "## All runs",
        _run_list(recorded_suites(gathered, suite)),
    )


def _names(suite: str) -> str:
    rows = [
        [
            ", ".join(map(code, name.published)),
            code(name.impl) if name.impl else NOTHING,
            escape(name.what),
        ]
        for name in NAMES[suite]
    ]
    return table(["Published as", "Here", "What it really is"], rows, n_left=3)


def _findings(gathered: Gathered, suite: str) -> str:
    """What every source of the suite says of each claim."""
    sources = [source for source in gathered.suite_sources if source.suite == suite]
    answers: dict[str, list[tuple[str, Outcome]]] = {}
    for finding, source, outcome in evaluate_suites(sources):
        name = escape(source.label)
        if not source.is_published:
            name = f"[{name}](../{suite_run_page(source)})"
        answers.setdefault(finding.key, []).append((name, outcome))
    sections = [
        finding_section(f.key, f.title, f.claim, f.published, answers[f.key])
        for f in SUITE_FINDINGS
        if f.key in answers
    ]
    return join(*sections).rstrip()


def _recorded(run: SuiteSource) -> str:
    """A run's facts and charts; its tables have a page of their own."""
    header = run.header or {}
    kind = "a quick run" if header["quick"] else "a run"
    return join(
        f"## Recorded: {escape(run.name)} {{ #{slug('recorded ' + run.name)} }}",
        f"{kind.capitalize()} on {escape(device_of(run))}. "
        f"[Every row of it](../{suite_run_page(run)}) has its own page.",
        _facts(run),
        _charts(run),
        _means(run),
    ).rstrip()


def _facts(run: SuiteSource) -> str:
    facts = facts_text(suite_facts(run), is_markdown=True)
    return f"{facts}\n- Rows lie in {path_code(run.path.as_posix())}"


def _means(run: SuiteSource) -> str:
    found = mean_table(run)
    return measures(found, f"### {escape(found.title)}") if found.rows else ""


def _published(source: SuiteSource) -> str:
    """Published figures in charts of their own, by the device that they really come from."""
    return join(
        f"## Published: {escape(source.name)} {{ #{slug(f'{source.suite} {source.name}')} }}",
        f"On {escape(device_of(source))}, {path_code(source.path.as_posix())}. Shapes and ratios "
        "within this source may be set beside those of another; times of two devices may not.",
        _charts(source),
        details(
            "Every published row",
            "\n\n".join(measures(found) for found in suite_tables(source)),
        ),
    ).rstrip()


def _charts(source: SuiteSource) -> str:
    name = f"{source.suite} {source.name}"
    return join(*(figure(spec, source, name) for spec in suite_charts(source))).rstrip()


def _run_list(runs: Sequence[SuiteSource]) -> str:
    if not runs:
        return "*No run of this suite has been recorded.*"
    header = ["Run", "Device", "Threads", "Kind", "Rows timed", "Cases", "Duration"]
    return table(header, map(_run_line, runs), n_left=4)


def _run_line(run: SuiteSource) -> list[str]:
    header: Mapping[str, object] = run.header or {}
    seconds = (run.header or {})["elapsed_s"]
    n_ok = sum(measure["status"] == "ok" for measure in run.measures)
    return [
        f"[{escape(run.name)}](../{suite_run_page(run)})",
        escape(device_of(run) or str(header["device"])),
        ", ".join(map(str, (run.header or {})["threads"])),
        "quick" if header["quick"] else "full",
        f"{n_ok} of {len(run.measures)}",
        str(len(run.cases)),
        NOTHING if seconds is None else f"{seconds / 60:.1f} minutes",
    ]


def suites_list(gathered: Gathered) -> str:
    """A sentence with every recorded run of the further suites; empty without one."""
    runs = recorded_suites(gathered)
    names = [
        f"[{escape(run.name)}]({suite_run_page(run)}) ([{run.suite}]({suite_page_path(run.suite)}))"
        for run in runs
    ]
    return f"Of the further suites: {', '.join(names)}." if names else ""


def run_page_text(run: SuiteSource) -> str:
    """The page of one recorded run: how it was made, and every table of it."""
    if not run.measures:
        empty = "*It was stopped before its first case: nothing can be said.*"
        return join(page_title(run.label), _facts(run), empty)
    found = [*suite_tables(run), *detail_tables(run)]
    return join(
        page_title(run.label),
        f"A run of [{run.suite}](../{suite_page_path(run.suite)}).",
        _facts(run),
        *(measures(each, f"## {escape(each.title)}") for each in found),
        details("What the columns mean", escape(" ".join(LEGEND))),
    )
