"""Check a built site: nothing loaded from another host, all pages built, and a reference of all
three packages, native functions included, read from installed wheels."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from typing import Any

# What a browser fetches by itself when it opens the page; ordinary links may lead anywhere
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
NAVIGATION = {"canonical", "next", "prev", "alternate", "edit"}
REMOTE = ("http:", "https:", "//")
STYLE_LOADS = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')\s]+)""")
# Functions that the reference must show, by distribution; those of the kernels are native
DOCUMENTED = {
    "ablation-kernels": ("ablation_kernels.softmax", "ablation_kernels.Program.run_timed"),
    "ablation-executor": (
        "ablation_executor.exporter.export",
        "ablation_executor.compiler.compile",
    ),
    "ablation-report": ("ablation_report.run.Run.compare", "ablation_report.load.gather"),
}


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
    missing = {f'id="{name}"' for names in DOCUMENTED.values() for name in names}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loads = Loads()
        loads.feed(text)
        found += [f"{page}: loads {address}" for address in loads.remote]
        # The page of errors is written for a server, with paths from its root
        if page.name != "404.html":
            found += [f"{page}: no file {p}" for p in loads.local if not (page.parent / p).exists()]
        missing -= {anchor for anchor in missing if anchor in text}
    for style in sorted(site.rglob("*.css")):
        addresses = STYLE_LOADS.findall(style.read_text(encoding="utf-8"))
        found += [f"{style}: loads {address}" for address in addresses]
    found += [f"{site}: no page has {anchor}" for anchor in sorted(missing)]
    project = tomllib.loads(config.read_text(encoding="utf-8"))["project"]
    found += installed_faults(project["plugins"]["mkdocstrings"]["handlers"]["python"])
    for page_name in named_pages(project["nav"]):
        if not (site / page_name).with_suffix(".html").is_file():
            found.append(f"{site}: no page {page_name}, which the navigation names")
    return found


def installed_faults(handler: dict[str, Any]) -> list[str]:
    """Return why the reference may be of something else than the installed wheels."""
    found = [
        f"the reference is read from {path}, not from a wheel" for path in handler.get("paths", ())
    ]
    for name in DOCUMENTED:
        try:
            origin = metadata.distribution(name).read_text("direct_url.json")
        except metadata.PackageNotFoundError:
            found.append(f"{name} is not installed")
            continue
        # A wheel that was given by its path says so; a folder of sources has dir_info instead
        if "archive_info" not in json.loads(origin or "{}"):
            found.append(f"{name} was not installed from a wheel: {origin}")
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
