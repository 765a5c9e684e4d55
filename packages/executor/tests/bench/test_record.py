"""Rows and headers of the block ablation that may stand, and those that break a rule."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ablation_executor.bench.record import SCHEMA

from .sound_files import block_info, block_row, failed_block_row


def test_rows_and_headers_that_stand() -> None:
    for row in (block_row(), failed_block_row()):
        assert SCHEMA.row_problem(json.loads(json.dumps(row))) is None
    assert SCHEMA.header_fault(block_info()) is None


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"status": "oom"}, "column samples_ns: not null, but status is oom"),
        ({"samples_ns": []}, "column samples_ns: no sample, but status is ok"),
        ({"samples_ns": [1, 0]}, "expected a list of integers above 0"),
        ({"samples_ns": [1, 2**63]}, "expected a list of integers above 0"),
        ({"sample_rounds": [0]}, "column sample_rounds: 1 entries for 2 samples"),
        ({"reason": "slow"}, "column reason: 'slow', but status is ok"),
        ({"status": "fine"}, "column status: 'fine', expected one of ok"),
        ({"status": ["ok"]}, "column status: ['ok'], expected one of ok"),
        ({"config": ["Toy"]}, "column config: ['Toy'], expected text"),
        ({"max_abs_error": float("nan")}, "column max_abs_error: nan, expected a finite number"),
        ({"flops": 1}, "column flops: 1, but the config's block has 3407872"),
        ({"profile_total_ns": [13]}, "entry 0 is 13, its parts sum to 12"),
        ({"profile_linear_ns": None}, "column profile_linear_ns: null, but other profile"),
        ({"extra": 1}, "column 'extra': unknown"),
        ({"schema_version": 7}, "schema version 7, this program reads 1"),
        ({"schema_version": True}, "schema version True, this program reads 1"),
    ],
)
def test_rows_that_break_a_rule(changes: dict[str, Any], problem: str) -> None:
    assert problem in (SCHEMA.row_problem(block_row(**changes)) or "")


def test_a_failed_row_has_a_reason() -> None:
    problem = SCHEMA.row_problem(failed_block_row(reason=None))
    assert problem == "column reason: null, but status is oom"


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"configs": ["nope"]}, "column configs: unknown 'nope'"),
        ({"variants": ["passes-none", "passes-none"]}, "column variants: 'passes-none' twice"),
        ({"baselines": ["cuda"]}, "column baselines: unknown 'cuda'"),
        ({"samples": 0}, "column samples: 0, expected 1 and more"),
        ({"budget_s": None}, "column budget_s: None, expected a number above 0"),
    ],
)
def test_headers_that_no_run_can_go_on_by(changes: dict[str, Any], problem: str) -> None:
    assert SCHEMA.header_fault(block_info(**changes)) == problem
