"""Runs and machines: what could not be read, what there is, and a page for each run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ablation_report.attribution import attributions
from ablation_report.attribution.points import places_of
from ablation_report.charts.frames import case_names
from ablation_report.compare.conditions import hardware
from ablation_report.escaping import code, escape, list_item, path_code
from ablation_report.machines import full_name, machine_of
from ablation_report.means import geometric_mean, ratio_text
from ablation_report.output import UsageError
from ablation_report.reading import Problem
from ablation_report.run import Run
from ablation_report.site.choose import Place, against_others, is_noisy, noisy_share
from ablation_report.site.data_table import Cell, Column, Line, data_table
from ablation_report.site.figures import run_figures
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.findings import PAGE, PUBLISHED_PAGE, ask, findings_list
from ablation_report.site.pages.league import against_parts, against_table, told_of
from ablation_report.site.pages.rows import rows_block
from ablation_report.site.text import (
    details,
    folded,
    join,
    label_of,
    legend,
    link,
    measures,
    origin,
    page_title,
    run_page,
    suite_page,
)
from ablation_report.tables import NOTHING, Table, facts_text, percent, run_tables
from ablation_report.tables import facts as run_facts
from ablation_report.tables.attribution import worth_table
from ablation_report.tables.suite import mean_table

# A file with more faults than this is damaged as a whole; `ablation-report check` lists them all
MOST_FAULTS = 8
NOTES_NAME = "NOTES.md"
# The search finds the page of a run by its name, not by what every run has
NO_SEARCH = "{ data-search-exclude }"
# A longer table would stand before every chart
MOST_CASES = 12
RUN_COLUMNS = (
    Column("Run", name="run", is_left=True),
    Column("Machine", name="machine", is_left=True),
    Column("Threads", name="threads"),
    Column("Timed", name="timed_rows"),
    Column("Noisy", name="noisy_share", tip="The share of rows whose interval is wider than 5%."),
    Column("Floor", name="floor", tip="The noise floors of its cases."),
)
MACHINE_COLUMNS = (
    Column("Machine", name="machine", is_left=True),
    Column("Instruction set", name="simd", is_left=True),
    Column("Threads", name="threads"),
    Column("Multiply-adds", lambda rate: f"{rate / 1e9:.0f} GFLOP/s", "flops_per_s"),
    Column("Memory", lambda rate: f"{rate / 1e9:.1f} GB/s", "bytes_per_s"),
    Column("Runs", name="runs"),
)


def runs_block(inputs: Inputs) -> str:
    """Every run by its suite and every machine; what could not be read stands first."""
    recorded, own = inputs.recorded(), inputs.own()
    return join(
        unreadable(inputs.gathered.problems),
        noted(inputs.gathered.notes),
        "## Machines",
        _machines([*recorded, *own]),
        "## Your machine" if own else None,
        run_lists(own) if own else None,
        "## Recorded",
        run_lists(recorded) if recorded else "*No run has been recorded.*",
        "## Published",
        _published_list(inputs.published()),
    )


def run_lists(runs: Sequence[Run]) -> str:
    """A table of the runs of each suite; those after the first are folded."""
    parts: list[str] = []
    for suite in dict.fromkeys(run.suite for run in runs):
        of_suite = [run for run in runs if run.suite == suite]
        title = f"{suite}: {len(of_suite)}"
        told = run_list(of_suite)
        parts.append(details(title, told) if parts else f"**{escape(title)}**\n\n{told}")
    return join(*parts).rstrip()


def run_list(runs: Sequence[Run], root: str = "") -> str:
    """A line for each run, noisy ones last."""
    return data_table(RUN_COLUMNS, [_run_line(run, root) for run in sorted(runs, key=is_noisy)])


def _run_line(run: Run, root: str) -> Line:
    n_ok = sum(row["status"] == "ok" for row in run.rows)
    noisy = noisy_share(run)
    return [
        Cell(label_of(run), page=f"{root}{run_page(run)}"),
        machine_of(run),
        ", ".join(map(str, run.header["threads"])),
        Cell(n_ok, f"{n_ok} of {len(run.rows)}"),
        Cell(noisy, f"{percent(noisy, digits=0)}{', noisy' if is_noisy(run) else ''}"),
        _floors(run),
    ]


def _floors(run: Run) -> Cell:
    """The largest floor of a run's cases, with their range as text."""
    floors = [floor for case in run.cases if (floor := run.floor(case)) is not None]
    if not floors:
        return Cell(None, "no A/A pair")
    least, most = percent(min(floors)), percent(max(floors))
    text = least if least == most else f"{least} to {most}"
    return Cell(max(floors), text if run.twins else f"{text}, assumed")


def unreadable(problems: Sequence[Problem]) -> str:
    """A box with the faults of every file that was left out; empty without one."""
    if not problems:
        return ""
    by_path: dict[Path, list[Problem]] = {}
    for problem in problems:
        by_path.setdefault(problem.path, []).append(problem)
    lines = []
    for path, faults in by_path.items():
        lines += [f"    - {code(str(fault))}" for fault in faults[:MOST_FAULTS]]
        if len(faults) > MOST_FAULTS:
            lines.append(f"    - {code(str(path))}: {len(faults) - MOST_FAULTS} faults more")
    return join(
        '!!! failure "Left out: these files could not be read as rows"',
        "    All pages were made without these files. No other file is affected.",
        "\n".join(lines),
    ).rstrip()


