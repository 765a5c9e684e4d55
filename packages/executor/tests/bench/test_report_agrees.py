"""What `--resume` takes for a row is what the report reads, and the other way round."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ablation_executor.bench import record
from ablation_executor.bench.configs import UsageError
from ablation_executor.bench.run_reading import HEADER_NAME, Schema, read_header, read_rows
from ablation_executor.bench.run_writing import to_json
from ablation_executor.bench.suites import rows as suite_rows

from .sound_files import (
    block_info,
    block_row,
    failed_block_row,
    failed_suite_row,
    suite_info,
    suite_row,
)

pytest.importorskip("ablation_report.columns")
from ablation_report.load import check

JUNK: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 1.5, 2**60 + 1, 2**63, float("inf"), "", "text"),
    *([], [1], [0, -1], ["text"], [None], [2**63], {}, {"a": 1}, {"scale": "x"}, [{"name": 1}]),
)
KINDS = {
    "block": (record.SCHEMA, block_info, (block_row, failed_block_row)),
    "suite": (suite_rows.SCHEMA, suite_info, (suite_row, failed_suite_row)),
}
# What reads it is the suite's own
FREE = "details"


def changed(values: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The values with one column after the other replaced, left out, or added."""
    for name in values:
        if name != FREE:
            for junk in JUNK:
                yield f"{name} = {junk!r}", {**values, name: junk}
            yield f"without {name}", {key: values[key] for key in values if key != name}
    yield "another", {**values, "another": 1}


def is_refused_here(folder: Path, schema: Schema) -> bool:
    """True where the run could not be gone on with, or a line of it would be moved aside."""
    try:
        header = read_header(folder / HEADER_NAME, schema)
        return bool(read_rows(folder / schema.rows_name, schema, header)[1])
    except UsageError:
        return True


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_is_judged_the_same(tmp_path: Path, kind: str) -> None:
    schema, make_info, make_rows = KINDS[kind]
    (tmp_path / HEADER_NAME).write_bytes(to_json(make_info()))
    rows = tmp_path / schema.rows_name
    different = []
    for make_row in make_rows:
        rows.write_bytes(to_json(make_row()))
        assert not is_refused_here(tmp_path, schema) and not check(tmp_path)[1]
        for what, row in changed(make_row()):
            rows.write_bytes(to_json(row))
            here, there = is_refused_here(tmp_path, schema), bool(check(tmp_path)[1])
            if here != there:
                different.append(f"{what}: refused here {here}, by the report {there}")
    assert not different


@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_is_gone_on_with_can_be_read(tmp_path: Path, kind: str) -> None:
    schema, make_info, _ = KINDS[kind]
    different = []
    for what, header in changed(make_info()):
        (tmp_path / HEADER_NAME).write_bytes(to_json(header))
        if not is_refused_here(tmp_path, schema) and check(tmp_path)[1]:
            different.append(f"{what}: refused by the report alone")
    assert not different


@pytest.mark.parametrize(
    "line",
    [
        *(b"", b"null", b"[1]", b"{", b'{"a": 1, "a": 2}', b"[" * 100_000),
        *(b'{"schema_version": 1' + b"0" * 5000 + b"}", b"\xff\xfe{}", b"\xef\xbb\xbf{}"),
        *(b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", b"\x00" * 100, b"{}\r", b'"\xe4"'),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_lines_that_are_no_rows(tmp_path: Path, kind: str, line: bytes) -> None:
    schema, make_info, _ = KINDS[kind]
    (tmp_path / HEADER_NAME).write_bytes(to_json(make_info()))
    (tmp_path / schema.rows_name).write_bytes(line + b"\n")
    if line:
        assert is_refused_here(tmp_path, schema)
        assert check(tmp_path)[1]
    (tmp_path / schema.rows_name).write_bytes(b"")
    (tmp_path / HEADER_NAME).write_bytes(line)
    assert is_refused_here(tmp_path, schema)
