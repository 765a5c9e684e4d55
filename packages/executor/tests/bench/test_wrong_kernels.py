"""The bench's own check calls a wrong kernel `incorrect`: one test for each classic defect."""

from __future__ import annotations

import pytest

from .conftest import Measure

RIGHT, WRONG = "attention-fused-scalar", "attention-fused-parallel"


@pytest.mark.parametrize("defect", ["head_index", "causal_ignored", "tile_dropped", "no_maximum"])
def test_defect_is_caught(measure: Measure, defect: str) -> None:
    rows, _ = measure([RIGHT, WRONG], {WRONG: defect})
    assert rows[RIGHT]["status"] == "ok"
    assert rows[RIGHT]["details"]["worst_ratio"] < 1
    assert rows[WRONG]["status"] == "incorrect"
    assert rows[WRONG]["samples_ns"] is None
    assert rows[WRONG]["reason"] == "probe"
