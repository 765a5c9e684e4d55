"""The folder that the site is written into: only what stands in its list is ever deleted.

The list is a file of the folder. A name is added to it before the file of that name is written, so
that the half of a site that a killed run leaves is known too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ablation_report.output import UsageError

LIST_NAME = ".ablation-report-site"
_OPENING = (
    "Files of this folder that `ablation-report site` wrote, and deletes when it writes anew:"
)
# How many files an error names
_MOST_NAMED = 3


def refuse(out: Path, apart: Iterable[Path]) -> None:
    """Raise UsageError for a folder that is not to be written into; nothing is changed.

    Accepted is one that is missing, empty, or holds nothing but what is in its list, and that
    neither is, holds, nor lies in one of the folders `apart`.
    """

    def refusal(why: str) -> UsageError:
        accepted = "accepted: a new or empty folder, or one that ablation-report site wrote"
        return UsageError(f"--out {out}: {why}; {accepted}")

    if out.is_symlink():
        raise refusal("a symbolic link")
    if out.exists() and not out.is_dir():
        raise refusal("a file")
    place = Path(os.path.realpath(out))
    for kept in (Path.cwd(), _home()):
        if place == kept or place in kept.parents:
            raise refusal(f"is or holds {kept}")
    for kept in map(Path, map(os.path.realpath, apart)):
        if place == kept or place in kept.parents or kept in place.parents:
            raise refusal(f"is, holds, or lies in {kept}, which is read")
    if foreign := sorted(_files(out) - _listed(out)):
        more = f" and {len(foreign) - _MOST_NAMED} more" if len(foreign) > _MOST_NAMED else ""
        raise refusal(f"holds {', '.join(foreign[:_MOST_NAMED])}{more}, which it did not write")


def empty(out: Path) -> None:
    """Delete the files of the list, and the folders that this empties, but not `out` itself."""
    listed = _listed(out)
    for name in sorted(_files(out) & listed, key=lambda name: name == LIST_NAME):
        (out / name).unlink()
        for folder in (out / name).parents:
            if folder == out or any(folder.iterdir()):
                break
            folder.rmdir()


def claim(out: Path, names: Iterable[str]) -> None:
    """Add the names of files, from the root of the folder, to its list before they are written."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / LIST_NAME
    is_new = not path.exists()
    with path.open("a", encoding="utf-8") as file:
        file.writelines([f"{_OPENING}\n"] if is_new else [])
        file.writelines(f"{name}\n" for name in names)


def _home() -> Path:
    try:
        return Path(os.path.realpath(Path.home()))
    except RuntimeError:
        # A user without a home folder
        return Path.cwd()


def _listed(out: Path) -> set[str]:
    """The names of the list, and its own; none without it."""
    path = out / LIST_NAME
    if path.is_symlink() or not path.is_file():
        return set()
    opening, *names = path.read_text(encoding="utf-8", errors="replace").splitlines() or [""]
    return {LIST_NAME, *names} if opening == _OPENING else set()


def _files(out: Path) -> set[str]:
    """Every file and every link below a folder, by its name from there; links are not followed."""
    found = set()
    for folder, folders, files in os.walk(out):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*files, *links):
            found.add(Path(folder, name).relative_to(out).as_posix())
    return found
