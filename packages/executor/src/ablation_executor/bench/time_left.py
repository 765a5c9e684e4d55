"""How long a run still takes: a guess by the work of its cases, corrected by those done."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ablation_report.rows import peak_flops_per_s
from ablation_report.stats import MIN_ROUNDS, MIN_ROUNDS_OK

from .case import Case
from .measurement import Settings, Timing
from .rounds import QUICK_ROW_S, USUAL_ROUNDS, turn_s
from .suite import Needs, Suite, Variant

# Seconds besides the rounds: to load a worker, and to build, probe and warm up a program
WORKER_S, PROGRAM_S = 2.0, 0.2
# Calls besides the rounds: the first, the check, warm-up and profiles
OTHER_CALLS = 8
# Operations per second and thread where no ceiling was measured
USUAL_RATE = 30e9
# The first guess counts as so many seconds of experience
TRUST_S = 10.0


def expected_s(
    suite: Suite, case: Case, variants: Sequence[Variant], settings: Settings, ceilings: Any
) -> float:
    """Return about the seconds of a case, by the operations of its calls at the ceiling."""
    rate = peak_flops_per_s(ceilings, case.threads) if isinstance(ceilings, dict) else None
    rate = rate or USUAL_RATE * case.threads
    calls_s, turns = 0.0, []
    running = [v for v in variants if suite.supports(v, case) is None]
    for variant in running:
        for phase in variant.phases:
            flops = suite.flops(case, phase)
            timing = Timing(phase, Needs(0, 0), flops)
            seconds = (flops.useful or 0) / rate * suite.slowdown(variant, case)
            timing.estimate_ns = int(seconds * 1e9)
            timing.is_cold = False
            calls_s += OTHER_CALLS * seconds
            turns.append(turn_s(timing, settings))
    workers = {variant.worker for variant in running}
    fixed_s = WORKER_S * len(workers) + PROGRAM_S * len(running)
    return fixed_s + calls_s + _rounds_s(turns, settings)


def _rounds_s(turns: Sequence[float], settings: Settings) -> float:
    """Return the seconds of the rounds of rows whose turns take so long."""
    whole_s = sum(turns)
    if settings.samples is not None:
        return settings.samples * whole_s
    fitting = int(settings.time_s / whole_s) if whole_s else 0
    rounds = min(USUAL_ROUNDS, max(fitting, MIN_ROUNDS_OK))
    if not settings.is_quick:
        return rounds * whole_s
    least = min(rounds, MIN_ROUNDS)
    return sum(min(rounds, max(least, int(QUICK_ROW_S / turn))) * turn for turn in turns)


class TimeLeft:
    """About the seconds of a run from now on.

    `expected` are the seconds of its cases, in order; `end` marks the end of each. What the cases
    that are done took over what was expected of them corrects the rest.
    """

    def __init__(
        self, expected: Sequence[float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.n_cases = len(expected)
        self._expected = list(expected)
        self._clock = clock
        self._start = clock()
        self._index = 0
        self._known_s = self._taken_s = 0.0

    def expect(self, expected: Sequence[float]) -> None:
        """Guess anew, now that more is known: the seconds of the same cases."""
        self._expected = list(expected)

    def end(self) -> None:
        """A case has its rows; the next begins."""
        now = self._clock()
        self._known_s += self._expected[self._index]
        self._taken_s += now - self._start
        self._start = now
        self._index += 1

    def seconds(self, case_s: float = 0.0) -> float:
        """Return about the seconds that are left; `case_s`: those that the rounds of the present
        case are known to take still."""
        scale = (self._taken_s + TRUST_S) / (self._known_s + TRUST_S)
        own, *later = [scale * expected for expected in self._expected[self._index :]] or [0.0]
        rest = max(0.0, own - (self._clock() - self._start))
        return max(1.0, (case_s or rest) + sum(later))
