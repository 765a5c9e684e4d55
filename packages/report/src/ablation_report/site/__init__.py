"""The site: hand-written pages with generated blocks, and pages made from rows alone.

A hand-written page asks for a block by a line `<!-- generated: NAME -->`; every figure of the site
is computed from the rows when it is built. Zensical turns the folder into HTML.
"""

from __future__ import annotations

import errno
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ablation_report.output import UsageError
from ablation_report.site import folder
from ablation_report.site.assets import write_assets
from ablation_report.site.blocks import Inputs, fill
from ablation_report.site.config_pages import all_configs, config_page, config_page_path
from ablation_report.site.kernel_pages import (
    Kernel,
    installed_kernels,
    kernel_page,
    kernel_page_path,
)
from ablation_report.site.navigation import Entry, navigation, refuse_config, write_config
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
    inputs: Iterable[Path] = (),
) -> Path:
    """Write the pages, the assets and Zensical's configuration; return where the last one is.

    Args:
        gathered: what the pages are made from.
        root: the repository, for passes, changelogs and `zensical.toml`; what it lacks is said.
        docs: the hand-written pages.
        out: the folder of all pages, see `folder`; the configuration lies beside it.
        kernels: the op table; None where the wheel is not installed.
        inputs: the paths that were gathered from, of which `out` has to stay clear.

    Raises:
        UsageError: `out` is not to be written into, a page asks for a block that does not exist,
            or two pages have one name; nothing was written.
        OSError: `docs` or `zensical.toml` cannot be read, or `out` not be written.
    """
    if importlib.util.find_spec("vl_convert") is None:
        raise UsageError("vl-convert-python is missing: install ablation-report[site]")
    base, config = root / "zensical.toml", out.parent / "zensical.toml"
    folder.refuse(out, (docs, *inputs))
    refuse_config(base, config)
    entries = write_pages(gathered, docs, out, kernels, root)
    write_assets(out)
    add_pictures(out)
    write_config(base, config, out, entries)
    return config


def write_pages(
    gathered: Gathered,
    docs: Path,
    out: Path,
    kernels: Sequence[Kernel] | None = None,
    root: Path | None = None,
) -> list[Entry]:
    """Write every page of the site as Markdown and return the navigation; as `build_site`."""
    folder.refuse(out, (docs, *gathered.paths))
    passes = root / "packages/executor/src/ablation_executor/passes" if root else None
    inputs = Inputs(gathered, kernels, passes)
    changelogs = _changelogs(root)
    handwritten = {
        name: fill(_text(path), inputs).encode() if path.suffix == ".md" else path.read_bytes()
        for name, path in _files(docs).items()
    }
    generated = {
        # A name of a folder need not be text
        name: text.encode("utf-8", "backslashreplace")
        for name, text in (
            *generated_pages(gathered, kernels),
            *((page, _text(path)) for page, path in changelogs.items()),
        )
    }
    files = {**handwritten, **generated}
    _refuse_twice([*handwritten, *generated])
    titles = {page: f"ablation-{path.parent.name}" for page, path in changelogs.items()}
    entries = navigation(gathered, kernels, titles)
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


def generated_pages(gathered: Gathered, kernels: Sequence[Kernel] | None) -> list[tuple[str, str]]:
    """The pages that have no hand-written part, by their paths."""
    known = kernels or ()
    return [
        *((config_page_path(c), config_page(gathered, c)) for c in all_configs(gathered)),
        *((run_page(source), run_page_text(source)) for source in gathered.sources),
        *((kernel_page_path(k["name"]), kernel_page(k, known, gathered)) for k in known),
        *suite_pages(gathered).items(),
    ]


def _changelogs(root: Path | None) -> Mapping[str, Path]:
    found = sorted(root.glob("packages/*/CHANGELOG.md")) if root else []
    return {f"changelogs/{path.parent.name}.md": path for path in found}
