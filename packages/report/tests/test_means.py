"""Geometric means, and the least that a block moves."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from rows import make_cell, make_header, make_timed_cell, write_run

from ablation_report.load import load
from ablation_report.means import geometric_mean
from ablation_report.tables import rungs_table, summary_table
from ablation_report.traffic import largest_cache_bytes, least_bytes, memory_share


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
    assert "nothing was measured" in mean.sentence("a / b")


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_a_ratio_that_is_none_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="ratios must be above 0: Toy is"):
        geometric_mean({"Toy": bad, "Small": 1.0})


def test_tables_of_several_configs_have_means(tmp_path: Path) -> None:
    times = {"Toy": (1000, 500), "Small": (1000, 800)}
    sizes = {
        "Small": {"d_model": 256, "seq_len": 128, "flops": 24 * 128 * 256**2 + 4 * 128**2 * 256}
    }
    cells = [
        make_timed_cell(name, [time] * 6, config=config, parent=parent, **sizes.get(config, {}))
        for config, pair in times.items()
        for name, parent, time in zip(
            ("torch-naive", "passes-none"), (None, "torch-naive"), pair, strict=True
        )
    ]
    frame = load(write_run(tmp_path / "run", cells)).collect()
    rungs = rungs_table(frame)
    assert rungs.header[-1] == "geo. mean (n)"
    # The root of 0.5 x 0.8
    assert rungs.rows == [["passes-none", "torch-naive", "0.50x ~", "0.80x ~", "0.63x (2)"]]
    notes = summary_table(frame).notes
    assert "vs naive: geometric mean 0.63x over 2 configs" in notes
    assert not any(note.startswith("vs SDPA") for note in notes)


def test_the_least_traffic_is_weights_input_and_output() -> None:
    cell = make_cell(weights_bytes=1000, batch=2, seq_len=3, d_model=5)
    assert least_bytes(cell) == 1000 + 4 * 2 * 3 * 5 + 4 * 2 * 3 * 5
    assert least_bytes(make_cell(weights_bytes=None)) is None


def test_a_share_of_the_memory_rate_needs_traffic_beyond_the_caches() -> None:
    machine = make_header()["machine"] | {"caches": {"L1d": "48K", "L3": "2M"}}
    rates = {"provider": "avx2", "threads": 2, "multiply_add_flops_per_s": 1e11}
    ceilings = {**rates, "memory_bytes_per_s": 1e10}
    assert largest_cache_bytes(machine) == 2 * 2**20
    large = make_cell(weights_bytes=4 * 2**20)
    moved = least_bytes(large)
    assert moved is not None
    # In a millisecond, of the ten million bytes that the memory moves in it
    assert memory_share(large, 1e6, machine, ceilings) == pytest.approx(moved / 1e7)
    assert memory_share(make_cell(weights_bytes=2**20), 1e6, machine, ceilings) is None
    assert memory_share(large, 1e6, machine, None) is None
    assert memory_share(large, 1e6, machine | {"caches": {}}, ceilings) is None
