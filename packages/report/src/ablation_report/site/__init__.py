"""The site: hand-written pages with generated blocks, and pages made from rows alone.

A hand-written page asks for a block by a line `<!-- generated: NAME -->`; every figure of the site
is computed from the rows when it is built. Zensical turns the folder into HTML.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from ablation_report.site.assets import write_assets
from ablation_report.site.blocks import Inputs, fill
from ablation_report.site.config_pages import all_configs, config_page, config_page_path
from ablation_report.site.kernel_pages import (
    Kernel,
    installed_kernels,
    kernel_page,
    kernel_page_path,
)
from ablation_report.site.navigation import Entry, navigation, write_config
from ablation_report.site.pictures import add_pictures
from ablation_report.site.run_pages import run_page_text
from ablation_report.site.suite_pages import suite_pages
from ablation_report.site.text import run_page
from ablation_report.sources import Gathered

__all__ = ["build_site", "installed_kernels", "write_pages"]


def build_site(
    gathered: Gathered,
    root: Path,
    docs: Path,
    out: Path,
    kernels: Sequence[Kernel] | None = None,
) -> Path:
    """Write the pages, the assets and Zensical's configuration; return where the last one is.

    Args:
        gathered: what the pages are made from.
        root: the repository, for passes, changelogs and `zensical.toml`; what it lacks is said.
        docs: the hand-written pages.
        out: the folder of all pages, which is emptied first; the configuration lies beside it.
        kernels: the op table; None where the wheel is not installed.

    Raises:
        ValueError: a page asks for a block that does not exist.
        ImportError: vl-convert-python is missing.
    """
    entries = write_pages(gathered, docs, out, kernels, root)
    write_assets(out)
    add_pictures(out)
    config = out.parent / "zensical.toml"
    write_config(root / "zensical.toml", config, out, entries)
    return config


def write_pages(
    gathered: Gathered,
    docs: Path,
    out: Path,
    kernels: Sequence[Kernel] | None = None,
    root: Path | None = None,
) -> list[Entry]:
    """Write every page of the site as Markdown and return the navigation; as `build_site`."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(docs, out)
    passes = root / "packages/executor/src/ablation_executor/passes" if root else None
    inputs = Inputs(gathered, kernels, passes)
    for path in sorted(out.rglob("*.md")):
        path.write_text(fill(path.read_text(encoding="utf-8"), inputs), encoding="utf-8")
    changelogs = _changelogs(root)
    pages = generated_pages(gathered, kernels) | {
        page: path.read_text(encoding="utf-8") for page, path in changelogs.items()
    }
    for name, text in pages.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text(text, encoding="utf-8")
    titles = {page: f"ablation-{path.parent.name}" for page, path in changelogs.items()}
    return navigation(gathered, kernels, titles)


def generated_pages(gathered: Gathered, kernels: Sequence[Kernel] | None) -> dict[str, str]:
    """The pages that have no hand-written part, by their path."""
    configs = {config_page_path(c): config_page(gathered, c) for c in all_configs(gathered)}
    runs = {run_page(source): run_page_text(source) for source in gathered.sources}
    known = kernels or ()
    table = {kernel_page_path(k["name"]): kernel_page(k, known, gathered) for k in known}
    return configs | runs | table | suite_pages(gathered)


def _changelogs(root: Path | None) -> Mapping[str, Path]:
    found = sorted(root.glob("packages/*/CHANGELOG.md")) if root else []
    return {f"changelogs/{path.parent.name}.md": path for path in found}
