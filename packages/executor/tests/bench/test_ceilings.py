"""The ceilings of a run are the highest that its measurements found."""

from __future__ import annotations

from typing import Any

import pytest

from ablation_executor.bench import run

LOW = {
    "provider": "avx2",
    "threads": 2,
    "multiply_add_flops_per_s": 1e11,
    "memory_bytes_per_s": 4e10,
    "fork_join_ns": 300.0,
}


def answer(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any] | None) -> None:
    """Let the measuring process tell this."""
    monkeypatch.setattr(run, "told_by", lambda program, *given: found)


def test_the_highest_rates_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, dict(LOW))
    assert run.measure_ceilings(2, None) == LOW
    before = {**LOW, "multiply_add_flops_per_s": 2e11, "memory_bytes_per_s": 3e10}
    before["fork_join_ns"] = 200.0
    kept = {**LOW, "multiply_add_flops_per_s": 2e11, "fork_join_ns": 200.0}
    assert run.measure_ceilings(2, before) == kept


def test_ceilings_of_an_older_run_lack_the_fork_join(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, dict(LOW))
    before = {name: value for name, value in LOW.items() if name != "fork_join_ns"}
    assert run.measure_ceilings(2, before) == LOW


def test_a_failed_measurement_keeps_what_there_was(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, None)
    assert run.measure_ceilings(2, LOW) == LOW
    assert run.measure_ceilings(2, None) is None
