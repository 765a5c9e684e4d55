"""When Strassen's products are expected to pay, and the measure of it."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from harness import kernels_of

import ablation_kernels
from ablation_kernels import strassen


def test_the_kernels_are_of_the_table() -> None:
    assert {strassen.PACKED, *strassen.KERNELS} <= set(kernels_of("matmul"))
    assert [strassen.levels_of(name) for name in (strassen.PACKED, *strassen.KERNELS)] == [0, 1, 2]


@pytest.mark.parametrize("shape", [(1, 4096, 4096), (4096, 64, 4096), (4096, 4096, 64)])
def test_a_thin_product_stays_packed(shape: tuple[int, int, int]) -> None:
    assert strassen.kernel_for(*shape) is None


def test_more_levels_pay_as_sizes_grow() -> None:
    chosen = [strassen.kernel_for(size, size, size) for size in (256, 1024, 8192)]
    assert chosen == [None, *strassen.KERNELS]


@pytest.mark.parametrize("levels", [1, 2])
def test_the_expected_ratio_comes_near_the_share_of_products(levels: int) -> None:
    sizes = [2**power for power in range(6, 16)]
    ratios = [strassen.expected_ratio(size, size, size, levels) for size in sizes]
    assert ratios == sorted(ratios, reverse=True)
    assert 0 < ratios[-1] - (7 / 8) ** levels < 0.1


def test_measure_has_times_and_growing_errors() -> None:
    ablation_kernels.set_num_threads(1)
    found = strassen.measure(96, 160, 200, rounds=2)
    assert all(time > 0 for time in found.times_ns)
    assert found.ratio(2) == found.times_ns[2] / found.times_ns[0]
    assert 0 < found.errors[0] < found.errors[1] < found.errors[2] < 1e-4


def run_command(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ablation_kernels", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_command_prints_and_keeps_every_shape(tmp_path: Path) -> None:
    file = tmp_path / "map.json"
    done = run_command("strassen", "16x40", "--rounds", "1", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3 + 8
    assert [line.split()[-1] for line in done.stdout.splitlines()[3:]] == ["packed"] * 8
    kept = json.loads(file.read_text())
    assert {(p["m"], p["n"], p["k"]) for p in kept["products"]} == {*product((16, 40), repeat=3)}
    assert {p["chosen"] for p in kept["products"]} == {strassen.PACKED}
    assert all(len(p["times_ns"]) == len(p["errors"]) == 3 for p in kept["products"])
