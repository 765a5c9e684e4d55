"""What others show of a page that is linked to: a description and a picture, as its front matter.

The theme writes them into the head of the page (`assets/theme/main.html`).
"""

from __future__ import annotations

import html
import importlib
import json
import re
from collections.abc import Mapping
from pathlib import Path

from ablation_report.escaping import html_text
from ablation_report.site.folder import claim
from ablation_report.site.pictures import FOLDER as PICTURES

FOLDER = "assets/cards"
# What search engines and messengers show of a description
MOST_LETTERS = 160
# Pixels of a picture for each of the chart: enough for a preview
SCALE = 0.5
HOME = "index.md"

_FRONT = re.compile(r"\A---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)
# A paragraph that begins like this is a heading, a box, a table, a list, a picture or HTML
_NO_PROSE = re.compile(r"[#!|<>\-*`~\d:= ]")
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_TAG = re.compile(r"<[^>]+>|\{[^}]*\}")
_PICTURE = re.compile(rf'<img src="(?:\.\./)*{PICTURES}/([^"]+)\.svg"')


def add_cards(pages: Path) -> int:
    """Give every page its description and picture, and return the number of the pictures.

    A page without a chart has the picture of the first page.

    Raises:
        ImportError: vl-convert-python is missing; the extra `site` brings it.
    """
    texts = {page: page.read_text(encoding="utf-8") for page in sorted(pages.rglob("*.md"))}
    first = _picture(texts.get(pages / HOME, ""))
    chosen = {page: _picture(text) or first for page, text in texts.items()}
    for page, text in texts.items():
        picture = f"{FOLDER}/{chosen[page]}.png" if chosen[page] else ""
        found = {"description": html_text(description(text)), "picture": picture}
        told = {name: value for name, value in found.items() if value}
        page.write_text(with_front(text, told), encoding="utf-8")
    return _draw(pages, sorted(filter(None, set(chosen.values()))))


def _picture(text: str) -> str:
    found = _PICTURE.search(text)
    return found[1] if found else ""


def _draw(pages: Path, names: list[str]) -> int:
    converter = importlib.import_module("vl_convert")
    (pages / FOLDER).mkdir(parents=True, exist_ok=True)
    claim(pages, [f"{FOLDER}/{name}.png" for name in names])
    for name in names:
        picture = (pages / PICTURES / f"{name}.svg").read_text(encoding="utf-8")
        (pages / FOLDER / f"{name}.png").write_bytes(converter.svg_to_png(picture, scale=SCALE))
    return len(names)


def description(text: str) -> str:
    """Return the first paragraph of prose of a page as plain text, cut at a word; empty without."""
    body = _FRONT.sub("", text)
    paragraphs = (paragraph.strip("\n") for paragraph in body.split("\n\n"))
    prose = next((each for each in paragraphs if each and not _NO_PROSE.match(each)), "")
    plain = html.unescape(_TAG.sub("", _LINK.sub(r"\1", prose)))
    words = " ".join(re.sub(r"[`*]", "", plain).split())
    if len(words) <= MOST_LETTERS:
        return words
    return f"{words[:MOST_LETTERS].rsplit(' ', 1)[0].rstrip(',;:.')} ..."


def with_front(text: str, found: Mapping[str, str]) -> str:
    """Return a page with these entries in its front matter, without those that it has already."""
    match = _FRONT.match(text)
    front = match[1] if match else ""
    body = text[match.end() :] if match else f"\n{text}"
    present = {line.partition(":")[0] for line in front.splitlines()}
    lines = [f"{name}: {json.dumps(told)}\n" for name, told in found.items() if name not in present]
    return f"---\n{front}{''.join(lines)}---\n{body}"
