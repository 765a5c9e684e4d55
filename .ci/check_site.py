"""Check that a built site loads nothing from another host, and that native functions are shown."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path

# What a browser fetches by itself when it opens the page; ordinary links may lead anywhere
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
NAVIGATION = {"canonical", "next", "prev", "alternate", "edit"}
# The identifier of a function that only the compiled module has
NATIVE_ANCHOR = 'id="ablation_kernels.softmax"'


class Loads(HTMLParser):
    """Collects the addresses that a page fetches from another host."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        address = values.get(LOADED.get(tag, ""))
        relations = set((values.get("rel") or "").split())
        is_navigation = tag == "link" and relations <= NAVIGATION
        if address and not is_navigation and address.startswith(("http:", "https:", "//")):
            self.remote.append(f"<{tag}> {address}")


def problems(site: Path) -> list[str]:
    """Return one sentence for each fault of the site in this folder."""
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
        shows_native = shows_native or NATIVE_ANCHOR in text
    if not shows_native:
        found.append(f"{site}: no page has {NATIVE_ANCHOR}: the wheel's stub was not read")
    return found


if __name__ == "__main__":
    faults = problems(Path(sys.argv[1]))
    for sentence in faults:
        print(sentence, file=sys.stderr)
    sys.exit(1 if faults else 0)
