"""Finds runs by name: `latest`, a run in data/runs, and the recorded run nearest to another."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ablation_report.compare.conditions import hardware
from ablation_report.load import read_one
from ablation_report.output import UsageError
from ablation_report.reading import SchemaError, peek_header
from ablation_report.rows import HEADER_NAME

LATEST = "latest"
RUNS = Path("data") / "runs"
_MOST_NAMES = 5
# Of as many runs the rows are read to find one that is not too noisy
_MOST_READ = 8


def run_path(path: Path) -> Path:
    """Return the path that a user means: a path that exists, the name of a run in data/runs of this
    folder or of one above it, or the newest run there for `latest`.

    Raises:
        UsageError: there is no run for `latest`.
        FileNotFoundError: there is neither such a path nor such a run.
    """
    text = str(path)
    if os.path.lexists(path):
        return path
    folder = runs_folder()
    if text == LATEST:
        newest = max(_created(folder), default=None) if folder is not None else None
        if newest is None:
            raise UsageError(f"latest: no run in {folder or RUNS}; accepted: a run folder")
        return newest[1]
    if folder is not None and path.name == text and os.path.lexists(folder / text):
        return folder / text
    headers = () if folder is None else folder.glob(f"*/{HEADER_NAME}")
    known = sorted(header.parent.name for header in headers)
    close = difflib.get_close_matches(path.name, known, _MOST_NAMES)
    like = f"; runs with a similar name: {', '.join(close)}" if close else ""
    raise FileNotFoundError(f"{text}: no such file or folder{like}")


def runs_folder() -> Path | None:
    """Return data/runs of this folder or of the nearest one above it; None without one."""
    here = Path(os.path.abspath(os.curdir))
    for folder in (here, *here.parents):
        if (folder / RUNS).is_dir():
            return Path(os.path.relpath(folder / RUNS))
    return None


def _created(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the runs of a folder with the moment at which they began."""
    for path in folder.iterdir():
        if (header := _header(path)) is not None:
            yield str(header.get("created_utc")), path


def _header(path: Path) -> Mapping[str, Any] | None:
    """Return the header of a run; None for a folder without one that can be read."""
    try:
        return peek_header(path / HEADER_NAME)
    except (SchemaError, OSError):
        return None


def nearest_run(path: Path) -> Path | None:
    """Return the finished run to compare a run with; None without one.

    It has the run's suite, machine, device and threads, and began before it. Of these runs it has
    the most cases in common; of these it is the newest that is not too noisy, or the newest where
    all are. The function looks in the folder that holds the run, and in data/runs.
    """
    own = _header(path)
    folders = {Path(os.path.abspath(path.parent))}
    if (found := runs_folder()) is not None:
        folders.add(Path(os.path.abspath(found)))
    if own is None:
        return None
    alike: list[tuple[int, str, Path]] = []
    for other in (entry for folder in folders for entry in folder.iterdir()):
        header = None if os.path.realpath(other) == os.path.realpath(path) else _header(other)
        if header is None or not _is_like(own, header):
            continue
        common = len(set(own["cases"]) & set(header["cases"]))
        if common:
            alike.append((common, str(header["created_utc"]), other))
    if not alike:
        return None
    most = max(alike)[0]
    newest = [other for common, _, other in sorted(alike, reverse=True) if common == most]
    usable = (other for other in newest[:_MOST_READ] if _is_usable(other))
    return Path(os.path.relpath(next(usable, newest[0])))


def _is_usable(path: Path) -> bool:
    """True for a run that can be read and is not too noisy."""
    try:
        return not any(run.is_too_noisy for run in read_one(path))
    except (SchemaError, OSError):
        return False


def _is_like(own: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """True for a finished run of the same suite, machine, device and threads, begun before."""
    try:
        return bool(
            other["finished_utc"]
            and other["created_utc"] <= own["created_utc"]
            and all(own[name] == other[name] for name in ("suite", "device", "threads"))
            and hardware(own) == hardware(other)
        )
    except (KeyError, TypeError):
        # A header of an earlier schema, or of another program
        return False
