"""Alternatives of a page: a block for each machine or size, of which a script shows the chosen."""

from __future__ import annotations

from ablation_report.escaping import attribute


def section(body: str, machine: str | None = None, size: str | None = None) -> str:
    """Mark Markdown as what a page says of a machine, of a size, or of a size in a machine.

    `assets/choices.js` reads both names from the address; without scripts all are shown.
    """
    named = {"machine": machine, "size": size}
    marks = "".join(
        f' data-{key}="{attribute(name)}"' for key, name in named.items() if name is not None
    )
    return f'<section{marks} markdown="1">\n\n{body.rstrip()}\n\n</section>'
