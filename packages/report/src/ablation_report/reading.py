"""Reads the files of a run folder: headers and lines, each fault told with its place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ablation_report.schema import (
    Column,
    Problem,
    SchemaError,
    column_faults,
    show,
    version_fault,
)


def read_object(path: Path, line: int | None, content: str) -> dict[str, Any]:
    """Decode one JSON object, a whole file (line None) or a line of it.

    Raises:
        SchemaError: it is damaged, or something else than an object.
    """
    try:
        value = json.loads(content)
    except json.JSONDecodeError as error:
        place = f"character {error.pos + 1}" if line is not None else f"line {error.lineno}"
        message = f"damaged, no JSON from {place} on ({error.msg})"
        raise SchemaError([Problem(path, line, None, message)]) from None
    if not isinstance(value, dict):
        raise SchemaError([Problem(path, line, None, f"{show(value)}, expected an object")])
    return value


def read_header(path: Path, columns: Mapping[str, Column]) -> dict[str, Any]:
    """Read and check a run.json.

    Raises:
        SchemaError: it is damaged, breaks a rule, or has another schema; lists every fault.
    """
    header = read_object(path, None, path.read_text(encoding="utf-8", errors="replace"))
    # Another version may have other columns: no use in listing them
    if fault := version_fault(header.get("schema_version")):
        raise SchemaError([Problem(path, None, "schema_version", fault)])
    faults = column_faults(header, columns)
    if faults:
        raise SchemaError([Problem(path, None, name, fault) for name, fault in faults.items()])
    return header


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield each line of a file of rows with its number, counted from 1."""
    text = path.read_text(encoding="utf-8", errors="replace")
    # Not splitlines: a reason may hold one of the rarer line separators
    yield from enumerate(text.removesuffix("\n").split("\n") if text else [], start=1)


def read_rows(
    path: Path,
    key: Sequence[str],
    read: Callable[[int, str], dict[str, Any]],
    says: Callable[[Mapping[str, Any]], str],
) -> list[dict[str, Any]]:
    """Read the lines of a file of rows, none where there is no file.

    `read` makes a row of a line; two rows that agree in the columns of `key` are a fault, of which
    `says` tells what they both measure.

    Raises:
        SchemaError: lists every fault of every line.
    """
    rows: list[dict[str, Any]] = []
    problems: list[Problem] = []
    first_line: dict[tuple[Any, ...], int] = {}
    for line, content in numbered_lines(path) if path.exists() else ():
        try:
            row = read(line, content)
        except SchemaError as error:
            problems += error.problems
            continue
        earlier = first_line.setdefault(tuple(row[name] for name in key), line)
        if earlier != line:
            message = f"{says(row)} of this case stands in line {earlier} already"
            problems.append(Problem(path, line, "impl", message))
        rows.append(row)
    if problems:
        raise SchemaError(problems)
    return rows
