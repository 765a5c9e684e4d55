"""A run's folder, the same for every suite: run.json and a file of rows, one JSON object a line.

A folder has one owner at a time, from before it is first read. Who goes on with a run first judges
its files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from .configs import UsageError
from .interrupt import signals_held
from .run_lock import RunLock
from .run_reading import HEADER_NAME, DamagedLine, Header, Row, Schema, read_header, read_rows
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


class Folder:
    """A run's folder, owned by this process until `close`.

    `info` is what run.json holds, `rows` what the file of rows holds.
    """

    schema: Schema

    def __init__(self, path: Path, info: Header, rows: list[Row], lock: RunLock) -> None:
        self.path = path
        self.info = info
        self.rows = rows
        self._lock = lock

    @property
    def rows_path(self) -> Path:
        """The file of rows."""
        return self.path / self.schema.rows_name

    @classmethod
    def create(cls, path: Path, info: Header) -> Self:
        """Make the folder, or take an empty one, and write run.json.

        Raises UsageError if the folder cannot be made or written, if the disk is full, and if it
        holds a run or anything else; what is there stays as it is.
        """
        missing = [name for name in cls.schema.header if name not in info]
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
        """Read a run to go on with it; gives the lines that are no rows of it.

        Such lines are moved to a file beside, so that what they were of is measured again. Raises
        UsageError if there is no run, if another bench is at work on it, and by file and column if
        the run is damaged as a whole or of another schema version.
        """
        if not (path / HEADER_NAME).is_file():
            raise UsageError(f"{path} holds no run (no {HEADER_NAME})")
        lock = RunLock(path)
        try:
            info = read_header(path / HEADER_NAME, cls.schema)
            prove_writable(path)
            rows, damaged = read_rows(path / cls.schema.rows_name, cls.schema, info)
            if damaged:
                aside = path / cls.schema.damaged_name
                append_lines(aside, b"".join(line.data + b"\n" for line in damaged))
            leave_out(path / cls.schema.rows_name, {line.number for line in damaged})
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
            problem = self.schema.row_problem(row) or json_problem(row)
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
                append_lines(self.path / self.schema.damaged_name, data)
        if faulty:
            name = shown(self.path / self.schema.damaged_name)
            told = [f"{_said(row, self.schema)}: {problem}" for row, problem in faulty]
            raise FaultyRows(f"rows that break the schema, kept in {name}: {'; '.join(told)}")

    def write_info(self) -> None:
        """Write run.json anew."""
        with signals_held():
            write_whole(self.path / HEADER_NAME, to_json(self.info, indent=1))

    def done(self) -> set[tuple[Any, ...]]:
        """The keys of every recorded row."""
        return {tuple(row[name] for name in self.schema.key) for row in self.rows}


def _said(row: Row, schema: Schema) -> str:
    return " ".join(str(row.get(name)) for name in schema.key)


def _refuse_filled(path: Path) -> None:
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if HEADER_NAME in names:
        raise UsageError(
            f"{shown(path)} already holds a run; continue it with --resume {quoted(path)}"
        )
    if names:
        raise UsageError(
            f"{shown(path)} is not empty ({', '.join(names[:3])}{', ...' if names[3:] else ''}); "
            "name a new folder"
        )
