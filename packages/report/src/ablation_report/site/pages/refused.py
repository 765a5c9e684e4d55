"""Why a fusion was refused: graphs that the passes leave as they are, with the reason they print.

The executor's passes are asked when the page is built, so that no reason is written twice.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ablation_report.escaping import code, escape, list_item
from ablation_report.site.data_table import Cell, Column, data_table
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import details, join, slug

NO_EXECUTOR = (
    "*This site was built without the executor, whose passes give the reasons: `nox -s docs` "
    "installs it.*"
)
COLUMNS = (
    Column("What the passes print", is_left=True, is_prose=True, name="reason"),
    Column("Where it comes from", is_left=True, is_prose=True, name="example"),
)
# A reason is a sentence; a word alone is the name of something
_LEAST_WORDS = 3


def refused_block(inputs: Inputs) -> str:
    """A table of reasons, a section for each with its graph and what to change, and all others."""
    examples = _examples()
    if examples is None:
        return NO_EXECUTOR + "\n"
    refused = [(example, *example.run()) for example in examples]
    lines = [
        [place.reason, Cell(example.what, page=f"#{slug(example.what)}")]
        for example, _, place in refused
    ]
    return join(
        data_table(COLUMNS, lines),
        *(_section(*each) for each in refused),
        _others(inputs.passes),
    )


def _examples() -> Sequence[Any] | None:
    """The examples of the installed executor; None where there is none."""
    try:
        module = importlib.import_module("ablation_executor.refused_fusions")
    except ImportError:
        return None
    examples: Sequence[Any] = module.EXAMPLES
    return examples


def _section(example: Any, graph: Any, place: Any) -> str:
    """The graph as it is written, the line of the log, and the way out."""
    return join(
        f"## {escape(example.what)} {{ #{slug(example.what)} }}",
        f"```text\n{graph}\n```",
        f"The log: {code(f'{place.kind} {place.name}: {place}')}",
        f"What to change: {_inline(example.change)}",
    ).rstrip()


def _inline(text: str) -> str:
    """Write a text of this project, its marks for code kept."""
    parts = text.split("`")
    return "".join(code(part) if i % 2 else escape(part) for i, part in enumerate(parts))


def _others(passes: Path | None) -> str:
    """Every reason that the sources of the passes can give, folded; empty without sources."""
    if passes is None or not passes.is_dir():
        return ""
    found = {path.stem.lstrip("_"): list(reasons(path)) for path in sorted(passes.glob("*.py"))}
    lists = (
        f"**{escape(name.replace('_', ' '))}**\n\n" + "\n".join(map(list_item, told))
        for name, told in found.items()
        if told
    )
    return details("Every reason in the sources of the passes", "\n\n".join(lists))


def reasons(path: Path) -> Iterator[str]:
    """The sentences that functions of a source file return, in their order; "..." stands for what
    the graph says."""
    known = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = _sentence(node.value) if isinstance(node, ast.Return) else ""
        if len(text.split()) >= _LEAST_WORDS and text not in known:
            known.add(text)
            yield text


def _sentence(value: ast.expr | None) -> str:
    """The text of a literal, or of a formatted one."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    if isinstance(value, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "..." for part in value.values
        )
    if isinstance(value, ast.IfExp):
        return _sentence(value.body) or _sentence(value.orelse)
    return ""
