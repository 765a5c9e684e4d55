"""Finds recorded runs and published files, and reads each as a `Run` by the one set of rules.

Every command and every other module reads through `read` or `gather`, so that all of them judge a
file alike: what `check` refuses nobody reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ablation_report import legacy, rows
from ablation_report.escaping import visible
from ablation_report.fields import show
from ablation_report.naming import name_of, names_of
from ablation_report.published import read_published
from ablation_report.reading import (
    FORMAT,
    Format,
    Problem,
    SchemaError,
    peek_header,
    read_run,
)
from ablation_report.run import Run

FORMATS = (FORMAT, legacy.BLOCK, legacy.SUITE, legacy.ATTENTION)
ROWS_NAMES = tuple(dict.fromkeys(kind.rows_name for kind in FORMATS))
LOOKED_FOR = (rows.HEADER_NAME, *ROWS_NAMES)


@dataclass(frozen=True)
class Gathered:
    """What lies below some paths: the runs, published ones first, the faults of files that could
    not be read, and notes on what has no rows or is there twice.

    No two recorded runs have names with the same slug.
    """

    runs: tuple[Run, ...]
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """What was read, and what could not be."""
        faults = (*self.problems, *self.notes)
        return [*(run.path for run in self.runs), *(each.path for each in faults)]

    def run(self, name: str) -> Run:
        """Return the run of this name; KeyError names those there are."""
        for run in self.runs:
            if run.name == name:
                return run
        raise KeyError(
            f"{name}: no such run; the runs are {', '.join(run.name for run in self.runs)}"
        )

    def of_suite(self, suite: str) -> list[Run]:
        """Return the runs of a suite that have rows."""
        return [run for run in self.runs if run.suite == suite and run.rows]


def read(path: Path) -> list[Run]:
    """Read one run folder or published file; a published file may hold several runs.

    Raises:
        SchemaError: a file is damaged, breaks a rule, or has another schema; lists the faults.
    """
    if not path.is_dir():
        if path.name in LOOKED_FOR:
            message = f"a file of a run: name its folder, {visible(path.parent)}"
            raise SchemaError([Problem(path, None, None, message)])
        return read_published(path)
    kind = format_of(path)
    header, found = read_run(path, kind)
    place = visible(path / kind.rows_name)
    return [Run(name_of(path), path, header, tuple({**row, "path": place} for row in found))]


def read_one(path: Path) -> list[Run]:
    """Read what is at or directly below a path: one run, or what one published file holds.

    Raises:
        SchemaError: it is damaged, breaks a rule, or has another schema; lists the faults.
        FileNotFoundError: the path does not exist, or holds none or several.
    """
    paths = list(found_paths([path]))
    if len(paths) > 1:
        raise FileNotFoundError(f"{path}: holds {len(paths)} runs; name one of them")
    return read(paths[0])


def gather(*paths: Path | str) -> Gathered:
    """Read every run and published file at or directly below the paths.

    A file that is damaged, foreign or of a newer schema is in `problems`, by file, line and column;
    the others are read all the same.

    Raises:
        FileNotFoundError: a path does not exist, or nothing readable lies under it.
    """
    runs: list[Run] = []
    problems: list[Problem] = []
    notes: list[Problem] = []
    first: dict[str, Path] = {}
    for path in found_paths(paths):
        try:
            found = read(path)
        except SchemaError as error:
            problems += error.problems
            continue
        runs += found
        for run in found:
            if not run.rows:
                notes.append(Problem(path, None, None, without_rows(run)))
            if not run.is_published:
                earlier = first.setdefault(run.header["run_id"], path)
                if earlier != path:
                    run_id = show(run.header["run_id"])
                    message = f"run_id {run_id} is also that of {earlier}: a copy of one run"
                    notes.append(Problem(path, None, None, message))
    names = names_of({run.path for run in runs if run.name == name_of(run.path)})
    named = [replace(r, name=names[r.path]) if r.name == name_of(r.path) else r for r in runs]
    named.sort(key=lambda run: (not run.is_published, run.name))
    return Gathered(tuple(named), tuple(problems), tuple(notes))


def check(*paths: Path | str) -> tuple[list[str], list[Problem]]:
    """Read everything under the paths; return a sentence for each sound file, and the faults.

    Raises:
        FileNotFoundError: a path does not exist, or nothing readable lies under it.
    """
    found = gather(*paths)
    counts: dict[Path, int] = {}
    for run in found.runs:
        # Of a published file, some lines belong to the row of another one
        counts[run.path] = counts.get(run.path, 0) + run.header.get("n_lines", len(run.rows))
    sound = [visible(f"{path}: {count} rows") for path, count in sorted(counts.items())]
    return [*sound, *map(str, found.notes)], list(found.problems)


def found_paths(paths: Iterable[Path | str]) -> Iterator[Path]:
    """Yield each run folder and CSV file at or directly under the paths, each place once.

    Raises:
        FileNotFoundError: a path does not exist, or holds neither a run nor a CSV file.
    """
    seen: set[str] = set()
    for path in map(Path, paths):
        if not os.path.lexists(path):
            raise FileNotFoundError(f"{path}: no such file or folder")
        inside = [path]
        if path.is_dir() and not _is_run(path):
            inside = sorted(entry for entry in path.iterdir() if _is_wanted(entry))
        if not inside:
            raise FileNotFoundError(
                f"{path}: holds neither a run folder nor a CSV file; looked for *.csv and for "
                f"folders with one of {', '.join(LOOKED_FOR)}, there and one level below"
            )
        for entry in inside:
            place = os.path.realpath(entry)
            if place not in seen:
                seen.add(place)
                yield entry


def without_rows(run: Run) -> str:
    """Say that nothing was recorded in a run or published file."""
    if run.is_published:
        return "a published file without rows"
    return "a run without rows: it was stopped before its first was measured"


def format_of(folder: Path) -> Format:
    """Return how a run folder is to be read, by the file of its rows and the header's version.

    Raises:
        SchemaError: it holds rows of two kinds, or neither those nor a header that says.
    """
    names = [name for name in ROWS_NAMES if os.path.lexists(folder / name)]
    if len(names) > 1:
        message = f"holds {' and '.join(names)}: two runs in one folder"
        raise SchemaError([Problem(folder, None, None, message)])
    if names and names[0] != rows.ROWS_NAME:
        return legacy.BLOCK if names[0] == legacy.BLOCK.rows_name else legacy.ATTENTION
    header = peek_header(folder / rows.HEADER_NAME)
    version = header.get("schema_version")
    if version != legacy.VERSION or type(version) is not int:
        return FORMAT
    suite = header.get("suite")
    if names or suite in legacy.BASELINES:
        return legacy.SUITE
    if "suite" not in header:
        return legacy.BLOCK
    if suite == "attention":
        return legacy.ATTENTION
    message = f"{show(suite)}, expected one of attention, {', '.join(legacy.BASELINES)}"
    raise SchemaError([Problem(folder / rows.HEADER_NAME, None, "suite", message)])


def _is_wanted(entry: Path) -> bool:
    """True for what is to be read in a folder; what cannot be looked into is named when read."""
    if _is_run(entry):
        return True
    # Programs keep hidden files of their own next to those of the user
    is_closed = entry.is_dir() and not os.access(entry, os.R_OK | os.X_OK)
    return not entry.name.startswith(".") and (entry.suffix.lower() == ".csv" or is_closed)


def _is_run(path: Path) -> bool:
    return any(os.path.lexists(path / name) for name in LOOKED_FOR)
