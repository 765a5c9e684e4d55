"""The page of the passes, from the docstrings of the executor's sources, read as text."""

from __future__ import annotations

import ast
import html
from pathlib import Path

from ablation_report.run import BLOCK, Comparison
from ablation_report.site.choose import Place, by_evidence, places
from ablation_report.site.data_table import Cell, Column, Line, data_table
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.league import ratio_cell
from ablation_report.site.text import join, run_page
from ablation_report.tables.layout import times

WORTH = (
    *(Column(title, is_left=True) for title in ("Config", "Rung", "over")),
    Column("Time, rung / over", times, name="ratio"),
    Column("Run", is_left=True, name="run"),
)
NO_SOURCES = "*This site was built without the executor's sources: its passes are not known here.*"


def passes_block(inputs: Inputs) -> str:
    """A section for each pass in the order in which they run: before -> after, and its worth."""
    folder = inputs.passes
    if folder is None or not (folder / "__init__.py").is_file():
        return NO_SOURCES + "\n"
    parts = []
    for number, name in enumerate(pipeline(folder / "__init__.py"), start=1):
        first, _, rest = docstring(folder / f"{name}.py").partition("\n\n")
        parts += [
            f"## {number}. {name} {{ #{name} }}",
            "```text\n" + "\n".join(rewrites(first)) + "\n```",
            escape_paragraphs(rest),
            worth(name, inputs),
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


def worth(name: str, inputs: Inputs) -> str:
    """What the rung that adds this pass alone is worth at each config, by the run that says most
    of it."""

    def added(place: Place) -> list[Comparison]:
        return _added(place, name)

    lines: list[Line] = []
    for config, page in inputs.configs.items():
        found = filter(added, places(inputs.recorded(BLOCK), config))
        for place in by_evidence(found, added)[:1]:
            lines += [
                [
                    Cell(config, page=page),
                    *(row["printed_name"] for row in (said.row, said.base)),
                    ratio_cell(said),
                    Cell(place.run.name, page=run_page(place.run)),
                ]
                for said in added(place)
            ]
    if not lines:
        return "*No recorded run has the rung that adds this pass together with its parent.*"
    return data_table(WORTH, lines)


def _added(place: Place, name: str) -> list[Comparison]:
    """The rungs of a case whose passes are those of the rung below and this one."""
    found = []
    for row in place.rows:
        below = place.run.row(place.case, row["parent"], row["phase"])
        if below is None or row["factors"].get("executor") != below["factors"].get("executor"):
            continue
        if set(row["passes"] or ()) - set(below["passes"] or ()) == {name}:
            comparison = place.run.compare(row, below)
            found += [comparison] if comparison else []
    return found
