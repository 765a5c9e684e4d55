"""Pieces of Markdown that the generated pages are put together from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from ablation_report.escaping import attribute, escape, html_text, list_item, path_code
from ablation_report.findings.text import label_of as label_of
from ablation_report.machines import machine_of
from ablation_report.naming import slug as slug
from ablation_report.run import Run
from ablation_report.site.choose import Setting, created, is_noisy
from ablation_report.site.data_table import Column, data_table, stored_table
from ablation_report.tables import Table, busy_note, run_warning, threads_text, times_note
from ablation_report.tables import legend as legend_of

# A longer name of a row, as of two runs, may go on in a second line
LONG_NAME = 60


def page_title(name: str) -> str:
    """The heading of a page with this name, and where it needs one, the title of its window.

    The theme prints the title of a window as HTML that it has decoded once, except one that the
    page itself gives.
    """
    shown = html_text(name)
    front = f"---\ntitle: {json.dumps(shown)}\n---\n\n" if shown != name else ""
    return f"{front}# {escape(name)}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], n_left: int = 1) -> str:
    """Lay out cells of Markdown as a table, the first `n_left` columns to the left."""
    marks = ["---" if i < n_left else "---:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, marks, *rows))


def folded(found: Table) -> str:
    """Lay out a table of figures in a box that shows it when its title is clicked."""
    return details(found.title, measures(found, is_folded=True))


def measures(found: Table, title: str | None = None, is_folded: bool = False) -> str:
    """Lay out a table of figures, its warnings above, its groups under headings, its notes below.

    `title` is a Markdown heading; without it there is none. A table that is folded is stored in
    fewer bytes.
    """
    is_long = any(len(row[0]) > LONG_NAME for row in found.rows)
    columns = [
        Column(text, is_left=i == 0, is_prose=i == 0 and is_long)
        for i, text in enumerate(found.header)
    ]
    groups: dict[str, list[Sequence[str]]] = {}
    for name, group in found.groups:
        groups.setdefault(name, []).extend(group)
    parts = [title] if title else []
    parts += [f"**{escape(warning)}**" for warning in found.warnings]
    parts.append((stored_table if is_folded else data_table)(columns, groups))
    parts += ["\n".join(map(list_item, found.notes))] if found.notes else []
    return "\n\n".join(parts)


def details(summary: str, body: str) -> str:
    """Markdown that shows when its summary is clicked; the search does not read it."""
    begin = f'<details markdown="1" data-search-exclude>\n<summary>{escape(summary)}</summary>'
    return f"{begin}\n\n{body}\n\n</details>"


def run_page(run: Run) -> str:
    """The path of a run's own page, from the root of the site."""
    if run.is_published:
        return f"published/{slug(run.suite)}-{slug(run.name)}.md"
    return f"runs/{slug(run.name)}.md"


def suite_page(suite: str) -> str:
    """The path of a suite's page, from the root of the site."""
    return f"suites/{slug(suite)}.md"


def link(run: Run, root: str = "") -> str:
    """A link to the page of a run; `root` leads to the site's root."""
    return f"[{escape(label_of(run))}]({root}{run_page(run)})"


def origin(run: Run, root: str = "") -> str:
    """Say in a sentence which rows a page was made from, and in a box whether they are noisy."""
    parts = [link(run, root), path_code(run.path.as_posix()), escape(machine_of(run))]
    if not run.is_published:
        parts += [threads_text(max(run.header["threads"])), escape(created(run)[:10])]
    return join(banners([run]), f"Rows: {', '.join(parts)}.").rstrip()


def banners(runs: Iterable[Run]) -> str:
    """Boxes for each run that is too noisy to use, has many noisy times, or was disturbed."""
    boxes = []
    for run in once(runs):
        notes = (("note", times_note(run)), ("warning", busy_note(run)))
        for kind, text in (("warning", run_warning(run)), *notes):
            if text is not None:
                title, _, body = text.partition(": ")
                boxes.append(
                    f'!!! {kind} "{attribute(run.name)}: {title.lower()}"\n    {escape(body)}.'
                )
    return "\n\n".join(boxes)


def once(runs: Iterable[Run]) -> list[Run]:
    """Runs in their order, each once."""
    return list({run.name: run for run in runs}.values())


def rows_of(runs: Iterable[Run], root: str = "") -> str:
    """A sentence with the runs that a table was made from."""
    links = (f"{link(run, root)}{_flaw(run)}" for run in once(runs))
    return f"Rows: {', '.join(links)}."


def _flaw(run: Run) -> str:
    return " (noisy)" if is_noisy(run) else " (disturbed)" if run.is_disturbed else ""


def setting_title(setting: Setting) -> str:
    """What the cases of a setting have in common: machine, threads, instruction set, layers,
    batch."""
    layers = f", {setting.layers} layers" if setting.layers != 1 else ""
    layers += f", batch {setting.batch}" if setting.batch != 1 else ""
    simd = setting.simd or "no SIMD"
    return f"{setting.machine}, {threads_text(setting.threads)}, {simd}{layers}"


def legend(run: Run) -> str:
    """What the columns of a run's tables mean."""
    return details("What the columns mean", escape(" ".join(legend_of(run))))


def join(*parts: str | None) -> str:
    """Put paragraphs below each other, those there are."""
    return "\n\n".join(part for part in parts if part) + "\n"
