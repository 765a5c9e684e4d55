"""Reads the files of a run folder: headers and lines, each fault told with its place.

Nothing is trusted: not that a name is that of a regular file, not its encoding, its length, the
depth of what it nests. `read_run` is the one way to a run, whichever kind it is of.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl

from ablation_report.columns import Column, column_faults, show
from ablation_report.schema import Problem, SchemaError, version_fault

HEADER_NAME = "run.json"
# A file with more faults than this is damaged as a whole
MOST_FAULTS = 100
# No line and no header is longer; a block of zeros on a damaged disk may be
MOST_BYTES = 2**26
# Rows nest four deep; Python's own functions fail at hundreds
MOST_DEPTH = 32

Row = Mapping[str, Any]
# In JSON, half of a pair that makes one character
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_MARKS = {b"\xef\xbb\xbf": "UTF-8 with a byte order mark", b"\xff\xfe": "UTF-16"}
_MARKS |= {b"\xfe\xff": "UTF-16", b"\x00\x00\xfe\xff": "UTF-32"}


@dataclass(frozen=True)
class Format:
    """A kind of run: the file of its rows, what header and rows may hold, what makes a row unique.

    `says` tells what a row measures, under the column `named`; `row_faults` are those between the
    columns of a row, `header_faults` those between a sound row and a sound header.
    """

    rows_name: str
    header_columns: Mapping[str, Column]
    row_columns: Mapping[str, Column]
    key: Sequence[str]
    named: str
    says: Callable[[Row], str]
    row_faults: Callable[[Row], dict[str, str]]
    header_faults: Callable[[Row, Mapping[str, Any]], dict[str, str]]


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file to read its bytes.

    Raises:
        SchemaError: it is missing, something else than a regular file (a named pipe would wait for
            a writer), or may not be read.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISREG(mode):
            return path.open("rb")
        message = f"{_KINDS.get(stat.S_IFMT(mode), 'no file')}, expected a regular file"
    except FileNotFoundError:
        message = "a symbolic link that leads nowhere" if path.is_symlink() else "missing"
    except OSError as error:
        is_loop = error.errno == errno.ELOOP
        message = "a symbolic link to itself" if is_loop else f"cannot be read: {error.strerror}"
    raise SchemaError([Problem(path, None, None, message)])


def decoded(path: Path, line: int | None, content: bytes) -> str:
    """Decode UTF-8.

    Raises:
        SchemaError: it is something else; says what and from where on.
    """
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        place = error.start + 1
        if line is None:
            before = content[: error.start]
            line = before.count(b"\n") + 1
            place = len(before) - (before.rfind(b"\n") + 1) + 1
        message = f"byte {place} is {content[error.start]:#04x}: no UTF-8 from there on"
        raise SchemaError([Problem(path, line, None, message)]) from None


def encoding_fault(start: bytes) -> str | None:
    """Say which encoding the first bytes of a file announce, or return None for plain UTF-8."""
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return f"{name}, expected UTF-8 without a byte order mark"
    return None


def read_bytes(path: Path) -> bytes:
    """Read a whole file; raises as `open_regular`, and for one of more than `MOST_BYTES`."""
    with open_regular(path) as file:
        content = _guarded(path, lambda: file.read(MOST_BYTES + 1))
    if len(content) > MOST_BYTES:
        raise SchemaError([Problem(path, None, None, f"longer than {MOST_BYTES} bytes")])
    return content


def read_object(path: Path, line: int | None, content: str) -> dict[str, Any]:
    """Decode one JSON object, a whole file (line None) or a line of it.

    Raises:
        SchemaError: it is damaged, something else than an object, nested deeper than `MOST_DEPTH`,
            names a column twice, or holds what is no character.
    """

    def refuse(message: str, column: str | None = None) -> SchemaError:
        return SchemaError([Problem(path, line, column, message)])

    try:
        value = json.loads(content, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        place = f"character {error.pos + 1}" if line is not None else f"line {error.lineno}"
        raise refuse(f"damaged, no JSON from {place} on ({error.msg})") from None
    except _TwiceError as error:
        raise refuse("stands in one object twice", str(error)) from None
    except RecursionError:
        raise refuse(f"nested deeper than {MOST_DEPTH} levels") from None
    except ValueError:
        # Python reads no integer of more than 4300 digits
        raise refuse("an integer of thousands of digits, expected at most 64 bits") from None
    # Each level opens with a bracket: most lines have too few to be too deep
    n_open = content.count("[") + content.count("{")
    if n_open > MOST_DEPTH and _is_deeper(value, MOST_DEPTH):
        raise refuse(f"nested deeper than {MOST_DEPTH} levels")
    if not isinstance(value, dict):
        raise refuse(f"{show(value)}, expected an object")
    if _SURROGATE.search(content):
        for name, entry in value.items():
            if not _is_unicode(name) or not _is_unicode(entry):
                raise refuse("half of a surrogate pair, which is no character", name)
    return value


class _TwiceError(ValueError):
    """A column stands twice in one object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return found


