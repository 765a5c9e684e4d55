"""Rows that may stand in rows.jsonl, and folders that are written and read again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ablation_executor.bench.suites.peaks import Peaks
from ablation_executor.bench.suites.rows import MEASURED_KEYS, SCHEMA, check_row, rate_fault

from ..sound_files import failed_suite_row as failed_row
from ..sound_files import suite_info
from ..sound_files import suite_row as ok_row


def test_rows_that_stand() -> None:
    check_row(ok_row())
    check_row(failed_row())
    check_row(json.loads(json.dumps(ok_row())))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"samples_ns": None}, "0 samples, but status is ok"),
        ({"samples_ns": [3, 4], "sample_rounds": [0, 1]}, "at least 3"),
        ({"samples_ns": [3, 0, 5]}, "above 0"),
        ({"samples_ns": [3, 4, 2**63]}, "above 0"),
        ({"samples_ns": [3, 4, True]}, "above 0"),
        ({"causal": 1}, "column causal: 1, expected true or false"),
        ({"run_id": None}, "column run_id: null, expected text"),
        ({"sample_rounds": [0]}, "1 rounds for 3 samples"),
        ({"check": "fail"}, "column check: 'fail'"),
        ({"errors": {"o": 2e-5}}, "errors: o is"),
        ({"errors": {"o": float("nan")}}, "errors: o is"),
        ({"errors": {"dq": 0.0}}, "errors: dq is"),
        ({"errors": None}, "it was not checked"),
        ({"reason": "predicted"}, "column reason: 'predicted', but status is ok"),
        ({"status": "fine"}, "column status: 'fine', expected one of ok"),
        ({"Nq": 9}, "column Nq: 9"),
        ({"parameters": {}}, "column parameters: {}"),
        ({"case": "one"}, "no label"),
        ({"case": ok_row()["case"].replace(" d16 ", f" d1{'0' * 400} ")}, "column case: "),
        ({"case": ok_row()["case"] + " x=" + "[" * 100_000}, "column parameters: "),
        ({"schema_version": 0}, "schema version 0"),
        ({"t_median_ms": 1}, "column 't_median_ms': unknown"),
    ],
)
def test_ok_rows_that_break_a_rule(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_row(ok_row(**changes))


@pytest.mark.parametrize("key", MEASURED_KEYS)
def test_no_failed_row_has_a_measured_zero(key: str) -> None:
    with pytest.raises(ValueError, match=f"column {key}: "):
        check_row({**failed_row(), key: 0})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reason": None}, "column reason: null, but status is oom"),
        ({"reason_text": ""}, "column reason_text: '', expected text"),
        ({"reason": "too_large"}, "of oom expected predicted"),
    ],
)
def test_failed_rows_that_break_a_rule(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check_row({**failed_row(), **changes})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"suite": "attention-parts"}, "column suite: 'attention-parts', run.json says"),
        ({"impl": "three"}, "column impl: 'three', not among those"),
        ({"samples_ns": [1, 1, 1], "flops_useful": 10**9}, "GFLOP/s, the multiply-adds of 1"),
    ],
)
def test_sound_rows_that_are_none_of_the_run(changes: dict[str, Any], told: str) -> None:
    header = suite_info(ceilings={"1": {"multiply_add_flops_per_s": 1e11}})
    assert SCHEMA.place_fault(ok_row(), header) is None
    assert told in (SCHEMA.place_fault(ok_row(**changes), header) or "")


def test_a_rate_is_judged_only_where_a_peak_bounds_it() -> None:
    fast = ok_row(samples_ns=[1, 1, 1], flops_useful=10**9)
    assert rate_fault(fast, Peaks({})) is None
    peaks = Peaks({"1": {"multiply_add_flops_per_s": 1e11}})
    assert rate_fault({**fast, "parameters": {"autocast": "bfloat16"}}, peaks) is None
    assert rate_fault(failed_row(flops_useful=10**9), peaks) is None
    assert rate_fault(fast, peaks) is not None


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"suite": "attention"}, "column suite: unknown 'attention'"),
        ({"cases": ["one"]}, "column cases: 'one' is no label"),
        ({"cases": [ok_row()["case"].replace(" B1 ", f" B{2**63} ")]}, "beyond 64 bits"),
        ({"cases": [ok_row()["case"].replace("sweep", "parts")]}, "is no case of attention-sweep"),
        ({"cases": [ok_row()["case"]] * 2}, "twice"),
        ({"budget_s": 0}, "column budget_s: 0, expected a number above 0"),
    ],
)
def test_headers_that_no_run_can_go_on_by(changes: dict[str, Any], told: str) -> None:
    assert SCHEMA.header_fault(suite_info()) is None
    assert told in (SCHEMA.header_fault(suite_info(**changes)) or "")
