"""The bench's own statistics and the report's, on the same random samples.

The bench prints its table while it may not import the report, and the report may not import the
executor: both have the interval, the paired ratio, the floor and the verdict.
"""

from __future__ import annotations

import random
from typing import Any

import pytest
from rows import make_timed_cell

from ablation_report import metrics

stats: Any = pytest.importorskip(
    "ablation_executor.bench.stats",
    reason="the executor is not installed beside the report",
    exc_type=ImportError,
)

AA = ("attention-fused-parallel", "layernorm-parallel")


def make_samples(seed: int) -> tuple[list[int], list[int]]:
    """Make samples of up to 40 rounds, some with several samples, some left out."""
    generator = random.Random(seed)
    samples, rounds = [], []
    for index in range(generator.randint(1, 40)):
        for _ in range(generator.choice([0, 1, 1, 1, 3])):
            samples.append(generator.randint(900, 1100 + 20 * (seed % 5)))
            rounds.append(index)
    return (samples, rounds) if samples else ([1000], [0])


def ends(interval: Any) -> tuple[float, float, float, int] | None:
    """The figures of an interval of either."""
    return interval and (interval.median, interval.low, interval.high, interval.n)


@pytest.mark.parametrize("n", [*range(1, 101), 1032, 1033, 10000])
def test_as_many_values_lie_outside_the_interval(n: int) -> None:
    assert metrics.interval_rank(n) == stats.interval_rank(n)


def test_the_same_rules_are_written_twice() -> None:
    for name in ("CONFIDENCE_ODDS", "NOISY_WIDTH", "MIN_ROUNDS"):
        assert getattr(metrics, name) == getattr(stats, name)


@pytest.mark.parametrize("seed", range(200))
def test_times_ratios_floors_and_verdicts_agree(seed: int) -> None:
    first, second = make_samples(seed), make_samples(seed + 1000)
    cells = [
        make_timed_cell(name, samples, sample_rounds=rounds)
        for name, (samples, rounds) in zip(AA, (first, second), strict=True)
    ]
    by_round = [stats.round_medians(*pair) for pair in (first, second)]
    assert [metrics.rounds_ns(cell) for cell in cells] == by_round
    own = metrics.median_interval(list(metrics.rounds_ns(cells[0]).values()))
    assert ends(own) == ends(stats.cell_interval(*first))
    is_wide = own.width is not None and own.width > metrics.NOISY_WIDTH
    assert is_wide is stats.is_noisy(stats.cell_interval(*first))

    ratio, other = metrics.paired_ratio(cells[0], cells[1]), stats.paired_ratio(*by_round)
    assert ends(ratio) == ends(other)
    floor = metrics.noise_floor(cells)
    assert floor == stats.noise_floor(other)
    # Floors of other pairs too, so that each verdict is met
    for limit in (floor, 0.001, 0.02, 0.2, None):
        said = metrics.verdict(ratio, limit)
        # The bench's table has no word for times that are the same
        assert stats.verdict(other, limit) == ("not resolved" if said == "same" else said)


def test_the_samples_meet_every_verdict() -> None:
    met = set()
    for seed in range(200):
        pairs = make_samples(seed), make_samples(seed + 1000)
        cells = [
            make_timed_cell(n, s, sample_rounds=r) for n, (s, r) in zip(AA, pairs, strict=True)
        ]
        ratio = metrics.paired_ratio(*cells)
        met |= {metrics.verdict(ratio, limit) for limit in (0.001, 0.02, 0.2)}
    assert met == {"faster", "slower", "same", "not resolved"}
