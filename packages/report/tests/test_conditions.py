"""The conditions of a run: in what is printed, on its page, and where two runs are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rows import make_header, make_timed_cell, write_run
from suite_samples import make_suite_header, make_suite_row, write_suite

from ablation_report.__main__ import main
from ablation_report.conditions import condition_facts
from ablation_report.site.run_pages import facts
from ablation_report.sources import hardware

BATTERY, STEAL = "the machine runs on its battery", "the hypervisor took 5%"
UNTRUSTWORTHY: dict[str, Any] = {
    "processor_quota": 1.5,
    "conditions": [
        {"session": 1, "warnings": [BATTERY]},
        {"session": 2, "warnings": [BATTERY, STEAL]},
    ],
}
TOLD = {"Quota": "1.5 processors", "Warnings": f"{BATTERY}; {STEAL}"}


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


def test_show_and_check_take_a_run_with_conditions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = make_header()["machine"] | UNTRUSTWORTHY
    header = make_header(machine=machine)
    block = write_run(tmp_path / "block", [make_timed_cell("torch-naive", [4000])], header)
    rows = [make_suite_row()]
    suite = write_suite(tmp_path / "suite", rows, make_suite_header(rows, machine=machine))
    for run in (block, suite):
        assert main(["check", str(run)]) == 0
        capsys.readouterr()
        assert main(["show", str(run)]) == 0
        printed = capsys.readouterr().out
        assert "Quota:     1.5 processors\n" in printed
        assert f"Warnings:  {BATTERY}; {STEAL}\n" in printed


def test_the_page_of_a_run_has_its_conditions_as_text() -> None:
    warnings = [{"warnings": ["held back by <script>"]}]
    header = make_header(machine=make_header()["machine"] | {"conditions": warnings})
    page = facts(header)
    assert "Warnings: held back by" in page
    assert "<script>" not in page


def test_runs_of_different_quotas_are_not_of_one_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limited = make_header(machine=make_header()["machine"] | {"processor_quota": 1.0})
    unlimited = make_header(machine=make_header()["machine"] | {"processor_quota": None})
    assert hardware(limited) != hardware(unlimited) == hardware(make_header())
    cells = [make_timed_cell("passes-none", [1000] * 8)]
    first = write_run(tmp_path / "a", cells)
    second = write_run(tmp_path / "b", cells, limited)
    assert main(["compare", str(first), str(second)]) == 2
    assert "instruction sets, caches and quota" in capsys.readouterr().err
