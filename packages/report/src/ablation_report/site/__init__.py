"""The site: hand-written pages with generated blocks, and pages made from rows alone.

A hand-written page asks for a block by a line `<!-- generated: NAME -->`; every figure of the site
is computed from the rows when it is built. Zensical turns the folder into HTML.
"""

from __future__ import annotations

import errno
import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from altair.utils.schemapi import debug_mode

from ablation_report.escaping import escape
from ablation_report.kernel_records import read_kernels
from ablation_report.load import found_paths, gather
from ablation_report.output import UsageError
from ablation_report.products import read_map
from ablation_report.site import folder
from ablation_report.site.assets import write_assets
from ablation_report.site.blocks import fill
from ablation_report.site.cards import add_cards
from ablation_report.site.ceilings import with_one_ceiling
from ablation_report.site.inputs import Inputs
from ablation_report.site.navigation import (
    LICENSE,
    LICENSE_PAGE,
    Entry,
    project_facts,
    refuse_config,
    write_config,
)
from ablation_report.site.navigation import navigation as page_tree
from ablation_report.site.pages.attribution import attribution_page, attribution_pages
from ablation_report.site.pages.compare import compare_files
from ablation_report.site.pages.configs import config_page
from ablation_report.site.pages.kernels import installed_kernels
from ablation_report.site.pages.runs import run_page_text
from ablation_report.site.pages.suites import all_suites, suite_page_text
from ablation_report.site.pictures import add_pictures
from ablation_report.site.text import run_page, suite_page

__all__ = ["build_site", "installed_kernels", "site_inputs", "write_pages"]

PASSES = "packages/executor/src/ablation_executor/passes"
PRODUCTS, KERNELS = "data/products", "data/kernels"
MODELS = "data/models.json"
# The search does not read a page that begins so
NO_SEARCH = "---\nsearch:\n  exclude: true\n---\n\n"


def site_inputs(paths: Sequence[Path], own: Sequence[Path] = (), root: Path = Path()) -> Inputs:
    """Return what the pages are made from: runs and published files below some paths, the reader's
    `own` ones, the installed op table, and the passes, models and maps of products of the
    repository at `root`.

    Raises:
        OSError: a path is missing, or holds nothing to read.
        UsageError: a map of products, or a file of kernel times, is damaged.
    """
    gathered = gather(*paths, *own)
    places = set(map(os.path.realpath, found_paths(own)))
    mine = frozenset(run.name for run in gathered.runs if os.path.realpath(run.path) in places)
    return Inputs(
        with_one_ceiling(gathered, mine),
        installed_kernels(),
        root / PASSES,
        mine,
        products=tuple(map(read_map, sorted((root / PRODUCTS).glob("*.json")))),
        kernel_records=tuple(map(read_kernels, sorted((root / KERNELS).glob("*.json")))),
        models=root / MODELS,
    )


def build_site(
    inputs: Inputs, root: Path, docs: Path, out: Path, apart: Iterable[Path] = ()
) -> Path:
    """Write the pages, the assets and Zensical's configuration; return where the last one is.

    Args:
        inputs: what the pages are made from.
        root: the repository, for changelogs and `zensical.toml`; what it lacks is said.
        docs: the hand-written pages.
        out: the folder of all pages, see `folder`; the configuration lies beside it.
        apart: the paths that were gathered from, of which `out` has to stay clear.

    Raises:
        UsageError: `out` is not to be written into, a page asks for a block that does not exist,
            or two pages have one name; nothing was written.
        OSError: `docs` or `zensical.toml` cannot be read, or `out` not be written.
    """
    if importlib.util.find_spec("vl_convert") is None:
        raise UsageError("vl-convert-python is missing: install ablation-report[site]")
    base, config = root / "zensical.toml", out.parent / "zensical.toml"
    folder.refuse(out, (docs, *apart))
    refuse_config(base, config)
    entries = write_pages(inputs, docs, out, root)
    write_assets(out)
    add_pictures(out)
    add_cards(out)
    write_config(base, config, out, entries, project_facts(root))
    return config


def write_pages(inputs: Inputs, docs: Path, out: Path, root: Path | None = None) -> list[Entry]:
    """Write every page of the site as Markdown and return the navigation; as `build_site`."""
    folder.refuse(out, (docs, *inputs.gathered.paths))
    changelogs = _changelogs(root)
    # Altair would check each part of each chart, which takes twice as long as to draw them
    with debug_mode(False):
        handwritten = {
            name: fill(_text(path), inputs).encode() if path.suffix == ".md" else path.read_bytes()
            for name, path in _files(docs).items()
        }
        made = generated_pages(inputs)
    written = [
        *made,
        *((page, NO_SEARCH + _text(path)) for page, path in changelogs.items()),
        *_license(root),
    ]
    # A name of a folder need not be text
    generated = [(name, text.encode("utf-8", "backslashreplace")) for name, text in written]
    _refuse_twice([*handwritten, *(name for name, _ in generated)])
    files = {**handwritten, **dict(generated)}
    titles = {page: f"ablation-{path.parent.name}" for page, path in changelogs.items()}
    entries = page_tree(inputs, files, titles)
    folder.empty(out)
    folder.claim(out, files)
    for name, content in files.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    return entries


def _files(docs: Path) -> dict[str, Path]:
    """The files of the hand-written pages by their names from there; OSError without the folder."""
    if not docs.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "no folder of hand-written pages", str(docs))
    found = sorted(path for path in docs.rglob("*") if path.is_file())
    return {path.relative_to(docs).as_posix(): path for path in found}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: no UTF-8 from byte {error.start + 1} on") from None


def _refuse_twice(names: Sequence[str]) -> None:
    """Raise UsageError for two files of one name, on a file system that knows no case too."""
    first: dict[str, str] = {}
    for name in names:
        if (earlier := first.setdefault(name.casefold(), name)) != name or names.count(name) > 1:
            raise UsageError(f"two pages have one name: {earlier} and {name}")


def generated_pages(inputs: Inputs) -> list[tuple[str, str]]:
    """The pages that have no hand-written part, and the files that they load, by their paths."""
    # Two copies of a published file have one page
    runs = {run_page(run): run for run in inputs.gathered.runs if run.is_published}
    recorded = (run for run in inputs.gathered.runs if not run.is_published)
    return [
        *((page, config_page(inputs, config)) for config, page in inputs.configs.items()),
        *((run_page(run), run_page_text(run)) for run in (*recorded, *runs.values())),
        *((page.path, attribution_page(inputs, page)) for page in attribution_pages(inputs)),
        *((suite_page(suite), suite_page_text(inputs, suite)) for suite in all_suites(inputs)),
        *compare_files(inputs),
    ]


def _license(root: Path | None) -> list[tuple[str, str]]:
    """The page of the license, of a repository that has one."""
    path = root / LICENSE if root else None
    if path is None or not path.is_file():
        return []
    paragraphs = _text(path).strip().split("\n\n")
    return [(LICENSE_PAGE, "\n\n".join(["# License", *map(escape, paragraphs)]) + "\n")]


def _changelogs(root: Path | None) -> Mapping[str, Path]:
    found = sorted(root.glob("packages/*/CHANGELOG.md")) if root else []
    return {f"changelogs/{path.parent.name}.md": path for path in found}
