"""The generated blocks of the README: one result, ours against others by size, and one long table.

Each stands between `<!-- generated: NAME -->` and `<!-- end -->`: the README is read where nothing
fills it in. `refresh` replaces them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from ablation_report.escaping import escape
from ablation_report.machines import machine_of
from ablation_report.output import UsageError
from ablation_report.run import BLOCK, Run
from ablation_report.site.choose import against_others, by_evidence, is_whole, ladder, places
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.home import headline, machines_shown
from ablation_report.site.pages.league import CALL_TITLE, NO_OTHER, against_markdown
from ablation_report.site.pages.performance import BEYOND
from ablation_report.site.text import setting_title
from ablation_report.tables import threads_text
from ablation_report.tables.block import case_tables

MARK = re.compile(r"<!-- generated: (\S+) -->\n.*?<!-- end -->", re.DOTALL)
# The config of the long table
CONFIG = "GPT-2"


def refresh(path: Path, inputs: Inputs) -> bool:
    """Write the blocks of a README anew; return whether that changed it.

    Raises:
        UsageError: it asks for a block that does not exist.
        OSError: it cannot be read or written.
    """
    text = path.read_text(encoding="utf-8")
    filled = fill(text, inputs)
    if filled != text:
        path.write_text(filled, encoding="utf-8")
    return filled != text


def fill(text: str, inputs: Inputs) -> str:
    """Return a README with its blocks made from the rows.

    Raises:
        UsageError: it asks for a block that does not exist.
    """

    def block(match: re.Match[str]) -> str:
        name = match[1]
        if name not in README_BLOCKS:
            known = ", ".join(README_BLOCKS)
            raise UsageError(f"README: no generated block {name!r}; there are {known}")
        return f"<!-- generated: {name} -->\n{README_BLOCKS[name](inputs)}\n<!-- end -->"

    return MARK.sub(block, text)


def result(inputs: Inputs) -> str:
    """One sentence: ours against the fastest other runtime, on the machine that resolves most."""
    found = machines_shown(inputs)
    if not found:
        return NO_OTHER
    name, setting, shown = found[0]
    said = headline(shown)
    made = f"{name}, {threads_text(setting.threads)}, float32"
    return (
        f"**{said.mean.value_text()}**: {escape(said.sentence())}. Below 1, ours is faster. "
        f"Measured on: {escape(made)}."
    )


def sizes(inputs: Inputs) -> str:
    """Ours against the fastest other runtime by size, on the same machine."""
    found = machines_shown(inputs)
    if not found:
        return NO_OTHER
    _, setting, shown = found[0]
    lines = (
        (name, place.run, said) for name, place in shown.items() for said in against_others(place)
    )
    runs = {place.run.name: _folder(place.run) for place in shown.values()}
    title = f"{CALL_TITLE}{escape(setting_title(setting))}:"
    return f"{title}\n\n{against_markdown(lines)}\n\nRows: {', '.join(runs.values())}."


def long_table(inputs: Inputs) -> str:
    """The table of one config, from the run whose ladder goes furthest and resolves most."""
    found = [
        place
        for place in places(inputs.recorded(BLOCK), CONFIG)
        if is_whole(place) and any(row["group"] == BEYOND for row in place.rows)
    ]
    if not found:
        return f"*No run has been recorded with the group {BEYOND} at {CONFIG}.*"
    place = by_evidence(found, ladder)[0]
    text = case_tables(replace(place.run, rows=place.rows))[0].text()
    made = f"{machine_of(place.run)}, {threads_text(place.threads)}"
    return f"```\n{text}\n```\n\nRows: {_folder(place.run)}, {escape(made)}."


def _folder(run: Run) -> str:
    return f"[{escape(run.name)}](data/runs/{run.path.name})"


README_BLOCKS: Mapping[str, Callable[[Inputs], str]] = {
    "result": result,
    "sizes": sizes,
    "table": long_table,
}
