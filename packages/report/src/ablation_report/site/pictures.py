"""A static picture of each chart, a file of its own, for pages that run no JavaScript."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ablation_report import charts
from ablation_report.site.figures import NO_SCRIPT, unpacked
from ablation_report.site.folder import claim

FOLDER = "assets/charts"
# Pages of single runs have no pictures, nor has a chart in a folded box: they would be most of the
# site, and a table of the page has their rows
WITHOUT = ("runs", "published")
# What `figures.fragment` writes: the name of the chart, its specification, the sentence for readers
# without JavaScript
CHART = re.compile(
    r'<script type="application/json" data-chart="(?P<name>[^"]+)">(?P<content>.*)</script>\n'
    rf"<noscript>{re.escape(NO_SCRIPT)}</noscript>"
)
# What a picture in an <img> says to nobody, and digits beyond a hundredth of a pixel
_SILENT = re.compile(r' (?:aria-[a-z]+|role|class)="[^"]*"')
_TAG = re.compile(r"<[^>]*>")
_DIGITS = re.compile(r"(\.\d\d)\d+")


def add_pictures(pages: Path) -> int:
    """Draw the open charts of pages into files, name them in the pages, and return their number.

    A browser fetches the file only where it runs no JavaScript.

    Raises:
        ImportError: vl-convert-python is missing; the extra `site` brings it.
    """
    drawn: dict[str, Mapping[str, Any]] = {}
    for page in sorted(pages.rglob("*.md")):
        if page.relative_to(pages).parts[0] in WITHOUT:
            continue
        root = "../" * (len(page.relative_to(pages).parts) - 1)

        def with_picture(match: re.Match[str], root: str = root) -> str:
            before = match.string[: match.start()]
            if before.count("<details") > before.count("</details>"):
                return match[0]
            specification = unpacked(json.loads(match["content"]))
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
        picture = smaller(charts.to_svg(specification))
        (folder / f"{name}.svg").write_text(picture, encoding="utf-8")
    return len(drawn)


def smaller(picture: str) -> str:
    """Return an SVG that draws the same in about half as many bytes."""
    silent = _SILENT.sub("", picture)
    return _TAG.sub(lambda tag: _DIGITS.sub(r"\1", tag[0]), silent)
