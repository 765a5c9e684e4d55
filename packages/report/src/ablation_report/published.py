"""Reads the published CSV files; the block ablation becomes rows like those of a run."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation_report.schema import (
    CELL_COLUMNS,
    SCHEMA_VERSION,
    STATUSES,
    Problem,
    SchemaError,
    show,
)

Row = dict[str, Any]


@dataclass(frozen=True)
class Field:
    """A CSV column: how its text is read, what it holds in words, and whether it may be empty."""

    words: str
    read: Callable[[str], Any]
    nullable: bool = False


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise ValueError
    return value


def _measured(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def _status(text: str) -> str:
    if text not in STATUSES:
        raise ValueError
    return text


def _flag(text: str) -> bool:
    return {"0": False, "1": True}[text]


TEXT = Field("text", str)
OPTIONAL_TEXT = Field("text", str, nullable=True)
POSITIVE = Field("an integer above 0", _positive)
OPTIONAL_POSITIVE = Field("an integer above 0", _positive, nullable=True)
MEASURED = Field("a number above 0", _measured)
OPTIONAL_MEASURED = Field("a number above 0", _measured, nullable=True)

BLOCK_ABLATION: Mapping[str, Field] = {
    "config": TEXT,
    **dict.fromkeys(("d_model", "n_heads", "seq_len", "batch"), POSITIVE),
    **dict.fromkeys(("group", "printed_name", "variant"), TEXT),
    **dict.fromkeys(("attention_kernel", "layernorm_kernel", "passes"), OPTIONAL_TEXT),
    **dict.fromkeys(("total_ns", "attention_ns", "layernorm_ns", "other_ns"), POSITIVE),
    "ratio_vs_torch_naive": MEASURED,
}

SUITES: Mapping[str, Field] = {
    **dict.fromkeys(("row_id", "suite", "source"), TEXT),
    "device_reported": OPTIONAL_TEXT,
    **dict.fromkeys(("device_true", "dtype", "impl", "phase"), TEXT),
    **dict.fromkeys(("batch", "heads", "q_len", "kv_len", "head_dim"), POSITIVE),
    **dict.fromkeys(("layers", "d_model", "d_ff", "vocab"), OPTIONAL_POSITIVE),
    "causal": Field("0 or 1", _flag),
    **dict.fromkeys(("autocast", "compile"), OPTIONAL_TEXT),
    **dict.fromkeys(("metric", "unit"), TEXT),
    "value": OPTIONAL_MEASURED,
    "std": Field("a number of 0 or more", _not_negative, nullable=True),
    "min": OPTIONAL_MEASURED,
    "status": Field(f"one of {', '.join(STATUSES)}", _status),
    **dict.fromkeys(("reason", "note"), OPTIONAL_TEXT),
}


def is_suites(path: Path) -> bool:
    """True when the file's header names the columns of the further suites."""
    if not path.is_file():
        return False
    with path.open(encoding="utf-8", newline="") as file:
        return set(next(csv.reader(file), [])) >= {"row_id", "suite", "metric"}


def read_suites(path: Path) -> list[Row]:
    """Read and check the published figures of the further suites; SchemaError lists every fault."""
    return [row for _, row in numbered_suites(path)]


def numbered_suites(path: Path) -> list[tuple[int, Row]]:
    """As `read_suites`, each row with the number of its line."""
    return list(_read(path, SUITES, _suites_faults))


def read_block_ablation(path: Path) -> list[tuple[int, Row]]:
    """Read a published block ablation; return each line's number and its cell.

    The one published time becomes the one sample. The profile's total is the sum of the three
    published parts; of these, Other is not divided any further, so the columns of its parts are
    null.

    Raises:
        SchemaError: lists every fault of the file.
    """
    return [(line, _cell(path, row)) for line, row in _read(path, BLOCK_ABLATION, _block_faults)]


def _cell(path: Path, row: Row) -> Row:
    s, d = row["seq_len"], row["d_model"]
    known = {
        "schema_version": SCHEMA_VERSION,
        "run_id": path.stem,
        **{name: row[name] for name in ("config", "d_model", "n_heads", "seq_len", "batch")},
        **{name: row[name] for name in ("variant", "printed_name", "group", "attention_kernel")},
        "layer_norm_kernel": row["layernorm_kernel"],
        "passes": None if row["passes"] is None else row["passes"].split("+"),
        "status": "ok",
        "samples_ns": [row["total_ns"]],
        "profile_total_ns": [row["attention_ns"] + row["layernorm_ns"] + row["other_ns"]],
        "profile_attention_ns": [row["attention_ns"]],
        "profile_layer_norm_ns": [row["layernorm_ns"]],
        "flops": row["batch"] * (24 * s * d * d + 4 * s * s * d),
    }
    return {name: known.get(name) for name in CELL_COLUMNS}


def _read(
    path: Path, fields: Mapping[str, Field], row_faults: Callable[[list[tuple[int, Row]]], Any]
) -> list[tuple[int, Row]]:
    """Read a CSV file whose header must be exactly the fields, in any order."""
    rows: list[tuple[int, Row]] = []
    problems: list[Problem] = []
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        if problem := _header_problem(path, header, fields):
            raise SchemaError([problem])
        for texts in reader:
            line = reader.line_num
            if len(texts) != len(header):
                message = f"damaged, {len(texts)} fields where the header has {len(header)}"
                problems.append(Problem(path, line, None, message))
                continue
            row, faults = _row(dict(zip(header, texts, strict=True)), fields)
            problems += [Problem(path, line, name, fault) for name, fault in faults.items()]
            rows.append((line, row))
    if not problems:
        problems = [Problem(path, *fault) for fault in row_faults(rows)]
    if problems:
        raise SchemaError(problems)
    return rows


def _header_problem(path: Path, header: list[str], fields: Mapping[str, Field]) -> Problem | None:
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


Fault = tuple[int, str, str]


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
