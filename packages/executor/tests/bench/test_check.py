"""The float64 reference and its tolerance: right runs pass, small errors do not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from ablation_executor.bench.suites.block.check import (
    Reference,
    block_reference,
    compare,
    sampled_rows,
)
from ablation_executor.bench.suites.block.configs import CONFIGS, PROBES, Config, find_config
from ablation_executor.bench.suites.block.weights import make_input, make_weights

from .fake_worker import block

SMALL = (find_config("Toy"), find_config("Small"), *PROBES)


def reference_of(config: Config, seed: int = 0) -> Reference:
    return block_reference(config, make_weights(config, seed), make_input(config, seed))


@pytest.mark.parametrize("config", SMALL, ids=lambda config: config.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_float32_run_is_well_within_its_tolerance(config: Config, seed: int) -> None:
    weights, x = make_weights(config, seed), make_input(config, seed)
    verdict = compare(block(config, weights, x, ""), block_reference(config, weights, x))
    assert verdict.details["worst_ratio"] < 0.5
    assert verdict.checked_rows == config.seq_len


@pytest.mark.parametrize("config", SMALL, ids=lambda config: config.name)
def test_the_reference_is_torchs_block_in_double(config: Config) -> None:
    torch = pytest.importorskip("torch")
    from ablation_executor.bench.suites.block.models import make_module

    weights, x = make_weights(config, 0), make_input(config, 0)
    reference = block_reference(config, weights, x)
    for kind in ("manual", "sdpa"):
        module = make_module(config, weights, kind).double()
        with torch.no_grad():
            expected = module(torch.from_numpy(x.astype(np.float64))).numpy()
        np.testing.assert_allclose(reference.expected, expected[0], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("config", CONFIGS[:3], ids=lambda config: config.name)
def test_one_thousandth_is_too_much(config: Config) -> None:
    reference = reference_of(config)
    output = reference.expected[None].copy()
    assert compare(output, reference).reason is None
    output[0, -1, 3] += 1e-3
    verdict = compare(output, reference)
    assert verdict.reason is not None
    assert f"row {config.seq_len - 1} column 3" in str(verdict.reason)


def test_a_tolerance_that_is_no_number_is_not_kept() -> None:
    reference = reference_of(find_config("Toy"))
    unknown = dataclasses.replace(reference, tolerance=np.full_like(reference.tolerance, np.nan))
    assert compare(reference.expected[None], unknown).reason is not None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_wrong(value: float) -> None:
    reference = reference_of(find_config("Toy"))
    output = reference.expected[None].copy()
    output[0, 5, 0] = value
    verdict = compare(output, reference)
    assert verdict.reason is not None
    assert "not finite" in str(verdict.reason)


def test_another_shape_is_wrong() -> None:
    reference = reference_of(find_config("Toy"))
    assert compare(reference.expected[None, :, :-1], reference).reason is not None
    assert compare(reference.expected, reference).reason is not None


def test_big_configs_are_sampled_from_first_to_last_row() -> None:
    config = find_config("1B-8K")
    rows = sampled_rows(config)
    assert len(rows) == 64
    assert (rows[0], rows[-1]) == (0, config.seq_len - 1)
    assert len(np.unique(rows)) == 64


def test_sampled_rows_agree_with_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(find_config("Toy"), seq_len=130)
    everything = reference_of(config)
    monkeypatch.setattr("ablation_executor.bench.suites.block.check.ALL_ROWS_UP_TO", 1)
    some = reference_of(config)
    assert len(some.rows) == 64
    np.testing.assert_allclose(some.expected, everything.expected[some.rows], rtol=1e-12)


def test_probe_scores_overflow_without_a_maximum() -> None:
    config = PROBES[0]
    weights, x = make_weights(config, 0), make_input(config, 0)
    assert not np.isfinite(block(config, weights, x, "no_maximum")).all()


def test_saved_reference(tmp_path: Path) -> None:
    path = tmp_path / "reference.npz"
    reference = reference_of(find_config("Toy"))
    reference.save(path)
    again = Reference.load(path)
    np.testing.assert_array_equal(again.expected, reference.expected)
    np.testing.assert_array_equal(again.tolerance, reference.tolerance)
