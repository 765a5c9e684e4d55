"""Geometric means."""

from __future__ import annotations

import statistics

import pytest

from ablation_report.means import geometric_mean


def test_a_mean_is_of_what_is_known_and_names_the_rest() -> None:
    ratios = {"Toy": 0.5, "Small": None, "Medium": 2.0, "GPT-2": 0.7}
    mean = geometric_mean(ratios)
    assert mean.value == pytest.approx(statistics.geometric_mean([0.5, 2.0, 0.7]))
    assert (mean.n, mean.missing) == (3, ("Small",))
    assert mean.sentence("a / b") == "a / b: geometric mean 0.89x over 3 configs; missing: Small"
    assert mean.text() == "0.89x (3)"


def test_no_ratio_has_no_mean() -> None:
    mean = geometric_mean({"Toy": None})
    assert mean.value is None and mean.text() == "-"
    assert "no geometric mean" in mean.sentence("a / b")


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_a_ratio_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="ratios must be above 0: Toy is"):
        geometric_mean({"Toy": bad, "Small": 1.0})
