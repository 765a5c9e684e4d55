"""Read the files of a run folder: headers and lines, each fault with its place.

Nothing is trusted: not that a name is that of a regular file, not its encoding, its length, the
depth of what it nests. The bench reads by this module what it goes on with, and the report what it
shows, so that both judge a file alike. Standard library only.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ablation_report import rows
from ablation_report.escaping import visible
from ablation_report.fields import show
from ablation_report.rows import HEADER_NAME, Header, Row

# A file with more faults than this is damaged as a whole
MOST_FAULTS = 100
# No line and no header is longer; a block of zeros on a damaged disk may be
MOST_BYTES = 2**26
# Rows nest four deep; Python's own functions fail at hundreds
MOST_DEPTH = 32

# What nests nothing
_PLAIN = frozenset({int, float, str, bool, type(None)})
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
class Problem:
    """One fault of a file and its place; line and column are None for the whole of it."""

    path: Path
    line: int | None
    column: str | None
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line is not None else str(self.path)
        column = f"column {self.column[:60]}: " if self.column is not None else ""
        return visible(f"{place}: {column}{self.message}")


class SchemaError(ValueError):
    """Files that cannot be read as rows; `problems` has one entry for each fault."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(frozen=True)
class Format:
    """How the files of a run are judged and made rows of the present schema.

    `header_faults` and `row_faults` judge what stands in the files, `lift_header` and `lift_row`
    make it a header and a row of `rows`; a row is lifted with the header as it stands in its file,
    a header with the rows that were lifted. `name_of` is what the files call a column.
    """

    version: int
    rows_name: str
    header_faults: Callable[[Mapping[str, Any]], dict[str, str]]
    row_faults: Callable[[Mapping[str, Any]], dict[str, str]]
    lift_header: Callable[[Header, Sequence[Row]], Header] = lambda header, rows: header
    lift_row: Callable[[Row, Header], Row] = lambda row, header: row
    name_of: Callable[[str], str] = lambda name: name


FORMAT = Format(rows.SCHEMA_VERSION, rows.ROWS_NAME, rows.header_faults, rows.row_faults)


@dataclass(frozen=True)
class Line:
    """A line of a file of rows: the row, or the faults that make it none."""

    number: int
    content: bytes
    row: Row | None
    problems: tuple[Problem, ...]


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
        message = "a broken symbolic link" if path.is_symlink() else "missing"
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
        message = f"byte {place} is {content[error.start]:#04x}, which is not UTF-8"
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
        raise refuse("appears twice in one object", str(error)) from None
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
    layer = [value] if isinstance(value, dict | list) else []
    for _ in range(levels + 1):
        found: list[Any] = []
        for each in layer:
            entries = each.values() if isinstance(each, dict) else each
            # Long lists are of numbers, and are passed over as a whole
            if not _PLAIN.issuperset(map(type, entries)):
                found += [entry for entry in entries if isinstance(entry, dict | list)]
        layer = found
        if not layer:
            return False
    return True


