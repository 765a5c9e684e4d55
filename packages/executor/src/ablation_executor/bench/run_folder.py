"""A run's folder: run.json and rows.jsonl, one JSON object a line.

A folder has one owner at a time, from before it is first read. Who goes on with a run first judges
its files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ablation_report.reading import SchemaError, peek_header, read_header, read_lines
from ablation_report.rows import (
    DAMAGED_NAME,
    HEADER_COLUMNS,
    HEADER_NAME,
    KEY,
    ROWS_NAME,
    Header,
    Row,
    row_faults,
)

from .interrupt import UsageError, signals_held
from .run_lock import RunLock
from .run_writing import (
    FaultyRows,
    append_lines,
    append_rows,
    as_it_is,
    json_problem,
    leave_out,
    prove_writable,
    to_json,
    write_whole,
)
from .terminal import quoted, shown


@dataclass(frozen=True)
class DamagedLine:
    """A line of a file of rows that is no row of the run."""

    number: int
    reason: str
    data: bytes


class RunFolder:
    """A run's folder, owned by this process until `close`.

    `info` is what run.json holds, `rows` what the file of rows holds.
    """

    def __init__(self, path: Path, info: Header, rows: list[Row], lock: RunLock) -> None:
        self.path = path
        self.info = info
        self.rows = rows
        self._lock = lock

    @property
    def rows_path(self) -> Path:
        """The file of rows."""
        return self.path / ROWS_NAME

    @classmethod
    def create(cls, path: Path, info: Header) -> Self:
        """Make the folder, or take an empty one, and write run.json.

        Raises UsageError if the folder cannot be made or written, if the disk is full, and if it
        holds a run or anything else; what is there stays as it is.
        """
        needed = [name for name, column in HEADER_COLUMNS.items() if not column.is_optional]
        missing = [name for name in needed if name not in info]
        if missing:
            raise ValueError(f"{HEADER_NAME} would lack {missing}")
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {path}: {error.strerror or error}") from None
        lock = RunLock(path)
        try:
            _refuse_filled(path)
            prove_writable(path)
            folder = cls(path, info, [], lock)
            folder.write_info()
        except BaseException:
            lock.release()
            raise
        return folder

    @classmethod
    def open(cls, path: Path) -> tuple[Self, list[DamagedLine]]:
        """Read a run to continue it; gives the lines that are no rows of it.

        Such lines are moved to a file beside, so that what they were of is measured again. Raises
        UsageError if there is no run, if another bench is at work on it, and by file and column if
        the run is damaged as a whole or of another schema version.
        """
        if not (path / HEADER_NAME).is_file():
            raise UsageError(f"{path} holds no run (no {HEADER_NAME})")
        lock = RunLock(path)
        try:
            info = _read_header(path)
            prove_writable(path)
            rows, damaged = _read_rows(path / ROWS_NAME, info)
            if damaged:
                aside = path / DAMAGED_NAME
                append_lines(aside, b"".join(line.data + b"\n" for line in damaged))
            leave_out(path / ROWS_NAME, {line.number for line in damaged})
        except BaseException:
            lock.release()
            raise
        return cls(path, info, rows, lock), damaged

    def close(self) -> None:
        """Let others own the folder."""
        self._lock.release()

    def append(self, rows: Sequence[Row]) -> None:
        """Write finished rows and wait until they are on the disk.

        Raises FaultyRows for rows that break the schema, after the others are written and these
        are kept in the file of damaged lines; RowsNotWritten if the run cannot be written.
        """
        sound: list[Row] = []
        faulty: list[tuple[Row, str]] = []
        for row in rows:
            faults = [f"column {name}: {fault}" for name, fault in row_faults(row).items()]
            problem = faults[0] if faults else json_problem(row)
            if problem is None:
                sound.append(row)
            else:
                faulty.append((row, problem))
        with signals_held():
            if sound:
                append_rows(self.rows_path, sound)
                self.rows.extend(sound)
            if faulty:
                data = b"".join(as_it_is(row) for row, _ in faulty)
                append_lines(self.path / DAMAGED_NAME, data)
        if faulty:
            name = shown(self.path / DAMAGED_NAME)
            faults = [f"{_said(row)}: {problem}" for row, problem in faulty]
            raise FaultyRows(f"rows that break the schema, kept in {name}: {'; '.join(faults)}")

    def write_info(self) -> None:
        """Write run.json anew."""
        with signals_held():
            write_whole(self.path / HEADER_NAME, to_json(self.info, indent=1))

    def done(self) -> set[tuple[Any, ...]]:
        """The keys of every recorded row."""
        return {tuple(row[name] for name in KEY) for row in self.rows}


def _read_header(path: Path) -> Header:
    """Read a run's header; UsageError, by file and column, for one that cannot be continued."""
    file = path / HEADER_NAME
    try:
        if peek_header(file).get("schema_version") == 1:
            raise UsageError(
                f"{shown(path)} was recorded by an older version: ablation-report reads it, but it "
                "cannot be continued; start a new run"
            )
        return read_header(file)
    except SchemaError as error:
        raise UsageError(str(error)) from None


def _read_rows(file: Path, header: Header) -> tuple[list[Row], list[DamagedLine]]:
    """Read the rows of a file, and the lines that are none of the run's.

    UsageError for a file in another encoding or of another schema version: those rows are not
    damaged.
    """
    rows: list[Row] = []
    damaged: list[DamagedLine] = []
    try:
        for line in read_lines(file, header):
            if line.row is not None:
                rows.append(line.row)
                continue
            problem = line.problems[0]
            column = "" if problem.column is None else f"column {problem.column}: "
            damaged.append(DamagedLine(line.number, f"{column}{problem.message}", line.content))
    except SchemaError as error:
        raise UsageError(str(error)) from None
    return rows, damaged


def _said(row: Row) -> str:
    return " ".join(str(row.get(name)) for name in KEY)


def _refuse_filled(path: Path) -> None:
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if HEADER_NAME in names:
        raise UsageError(
            f"{shown(path)} already holds a run; continue it with --resume {quoted(path)}"
        )
    if names:
        raise UsageError(
            f"{shown(path)} is not empty ({', '.join(names[:3])}{', ...' if names[3:] else ''}); "
            "--out takes a new or an empty folder"
        )
