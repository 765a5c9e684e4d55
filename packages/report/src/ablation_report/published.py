"""Reads the published CSV files as runs: rows in the columns of `rows`, as far as they are known.

A published figure is one sample. Under `details` stands how it was taken: `time_kind`, and
`mean_ns`, `std_ns`, `min_ns` where they were printed. A profile has the printed parts alone.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation_report.escaping import visible
from ablation_report.fields import MOST_INT, show
from ablation_report.legacy import BASELINES, BLOCK_TWINS
from ablation_report.naming import name_of
from ablation_report.reading import (
    MOST_FAULTS,
    Problem,
    SchemaError,
    decoded,
    encoding_fault,
    read_bytes,
)
from ablation_report.rows import STATUSES, blank_row, make_label
from ablation_report.run import BLOCK, NAIVE, Run

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


def _word(text: str) -> str:
    # What a label could not carry is a ValueError
    make_label(BLOCK, "published", {"word": text}, "float32", 1, "cpu")
    return text


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

# The published file's name of a suite, and of figures that belong to one
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
    "autocast": Field("a word", _word, nullable=True),
    "compile": OPTIONAL_TEXT,
    "metric": TEXT,
    "unit": _one_of(("ms", "MiB", "bytes")),
    "value": OPTIONAL_MEASURED,
    "std": Field("a number from 0 to 10^18", _not_negative, nullable=True),
    "min": OPTIONAL_MEASURED,
    "status": _one_of(STATUSES),
    **dict.fromkeys(("reason", "note"), OPTIONAL_TEXT),
}


# The published ladder prints no parents; these are the rungs that each of its variants stands on.
PARENTS: Mapping[str, str] = {
    "torch-sdpa": NAIVE,
    "percall-numpy": "percall-native",
    "percall-native": "attention-fused-parallel",
    "passes-none": NAIVE,
    "passes-fold": "passes-none",
    "passes-absorb": "passes-fold",
    "passes-matmul-add": "passes-absorb",
    "passes-bias-relu": "passes-matmul-add",
    "attention-unfused-scalar": "passes-bias-relu",
    "attention-fused-scalar": "attention-unfused-scalar",
    "attention-fused-simd": "attention-fused-scalar",
    "attention-fused-parallel": "attention-fused-simd",
    "attention-flash-parallel": "attention-fused-parallel",
    "layernorm-scalar": "attention-fused-parallel",
    "layernorm-simd": "layernorm-scalar",
    "layernorm-parallel": "layernorm-simd",
    "flash-layernorm": "layernorm-parallel",
}
# Variants of the ladder that are no compiled program: executor and origin.
_EXECUTORS: Mapping[str, tuple[str, str]] = {
    NAIVE: ("torch", "torch"),
    "torch-sdpa": ("torch", "torch"),
    "percall-numpy": ("per_op", "numpy"),
    "percall-native": ("per_op", "ablation"),
}


def read_published(path: Path) -> list[Run]:
    """Read and check a published CSV file, whichever of both its columns say that it is: one run of
    the block, or one for each suite and source.

    Raises:
        SchemaError: it is missing, no text in UTF-8, or breaks a rule; lists the faults by line
            and column, the first `MOST_FAULTS`.
    """
    records = _records(path)
    _, header = next(records, (1, []))
    if {"row_id", "suite", "metric"} <= set(header):
        return _suite_runs(path, _rows(path, header, records, SUITES, _suites_faults))
    rows = _rows(path, header, records, BLOCK_ABLATION, _block_faults)
    found = [_block_row(path, line, row) for line, row in rows]
    known = {"suite": BLOCK, "baseline": NAIVE, "twins": BLOCK_TWINS}
    return [_run(name_of(path), path, known, found)]


def _run(name: str, path: Path, known: Row, found: list[Row]) -> Run:
    listed = {
        f"{column}s": list(dict.fromkeys(row[column] for row in found))
        for column in ("tier", "case", "variant", "phase")
    }
    return Run(
        name,
        path,
        {"device": found[0]["device"] if found else "cpu", **listed, **known},
        tuple(found),
        is_published=True,
    )


def _placed(path: Path, line: int, **known: Any) -> Row:
    """Return a row of what is known, and where it stands."""
    row = {**blank_row(), "factors": {}, "providers": {}, "attempted": True, "session": 1}
    return {**row, "path": visible(path), "line": line, **known}


def _block_row(path: Path, line: int, row: Row) -> Row:
    variant = row["variant"]
    executor, origin = _EXECUTORS.get(variant, ("compiled", "ablation"))
    sizes = {
        "B": row["batch"],
        "H": row["n_heads"],
        "Nq": row["seq_len"],
        "Nk": row["seq_len"],
        "d": row["d_model"] // row["n_heads"] or 1,
        "causal": False,
        "config": row["config"],
    }
    kernels = {"attention": row["attention_kernel"], "layer_norm": row["layernorm_kernel"]}
    return _placed(
        path,
        line,
        run_id=visible(path.stem),
        suite=BLOCK,
        tier="configs",
        case=f"{BLOCK}/configs {row['config']}",
        variant=variant,
        worker=origin,
        phase="fwd",
        parent=PARENTS.get(variant),
        group=row["group"],
        printed_name=row["printed_name"],
        published_name=row["printed_name"],
        origin=origin,
        factors={"executor": executor},
        sizes=sizes,
        dtype="float32",
        device="cpu",
        status="ok",
        passes=None if row["passes"] is None else row["passes"].split("+"),
        kernels={op: kernel for op, kernel in kernels.items() if kernel} or None,
        samples_ns=[row["total_ns"]],
        sample_rounds=[0],
        interleaved=True,
        profile={
            "total": [row["attention_ns"] + row["layernorm_ns"] + row["other_ns"]],
            "attention": [row["attention_ns"]],
            "layer_norm": [row["layernorm_ns"]],
        },
        flops=_flops(row),
        details={"time_kind": "median"},
    )


def _suite_runs(path: Path, found: list[tuple[int, Row]]) -> list[Run]:
    """Return the published figures, by line of their file, as a run for each suite and source.

    A figure of memory stands with the first time of its case, variant and phase.
    """
    groups: dict[tuple[str, str], list[tuple[int, Row]]] = {}
    for line, row in found:
        groups.setdefault((row["suite"], row["source"]), []).append((line, row))
    runs = []
    for (name, source), lines in groups.items():
        suite = PUBLISHED_SUITES[name]
        known: Row = {"suite": suite, "baseline": BASELINES[suite], "twins": []}
        known["n_lines"] = len(lines)
        runs.append(_run(source, path, known, _suite_rows(path, suite, lines)))
    return runs


def _suite_rows(path: Path, suite: str, lines: list[tuple[int, Row]]) -> list[Row]:
    timed: list[Row] = []
    first: dict[tuple[str, str, str], Row] = {}
    for line, row in lines:
        made = _suite_row(path, line, suite, row)
        key = (made["case"], made["variant"], made["phase"])
        if row["unit"] == "ms":
            timed.append(made)
            first.setdefault(key, made)
        elif key in first and row["value"] is not None:
            scale = 2**20 if row["unit"] == "MiB" else 1
            first[key]["details"] |= {
                "published_memory_bytes": round(row["value"] * scale),
                "memory_line": line,
            }
    return timed


def _suite_row(path: Path, line: int, suite: str, row: Row) -> Row:
    """Return a published row in the columns of a recorded one."""
    is_compiled = row["compile"] == "inductor"
    name = row["impl"]
    if is_compiled and not name.endswith("_compiled"):
        name += "_compiled"
    shape = {"B": "batch", "H": "heads", "Nq": "q_len", "Nk": "kv_len", "d": "head_dim"}
    sizes = {
        **{size: row[column] for size, column in shape.items()},
        "causal": row["causal"],
        **{n: row[n] for n in ("autocast", "layers", "d_ff", "vocab") if row[n] is not None},
    }
    label = make_label(suite, "published", sizes, row["dtype"], 1, "cpu")
    device, _, device_name = row["device_true"].partition(":")
    return _placed(
        path,
        line,
        suite=suite,
        tier="published",
        # Neither threads nor a device that a label could carry were published
        case=label.replace(" t1 cpu", ""),
        variant=name,
        worker=name,
        phase=row["phase"],
        printed_name=name,
        published_name=name,
        origin="published",
        sizes=sizes,
        dtype=row["dtype"],
        device=device,
        device_name=device_name,
        status=row["status"],
        reason=row["reason"],
        reason_text=row["note"],
        **_published_time(row),
    )


def _published_time(row: Row) -> Row:
    """Return the printed figures of time, in ns."""
    if row["value"] is None or row["unit"] != "ms":
        return {"details": {}}
    value = row["value"] * 1e6
    details: Row = {"time_kind": "one cold run"}
    if row["metric"] != "profiler_range_time":
        details = {"time_kind": "mean", "mean_ns": value}
        for name in ("std", "min"):
            details[f"{name}_ns"] = None if row[name] is None else row[name] * 1e6
    return {
        "samples_ns": [value],
        "sample_rounds": [0],
        "interleaved": True,
        "details": details,
    }


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
            return Problem(path, 1, name, "appears twice in the header")
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
    """Check that no row appears twice and that each ratio is that of the printed times."""
    faults: list[Fault] = []
    first_line: dict[tuple[str, str], int] = {}
    baselines = {row["config"]: row for _, row in rows if row["variant"] == "torch-naive"}
    for line, row in rows:
        earlier = first_line.setdefault((row["config"], row["variant"]), line)
        if earlier != line:
            message = f"{row['config']} {row['variant']} is already in line {earlier}"
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
            faults.append((line, "row_id", f"{row['row_id']} is already in line {earlier}"))
        if (row["status"] == "ok") != (row["value"] is not None):
            held = "null" if row["value"] is None else "not null"
            faults.append((line, "value", f"{held}, but status is {row['status']}"))
    return faults
