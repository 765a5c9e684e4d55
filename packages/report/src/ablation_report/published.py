"""Reads the published CSV files; the block ablation becomes rows like those of a run."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation_report.columns import MOST_INT, show
from ablation_report.escaping import visible
from ablation_report.reading import MOST_FAULTS, decoded, encoding_fault, read_bytes
from ablation_report.schema import (
    CELL_COLUMNS,
    SCHEMA_VERSION,
    STATUSES,
    Problem,
    SchemaError,
)

Row = dict[str, Any]
# Line, column and message
Fault = tuple[int, str, str]


@dataclass(frozen=True)
class Field:
    """A CSV column: how its text is read, what it holds in words, and whether it may be empty."""

    words: str
    read: Callable[[str], Any]
    nullable: bool = False


# Python reads more: blanks around a number, underscores in it, the digits of other scripts
_INTEGER = re.compile(r"[0-9]{1,19}")
_NUMBER = re.compile(r"[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,2})?")
# A thirtieth of a nanosecond in milliseconds, and 31 years in nanoseconds: sums and products of
# what lies between are finite, and sums of integers have 64 bits
_LEAST, _MOST = 1e-9, 10**18


def _positive(text: str) -> int:
    value = int(text) if _INTEGER.fullmatch(text) else 0
    if not 0 < value <= _MOST:
        raise ValueError
    return value


def _measured(text: str) -> float:
    value = _not_negative(text)
    if value < _LEAST:
        raise ValueError
    return value


def _not_negative(text: str) -> float:
    if not _NUMBER.fullmatch(text) or float(text) > _MOST:
        raise ValueError
    return float(text)


def _flag(text: str) -> bool:
    return {"0": False, "1": True}[text]


def _one_of(words: tuple[str, ...]) -> Field:
    return Field(f"one of {', '.join(words)}", dict(zip(words, words, strict=True)).__getitem__)


TEXT = Field("text", str)
OPTIONAL_TEXT = Field("text", str, nullable=True)
POSITIVE = Field("an integer from 1 to 10^18", _positive)
OPTIONAL_POSITIVE = Field("an integer from 1 to 10^18", _positive, nullable=True)
MEASURED = Field("a number from 10^-9 to 10^18", _measured)
OPTIONAL_MEASURED = Field("a number from 10^-9 to 10^18", _measured, nullable=True)

BLOCK_ABLATION: Mapping[str, Field] = {
    "config": TEXT,
    **dict.fromkeys(("d_model", "n_heads", "seq_len", "batch"), POSITIVE),
    **dict.fromkeys(("group", "printed_name", "variant"), TEXT),
    **dict.fromkeys(("attention_kernel", "layernorm_kernel", "passes"), OPTIONAL_TEXT),
    **dict.fromkeys(("total_ns", "attention_ns", "layernorm_ns", "other_ns"), POSITIVE),
    "ratio_vs_torch_naive": MEASURED,
}

# The published file's name of a suite, and of figures that belong beside one
PUBLISHED_SUITES: Mapping[str, str] = {
    "attention_sweep": "attention-sweep",
    "lm_step": "lm-step",
    "attention_backward": "attention-backward",
    "attention_parts": "attention-parts",
    "CPUREF": "attention-sweep",
}

SUITES: Mapping[str, Field] = {
    "row_id": TEXT,
    "suite": _one_of(tuple(PUBLISHED_SUITES)),
    "source": TEXT,
    "device_reported": OPTIONAL_TEXT,
    **dict.fromkeys(("device_true", "dtype", "impl", "phase"), TEXT),
    **dict.fromkeys(("batch", "heads", "q_len", "kv_len", "head_dim"), POSITIVE),
    **dict.fromkeys(("layers", "d_model", "d_ff", "vocab"), OPTIONAL_POSITIVE),
    "causal": Field("0 or 1", _flag),
    **dict.fromkeys(("autocast", "compile"), OPTIONAL_TEXT),
    "metric": TEXT,
    "unit": _one_of(("ms", "MiB", "bytes")),
    "value": OPTIONAL_MEASURED,
    "std": Field("a number from 0 to 10^18", _not_negative, nullable=True),
    "min": OPTIONAL_MEASURED,
    "status": _one_of(STATUSES),
    **dict.fromkeys(("reason", "note"), OPTIONAL_TEXT),
}


@dataclass(frozen=True)
class PublishedBlock:
    """A published block ablation: each row as a cell, with the number of its line.

    The one published time becomes the one sample. The profile's total is the sum of the three
    published parts; of these, Other is not divided any further, so the columns of its parts are
    null.
    """

    path: Path
    rows: list[tuple[int, Row]]


@dataclass(frozen=True)
class PublishedSuites:
    """Published figures of the further suites: each row with the number of its line."""

    path: Path
    rows: list[tuple[int, Row]]


def read_published(path: Path) -> PublishedBlock | PublishedSuites:
    """Read and check a published CSV file, whichever of both its columns say that it is.

    Raises:
        SchemaError: it is missing, no text in UTF-8, or breaks a rule; lists the faults by line
            and column, the first `MOST_FAULTS`.
    """
    records = _records(path)
    _, header = next(records, (1, []))
    if {"row_id", "suite", "metric"} <= set(header):
        return PublishedSuites(path, _rows(path, header, records, SUITES, _suites_faults))
    rows = _rows(path, header, records, BLOCK_ABLATION, _block_faults)
    return PublishedBlock(path, [(line, _cell(path, row)) for line, row in rows])


def _cell(path: Path, row: Row) -> Row:
    known = {
        "schema_version": SCHEMA_VERSION,
        "run_id": visible(path.stem),
        **{name: row[name] for name in ("config", "d_model", "n_heads", "seq_len", "batch")},
        **{name: row[name] for name in ("variant", "printed_name", "group", "attention_kernel")},
        "layer_norm_kernel": row["layernorm_kernel"],
        "passes": None if row["passes"] is None else row["passes"].split("+"),
        "status": "ok",
        "samples_ns": [row["total_ns"]],
        "profile_total_ns": [row["attention_ns"] + row["layernorm_ns"] + row["other_ns"]],
        "profile_attention_ns": [row["attention_ns"]],
        "profile_layer_norm_ns": [row["layernorm_ns"]],
        "flops": _flops(row),
    }
    return {name: known.get(name) for name in CELL_COLUMNS}


def _flops(row: Row) -> int:
    s, d = row["seq_len"], row["d_model"]
    return int(row["batch"] * (24 * s * d * d + 4 * s * s * d))


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each record with the number of the line that it begins in.

    A spreadsheet's byte order mark is passed over, as are empty lines at the end.
    """
    content = read_bytes(path).removeprefix(b"\xef\xbb\xbf")
    if fault := encoding_fault(content):
        raise SchemaError([Problem(path, None, None, fault)])
    text = decoded(path, None, content)
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise SchemaError([Problem(path, line, None, "damaged, a NUL character")])
    # A reader of lines, so that it counts those inside quotes too
    reader = csv.reader(io.StringIO(text.rstrip("\r\n"), newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            yield line, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise SchemaError([Problem(path, line, None, f"damaged: {error}")]) from None


def _rows(
    path: Path,
    header: list[str],
    records: Iterator[tuple[int, list[str]]],
    fields: Mapping[str, Field],
    row_faults: Callable[[list[tuple[int, Row]]], list[Fault]],
) -> list[tuple[int, Row]]:
    """Read the records below a header that must be exactly the fields, in any order."""
    if problem := _header_problem(path, header, fields):
        raise SchemaError([problem])
    rows: list[tuple[int, Row]] = []
    problems: list[Problem] = []
    for line, texts in records:
        if len(problems) >= MOST_FAULTS:
            break
        if len(texts) != len(header):
            message = f"damaged, {len(texts)} fields where the header has {len(header)}"
            problems.append(Problem(path, line, None, message))
            continue
        row, faults = _row(dict(zip(header, texts, strict=True)), fields)
        problems += [Problem(path, line, name, fault) for name, fault in faults.items()]
        rows.append((line, row))
    if not problems:
        problems = [Problem(path, *fault) for fault in row_faults(rows)]
    if len(problems) >= MOST_FAULTS:
        message = f"{MOST_FAULTS} faults up to here: what comes below was not read"
        problems[MOST_FAULTS:] = [Problem(path, problems[MOST_FAULTS - 1].line, None, message)]
    if problems:
        raise SchemaError(problems)
    return rows


def _header_problem(path: Path, header: list[str], fields: Mapping[str, Field]) -> Problem | None:
    if not header:
        return Problem(path, 1, None, "empty, expected a line of column names")
    for separator, words in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            return Problem(path, 1, None, f"separated by {words}, expected commas")
    for name in fields:
        if name not in header:
            return Problem(path, 1, name, "missing")
    for name in header:
        if name not in fields:
            return Problem(path, 1, name, "unknown column")
        if header.count(name) > 1:
            return Problem(path, 1, name, "stands in the header twice")
    return None


def _row(texts: Mapping[str, str], fields: Mapping[str, Field]) -> tuple[Row, dict[str, str]]:
    row: Row = {}
    faults: dict[str, str] = {}
    for name, field in fields.items():
        text = texts[name]
        row[name] = None
        if text == "":
            if not field.nullable:
                faults[name] = f"empty, expected {field.words}"
            continue
        try:
            row[name] = field.read(text)
        except (ValueError, KeyError):
            faults[name] = f"{show(text)}, expected {field.words}"
    return row, faults


def _block_faults(rows: list[tuple[int, Row]]) -> list[Fault]:
    """Check that no cell stands twice and that each ratio is that of the printed times."""
    faults: list[Fault] = []
    first_line: dict[tuple[str, str], int] = {}
    baselines = {row["config"]: row for _, row in rows if row["variant"] == "torch-naive"}
    for line, row in rows:
        earlier = first_line.setdefault((row["config"], row["variant"]), line)
        if earlier != line:
            message = f"{row['config']} {row['variant']} stands in line {earlier} already"
            faults.append((line, "variant", message))
        baseline = baselines.get(row["config"])
        if baseline is None:
            faults.append((line, "config", f"{row['config']} has no row torch-naive"))
            continue
        if _flops(row) > MOST_INT:
            faults.append((line, "d_model", f"{row['d_model']}, too large for a block"))
        ratio = row["total_ns"] / baseline["total_ns"]
        # Two decimals were printed, from times that were rounded themselves
        if abs(ratio - row["ratio_vs_torch_naive"]) > 0.011:
            message = f"{row['ratio_vs_torch_naive']}, the times give {ratio:.3f}"
            faults.append((line, "ratio_vs_torch_naive", message))
    return faults


def _suites_faults(rows: list[tuple[int, Row]]) -> list[Fault]:
    """Check that row names are unique and that a row has a value exactly when its status is ok."""
    faults: list[Fault] = []
    first_line: dict[str, int] = {}
    for line, row in rows:
        earlier = first_line.setdefault(row["row_id"], line)
        if earlier != line:
            faults.append((line, "row_id", f"{row['row_id']} stands in line {earlier} already"))
        if (row["status"] == "ok") != (row["value"] is not None):
            held = "null" if row["value"] is None else "not null"
            faults.append((line, "value", f"{held}, but status is {row['status']}"))
    return faults
