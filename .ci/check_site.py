"""Check a built site: nothing loaded from another host, native functions shown, all pages built."""

from __future__ import annotations

import re
import sys
import tomllib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

# What a browser fetches by itself when it opens the page; ordinary links may lead anywhere
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
NAVIGATION = {"canonical", "next", "prev", "alternate", "edit"}
REMOTE = ("http:", "https:", "//")
STYLE_LOADS = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')\s]+)""")
# The identifier of a function that only the compiled module has
NATIVE_ANCHOR = 'id="ablation_kernels.softmax"'


class Loads(HTMLParser):
    """Collects what a page fetches: addresses on another host, and files beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []
        self.local: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        address = values.get(LOADED.get(tag, ""))
        relations = set((values.get("rel") or "").split())
        if not address or (tag == "link" and relations <= NAVIGATION):
            return
        if address.startswith(REMOTE):
            self.remote.append(f"<{tag}> {address}")
        elif not address.startswith("data:"):
            self.local.append(address.partition("?")[0].partition("#")[0])


def problems(site: Path, config: Path) -> list[str]:
    """Return one sentence for each fault of the site that was built from this configuration."""
    pages = sorted(site.rglob("*.html"))
    if not pages:
        return [f"{site}: no page was built"]
    found = []
    shows_native = False
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loads = Loads()
        loads.feed(text)
        found += [f"{page}: loads {address}" for address in loads.remote]
        # The page of errors is written for a server, with paths from its root
        if page.name != "404.html":
            found += [f"{page}: no file {p}" for p in loads.local if not (page.parent / p).exists()]
        shows_native = shows_native or NATIVE_ANCHOR in text
    for style in sorted(site.rglob("*.css")):
        addresses = STYLE_LOADS.findall(style.read_text(encoding="utf-8"))
        found += [f"{style}: loads {address}" for address in addresses]
    if not shows_native:
        found.append(f"{site}: no page has {NATIVE_ANCHOR}: the wheel's stub was not read")
    navigation = tomllib.loads(config.read_text(encoding="utf-8"))["project"]["nav"]
    for page_name in named_pages(navigation):
        if not (site / page_name).with_suffix(".html").is_file():
            found.append(f"{site}: no page {page_name}, which the navigation names")
    return found


def named_pages(entries: list[dict[str, Any]]) -> list[str]:
    """Return the pages that a navigation names."""
    found = []
    for entry in entries:
        for target in entry.values():
            found += [target] if isinstance(target, str) else named_pages(target)
    return found


if __name__ == "__main__":
    faults = problems(Path(sys.argv[1]), Path(sys.argv[2]))
    for sentence in faults:
        print(sentence, file=sys.stderr)
    sys.exit(1 if faults else 0)
