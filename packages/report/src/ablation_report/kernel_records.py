"""How long each kernel takes: the files of `python -m ablation_kernels --all --json FILE`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation_report.fields import (
    AMOUNT,
    ANYTHING,
    COUNT,
    POSITIVE,
    TEXT,
    TEXTS,
    Column,
    Columns,
    column_faults,
    is_list_of,
    table,
)
from ablation_report.output import UsageError

SCHEMA = 1
ROW: Columns = {
    **dict.fromkeys(("op", "kernel", "shape", "dtype", "bound"), TEXT),
    "threads": POSITIVE,
    "n_calls": POSITIVE,
    "median_ns": AMOUNT,
    "min_ns": AMOUNT,
    "flops": COUNT.or_null(),
    "bytes": COUNT,
    "share_of_ceiling": AMOUNT,
}
_MACHINE: Columns = {
    "cpu_model": Column("text", lambda value: isinstance(value, str)),
    "cores": POSITIVE,
    "isa_flags": TEXTS,
    "caches": table(),
}
DOCUMENT: Columns = {
    "schema": COUNT,
    "created_utc": TEXT,
    "command": TEXTS,
    "machine": table(_MACHINE),
    "threads": POSITIVE,
    "rows": Column(
        f"a list of {{{', '.join(ROW)}}}",
        is_list_of(lambda row: isinstance(row, dict) and not column_faults(row, ROW, ANYTHING)),
    ),
}


@dataclass(frozen=True)
class KernelTime:
    """A kernel on one shape: nanoseconds of a call, and what limits it.

    `rate` is GFLOP/s of an op that has multiply-adds, GB/s of the bytes that the call needs to move
    of another; `unit` says which. `share` is the least time by the ceiling that `bound` names over
    the median: above 1 where a cache is faster than the memory that was measured.
    """

    op: str
    kernel: str
    shape: str
    threads: int
    n_calls: int
    median_ns: float
    min_ns: float
    rate: float | None
    unit: str
    bound: str
    share: float


@dataclass(frozen=True)
class KernelRecord:
    """The rows of one file, by the file's name."""

    name: str
    created: str
    command: Sequence[str]
    machine: Mapping[str, Any]
    threads: int
    rows: Sequence[KernelTime]


def read_kernels(path: Path) -> KernelRecord:
    """Read a file of the kernels' command.

    Raises:
        UsageError: the file is damaged, or of another schema; the message names the fault.
    """
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path}: no JSON: {error}") from None
    if isinstance(document, dict) and document.get("schema") not in (SCHEMA, None):
        raise UsageError(f"{path}: schema {document['schema']}, this program reads {SCHEMA}")
    is_table = isinstance(document, dict)
    faults = column_faults(document, DOCUMENT, ANYTHING) if is_table else {"": "no table"}
    if faults:
        name, fault = next(iter(faults.items()))
        raise UsageError(
            f"{path}: {name}: {fault}; expected what `python -m ablation_kernels --all --json FILE`"
            " writes"
        )
    return KernelRecord(
        path.stem,
        document["created_utc"],
        document["command"],
        document["machine"],
        document["threads"],
        tuple(map(_time, document["rows"])),
    )


def _time(row: Mapping[str, Any]) -> KernelTime:
    work, unit = (row["flops"], "GFLOP/s") if row["flops"] else (row["bytes"], "GB/s")
    rate = work / row["median_ns"] if row["median_ns"] else None
    named = {name: row[name] for name in ("op", "kernel", "shape", "threads", "n_calls", "bound")}
    return KernelTime(
        **named,
        median_ns=row["median_ns"],
        min_ns=row["min_ns"],
        rate=rate,
        unit=unit,
        share=row["share_of_ceiling"],
    )
