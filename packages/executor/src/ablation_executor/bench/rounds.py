"""The rounds of a case: programs take turns in random order until each has samples enough."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from ablation_report.rows import peak_flops_per_s
from ablation_report.stats import MIN_ROUNDS, MIN_ROUNDS_OK, row_time

from .case import Case
from .interrupt import signals_held
from .measurement import TURN_LIMIT_NS, Measurement, Settings, Timing
from .progress import Progress, duration
from .protocol import SETTLE_CALLS_NS
from .requests import Requests
from .suite import Suite

# Rounds where time allows; a quick run takes fewer of calls that fill its seconds of a row.
USUAL_ROUNDS, QUICK_ROW_S = 11, 1.0
MAX_EXTENSION = 3
# A turn costs so much besides its calls: messages, and threads of the worker before that park.
TURN_S = 0.02
# While a whole round is this short, every program takes part in the extra rounds.
SHORT_ROUND_S = 2.0
# Above this, what is asked most has its turns first: the order within such a round does not show.
LONG_ROUND_S = 20.0
# A variant of ours is perhaps the best of them while its time is within this of the least.
NEARLY_BEST = 1.01
WARM_CALLS, WARM_CALLS_QUICK, WARM_NS = 4, 2, 100_000_000

Pair = tuple[Measurement, Timing]


def profile_share(index: int, rounds: int, wanted: int) -> int:
    """Return profiled calls in round `index`, so that `rounds` rounds have `wanted` of them,
    spread.

    The first round has one, so that a row whose budget ends early has a breakdown too.
    """
    if index >= rounds:
        return 0
    return -(-(index + 1) * wanted // rounds) - -(-index * wanted // rounds)


def wanted_profiles(estimate_ns: int) -> int:
    """Return the profiled calls of a row: 10, or fewer for long calls."""
    if estimate_ns > 5_000_000_000:
        return 1
    return 3 if estimate_ns > 500_000_000 else 10


def turn_s(timing: Timing, settings: Settings) -> float:
    """Return about the seconds of a turn."""
    ns = timing.estimate_ns
    discards, calls = (1 if ns < settings.slow_ns else 0), timing.calls
    timed_ns = min(calls * ns, TURN_LIMIT_NS + ns)
    return float(discards * max(ns, SETTLE_CALLS_NS) + timed_ns) / 1e9 + TURN_S


@dataclass(frozen=True)
class Plan:
    """What the time of a case buys: rounds of what is asked most, and of the others, which come
    first."""

    first: int
    others: int
    n_first: int
    n_others: int
    seconds: float

    def __str__(self) -> str:
        """The plan in words."""
        if self.first == self.others or not self.n_others or not self.n_first:
            rounds = self.first if self.n_first else self.others
            return f"{rounds} rounds of {self.n_first + self.n_others} rows"
        first = f"{self.first} rounds of {self.n_first} rows"
        return f"{first} and {self.others} of the other {self.n_others}"


def make_plan(pairs: Sequence[Pair], first: set[str], settings: Settings) -> Plan:
    """Set how many rounds each row takes part in at first, by what calls seem to take.

    As many as the time allows, up to the usual ones; where that is too few for a verdict, what is
    asked most has enough for one, and the others as many as a row must have.
    """
    costs = [(m.name in first, turn_s(timing, settings)) for m, timing in pairs]
    whole_s = sum(cost for _, cost in costs)
    profiled_s = sum(wanted_profiles(t.estimate_ns) * t.estimate_ns for _, t in pairs) / 1e9
    if settings.samples is not None:
        most = others = settings.samples
    else:
        fitting = int((settings.time_s - profiled_s) / max(whole_s, 1e-9))
        most = min(USUAL_ROUNDS, max(fitting, MIN_ROUNDS))
        others = min(USUAL_ROUNDS, max(fitting, MIN_ROUNDS_OK))
    for (measurement, timing), (_, cost) in zip(pairs, costs, strict=True):
        timing.wanted = most if measurement.name in first else others
        if settings.is_quick and settings.samples is None:
            least = min(timing.wanted, MIN_ROUNDS)
            timing.wanted = min(timing.wanted, max(least, int(QUICK_ROW_S / cost)))
    seconds = sum(t.wanted * cost for (_, t), (_, cost) in zip(pairs, costs, strict=True))
    wanted = {
        is_first: [t.wanted for m, t in pairs if (m.name in first) == is_first]
        for is_first in (True, False)
    }
    return Plan(
        max(wanted[True], default=0),
        max(wanted[False], default=0),
        len(wanted[True]),
        len(wanted[False]),
        seconds + profiled_s,
    )


def forecast(suite: Suite, case: Case, pairs: Sequence[Pair], ceilings: object) -> bool:
    """Set what calls should take by their operations at the measured ceiling; False where either is
    not known."""
    rate = peak_flops_per_s(ceilings, case.threads) if isinstance(ceilings, dict) else None
    if not rate or case.device != "cpu":
        return False
    for measurement, timing in pairs:
        seconds = (timing.flops.useful or 0) / rate * suite.slowdown(measurement.variant, case)
        timing.estimate_ns = max(timing.estimate_ns, int(seconds * 1e9))
    return True


class Rounds:
    """Warms up and samples the active rows of a case."""

    def __init__(
        self,
        suite: Suite,
        case: Case,
        measurements: Sequence[Measurement],
        settings: Settings,
        requests: Requests,
        progress: Progress,
    ) -> None:
        self._suite = suite
        self._case = case
        self._measurements = measurements
        self._settings = settings
        self._requests = requests
        self._progress = progress
        self._first = set(suite.first_variants(case))
        self._start = time.monotonic()

    def pairs(self) -> list[Pair]:
        """Return the rows that are still to be measured."""
        return [(m, timing) for m in self._measurements for timing in m.active]

    def warm_up(self) -> None:
        """Make the calls before the first sample; the first call was one of them, and is enough
        where it took long."""
        settings = self._settings
        for measurement, timing in self.pairs():
            self._progress.stage(self._case.name, f"warm up {measurement.name}")
            limit_ns = int(0.25e9 * settings.budget_s)
            timing.is_cold = False
            if timing.estimate_ns < min(limit_ns, settings.slow_ns):
                count = WARM_CALLS_QUICK if settings.is_quick else WARM_CALLS
                warm = {"request": "warm", "count": count, "least_ns": WARM_NS}
                message = {**warm, "limit_ns": limit_ns}
                reply = self._requests.ask(measurement, timing, message, self._timeout_s(timing))
                if reply is None:
                    continue
                timing.n_warmup += len(reply["samples_ns"])
                timing.estimate_ns = min(reply["samples_ns"])
            self._requests.ask(measurement, timing, {"request": "start"}, self._timeout_s(timing))
            timing.last_turn_s = timing.estimate_ns / 1e9
            self._requests.release(measurement)

    def run(self) -> None:
        """Take rounds in which each row has one turn, in an order drawn anew each time; then more
        of those that are wide."""
        pairs = self.pairs()
        plan = make_plan(pairs, self._first, self._settings)
        if plan.seconds > LONG_ROUND_S:
            self._progress.note(f"{self._case.name}: {plan}, about {duration(plan.seconds)}")
        draw = random.Random(f"{self._settings.seed} {zlib.crc32(self._case.name.encode())}")
        self._start, index = time.monotonic(), 0
        round_s = plan.seconds / max(1, plan.first, plan.others)
        while taking := [pair for pair in pairs if index < pair[1].wanted]:
            if self._is_over():
                break
            rounds = max(timing.wanted for _, timing in pairs)
            later = (
                turn_s(timing, self._settings) * (timing.wanted - index - 1) for _, timing in taking
            )
            taking = self._order(draw, taking, round_s)
            round_s = self._round(taking, index, rounds, sum(later))
            index += 1
            if index == plan.others < plan.first:
                self._promote(plan.first)
        most = MAX_EXTENSION * index
        while index < most and (wanting := [p for p in self.pairs() if self._may_repeat(p[1])]):
            taking = wanting + self._companions(wanting, round_s)
            round_s = self._round(
                self._order(draw, taking, round_s), index, most, round_s * (most - index - 1)
            )
            index += 1

    def _promote(self, rounds: int) -> None:
        """Have those of ours that may be the fastest take part in as many rounds as what is asked
        most: a verdict on the best of ours takes as many."""
        times = {
            id(timing): row_time(timing.samples_ns, timing.sample_rounds)
            for m, timing in self.pairs()
            if m.variant.origin == "ablation" and timing.has_enough
        }
        for measurement, timing in self.pairs():
            phase = [
                times[id(t)] for _, t in self.pairs() if t.phase == timing.phase and id(t) in times
            ]
            if id(timing) in times and times[id(timing)] <= NEARLY_BEST * min(phase):
                timing.wanted = rounds
                self._first.add(measurement.name)

    def _order(self, draw: random.Random, pairs: list[Pair], round_s: float) -> list[Pair]:
        draw.shuffle(pairs)
        if round_s > LONG_ROUND_S:
            pairs.sort(key=lambda pair: pair[0].name not in self._first)
        return pairs

    def _is_over(self) -> bool:
        """True when the time is used up and every row has as many rounds as it must."""
        settings = self._settings
        if settings.samples is not None or time.monotonic() - self._start < settings.time_s:
            return False
        return all(
            timing.is_spent
            or timing.rounds_done
            >= min(timing.wanted, MIN_ROUNDS if m.name in self._first else MIN_ROUNDS_OK)
            for m, timing in self.pairs()
        )

    def _may_repeat(self, timing: Timing) -> bool:
        """Whether a row is to be sampled more for its own sake."""
        settings = self._settings
        return (
            timing.is_active
            and not settings.is_quick
            and not timing.is_spent
            and timing.has_enough
            and timing.rounds_done < MAX_EXTENSION * timing.wanted
            and timing.used_s < settings.budget_s / 4
            and time.monotonic() - self._start < settings.time_s
            and timing.is_wide()
        )

    def _companions(self, wanting: list[Pair], round_s: float) -> list[Pair]:
        """Return rows that take part in an extra round so that ratios can be paired."""
        taken = {id(timing) for _, timing in wanting}
        limit_s = self._settings.budget_s / 4
        others = [
            (m, timing)
            for m, timing in self.pairs()
            if id(timing) not in taken and not timing.is_spent and timing.used_s < limit_s
        ]
        if round_s > SHORT_ROUND_S:
            paired = {
                self._suite.baseline,
                *(name for pair in self._suite.twins[:1] for name in pair),
            }
            others = [pair for pair in others if pair[0].name in paired]
        return others

    def _round(self, pairs: list[Pair], index: int, rounds: int, later_s: float) -> float:
        """Take a round; gives its seconds."""
        start = time.monotonic()
        left_s = sum(turn_s(timing, self._settings) for _, timing in pairs)
        for measurement, timing in pairs:
            self._progress.turn(self._case.name, measurement.name, index, rounds, left_s + later_s)
            self._turn(measurement, timing, index)
            left_s -= turn_s(timing, self._settings)
        return time.monotonic() - start

    def _timeout_s(self, timing: Timing) -> float:
        """Return the seconds that a request of a few calls may take: what is left of the budget,
        and one call more, so that the last one can end."""
        left_s = max(0.0, self._settings.budget_s - timing.used_s)
        return max(1.0, left_s) + 2 * timing.estimate_ns / 1e9

    def _turn(self, measurement: Measurement, timing: Timing, index: int) -> None:
        """Take the samples of a row in one round, and its share of the profiled calls."""
        settings = self._settings
        if not timing.is_active or timing.is_spent:
            return
        if timing.used_s + timing.last_turn_s > settings.budget_s:
            self._spend(measurement, timing)
            return
        message = {
            "request": "turn",
            "discard": timing.discards(settings),
            "count": timing.calls,
            "limit_ns": TURN_LIMIT_NS,
            "profile": profile_share(
                len(set(timing.sample_rounds)), timing.wanted, wanted_profiles(timing.estimate_ns)
            ),
        }
        before_s = timing.used_s
        reply = self._requests.ask(measurement, timing, message, self._timeout_s(timing))
        if reply is None:
            return
        with signals_held():
            timing.is_cold = False
            timing.last_turn_s = timing.used_s - before_s
            timing.samples_ns += reply["samples_ns"]
            timing.sample_rounds += [index] * len(reply["samples_ns"])
            timing.cpu_ns += reply["cpu_ns"]
            if reply["event_ns"] is not None:
                timing.event_ns.append(reply["event_ns"])
            for part, times in reply["profile"].items():
                timing.profile.setdefault(part, []).extend(times)
        self._requests.release(measurement)

    def _spend(self, measurement: Measurement, timing: Timing) -> None:
        """The budget is used up: enough samples stand, too few are a timeout."""
        timing.is_spent = True
        if not timing.has_enough:
            text = (
                f"{timing.rounds_done} of at least {MIN_ROUNDS_OK} rounds in the "
                f"{self._settings.budget_s:g} s budget (first call "
                f"{(timing.first_call_ns or 0) / 1e9:.3g} s)"
            )
            timing.fail("timeout", "budget", text)
            self._requests.ended(measurement, [timing])
