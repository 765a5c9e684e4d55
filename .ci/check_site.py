"""Check a built site: nothing loaded from another host, all pages built, no link into nothing, its
size, and a reference of all three packages, native functions included, read from installed wheels.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

# What a browser fetches by itself when it opens the page; ordinary links may lead anywhere
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
NAVIGATION = {"canonical", "next", "prev", "alternate", "edit"}
REMOTE = ("http:", "https:", "//")
STYLE_LOADS = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])((?:https?:)?//[^"')\s]+)""")
# Bytes of the site, of a page without the data of its charts, and of what the search reads
MOST_SITE, MOST_PAGE, MOST_SEARCH = 25_000_000, 1_500_000, 400_000
SEARCH = "search.js*"
CHART_DATA = re.compile(r"<script [^>]*data-chart=.*?</script>", re.DOTALL)
# Functions that the reference must show, by distribution; those of the kernels are native
DOCUMENTED = {
    "ablation-kernels": ("ablation_kernels.softmax", "ablation_kernels.Program.run_timed"),
    "ablation-executor": ("ablation_executor.export", "ablation_executor.compare"),
    "ablation-report": ("ablation_report.run.Run.compare", "ablation_report.load.gather"),
}
# What Python finds of a native class besides its own, which no reader asks for
NOT_DOCUMENTED = ("__doc__", "str(object=")


class Loads(HTMLParser):
    """Collects what a page fetches: addresses on another host, and files beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.remote: list[str] = []
        self.local: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        target = values.get("href") or ""
        if tag == "a" and not urlsplit(target).scheme:
            self.links.append(target.partition("#")[0].partition("?")[0])
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
            named = [*loads.local, *map(unquote, filter(None, loads.links))]
            absent = (path for path in named if not (page.parent / path).exists())
            found += [f"{page}: no file {path}" for path in dict.fromkeys(absent)]
        if (size := len(CHART_DATA.sub("", text).encode())) > MOST_PAGE:
            found.append(f"{page}: {size} bytes without its charts, at most {MOST_PAGE}")
        missing -= {anchor for anchor in missing if anchor in text}
        if page.parent.name == "api":
            found += [f"{page}: shows {word}" for word in NOT_DOCUMENTED if word in text]
    for style in sorted(site.rglob("*.css")):
        addresses = STYLE_LOADS.findall(style.read_text(encoding="utf-8"))
        found += [f"{style}: loads {address}" for address in addresses]
    found += sizes(site)
    found += [f"{site}: no page has {anchor}" for anchor in sorted(missing)]
    project = tomllib.loads(config.read_text(encoding="utf-8"))["project"]
    found += installed_faults(project["plugins"]["mkdocstrings"]["handlers"]["python"])
    for page_name in named_pages(project["nav"]):
        if not (site / page_name).with_suffix(".html").is_file():
            found.append(f"{site}: no page {page_name}, which the navigation names")
    return found


def sizes(site: Path) -> list[str]:
    """Return what is larger than it may be of the site as a whole and of its search."""
    whole = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    search = max((path.stat().st_size for path in site.rglob(SEARCH)), default=0)
    found = []
    if whole > MOST_SITE:
        found.append(f"{site}: {whole} bytes, at most {MOST_SITE}")
    if not 0 < search <= MOST_SEARCH:
        found.append(f"{site}: {search} bytes of {SEARCH}, from 1 to {MOST_SEARCH}")
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
