"""How long a run still takes, as it goes on."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from ablation_executor.bench.progress import LiveProgress, PlainProgress
from ablation_executor.bench.suites import SUITES, find_suite
from ablation_executor.bench.time_left import TRUST_S, TimeLeft, expected_s

from .conftest import settings

FAST, SLOW = (
    {"1": {"multiply_add_flops_per_s": rate, "memory_bytes_per_s": 1e10}} for rate in (1e13, 1e9)
)


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_guess_stands_at_first_and_falls_as_time_passes() -> None:
    clock = Clock()
    left = TimeLeft([30, 60], clock)
    assert left.seconds() == 90
    clock.now += 10
    assert left.seconds() == 80
    # Rounds that are known to take longer than was expected
    assert left.seconds(45) == 45 + 60
    clock.now += 500
    assert left.seconds() == 60


def test_cases_that_are_done_correct_the_rest() -> None:
    clock = Clock()
    left = TimeLeft([30, 60], clock)
    clock.now += 60
    left.end()
    assert left.seconds() == pytest.approx(60 * (60 + TRUST_S) / (30 + TRUST_S))
    clock.now += 1
    left.end()
    assert left.seconds() == 1


@pytest.mark.parametrize("name", SUITES)
def test_every_suite_has_a_guess(name: str) -> None:
    """More with more rounds and on a slower machine; a quick run is the shorter."""
    # A suite of its own: the registry's keeps the options of the last run
    suite = type(find_suite(name))()
    cases = suite.quick_cases([1], "cpu")
    if not cases:
        pytest.skip("a suite whose cases have to be named")
    case = cases[-1]
    variants = [v for v in suite.variants("cpu") if v.name in suite.usual_variants(case)]
    few, many = (
        expected_s(suite, case, variants, settings(samples=samples), FAST) for samples in (3, 30)
    )
    assert 0 < few < many
    # A module has no operations before it is exported
    slow = expected_s(suite, case, variants, settings(), SLOW)
    assert slow >= few and (slow > few or name == "model")
    usual: dict[str, Any] = {"samples": None, "time_s": 900.0}
    quick, whole = (
        expected_s(suite, case, variants, settings(is_quick=is_quick, **usual), SLOW)
        for is_quick in (True, False)
    )
    assert quick <= 1.001 * whole


@pytest.mark.parametrize("is_live", [True, False])
def test_progress_says_from_the_start_how_long_it_takes(is_live: bool) -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=is_live)
    progress = LiveProgress(console) if is_live else PlainProgress(console)
    progress.plan(TimeLeft([30, 600], Clock()))
    said = "10 min left" if is_live else "2 cases, about 10 min"
    assert said in stream.getvalue()
    progress.stage("Small", "build a program")
    assert stream.getvalue().count("10 min left") == (2 if is_live else 1)
    progress.close()


def test_the_live_line_fits_and_keeps_the_time() -> None:
    stream = io.StringIO()
    progress = LiveProgress(Console(file=stream, width=80, force_terminal=True))
    progress.plan(TimeLeft([30], Clock()))
    progress.turn("B=1 H=12 Nq=512 Nk=512 d=64 causal", "attention-flash-packed", 3, 11, 20.0)
    progress.close()
    lines = stream.getvalue().replace("\r", "\n").split("\n")
    plain = [line for line in lines if "left" in line]
    assert plain and all("20 s left" in line or "30 s left" in line for line in plain)