def noted(notes: Sequence[Problem]) -> str:
    """A box with the runs that have no rows or are there twice; empty without one."""
    if not notes:
        return ""
    lines = [f"    - {code(str(note))}" for note in notes]
    return join('!!! note "Notes on the files"', "\n".join(lines)).rstrip()


def _published_list(files: Sequence[Run]) -> str:
    lines = [
        f"- {link(file)} ([{escape(file.suite)}]({suite_page(file.suite)})): "
        f"{path_code(file.path.as_posix())}, {len(file.rows)} rows of {len(file.cases)} cases."
        for file in files
    ]
    return "\n".join(lines) or "*No published figures were given.*"


def _machines(runs: Sequence[Run]) -> str:
    """A line for each machine, instruction set and number of threads, with the ceilings there."""
    lines: dict[tuple[str, str | None, int], Line] = {}
    counts: Counter[tuple[str, str | None, int]] = Counter()
    for run in runs:
        machine, simd = run.header["machine"], run.header["providers"].get("simd")
        for threads in run.header["threads"]:
            key = hardware(run.header), simd, threads
            counts[key] += 1
            rates = run.ceilings.get(str(threads)) or {}
            known = (rates.get(name) for name in ("multiply_add_flops_per_s", "memory_bytes_per_s"))
            lines[key] = [full_name(machine), simd or NOTHING, threads, *known]
    if not lines:
        return "*No run has been recorded, so no machine is known.*"
    ordered = sorted(lines.items(), key=lambda pair: (pair[1][0], -pair[0][2], pair[0][1] or ""))
    return data_table(MACHINE_COLUMNS, ([*line, counts[key]] for key, line in ordered))


def run_page_text(run: Run) -> str:
    """The page of one run of any suite: its results first, then how it was made and every row."""
    return join(
        page_title(label_of(run)),
        f"Suite [{escape(run.suite)}](../{suite_page(run.suite)}).",
        origin(run, "../") if run.rows else None,
        *_results(run),
        details("How it was made", facts(run)),
        _folded_notes(run),
        *_every_row(run),
    )


def _results(run: Run) -> list[str]:
    """The summary, the charts, and the findings folded."""
    if not run.rows:
        return ["*The run was stopped before its first case: it has no rows.*"]
    answers = [(finding, outcome) for finding, _, outcome in ask([run])]
    page = PUBLISHED_PAGE if run.is_published else PAGE
    return [
        *answers_of(run),
        run_figures(run, is_whole=False),
        details("Findings: what this run says of each claim", findings_list(answers, "../", page)),
    ]


def answers_of(run: Run) -> list[str]:
    """The tables that answer what a run was made for: ours against others, the worths of an
    attribution, or the means of a suite."""
    if places_of(run):
        return [_titled(worth_table(run, found)) for found in attributions(run)[:1]]
    shown = {name: Place(run, case) for case, name in case_names(run).items()}
    if any(map(against_others, shown.values())):
        return [
            "## Ours against others { #ours-against-others data-search-exclude }",
            against_short(shown),
        ]
    return [_titled(found) for found in [mean_table(run)] if found.rows]


def against_short(shown: Mapping[str, Place], root: str = "") -> str:
    """Ours over the best other: the mean over cases and phases, then each of them, folded where
    they are many. `root` leads to the site's root for the runs to be named too."""
    told = told_of(shown, {})
    ratios = {str(place): said.ratio.value for place, (_, _, said) in enumerate(told)}
    ends = ratio_text(min(ratios.values())), ratio_text(max(ratios.values()))
    mean = geometric_mean(ratios)
    sentence = (
        f"Time, ours / best other: **{mean.value_text()}**, the geometric mean of {mean.n} from "
        f"{ends[0]} to {ends[1]}. Below 1, ours is faster."
    )
    table = against_parts(shown, {}, root) if root else against_table(told)
    if len(told) > MOST_CASES:
        table = details(f"All {mean.n} ratios", table)
    return join(sentence if mean.n > 1 else None, table)


def _titled(found: Table) -> str:
    return measures(found, f"## {escape(found.title)} {NO_SEARCH}")


def _folded_notes(run: Run) -> str:
    told = notes(run)
    return details("Notes", told) if told else ""


def _every_row(run: Run) -> list[str]:
    """Each table, folded."""
    if not run.rows:
        return []
    tables = map(folded, run_tables(run))
    return [*tables, legend(run), rows_block(run)]


def facts(run: Run) -> str:
    """When, by which command, where and with what; of published figures what is known."""
    told = facts_text(run_facts(run), is_markdown=True)
    return f"{told}\n- Folder: {path_code(run.path.as_posix())}"


def notes(run: Run) -> str:
    """What the rows of a run cannot say of themselves, from the file in its folder, as a list;
    empty without it.

    Raises:
        UsageError: the file is no UTF-8.
        OSError: it cannot be read.
    """
    path = run.path / NOTES_NAME
    if run.is_published or not path.is_file():
        return ""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: no UTF-8 from byte {error.start + 1} on") from None
    paragraphs = (paragraph for paragraph in text.split("\n\n") if paragraph.strip())
    return "\n".join(map(list_item, paragraphs))