def _is_unicode(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_header(path: Path, kind: Format = FORMAT) -> Header:
    """Read and check a run.json.

    Raises:
        SchemaError: it is missing, damaged, breaks a rule, or has another schema; lists every
            fault.
    """
    header = peek_header(path)
    # Another version may have other columns: no use in listing them
    if fault := version_fault(header.get("schema_version"), kind.version):
        raise SchemaError([Problem(path, None, "schema_version", fault)])
    _refuse(path, None, kind.header_faults(header))
    return header


def peek_header(path: Path) -> Header:
    """Read a run.json as far as to know its kind; raises for damage."""
    content = read_bytes(path)
    if fault := encoding_fault(content):
        raise SchemaError([Problem(path, None, None, fault)])
    return read_object(path, None, decoded(path, None, content))


def version_fault(version: Any, expected: int) -> str | None:
    """Say why a schema version is refused, or return None."""
    if version == expected and type(version) is int:
        return None
    if type(version) is not int:
        return f"{show(version)}, expected {expected}"
    age = "a newer" if version > expected else "an older"
    return f"schema {version}, expected schema {expected} ({age} bench wrote it)"


def read_run(folder: Path, kind: Format = FORMAT) -> tuple[Header, list[Row]]:
    """Read and check a run folder; return its header and its rows in the present schema, none where
    it has no file of them. Each row has the number of its line under "line".

    Raises:
        SchemaError: a file is missing, damaged, breaks a rule, or has another schema; lists the
            faults by file, line and column, of each file the first `MOST_FAULTS`.
    """
    header, problems = None, []
    try:
        header = read_header(folder / HEADER_NAME, kind)
    except SchemaError as error:
        if any(problem.column == "schema_version" for problem in error.problems):
            raise
        problems += error.problems
    found: list[Row] = []
    path = folder / kind.rows_name
    faulty = 0
    for line in read_lines(path, header, kind):
        if line.row is not None:
            found.append({**line.row, "line": line.number})
        problems += line.problems
        faulty += len(line.problems)
        if faulty >= MOST_FAULTS:
            del problems[len(problems) - faulty + MOST_FAULTS :]
            message = f"{MOST_FAULTS} faults up to here: the next lines were not read"
            problems.append(Problem(path, line.number, None, message))
            break
    if header is None or problems:
        raise SchemaError(problems)
    if kind is FORMAT:
        return header, found
    header = kind.lift_header(header, found)
    places = (
        Problem(path, row["line"], kind.name_of(name), fault)
        for row in found
        for name, fault in rows.place_faults(row, header).items()
    )
    if problems := list(itertools.islice(places, MOST_FAULTS)):
        raise SchemaError(problems)
    return header, found


def read_lines(path: Path, header: Header | None, kind: Format = FORMAT) -> Iterator[Line]:
    """Yield every line of a file of rows; none without the file.

    With a header, rows of another run are faults; without one each row is judged by itself.
    Raises SchemaError for what cannot be read as
    lines, and for a file of another schema, whose rows are not damaged.
    """
    first: dict[tuple[Any, ...], int] = {}
    for number, content in _lines(path) if os.path.lexists(path) else ():
        try:
            row = _row(path, number, content, kind, header)
        except SchemaError as error:
            if any(problem.column == "schema_version" for problem in error.problems):
                raise
            yield Line(number, content, None, tuple(error.problems))
            continue
        earlier = first.setdefault(tuple(row[name] for name in rows.KEY), number)
        if earlier == number:
            yield Line(number, content, row, ())
            continue
        message = f"{row['phase']} of this case is already in line {earlier}"
        fault = Problem(path, number, kind.name_of("variant"), f"{row['variant']}, {message}")
        yield Line(number, content, None, (fault,))


def _row(path: Path, line: int, content: bytes, kind: Format, header: Header | None) -> Row:
    """Read and check one line of a file of rows."""
    if len(content) > MOST_BYTES:
        raise SchemaError([Problem(path, line, None, f"longer than {MOST_BYTES} bytes")])
    row = read_object(path, line, decoded(path, line, content))
    if fault := version_fault(row.get("schema_version"), kind.version):
        raise SchemaError([Problem(path, line, "schema_version", fault)])
    faults = kind.row_faults(row)
    if not faults and header is not None and row["run_id"] != header["run_id"]:
        faults = {"run_id": f"{show(row['run_id'])}, {HEADER_NAME} says {show(header['run_id'])}"}
    elif not faults and header is not None and kind is FORMAT:
        faults = rows.place_faults(row, header)
    _refuse(path, line, faults)
    if kind is FORMAT:
        return row
    lifted = kind.lift_row(row, header or {})
    lifted_faults = rows.relation_faults(lifted)
    _refuse(path, line, {kind.name_of(name): fault for name, fault in lifted_faults.items()})
    return lifted


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
