"""Finds recorded runs and published files, and reads each by the one set of rules of its kind.

Every command and every other module reads through `read` or `read_all`, so that all of them judge
a file alike: what `check` refuses nobody reads.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ablation_report import attention_rows, suite_rows
from ablation_report.attention_rows import AttentionRun, load_attention
from ablation_report.columns import DType, show
from ablation_report.escaping import visible
from ablation_report.published import PublishedBlock, PublishedSuites, read_published
from ablation_report.reading import HEADER_NAME, Format, peek_header, read_run
from ablation_report.schema import (
    CELL_COLUMNS,
    RUN_COLUMNS,
    Problem,
    SchemaError,
    cell_faults,
)
from ablation_report.suite_rows import BASELINES, SuiteRun, load_suite_run

CELLS_NAME = "cells.jsonl"
FORMAT = Format(
    CELLS_NAME,
    RUN_COLUMNS,
    CELL_COLUMNS,
    ("config", "variant"),
    "variant",
    lambda cell: f"{cell['config']} {cell['variant']}",
    cell_faults,
    lambda cell, header: {},
)
FORMATS = (FORMAT, attention_rows.FORMAT, suite_rows.FORMAT)
LOOKED_FOR = f"{HEADER_NAME}, {', '.join(kind.rows_name for kind in FORMATS)}"

# A row of the frame is a cell and where it comes from.
FRAME_SCHEMA: dict[str, DType] = {
    "origin": pl.String,
    "path": pl.String,
    "line": pl.Int64,
    **{name: column.dtype for name, column in CELL_COLUMNS.items()},
}


@dataclass(frozen=True)
class Run:
    """A recorded run: its folder, its header as in run.json, and its cells in order of writing."""

    path: Path
    header: dict[str, Any]
    cells: list[dict[str, Any]]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The cells, by the name that other kinds of runs have for theirs."""
        return self.cells


Recorded = Run | AttentionRun | SuiteRun
Content = Recorded | PublishedBlock | PublishedSuites


@dataclass(frozen=True)
class Found:
    """What lies below some paths: what was read, the faults of the files that were not, and what is
    to be known of those that were."""

    contents: tuple[Content, ...]
    problems: tuple[Problem, ...]
    notes: tuple[Problem, ...]


def load(*paths: Path | str) -> pl.LazyFrame:
    """Read run folders and published block ablations into one frame, a row for each cell.

    Args:
        paths: run folders, published CSV files, or folders that hold any of these. Among others,
            runs and figures of other suites are passed over; to name one is a fault.

    Returns:
        A lazy frame with the columns of `cells.jsonl` (times in nanoseconds, sizes in bytes) and
        `origin` ("run" or "published"), `path` and `line`. A published row has one sample, and
        null where nothing was published.

    Raises:
        SchemaError: a file is damaged, breaks a rule, or has another schema; lists the faults.
        FileNotFoundError: a path does not exist, or nothing readable lies under it.
    """
    found = read_all(paths)
    problems = list(found.problems)
    named = {Path(path) for path in paths}
    rows: list[dict[str, Any]] = []
    for content in found.contents:
        if isinstance(content, Run):
            numbered = list(enumerate(content.cells, start=1))
            rows += _frame_rows("run", content.path, numbered)
        elif isinstance(content, PublishedBlock):
            rows += _frame_rows("published", content.path, content.rows)
        elif content.path in named:
            message = f"{kind_in_words(content)}, no block ablation: ablation-report show shows it"
            problems.append(Problem(content.path, None, None, message))
    if problems:
        raise SchemaError(problems)
    return pl.LazyFrame(rows, schema=FRAME_SCHEMA, orient="row")


def _frame_rows(
    origin: str, path: Path, numbered: Sequence[tuple[int, dict[str, Any]]]
) -> list[dict[str, Any]]:
    place = {"origin": origin, "path": visible(path)}
    return [{**place, "line": line, **cell} for line, cell in numbered]


def load_run(folder: Path | str) -> Run:
    """Read one run folder; a run that was stopped before its first cell has none.

    Raises:
        SchemaError: a file is damaged, breaks a rule, or has another schema; lists the faults.
    """
    return Run(Path(folder), *read_run(Path(folder), FORMAT))


def read(path: Path) -> Content:
    """Read one run folder or published file, whatever its kind.

    Raises:
        SchemaError: a file is damaged, breaks a rule, or has another schema; lists the faults.
    """
    if not path.is_dir():
        if path.name in LOOKED_FOR.split(", "):
            message = f"a file of a run: name its folder, {visible(path.parent)}"
            raise SchemaError([Problem(path, None, None, message)])
        return read_published(path)
    kind = _kind(path)
    if kind is attention_rows.FORMAT:
        return load_attention(path)
    return load_suite_run(path) if kind is suite_rows.FORMAT else load_run(path)


