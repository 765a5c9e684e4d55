"""The ceilings of a run are the highest that its measurements found."""

from __future__ import annotations

from typing import Any

import pytest

from ablation_executor.bench import ceilings
from ablation_executor.bench.ceilings import measure_ceilings

LOW = {
    "provider": "avx2",
    "multiply_add_flops_per_s": 1e11,
    "memory_bytes_per_s": 4e10,
    "fork_join_ns": 300.0,
}
PRODUCT = {"sgemm_1024_flops_per_s": 5e10}


def answer(monkeypatch: pytest.MonkeyPatch, found: dict[str, Any] | None) -> None:
    """Let the measuring processes tell this, and PyTorch's product."""

    def told(program: str, *given: str) -> Any:
        if "torch" in program:
            return PRODUCT["sgemm_1024_flops_per_s"] if found else None
        return None if found is None else {**found, "threads": int(given[0])}

    monkeypatch.setattr(ceilings, "told_by", told)


def test_one_thread_and_each_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, LOW)
    assert measure_ceilings([2, 4], None) == {key: {**LOW, **PRODUCT} for key in ("1", "2", "4")}


def test_the_highest_rates_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, LOW)
    before = {**LOW, "multiply_add_flops_per_s": 2e11, "memory_bytes_per_s": 3e10}
    before["fork_join_ns"] = 200.0
    kept = {**LOW, "multiply_add_flops_per_s": 2e11, "fork_join_ns": 200.0}
    found = measure_ceilings([1], {"1": {**before, **PRODUCT}})
    assert found == {"1": {**kept, **PRODUCT}}


def test_ceilings_of_an_older_run_lack_the_fork_join(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, LOW)
    before = {name: value for name, value in LOW.items() if name != "fork_join_ns"}
    assert measure_ceilings([1], {"1": {**before, **PRODUCT}}) == {"1": {**LOW, **PRODUCT}}


def test_a_failed_measurement_keeps_what_there_was(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, None)
    known = {"1": {**LOW, **PRODUCT}}
    assert measure_ceilings([1], known) == known
    assert measure_ceilings([1], None) == {"1": {"sgemm_1024_flops_per_s": None}}
