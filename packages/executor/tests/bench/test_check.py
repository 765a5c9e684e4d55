"""The float64 reference and its tolerance: right runs pass, small errors do not."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablation_executor.bench.suites.block.check import (
    Reference,
    block_reference,
    compare,
    other_growth,
    sampled_rows,
)
from ablation_executor.bench.suites.block.configs import (
    CONFIGS,
    LAYERS_PROBE,
    PROBES,
    Config,
    find_config,
)
from ablation_executor.bench.suites.block.programs import write_reference
from ablation_executor.bench.suites.block.weights import make_input, make_layer, make_weights

from .fake_worker import block

SMALL = (find_config("Toy"), find_config("Small"), *PROBES, LAYERS_PROBE)
DEEP = tuple(find_config(name).stacked(n) for name in ("Toy", "Small") for n in (2, 4))


def reference_of(config: Config, seed: int = 0) -> Reference:
    return block_reference(config, make_weights(config, seed), make_input(config, seed))


def name_of(config: Config) -> str:
    return f"{config.name}-{config.layers}"


@pytest.mark.parametrize("config", [*SMALL, *DEEP], ids=name_of)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_float32_run_is_well_within_its_tolerance(config: Config, seed: int) -> None:
    weights, x = make_weights(config, seed), make_input(config, seed)
    verdict = compare(block(config, weights, x, ""), block_reference(config, weights, x))
    assert verdict.details["worst_ratio"] < 0.5
    assert verdict.checked_rows == config.seq_len


@pytest.mark.parametrize("config", [*SMALL[:2], *DEEP], ids=name_of)
@pytest.mark.parametrize("kind", ["manual", "sdpa"])
def test_pytorch_is_well_within_its_tolerance(config: Config, kind: str) -> None:
    torch = pytest.importorskip("torch")
    from ablation_executor.bench.suites.block.models import make_module

    weights, x = make_weights(config, 3), make_input(config, 3)
    with torch.no_grad():
        output = make_module(config, weights, kind)(torch.from_numpy(x)).numpy()
    verdict = compare(output, block_reference(config, weights, x))
    assert 0 < verdict.details["worst_ratio"] < 0.5


@pytest.mark.parametrize("config", [*SMALL, *DEEP], ids=name_of)
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


@pytest.mark.parametrize(
    "config", [*CONFIGS[:3], *DEEP, find_config("Toy").stacked(8)], ids=name_of
)
def test_one_thousandth_is_too_much(config: Config) -> None:
    reference = reference_of(config)
    output = reference.expected[None].copy()
    assert compare(output, reference).reason is None
    output[0, -1, 3] += 1e-3
    verdict = compare(output, reference)
    assert verdict.reason is not None
    assert f"row {config.seq_len - 1} column 3" in str(verdict.reason)


def test_errors_of_another_arithmetic_are_bounded_by_norms() -> None:
    """One limit for all rows; a level's is six times that of the loosest row, and still a limit."""
    reference = reference_of(find_config("Small"))
    loosest = float(reference.tolerance.max())
    verdict = compare(reference.expected[None], reference, other_growth(1))
    assert verdict.limits["output"] == pytest.approx(loosest * 40**0.5)
    assert other_growth(2) == pytest.approx(40)
    output = reference.expected[None].copy()
    output[0, 7, 3] += 2 * loosest
    assert compare(output, reference).reason is not None
    assert compare(output, reference, other_growth(1)).reason is None
    output[0, 7, 3] += 5 * loosest
    assert compare(output, reference, other_growth(1)).reason is not None


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


@pytest.mark.parametrize("layers", [1, 3])
def test_sampled_rows_agree_with_all_rows(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(find_config("Toy"), seq_len=130, layers=layers)
    everything = reference_of(config)
    monkeypatch.setattr("ablation_executor.bench.suites.block.check.ALL_ROWS_UP_TO", 1)
    some = reference_of(config)
    assert len(some.rows) == 64
    np.testing.assert_allclose(some.expected, everything.expected[some.rows], rtol=1e-12)
    np.testing.assert_allclose(some.tolerance, everything.tolerance[some.rows], rtol=1e-9)


@pytest.mark.parametrize("config", [LAYERS_PROBE, *DEEP], ids=name_of)
def test_the_weights_of_another_layer_are_refused(config: Config) -> None:
    weights, x = make_weights(config, 0), make_input(config, 0)
    reference = block_reference(config, weights, x)
    assert compare(block(config, weights, x, "first_layer"), reference).reason is not None
    for name in make_layer(config, 0, 0):
        swapped = {**weights, f"0.{name}": weights[f"1.{name}"], f"1.{name}": weights[f"0.{name}"]}
        wrong = compare(block(config, swapped, x, ""), reference)
        # The softmax takes no notice of what all scores of a query have in common
        assert (wrong.reason is not None) == (name != "key.bias"), name


def test_two_layers_are_two_calls_of_one() -> None:
    config = find_config("Toy").stacked(2)
    one = config.stacked(1)
    both = reference_of(config)
    first = block_reference(one, make_layer(config, 0, 0), make_input(config, 0))
    passed: Any = first.expected[None]
    second = block_reference(one, make_layer(config, 0, 1), passed)
    np.testing.assert_array_equal(both.expected, second.expected)
    # What the first layer is off by comes on top of what the second is, at more than its own size
    assert (both.tolerance > second.tolerance + first.tolerance).all()
    assert (both.tolerance < second.tolerance + 2 * first.tolerance).all()


def test_the_tolerance_grows_as_errors_do() -> None:
    limits = [reference_of(find_config("Small").stacked(n)).tolerance.max() for n in (1, 2, 4, 8)]
    assert all(1.5 < more / less < 4 for less, more in itertools.pairwise(limits)), limits


@pytest.mark.parametrize("layers", [1, 2])
def test_scores_are_made_some_rows_at_a_time(layers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(PROBES[0], layers=layers)
    whole = reference_of(config)
    monkeypatch.setattr("ablation_executor.bench.suites.block.check.SCORES_AT_ONCE", 5 * 37)
    parts = reference_of(config)
    np.testing.assert_allclose(parts.expected, whole.expected, rtol=1e-12)
    np.testing.assert_allclose(parts.tolerance, whole.tolerance, rtol=1e-9)


def test_the_written_reference_is_that_of_all_weights(tmp_path: Path) -> None:
    config, path = DEEP[0], tmp_path / "reference.npz"
    write_reference(config, 0, path)
    np.testing.assert_array_equal(Reference.load(path).expected, reference_of(config).expected)


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
