"""Names of runs and files: what they are called, and what each is called where several share one.

A page, an anchor and a picture are called by the slug of a name, on file systems that know no case.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

from ablation_report.escaping import visible

# Names that a file system, a web server or a generator of sites gives a meaning
_DEVICES = {f"{device}{number}" for device in ("com", "lpt") for number in range(10)}
RESERVED = frozenset({"index", "readme", "404", "con", "prn", "aux", "nul"} | _DEVICES)
# A file name has at most 255 bytes
MOST_LETTERS = 120
# How many of the folders around a run its name may take
MOST_FOLDERS = 3


def slug(name: str) -> str:
    """A name as it stands in file names and anchors: lower case, digits and hyphens.

    One that is reserved, too long, or has neither a letter nor a digit gets the first digits of its
    SHA-256.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if plain and plain not in RESERVED and len(plain) <= MOST_LETTERS:
        return plain
    return f"{plain[:MOST_LETTERS]}-{_digest(name)}".strip("-")


def slugs(names: Iterable[str]) -> dict[str, str]:
    """The slug of each name, shared with no other; of several alike the first is the plain one."""
    found: dict[str, str] = {}
    for name in dict.fromkeys(names):
        plain = slug(name)
        found[name] = f"{plain}-{_digest(name)}" if plain in found.values() else plain
    return found


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def name_of(path: Path) -> str:
    """What a run or published file is called by itself: its folder, or its file without ending."""
    if path.name in ("", ".."):
        path = path.resolve()
    return visible(path.name if path.is_dir() or path.suffix.lower() != ".csv" else path.stem)


def names_of(paths: Iterable[Path]) -> dict[Path, str]:
    """What each of some runs and files is called, so that no two have the same slug.

    Those that share it are called by the folders around them too, and by numbers where that does
    not distinguish them.
    """
    ordered = sorted(paths, key=lambda path: os.path.abspath(path))
    names = {path: name_of(path) for path in ordered}
    for n_folders in range(1, MOST_FOLDERS + 1):
        for path in _sharing(names):
            around = Path(os.path.abspath(path)).parts[1:-1][-n_folders:]
            names[path] = visible("/".join((*around, name_of(path))))
    taken = {slug(name) for name in names.values()}
    for path in _sharing(names):
        name, number = names[path], 1
        while slug(f"{name} {number}") in taken:
            number += 1
        names[path] = f"{name} {number}"
        taken.add(slug(names[path]))
    return names


def _sharing(names: dict[Path, str]) -> list[Path]:
    """The paths whose slug is that of another."""
    slugs = [slug(name) for name in names.values()]
    return [path for path, name in names.items() if slugs.count(slug(name)) > 1]
