"""How the files of a run are written, so that nothing measured is lost.

Lines are appended by one write and are on the disk before the bench goes on; what cannot be
appended is written elsewhere, and the error names the place.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import tempfile
from collections.abc import Container, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from .interrupt import UsageError

Row = dict[str, Any]

# Enough for the rows of the largest run; a disk with less is refused before measuring.
DISK_PROBE_BYTES = 1 << 20


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_run_id() -> str:
    """Return a name for a run: the time, and six random characters; nothing about the host."""
    return f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"


class FaultyRows(ValueError):
    """Rows that break the schema; the message names the faults and where the rows are kept."""


class RowsNotWritten(OSError):
    """Rows that could not be appended to their run; the message names where they are instead."""


def write_whole(path: Path, data: bytes) -> None:
    """Replace a file of the own run at once: after a crash it is the old one or the new one."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Have the name of a new file on the disk, too; not every file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def append_lines(path: Path, data: bytes) -> None:
    """Add whole lines to a file by one write, and wait until they are on the disk.

    Raises OSError, with the file as it was, if that fails.
    """
    is_new = not path.exists()
    with path.open("ab", buffering=0) as file:
        before = os.fstat(file.fileno()).st_size
        try:
            left = memoryview(data)
            while left:
                left = left[file.write(left) :]
            os.fsync(file.fileno())
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(file.fileno(), before)
            raise
    if is_new:
        _sync_folder(path.parent)


def to_json(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    """JSON and a line break, in UTF-8; half a surrogate pair, as from a file's name, becomes ?.

    Raises TypeError, ValueError or RecursionError for what is no JSON.
    """
    separators = (",", ":") if indent is None else None
    text = json.dumps(value, ensure_ascii=False, indent=indent, separators=separators)
    return text.encode("utf-8", "replace") + b"\n"


def append_rows(path: Path, rows: Sequence[Row]) -> None:
    """Add rows to a file, or else to one in the folder of temporary files.

    Raises RowsNotWritten, which names that file and the reason.
    """
    data = b"".join(map(to_json, rows))
    try:
        append_lines(path, data)
    except OSError as error:
        _keep_elsewhere(path, data, error)


def _keep_elsewhere(path: Path, data: bytes, error: OSError) -> NoReturn:
    why = f"cannot write to {path}: {error.strerror or error}"
    try:
        descriptor, name = tempfile.mkstemp(prefix=f"ablation-{path.stem}-", suffix=".jsonl")
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as second:
        lines = data.decode().rstrip("\n")
        raise RowsNotWritten(
            f"{why}; nor to the folder of temporary files: {second.strerror or second}; "
            f"the rows are:\n{lines}"
        ) from None
    raise RowsNotWritten(
        f"{why}; the rows are in {name}: append them to it, then use --resume"
    ) from None


def prove_writable(path: Path) -> None:
    """Write, flush and remove a file of a folder; UsageError if any of that fails."""
    try:
        with tempfile.TemporaryFile(dir=path, prefix=".probe-") as file:
            file.write(b"\0" * DISK_PROBE_BYTES)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror or error}") from None


def json_problem(row: Row) -> str | None:
    """Why a row cannot be written as JSON, or None."""
    try:
        to_json(row)
    except (TypeError, ValueError, RecursionError) as error:
        return f"cannot be written as JSON: {error}"
    return None


def as_it_is(row: Row) -> bytes:
    """A row that breaks the schema as a line, what is no JSON in words."""
    text = json.dumps({str(key): value for key, value in row.items()}, default=repr)
    return text.encode("utf-8", "replace") + b"\n"


def leave_out(file: Path, numbers: Container[int]) -> None:
    """Have a file of rows without some of its lines, and with a line break after the last, so that
    what is appended begins a line; the others stay byte by byte as they are."""
    data = file.read_bytes() if file.exists() else b""
    lines = data.removesuffix(b"\n").split(b"\n") if data else []
    kept = [line + b"\n" for number, line in enumerate(lines, start=1) if number not in numbers]
    whole = b"".join(kept)
    if whole != data:
        write_whole(file, whole)