def _is_deeper(value: Any, levels: int) -> bool:
    """True where lists and tables are nested more than so many levels deep."""
    layer = [value]
    for _ in range(levels + 1):
        entries: list[Any] = []
        for each in layer:
            if isinstance(each, dict | list):
                entries += each.values() if isinstance(each, dict) else each
        layer = [each for each in entries if isinstance(each, dict | list)]
        if not layer:
            return False
    return True


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_header(path: Path, columns: Mapping[str, Column]) -> dict[str, Any]:
    """Read and check a run.json.

    Raises:
        SchemaError: it is missing, damaged, breaks a rule, or has another schema; lists every
            fault.
    """
    header = peek_header(path)
    _refuse(path, None, column_faults(header, columns))
    return header


def peek_header(path: Path) -> dict[str, Any]:
    """Read a run.json as far as to tell its kind; raises for damage and for another schema."""
    content = read_bytes(path)
    if fault := encoding_fault(content):
        raise SchemaError([Problem(path, None, None, fault)])
    header = read_object(path, None, decoded(path, None, content))
    # Another version may have other columns: no use in listing them
    if fault := version_fault(header.get("schema_version")):
        raise SchemaError([Problem(path, None, "schema_version", fault)])
    return header


def read_run(folder: Path, kind: Format) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read and check a run folder; return its header and its rows, none where it has no file of
    them.

    Raises:
        SchemaError: a file is missing, damaged, breaks a rule, or has another schema; lists the
            faults by file, line and column, of each file the first `MOST_FAULTS`.
    """
    header, problems = None, []
    try:
        header = read_header(folder / HEADER_NAME, kind.header_columns)
    except SchemaError as error:
        if any(problem.column == "schema_version" for problem in error.problems):
            raise
        problems += error.problems
    try:
        rows = _read_rows(folder / kind.rows_name, kind, header)
    except SchemaError as error:
        raise SchemaError([*problems, *error.problems]) from None
    if header is None:
        raise SchemaError(problems)
    return header, rows


def _read_rows(path: Path, kind: Format, header: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Read the lines of a file of rows; without a header each by itself."""
    rows: list[dict[str, Any]] = []
    problems: list[Problem] = []
    first_line: dict[tuple[Any, ...], int] = {}
    for line, content in _lines(path) if os.path.lexists(path) else ():
        try:
            row = _row(path, line, content, kind, header)
        except SchemaError as error:
            problems += error.problems
            if len(problems) >= MOST_FAULTS:
                del problems[MOST_FAULTS:]
                message = f"{MOST_FAULTS} faults up to here: the lines below were not read"
                problems.append(Problem(path, line, None, message))
                break
            continue
        earlier = first_line.setdefault(tuple(row[name] for name in kind.key), line)
        if earlier != line:
            message = f"{kind.says(row)} stands in line {earlier} already"
            problems.append(Problem(path, line, kind.named, message))
        rows.append(row)
    if problems:
        raise SchemaError(problems)
    return rows


def _row(
    path: Path, line: int, content: bytes, kind: Format, header: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Read and check one line of a file of rows."""
    if len(content) > MOST_BYTES:
        raise SchemaError([Problem(path, line, None, f"longer than {MOST_BYTES} bytes")])
    row = read_object(path, line, decoded(path, line, content))
    if fault := version_fault(row.get("schema_version")):
        raise SchemaError([Problem(path, line, "schema_version", fault)])
    faults = column_faults(row, kind.row_columns) or kind.row_faults(row)
    if not faults and header is not None:
        if row["run_id"] != header["run_id"]:
            faults["run_id"] = f"{show(row['run_id'])}, {HEADER_NAME} says {show(header['run_id'])}"
        faults |= kind.header_faults(row, header)
    _refuse(path, line, faults)
    return {name: _typed(row.get(name), column.dtype) for name, column in kind.row_columns.items()}


def _typed(value: Any, dtype: Any) -> Any:
    """A value as the frame has it: JSON writes a number without a fraction as an integer."""
    if value is None:
        return None
    if dtype == pl.Float64:
        return float(value)
    if isinstance(dtype, pl.List) and dtype.inner != pl.Int64:
        return [_typed(entry, dtype.inner) for entry in value]
    if isinstance(dtype, pl.Struct):
        types = {field.name: field.dtype for field in dtype.fields}
        return {name: _typed(entry, types[name]) for name, entry in value.items()}
    return value


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield each line of a file of rows with its number, counted from 1.

    A line that is too long is the last, as far as it was read. Not splitlines: a reason may hold
    one of the rarer line separators.
    """
    with open_regular(path) as file:
        line = 1
        while content := _guarded(path, lambda: file.readline(MOST_BYTES + 2)):
            if line == 1 and (fault := encoding_fault(content)):
                raise SchemaError([Problem(path, None, None, fault)])
            yield line, content.removesuffix(b"\n")
            if len(content) > MOST_BYTES + 1:
                return
            line += 1


def _guarded(path: Path, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise SchemaError([Problem(path, None, None, message)]) from None


def _refuse(path: Path, line: int | None, faults: Mapping[str, str]) -> None:
    """Raise where there is a fault."""
    listed: Iterable[tuple[str, str]] = list(faults.items())[:MOST_FAULTS]
    if faults:
        raise SchemaError(Problem(path, line, name, fault) for name, fault in listed)
