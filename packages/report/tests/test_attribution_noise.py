"""Intervals and verdicts of attribution on the noise that recorded runs have."""

from __future__ import annotations

import functools
import math
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from attribution_samples import make_attribution_rows, run_of

from ablation_report.attribution import Attribution, Worth, attributions
from ablation_report.load import read
from ablation_report.run import is_ours
from ablation_report.stats import is_too_noisy

RUNS = Path(__file__).parents[3] / "data" / "runs"
CALM = ("2026-11-21-zen5-league-small", "2026-11-20-zen4-small-a", "2026-11-30-zen4-ladder")
BUSY = ("2026-11-29-emerald-rapids-league-small",)
N_RUNS, N_ROUNDS, LEAST_ROUNDS = 400, 30, 28
TRUE = {"large": 0.5, "small": math.log(1.05), "none": 0.0}
FACTORS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    name: (name.title(), ("off", "on")) for name in TRUE
}
# Of each row of a case, the time of each round over the row's.
Noise = list[list[float]]


@functools.cache
def recorded_noise(names: tuple[str, ...]) -> list[Noise]:
    """The noise of our programs in each case of recorded runs that has enough rounds."""
    cases = []
    for name in names:
        (run,) = read(RUNS / name)
        for rows in run.by_case.values():
            times = [
                (time.value, run.round_times(row))
                for row in rows
                if row["interleaved"] and is_ours(row) and (time := run.time(row))
            ]
            common = sorted(set.intersection(*(set(each) for _, each in times))) if times else []
            if len(common) >= LEAST_ROUNDS:
                cases.append([[each[index] / row for index in common] for row, each in times])
    return cases


@functools.cache
def simulated(names: tuple[str, ...]) -> list[Attribution]:
    """Attributions of runs whose programs each have the noise of a recorded row of one case, in
    rounds that are drawn for all of them together: programs of a round share what disturbs it.

    The rounds are drawn with replacement, so that the time of the recorded row is the true one.
    """

    def value(point: Mapping[str, int]) -> float:
        return TRUE["large"] * point["large"] + TRUE["small"] * point["small"]

    generator = random.Random(18)
    rows = make_attribution_rows(value, FACTORS, rounds=N_ROUNDS, base_ns=1e9)
    found: list[Attribution] = []
    for _ in range(N_RUNS):
        case = generator.choice(recorded_noise(names))
        rounds = generator.choices(range(len(case[0])), k=N_ROUNDS)
        noises = generator.choices(case, k=len(rows))
        run = run_of(
            [
                {**row, "samples_ns": [round(row["samples_ns"][0] * noise[i]) for i in rounds]}
                for row, noise in zip(rows, noises, strict=True)
            ],
            FACTORS,
        )
        found += attributions(run)
    assert len(found) == N_RUNS
    return found


def worths(found: list[Attribution], name: str) -> list[Worth]:
    """The worths of one factor."""
    return [worth for each in found for worth in each.worths if worth.name == name]


@pytest.mark.parametrize("names", [CALM, BUSY])
@pytest.mark.parametrize("name", TRUE)
def test_an_interval_holds_the_true_worth(names: tuple[str, ...], name: str) -> None:
    found = worths(simulated(names), name)
    held = sum(worth.phi.low <= TRUE[name] <= worth.phi.high for worth in found)
    assert held >= 0.95 * N_RUNS


@pytest.mark.parametrize("names", [CALM, BUSY])
def test_all_intervals_of_a_case_hold_at_once(names: tuple[str, ...]) -> None:
    held = sum(
        all(worth.phi.low <= TRUE[worth.name] <= worth.phi.high for worth in each.worths)
        for each in simulated(names)
    )
    assert held >= 0.95 * N_RUNS


@pytest.mark.parametrize("names", [CALM, BUSY])
def test_verdicts_are_right(names: tuple[str, ...]) -> None:
    found = simulated(names)
    called = [worth for worth in worths(found, "none") if worth.verdict != "not resolved"]
    assert len(called) <= 0.05 * N_RUNS
    assert not [worth for worth in worths(found, "small") if worth.verdict == "costs"]
    large = worths([each for each in found if not is_too_noisy(each.floor)], "large")
    assert len(large) > 50 and {worth.verdict for worth in large} == {"worth"}


def test_a_twentieth_is_found_on_calm_machines() -> None:
    found = worths(simulated(CALM), "small")
    right = [w for w in found if w.verdict == "worth" and w.phi.low <= TRUE["small"] <= w.phi.high]
    assert len(right) >= 0.95 * N_RUNS
