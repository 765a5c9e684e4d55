"""The conditions of a run: in what is printed, on its page, and where two runs are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from samples import make_attention_row, make_header, make_run, make_timed, write_run

from ablation_report.compare.conditions import differences, hardware
from ablation_report.load import check, read_one
from ablation_report.tables import condition_facts, facts, facts_text, show

BATTERY, STEAL = "the machine runs on its battery", "the hypervisor took 5%"
UNTRUSTWORTHY: dict[str, Any] = {
    "processor_quota": 1.5,
    "conditions": [
        {"session": 1, "warnings": [BATTERY]},
        {"session": 2, "warnings": [BATTERY, STEAL]},
    ],
}
TOLD = {"Quota": "1.5 processors", "Warnings": f"{BATTERY}; {STEAL}"}
MACHINE = make_header()["machine"]


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        ({}, {}),
        ({"processor_quota": None, "conditions": [{"session": 1, "warnings": []}]}, {}),
        (UNTRUSTWORTHY, TOLD),
        ({"processor_quota": "1", "conditions": "none"}, {}),
        (
            {"conditions": [None, {}, {"warnings": 3}, {"warnings": [None, 3, "hot"]}]},
            {"Warnings": "hot"},
        ),
    ],
)
def test_what_is_told_of_conditions(machine: dict[str, Any], expected: dict[str, str]) -> None:
    assert condition_facts(machine) == expected


def test_show_and_check_take_a_run_with_conditions(tmp_path: Path) -> None:
    for name, row in (
        ("block", make_timed("torch-naive", [4000] * 3)),
        ("suite", make_attention_row()),
    ):
        header = make_header([row], machine=MACHINE | UNTRUSTWORTHY)
        folder = write_run(tmp_path / name, [row], header)
        assert check(folder)[1] == []
        printed = show(read_one(folder)[0], "text")
        assert "Quota:     1.5 processors\n" in printed
        assert f"Warnings:  {BATTERY}; {STEAL}\n" in printed


def test_markdown_has_the_conditions_as_text() -> None:
    warnings = [{"warnings": ["held back by <script>"]}]
    run = make_run([make_attention_row()], machine=MACHINE | {"conditions": warnings})
    page = facts_text(facts(run), is_markdown=True)
    assert "Warnings: held back by" in page
    assert "<script>" not in page


def test_runs_of_different_quotas_are_not_of_one_machine() -> None:
    rows = [make_timed("passes-none", [1000] * 8)]
    limited = make_run(rows, machine=MACHINE | {"processor_quota": 1.0})
    unlimited = make_run(rows, machine=MACHINE | {"processor_quota": None})
    plain = make_run(rows)
    assert hardware(limited.header) != hardware(unlimited.header) == hardware(plain.header)
    assert differences(plain, limited) == ["instruction sets, caches and quota"]
    assert differences(plain, unlimited) == []
