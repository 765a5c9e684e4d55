"""Pieces of Markdown that the generated pages are put together from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from ablation_report.escaping import escape, html_text, list_item, path_code
from ablation_report.findings.words import counted
from ablation_report.naming import slug as slug
from ablation_report.sources import Source
from ablation_report.tables import Table


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


def measures(found: Table, title: str | None = None) -> str:
    """Lay out a table of figures, its groups as rows of their own and its notes below.

    `title` is a Markdown heading; without it there is none.
    """
    width = len(found.header)
    rows: list[Sequence[str]] = []
    for name, group in found.groups:
        rows += [[f"**{escape(name)}**", *[""] * (width - 1)]] if name else []
        rows += [[escape(text) for text in row] for row in group]
    parts = [title] if title else []
    parts.append(table([escape(text) for text in found.header], rows))
    parts += ["\n".join(map(list_item, found.notes))] if found.notes else []
    return "\n\n".join(parts)


def details(summary: str, body: str) -> str:
    """Markdown that shows when its summary is clicked."""
    return f'<details markdown="1">\n<summary>{escape(summary)}</summary>\n\n{body}\n\n</details>'


def run_page(source: Source) -> str:
    """The path of a source's own page, from the root of the site."""
    return f"runs/{slug(source.name)}.md"


def origin(source: Source, root: str = "") -> str:
    """Say in a sentence which rows a page was made from; `root` leads to the site's root."""
    link = f"[{escape(source.label)}]({root}{run_page(source)})"
    if source.header is None:
        return f"Rows: {link}, {path_code(source.path.as_posix())}."
    return (
        f"Rows: {link}, {path_code(source.path.as_posix())}, {escape(source.machine)}, "
        f"{counted(source.threads or 0, 'thread')}, {escape(source.header['created_utc'][:10])}."
    )


def rows_of(runs: Iterable[Source]) -> str:
    """A sentence with the runs that a table was made from."""
    links = {run.name: f"[{escape(run.name)}]({run_page(run)})" for run in runs}
    return f"Rows: {', '.join(links.values())}."


def join(*parts: str | None) -> str:
    """Put paragraphs below each other, those there are."""
    return "\n\n".join(part for part in parts if part) + "\n"
