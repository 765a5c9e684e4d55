"""Rows that may stand in rows.jsonl, and folders that are written and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ablation_executor.bench.configs import UsageError
from ablation_executor.bench.record import Row
from ablation_executor.bench.suites.case import make_case
from ablation_executor.bench.suites.rows import (
    MEASURED_KEYS,
    RUN_KEYS,
    SCHEMA_VERSION,
    SuiteFolder,
    blank_row,
    check_row,
)

CASE = make_case("attention-sweep", "cpu", (1, 2, 8, 8, 16), causal=True, gain=2)


def ok_row(**changes: Any) -> Row:
    row = blank_row()
    row.update({**CASE.to_dict(), "case": CASE.label, "scale": CASE.scale})
    row.update(
        schema_version=SCHEMA_VERSION,
        run_id="test",
        impl="one",
        phase="fwd",
        status="ok",
        check="pass",
        samples_ns=[3, 4, 5],
        sample_rounds=[0, 1, 2],
        errors={"o": 1e-6},
        limits={"o": 1e-5},
    )
    return {**row, **changes}


def failed_row(**changes: Any) -> Row:
    nothing = dict.fromkeys(MEASURED_KEYS)
    told = {"status": "oom", "reason": "predicted", "reason_text": "too large", "check": "skipped"}
    return ok_row(**nothing, **told, **changes)


def test_rows_that_stand() -> None:
    check_row(ok_row())
    check_row(failed_row())
    check_row(json.loads(json.dumps(ok_row())))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"samples_ns": None}, "ok with samples"),
        ({"samples_ns": [3, 4], "sample_rounds": [0, 1]}, "at least 3"),
        ({"samples_ns": [3, 0, 5]}, "above 0"),
        ({"sample_rounds": [0]}, "1 rounds for 3 samples"),
        ({"check": "fail"}, "check is 'fail'"),
        ({"errors": {"o": 2e-5}}, "the error of o"),
        ({"errors": {"o": float("nan")}}, "the error of o"),
        ({"errors": {"dq": 0.0}}, "the error of dq"),
        ({"errors": None}, "check is"),
        ({"reason": "predicted"}, "ok with reason"),
        ({"status": "fine"}, "unknown status"),
        ({"Nq": 9}, "Nq is 9"),
        ({"parameters": {}}, "parameters is"),
        ({"case": "one"}, "no label"),
        ({"schema_version": 0}, "schema version 0"),
        ({"t_median_ms": 1}, "keys unknown"),
    ],
)
def test_ok_rows_that_break_a_rule(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_row(ok_row(**changes))


@pytest.mark.parametrize("key", MEASURED_KEYS)
def test_no_failed_row_has_a_measured_zero(key: str) -> None:
    with pytest.raises(ValueError, match=f"{key} not null"):
        check_row({**failed_row(), key: 0})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reason": None}, "without a reason"),
        ({"reason_text": ""}, "without a reason"),
        ({"reason": "too_large"}, "accepted: "),
    ],
)
def test_failed_rows_that_break_a_rule(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_row({**failed_row(), **changes})


def info() -> dict[str, Any]:
    return {**dict.fromkeys(RUN_KEYS), "schema_version": SCHEMA_VERSION, "suite": "attention-sweep"}


def test_a_folder_comes_back(tmp_path: Path) -> None:
    folder = SuiteFolder.create(tmp_path / "run", info())
    folder.append([ok_row()])
    folder.append([failed_row(impl="two")])
    again, damaged = SuiteFolder.open(tmp_path / "run")
    assert damaged == []
    assert again.rows == folder.rows
    assert again.done() == {(CASE.label, "one", "fwd"), (CASE.label, "two", "fwd")}
    with pytest.raises(UsageError, match="already holds a run"):
        SuiteFolder.create(tmp_path / "run", info())
    with pytest.raises(ValueError, match="ok with samples"):
        folder.append([ok_row(samples_ns=[])])


def test_a_line_that_was_cut_off_is_set_aside(tmp_path: Path) -> None:
    folder = SuiteFolder.create(tmp_path, info())
    folder.append([ok_row(), ok_row(impl="two")])
    folder.rows_path.write_bytes(folder.rows_path.read_bytes()[:-40])
    again, damaged = SuiteFolder.open(tmp_path)
    assert [row["impl"] for row in again.rows] == ["one"]
    assert len(damaged) == 1 and "line 2" in damaged[0]
    assert (tmp_path / "rows.damaged.jsonl").read_text().count("\n") == 1
    assert SuiteFolder.open(tmp_path)[1] == []


def test_folders_that_hold_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        SuiteFolder.open(tmp_path)
    (tmp_path / "run.json").write_text('{"schema_version": 1}')
    with pytest.raises(UsageError, match="not that of a suite"):
        SuiteFolder.open(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({**info(), "schema_version": 9}))
    with pytest.raises(UsageError, match="schema version 9"):
        SuiteFolder.open(tmp_path)
