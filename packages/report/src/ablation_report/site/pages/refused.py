"""Why a fusion was refused: graphs that the passes leave as they are, with the reason they print.

The executor's passes are asked when the page is built, so that no reason is written twice.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from ablation_report.escaping import code, escape
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import details, join

NO_EXECUTOR = (
    "*This site was built without the executor, whose passes give the reasons: `nox -s docs` "
    "installs it.*"
)


def refused_block(inputs: Inputs) -> str:
    """A folded section for each pass: every reason with its graph and what to change."""
    examples = _examples()
    if examples is None:
        return NO_EXECUTOR + "\n"
    by_pass: dict[str, list[str]] = {}
    for example in examples:
        by_pass.setdefault(example.pass_name, []).append(_section(example, *example.run()))
    return join(
        *(
            details(f"{name}: {len(told)} reason{'s' if len(told) > 1 else ''}", join(*told))
            for name, told in by_pass.items()
        )
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
    """The line of the log, the graph as it is written, and the way out."""
    return join(
        f"**{escape(example.what)}**",
        f"The log: {code(f'{place.kind} {place.name}: {place}')}",
        f"```text\n{graph}\n```",
        f"What to change: {_inline(example.change)}",
    ).rstrip()


def _inline(text: str) -> str:
    """Write a text of this project, its marks for code kept."""
    parts = text.split("`")
    return "".join(code(part) if i % 2 else escape(part) for i, part in enumerate(parts))
