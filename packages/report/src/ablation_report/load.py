"""Reads recorded runs and published files into one frame, and refuses what it cannot trust."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ablation_report import attention_rows, published, suite_rows
from ablation_report.reading import numbered_lines, read_header, read_object
from ablation_report.schema import (
    CELL_COLUMNS,
    RUN_COLUMNS,
    Problem,
    SchemaError,
    cell_faults,
    column_faults,
    show,
    version_fault,
)

HEADER_NAME = "run.json"
CELLS_NAME = "cells.jsonl"

# A row of the frame is a cell and where it comes from.
FRAME_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
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


def load(*paths: Path | str) -> pl.LazyFrame:
    """Read run folders and published block ablations into one frame, a row for each cell.

    Args:
        paths: run folders, published CSV files, or folders that hold any of these.

    Returns:
        A lazy frame with the columns of `cells.jsonl` (times in nanoseconds, sizes in bytes) and
        `origin` ("run" or "published"), `path` and `line`. A published row has one sample, and
        null where nothing was published.

    Raises:
        SchemaError: a file is damaged, breaks a rule, or has another schema; lists every fault.
        FileNotFoundError: a path does not exist, or nothing readable lies under it.
    """
    rows: list[dict[str, Any]] = []
    problems: list[Problem] = []
    named = {Path(path) for path in paths}
    for path in found_paths(paths):
        # Among other runs, those of other suites are passed over; naming one is a fault
        if path not in named and _is_other_suite(path):
            continue
        try:
            rows += _rows(path)
        except SchemaError as error:
            problems += error.problems
    if problems:
        raise SchemaError(problems)
    return pl.LazyFrame(rows, schema=FRAME_SCHEMA, orient="row")


def load_run(folder: Path | str) -> Run:
    """Read one run folder; a run that was stopped before its first cell has none.

    Raises:
        SchemaError: a file is damaged, breaks a rule, or has another schema; lists every fault.
    """
    folder = Path(folder)
    header_path, cells_path = folder / HEADER_NAME, folder / CELLS_NAME
    if not header_path.is_file():
        raise SchemaError([Problem(header_path, None, None, "missing")])
    header = read_header(header_path, RUN_COLUMNS)
    cells = _cells(cells_path, header["run_id"]) if cells_path.exists() else []
    return Run(folder, header, cells)


def check(*paths: Path | str) -> tuple[list[str], list[Problem]]:
    """Read everything under the paths; return a sentence for each sound file, and every fault.

    Raises:
        FileNotFoundError: a path does not exist, or nothing readable lies under it.
    """
    sound: list[str] = []
    problems: list[Problem] = []
    for path in found_paths(paths):
        try:
            if attention_rows.is_attention(path):
                count = len(attention_rows.load_attention(path).rows)
            elif suite_rows.is_suite_run(path):
                count = len(suite_rows.load_suite_run(path).rows)
            elif published.is_suites(path):
                count = len(published.read_suites(path))
            else:
                count = len(_rows(path))
            sound.append(f"{path}: {count} rows")
        except SchemaError as error:
            problems += error.problems
    return sound, problems


def found_paths(paths: Iterable[Path | str]) -> Iterator[Path]:
    """Yield each run folder and CSV file at or directly under the paths."""
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        if path.is_file() or _is_run(path):
            yield path
            continue
        inside = sorted(p for p in path.iterdir() if p.suffix == ".csv" or _is_run(p))
        if not inside and any(p.suffix != ".md" for p in path.iterdir()):
            raise FileNotFoundError(f"{path}: holds neither a run folder nor a CSV file")
        yield from inside


def _is_run(path: Path) -> bool:
    names = (HEADER_NAME, CELLS_NAME, attention_rows.ROWS_NAME, suite_rows.ROWS_NAME)
    return any((path / name).exists() for name in names)


def _is_other_suite(path: Path) -> bool:
    return attention_rows.is_attention(path) or suite_rows.is_suite_run(path)


def _rows(path: Path) -> list[dict[str, Any]]:
    """Return the frame's rows of one run folder or published block ablation."""
    if attention_rows.is_attention(path):
        message = "a run of attention alone, no block ablation: ablation-report attention shows it"
        raise SchemaError([Problem(path, None, None, message)])
    if suite_rows.is_suite_run(path):
        message = "a run of another suite, no block ablation: ablation-report show shows it"
        raise SchemaError([Problem(path, None, None, message)])
    if path.is_dir():
        run = load_run(path)
        return [
            {"origin": "run", "path": str(path), "line": line} | cell
            for line, cell in enumerate(run.cells, start=1)
        ]
    if published.is_suites(path):
        raise SchemaError([Problem(path, 1, None, "holds the further suites, no block ablation")])
    return [
        {"origin": "published", "path": str(path), "line": line} | cell
        for line, cell in published.read_block_ablation(path)
    ]


def _cells(path: Path, run_id: str) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = []
    problems: list[Problem] = []
    first_line: dict[tuple[str, str], int] = {}
    for line, content in numbered_lines(path):
        try:
            cell = _cell(path, line, content, run_id)
        except SchemaError as error:
            problems += error.problems
            continue
        earlier = first_line.setdefault((cell["config"], cell["variant"]), line)
        if earlier != line:
            message = f"{cell['config']} {cell['variant']} stands in line {earlier} already"
            problems.append(Problem(path, line, "variant", message))
        cells.append(cell)
    if problems:
        raise SchemaError(problems)
    return cells


def _cell(path: Path, line: int, content: str, run_id: str) -> dict[str, Any]:
    """Read and check one line of cells.jsonl."""
    cell = read_object(path, line, content)
    if fault := version_fault(cell.get("schema_version")):
        raise SchemaError([Problem(path, line, "schema_version", fault)])
    faults = column_faults(cell, CELL_COLUMNS) or cell_faults(cell)
    if not faults and cell["run_id"] != run_id:
        faults["run_id"] = f"{show(cell['run_id'])}, {HEADER_NAME} says {show(run_id)}"
    if faults:
        raise SchemaError([Problem(path, line, name, fault) for name, fault in faults.items()])
    return {name: cell.get(name) for name in CELL_COLUMNS}
