"""Runs and machines: what could not be read, what there is, and a page for each run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ablation_report.escaping import code, escape, list_item, path_code
from ablation_report.machines import full_name, machine_of
from ablation_report.output import UsageError
from ablation_report.reading import Problem
from ablation_report.run import Run
from ablation_report.site.choose import noisy_share
from ablation_report.site.figures import run_figures
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.findings import ask, findings_list
from ablation_report.site.text import (
    banners,
    join,
    label_of,
    legend,
    link,
    measures,
    page_title,
    suite_page,
    table,
)
from ablation_report.tables import facts as run_facts
from ablation_report.tables import facts_text, percent, run_tables

# A file with more faults than this is damaged as a whole; `ablation-report check` lists them all
MOST_FAULTS = 8
NOTES_NAME = "NOTES.md"
_LIST_HEADER = ["Run", "Machine", "Threads", "Timed", "Noisy", "Floor"]


def runs_block(inputs: Inputs) -> str:
    """Every run by its suite and every machine; what could not be read stands first."""
    recorded, own = inputs.recorded(), inputs.own()
    return join(
        unreadable(inputs.gathered.problems),
        noted(inputs.gathered.notes),
        "## Your machine" if own else None,
        run_lists(own) if own else None,
        "## Recorded",
        run_lists(recorded) if recorded else "*No run has been recorded.*",
        "## Published",
        _published_list(inputs.published()),
        "## Machines",
        _machines([*recorded, *own]),
    )


def run_lists(runs: Sequence[Run]) -> str:
    """The list of the runs of each suite."""
    parts = []
    for suite in dict.fromkeys(run.suite for run in runs):
        parts.append(f"**[{escape(suite)}]({suite_page(suite)})**")
        parts.append(run_list([run for run in runs if run.suite == suite]))
    return join(*parts).rstrip()


def run_list(runs: Sequence[Run], root: str = "") -> str:
    """A line for each run."""
    return table(_LIST_HEADER, (_run_line(run, root) for run in runs), n_left=2)


def _run_line(run: Run, root: str) -> list[str]:
    n_ok = sum(row["status"] == "ok" for row in run.rows)
    return [
        link(run, root),
        escape(machine_of(run)),
        ", ".join(map(str, run.header["threads"])),
        f"{n_ok} of {len(run.rows)}",
        percent(noisy_share(run), digits=0),
        _floors(run),
    ]


def _floors(run: Run) -> str:
    """Write the range of the floors of a run's cases."""
    floors = [floor for case in run.cases if (floor := run.floor(case)) is not None]
    if not floors:
        return "no A/A pair"
    least, most = percent(min(floors)), percent(max(floors))
    text = least if least == most else f"{least} to {most}"
    return text if run.twins else f"{text}, assumed"


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
        "    Every page of this site was made without them. The others are not concerned.",
        "\n".join(lines),
    ).rstrip()


def noted(notes: Sequence[Problem]) -> str:
    """A box with the runs that have no rows or are there twice; empty without one."""
    if not notes:
        return ""
    lines = [f"    - {code(str(note))}" for note in notes]
    return join('!!! note "To be known of what was read"', "\n".join(lines)).rstrip()


def _published_list(files: Sequence[Run]) -> str:
    lines = [
        f"- {link(file)} ([{escape(file.suite)}]({suite_page(file.suite)})): "
        f"{path_code(file.path.as_posix())}, {len(file.rows)} rows of {len(file.cases)} cases."
        for file in files
    ]
    return "\n".join(lines) or "*No published figures were given.*"


def _machines(runs: Sequence[Run]) -> str:
    """A line for each machine that a run names, with what it could do at best."""
    chosen: dict[str, Run] = {}
    for run in runs:
        key = f"{full_name(run.header['machine'])} {run.header['providers']}"
        # Of several runs the highest ceiling is the machine's
        if key not in chosen or _rate(run) > _rate(chosen[key]):
            chosen[key] = run
    if not chosen:
        return "*No machine is known: the runs name it, and there is none.*"
    columns = ["Machine", "Providers", "Ceilings"]
    facts_of = map(run_facts, chosen.values())
    return table(columns, ([escape(told[name]) for name in columns] for told in facts_of), n_left=3)


def _rate(run: Run) -> float:
    found = run.ceilings.values()
    return max((rates.get("multiply_add_flops_per_s") or 0.0 for rates in found), default=0.0)


def run_page_text(run: Run) -> str:
    """The page of one run of any suite: how it was made, its charts, tables and findings."""
    return join(
        page_title(label_of(run)),
        banners([run]),
        f"A run of [{escape(run.suite)}](../{suite_page(run.suite)}).",
        facts(run),
        notes(run),
        *_contents(run),
    )


def _contents(run: Run) -> list[str]:
    if not run.rows:
        return ["*It was stopped before its first case: nothing can be said.*"]
    answers = [(finding, outcome) for finding, _, outcome in ask([run])]
    drawn = run_figures(run)
    return [
        "## Findings",
        findings_list(answers, "../"),
        *(["## Charts", drawn] if drawn else []),
        *(measures(found, f"## {escape(found.title)}") for found in run_tables(run)),
        legend(run),
    ]


def facts(run: Run) -> str:
    """When, by which command, where and with what; of published figures what is known."""
    told = facts_text(run_facts(run), is_markdown=True)
    return f"{told}\n- Folder: {path_code(run.path.as_posix())}"


def notes(run: Run) -> str:
    """What the rows of a run cannot say of themselves, from the file in its folder; empty without
    it.

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
    return join("## Notes", "\n".join(map(list_item, paragraphs))).rstrip()