def read_one(path: Path) -> Content:
    """Read the one run or published file at or directly below a path.

    Raises:
        SchemaError: it is damaged, breaks a rule, or has another schema; lists the faults.
        FileNotFoundError: the path does not exist, or holds none or several.
    """
    paths = list(found_paths([path]))
    if len(paths) > 1:
        raise FileNotFoundError(f"{path}: holds {len(paths)} runs, name one")
    return read(paths[0])


def read_all(paths: Iterable[Path | str]) -> Found:
    """Read every run and published file at or directly below the paths.

    Raises:
        FileNotFoundError: a path does not exist, or nothing readable lies under it.
    """
    contents: list[Content] = []
    problems: list[Problem] = []
    notes: list[Problem] = []
    first: dict[tuple[type[Content], str], Path] = {}
    for path in found_paths(paths):
        try:
            content = read(path)
        except SchemaError as error:
            problems += error.problems
            continue
        contents.append(content)
        if not content.rows:
            notes.append(Problem(path, None, None, without_rows(content)))
        if not isinstance(content, PublishedBlock | PublishedSuites):
            run_id = content.header["run_id"]
            earlier = first.setdefault((type(content), run_id), path)
            if earlier != path:
                message = f"run_id {show(run_id)} is that of {earlier} too: one run, copied"
                notes.append(Problem(path, None, None, message))
    return Found(tuple(contents), tuple(problems), tuple(notes))


def check(*paths: Path | str) -> tuple[list[str], list[Problem]]:
    """Read everything under the paths; return a sentence for each sound file, and the faults.

    Raises:
        FileNotFoundError: a path does not exist, or nothing readable lies under it.
    """
    found = read_all(paths)
    told = {note.path: note for note in reversed(found.notes)}
    sound = []
    for content in found.contents:
        sound.append(visible(f"{content.path}: {len(content.rows)} rows"))
        if content.path in told:
            sound.append(f"{told[content.path]}")
    return sound, list(found.problems)


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
                f"folders with one of {LOOKED_FOR}, there and one level below"
            )
        for entry in inside:
            place = os.path.realpath(entry)
            if place not in seen:
                seen.add(place)
                yield entry


def without_rows(content: Content) -> str:
    """Say that nothing was recorded in a run or published file."""
    if isinstance(content, PublishedBlock | PublishedSuites):
        return "a published file without rows"
    return "a run without rows: it was stopped before its first was measured"


def kind_in_words(content: Content) -> str:
    """Say what a run or published file is of."""
    if isinstance(content, AttentionRun):
        return "a run of attention alone"
    if isinstance(content, SuiteRun):
        return "a run of another suite"
    if isinstance(content, PublishedSuites):
        return "published figures of the further suites"
    return "a block ablation"


def _is_wanted(entry: Path) -> bool:
    """True for what is to be read in a folder; what cannot be looked into is told when read."""
    if _is_run(entry):
        return True
    # Programs keep hidden files of their own next to those of the user
    is_closed = entry.is_dir() and not os.access(entry, os.R_OK | os.X_OK)
    return not entry.name.startswith(".") and (entry.suffix.lower() == ".csv" or is_closed)


def _is_run(path: Path) -> bool:
    return any(os.path.lexists(path / name) for name in LOOKED_FOR.split(", "))


def _kind(folder: Path) -> Format:
    """Tell which kind of run a folder holds, by the file of its rows or, without one, its header.

    Raises:
        SchemaError: it holds rows of two kinds, or neither those nor a header that tells.
    """
    kinds = [kind for kind in FORMATS if os.path.lexists(folder / kind.rows_name)]
    if len(kinds) > 1:
        names = " and ".join(kind.rows_name for kind in kinds)
        raise SchemaError([Problem(folder, None, None, f"holds {names}: two runs in one folder")])
    if kinds:
        return kinds[0]
    header = peek_header(folder / HEADER_NAME)
    if "suite" not in header:
        return FORMAT
    suite = header["suite"]
    if suite == attention_rows.SUITE:
        return attention_rows.FORMAT
    if isinstance(suite, str) and suite in BASELINES:
        return suite_rows.FORMAT
    known = ", ".join((attention_rows.SUITE, *BASELINES))
    message = f"{show(suite)}, expected one of {known}"
    raise SchemaError([Problem(folder / HEADER_NAME, None, "suite", message)])
