"""The least that a block moves, and its share of the memory's rate."""

from __future__ import annotations

import pytest
from samples import SIZES, make_header, make_row, make_run

from ablation_report.traffic import largest_cache_bytes, least_bytes, memory_share


def make_weighty(weights: int | None, **sizes: int) -> dict[str, object]:
    row = make_row(sizes=SIZES | sizes, flops=None, samples_ns=[1_000_000] * 4)
    return row | {"memory": row["memory"] | {"weights": weights}}


def test_the_least_traffic_is_weights_input_and_output() -> None:
    row = make_weighty(1000, B=2, Nq=3, H=5, d=1)
    assert least_bytes(row) == 1000 + 4 * 2 * 3 * 5 + 4 * 2 * 3 * 5
    assert least_bytes(make_weighty(None)) is None


def test_a_share_of_the_memory_rate_needs_traffic_beyond_the_caches() -> None:
    machine = make_header()["machine"] | {"caches": {"L1d": "48K", "L3": "2M"}}
    rates = {"2": {"multiply_add_flops_per_s": 1e11, "memory_bytes_per_s": 1e10}}
    assert largest_cache_bytes(machine) == 2 * 2**20
    large, small = make_weighty(4 * 2**20), make_weighty(2**20)
    run = make_run([large, small], machine=machine, ceilings=rates)
    moved = least_bytes(large)
    assert moved is not None
    # In a millisecond, of the ten million bytes that the memory moves in it
    assert memory_share(run, large) == pytest.approx(moved / 1e7)
    assert memory_share(run, small) is None
    assert memory_share(make_run([large], machine=machine), large) is None
    blind = make_run([large], machine=machine | {"caches": {}}, ceilings=rates)
    assert memory_share(blind, large) is None
