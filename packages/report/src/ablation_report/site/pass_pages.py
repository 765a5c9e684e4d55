"""The page of the passes, from the docstrings of the executor's sources, read as text."""

from __future__ import annotations

import ast
import html
from collections.abc import Sequence
from pathlib import Path

from ablation_report.escaping import escape
from ablation_report.ladder import PARENTS
from ablation_report.site.choose import fuller_run, shown_run
from ablation_report.site.config_pages import all_configs, config_page_path
from ablation_report.site.text import join, run_page, table
from ablation_report.sources import Comparison, Gathered, Source

NO_SOURCES = "*This site was built without the executor's sources: its passes are not known here.*"


def passes_block(folder: Path | None, gathered: Gathered) -> str:
    """A section for each pass in the order in which they run: before -> after, and its worth."""
    if folder is None or not (folder / "__init__.py").is_file():
        return NO_SOURCES + "\n"
    parts = []
    for number, name in enumerate(pipeline(folder / "__init__.py"), start=1):
        first, _, rest = docstring(folder / f"{name}.py").partition("\n\n")
        parts += [
            f"## {number}. {name} {{ #{name} }}",
            "```text\n" + "\n".join(rewrites(first)) + "\n```",
            escape_paragraphs(rest),
            worth(name, gathered),
        ]
    return join(*parts)


def pipeline(path: Path) -> list[str]:
    """The names of the tuple PIPELINE of a source file; ValueError where it has none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.AnnAssign)
            and isinstance(node.target, ast.Name)
            and node.target.id == "PIPELINE"
            and isinstance(node.value, ast.Tuple)
        ):
            return [entry.id for entry in node.value.elts if isinstance(entry, ast.Name)]
    raise ValueError(f"{path}: no tuple PIPELINE")


def docstring(path: Path) -> str:
    """The docstring of a source file; ValueError where it has none."""
    found = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not found:
        raise ValueError(f"{path}: no docstring")
    return found


def rewrites(paragraph: str) -> list[str]:
    """Take the first paragraph of a pass's docstring apart: a rewrite a line."""
    return [part.removesuffix(".") for part in " ".join(paragraph.split()).split("; ")]


def escape_paragraphs(text: str) -> str:
    """Paragraphs of this project's own sources as Markdown, their marks for code kept."""
    lines = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return "\n\n".join(html.escape(line, quote=False) for line in lines if line)


def worth(name: str, gathered: Gathered) -> str:
    """What the rung that adds this pass alone is worth at each config, by the run it shows."""
    rows = []
    for config in all_configs(gathered):
        runs = [shown_run(gathered, config), fuller_run(gathered, config)]
        rows += [
            [
                f"[{escape(config)}]({config_page_path(config)})",
                escape(run.printed(found.variant)),
                escape(run.printed(found.base)),
                f"{found.ratio.median:.3f}x",
                found.verdict,
                f"[{escape(run.name)}]({run_page(run)})",
            ]
            for run in runs
            if run
            for found in _added(run, config, name)
        ]
    if not rows:
        return "*No run that this site shows has the rung that adds it beside the rung below.*"
    return table(["Config", "Rung", "over", "Time", "Verdict", "Run"], rows, n_left=3)


def _added(run: Source, config: str, name: str) -> Sequence[Comparison]:
    """The rungs of a run whose passes are those of the rung below and this one."""
    found = []
    for variant in PARENTS:
        cell, base = run.cell(config, variant), run.parent(config, variant)
        below = run.cell(config, base) if base else None
        if cell is None or below is None or cell["executor"] != below["executor"]:
            continue
        if set(cell["passes"] or ()) - set(below["passes"] or ()) == {name}:
            comparison = run.compare(config, variant, base)
            found += [comparison] if comparison else []
    return found
