"""What the files of a run hold, and how they are read: one judge for every suite, as strict as the
report, which refuses a run for what is refused here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .columns import Columns, column_fault, parse, show
from .configs import UsageError

Row = dict[str, Any]
Header = dict[str, Any]

HEADER_NAME = "run.json"
_MARKS = {
    b"\xef\xbb\xbf": "UTF-8 with a byte order mark",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


@dataclass(frozen=True)
class Schema:
    """What the files of a run hold; the functions judge what the columns alone cannot.

    `row_fault` gives the first fault between the columns of a row, `header_fault` that of a header,
    and `place_fault` why a sound row is none of this run's.
    """

    version: int
    rows_name: str
    header: Columns
    row: Columns
    key: tuple[str, ...]
    row_fault: Callable[[Row], str | None]
    header_fault: Callable[[Header], str | None]
    place_fault: Callable[[Row, Header], str | None]

    @property
    def damaged_name(self) -> str:
        """The file of lines that are no rows."""
        return self.rows_name.replace(".jsonl", ".damaged.jsonl")

    def blank_row(self) -> Row:
        """A row with every column present and nothing known."""
        return dict.fromkeys(self.row)

    def row_problem(self, row: object) -> str | None:
        """Why a decoded line is no whole row of this schema, or None."""
        if not isinstance(row, dict):
            return f"{show(row)}, expected an object"
        return (
            self.version_problem(row.get("schema_version"))
            or column_fault(row, self.row)
            or self.row_fault(row)
        )

    def version_problem(self, version: object) -> str | None:
        """Why a schema version is refused, or None."""
        if version == self.version and type(version) is int:
            return None
        return f"schema version {show(version)}, this program reads {self.version}"


@dataclass(frozen=True)
class DamagedLine:
    """A line of a file of rows that is no row of the run."""

    number: int
    reason: str
    data: bytes


def read_header(file: Path, schema: Schema) -> Header:
    """A run's header; UsageError, by file and column, for one that cannot be gone on with."""
    try:
        header = parse(file.read_bytes())
    except FileNotFoundError:
        raise UsageError(f"{file.parent} holds no run (no {file.name})") from None
    except (OSError, ValueError) as error:
        told = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{file} is damaged: {told}") from None
    if not isinstance(header, dict):
        raise UsageError(f"{file} is damaged: {show(header)}, expected an object")
    if (problem := schema.version_problem(header.get("schema_version"))) is not None:
        raise UsageError(f"{file} has {problem}")
    if ("suite" in header) != ("suite" in schema.header):
        own = f"of a suite: add --suite {show(header['suite'])}" if "suite" in header else ""
        raise UsageError(f"{file.parent} holds a run {own or 'of the block: leave out --suite'}")
    problem = column_fault(header, schema.header)
    if problem is None:
        for name, column in schema.header.items():
            header.setdefault(name, column.default)
        problem = schema.header_fault(header)
    if problem is not None:
        raise UsageError(f"{file} is damaged: {problem}")
    return header


def read_rows(
    file: Path, schema: Schema, header: Header | None = None
) -> tuple[list[Row], list[DamagedLine]]:
    """The rows of a file, and the lines that are none; ([], []) without the file.

    With a header, rows of another run and second rows of a measurement are none either. UsageError
    for a file in another encoding or of another schema version: those rows are not damaged.
    """
    try:
        if file.exists() and not file.is_file():
            # A named pipe would wait for a writer
            raise UsageError(f"{file} is no regular file")
        data = file.read_bytes()
    except FileNotFoundError:
        return [], []
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}") from None
    for mark, encoding in _MARKS.items():
        if data.startswith(mark):
            raise UsageError(f"{file} is {encoding}, expected UTF-8: save it as such")
    rows: list[Row] = []
    damaged: list[DamagedLine] = []
    first_lines: dict[tuple[Any, ...], int] = {}
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    for number, line in enumerate(lines, start=1):
        row, problem = _read_row(line, schema, header)
        if problem is None and header is not None:
            first = first_lines.setdefault(tuple(row[name] for name in schema.key), number)
            if first != number:
                problem = f"measured already in line {first}"
        if problem is None:
            rows.append(row)
        elif problem.startswith("schema version"):
            raise UsageError(f"{file} line {number}: {problem}")
        else:
            damaged.append(DamagedLine(number, problem, line))
    return rows, damaged


def _read_row(line: bytes, schema: Schema, header: Header | None) -> tuple[Row, str | None]:
    """A line as a row, or what is wrong with it."""
    try:
        row = parse(line)
    except ValueError as error:
        return {}, str(error)
    if isinstance(row, dict):
        optional = {name: c.default for name, c in schema.row.items() if c.is_optional}
        row = {**optional, **row}
    problem = schema.row_problem(row)
    if problem is None and header is not None:
        if row["run_id"] != header["run_id"]:
            problem = f"column run_id: {show(row['run_id'])}, {HEADER_NAME} says "
            problem += show(header["run_id"])
        else:
            problem = schema.place_fault(row, header)
    return row, problem
