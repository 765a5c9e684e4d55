"""A static picture of each chart, a file of its own, for pages that run no JavaScript."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablation_report import charts
from ablation_report.site.figures import NO_SCRIPT
from ablation_report.site.folder import claim

FOLDER = "assets/charts"
# What `figures.fragment` writes: the name of the chart, its specification, the sentence for readers
# without JavaScript
CHART = re.compile(
    r'<script type="application/json" data-chart="(?P<name>[^"]+)">(?P<content>.*)</script>\n'
    rf"<noscript>{re.escape(NO_SCRIPT)}</noscript>"
)


def add_pictures(pages: Path) -> int:
    """Draw every chart of every page into a file, name it in the page, and return their number.

    A browser fetches the file only where it runs no JavaScript.

    Raises:
        ImportError: vl-convert-python is missing; the extra `site` brings it.
    """
    drawn: dict[str, Mapping[str, Any]] = {}
    for page in sorted(pages.rglob("*.md")):
        root = "../" * (len(page.relative_to(pages).parts) - 1)

        def with_picture(match: re.Match[str], root: str = root) -> str:
            specification = json.loads(match["content"])
            name, number = match["name"], 1
            # The anchors of run "a b", config "c" and of run "a", config "b c" are the same
            while drawn.setdefault(name, specification) != specification:
                number += 1
                name = f"{match['name']}-{number}"
            image = f'<img src="{root}{FOLDER}/{name}.svg" alt="{NO_SCRIPT}">'
            return match[0].replace(NO_SCRIPT, image)

        text = page.read_text(encoding="utf-8")
        replaced = CHART.sub(with_picture, text)
        if replaced != text:
            page.write_text(replaced, encoding="utf-8")
    folder = pages / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    claim(pages, [f"{FOLDER}/{name}.svg" for name in drawn])
    for name, specification in drawn.items():
        (folder / f"{name}.svg").write_text(charts.to_svg(specification), encoding="utf-8")
    return len(drawn)
