"""Wrong variants must end as incorrect, without times."""

from __future__ import annotations

import numpy as np
import pytest

from ablation_executor.bench.case import make_case
from ablation_executor.bench.suites.attention.check import attention_reference

from .conftest import MeasureFake
from .fake_suite import DEFECTS, attention


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_ends_as_incorrect(near: MeasureFake, defect: str) -> None:
    (wrong,), progress = near([defect])
    assert (wrong["status"], wrong["reason"], wrong["check"]) == ("incorrect", "probe", "fail")
    assert "o" in wrong["reason_text"]
    assert wrong["samples_ns"] is None
    assert progress.turns == []


def test_without_a_defect_it_is_right(near: MeasureFake) -> None:
    (row,), _ = near(["right"])
    assert row["status"] == "ok"


def test_with_equal_heads_the_wrong_head_would_pass() -> None:
    """Why inputs are random: a ramp that every head shares hides a kernel that reads head 0."""
    case = make_case("fake", "small", (1, 3, 24, 24, 16))
    ramp = np.linspace(-1, 1, 24 * 16, dtype=np.float32).reshape(1, 1, 24, 16)
    q = k = v = np.ascontiguousarray(np.broadcast_to(ramp, case.q_shape))
    out, _ = attention_reference(case, (q, k, v), np.arange(24))
    np.testing.assert_allclose(attention(case, (q, k, v), "first_head"), out, atol=1e-5)
