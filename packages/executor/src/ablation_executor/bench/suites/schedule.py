"""One case of a suite from start to rows: admission, check, interleaved rounds, and memory."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..interrupt import signals_held
from ..memory_room import gibibytes, memory_room
from ..protocol import Message
from ..rounds import TURN_LIMIT_NS
from ..run_reading import Row
from .case import Case
from .suite import Implementation, Refusal, Suite
from .team import Failed, Team
from .trial import WARM_CALLS, WARM_NS, Entrant, Settings, Trial, to_row

# Loading imports a framework and makes the inputs; the references are float64.
LOAD_TIMEOUT_S, CHECK_TIMEOUT_S, COMPILE_TIMEOUT_S = 180.0, 180.0, 300.0
SHORT_TIMEOUT_S = 60.0
# A memory child makes a few calls, each after a forward where a backward is measured; one is made
# under a profiler, and all of them with an allocator that asks the system for every page.
MEMORY_CALLS = 20
MORE_ROUNDS = 2
COMPILED = ("inductor", "triton")


class CaseRun:
    """Measures implementations of one case; whatever one of them does ends its own rows only."""

    def __init__(
        self,
        suite: Suite,
        case: Case,
        ways: Sequence[Implementation],
        team: Team,
        settings: Settings,
        folder: Path,
    ) -> None:
        self._suite = suite
        self._case = case
        self._team = team
        self._settings = settings
        self._folder = folder
        self._entrants = [Entrant(way, self._trials(way)) for way in ways]
        self._calibrations: tuple[list[int] | None, list[int] | None] = None, None

    def _trials(self, way: Implementation) -> list[Trial]:
        suite, case = self._suite, self._case
        return [
            Trial(phase, suite.needs(way, case, phase), suite.flops(case, phase))
            for phase in way.phases
        ]

    def run(self, run: Mapping[str, Any]) -> list[Row]:
        """Measure; gives a row for every implementation and phase, in the order given."""
        self._time()
        if self._measures_memory:
            for entrant in self._entrants:
                self._measure_memory(entrant)
        return self._rows(run)

    def kept_rows(self, run: Mapping[str, Any]) -> list[Row]:
        """After `run` was interrupted: rows of what is decided, and of what has samples enough."""
        for entrant in self._entrants:
            for trial in entrant.active:
                if entrant.check == "pass" and trial.has_enough:
                    trial.finish(self._case, self._settings)
            for trial in entrant.trials:
                if trial.status == "ok" and self._measures_memory and not trial.memory:
                    trial.memory = {"details": {"mem_failed": "the run was interrupted before"}}
        return self._rows(run)

    @property
    def _measures_memory(self) -> bool:
        return self._suite.measures_memory(self._case, self._settings.is_quick)

    def _rows(self, run: Mapping[str, Any]) -> list[Row]:
        return [
            to_row(entrant, trial, self._case, self._settings, run, self._calibrations)
            for entrant in self._entrants
            for trial in entrant.trials
            if trial.status is not None
        ]

    def _time(self) -> None:
        """Check and time what is not refused."""
        for entrant in self._entrants:
            refusal = self._refusal(entrant.implementation)
            if refusal is not None:
                entrant.refuse(refusal)
        is_together = self._admit()
        before = self._calibrate()
        self._calibrations = before, None
        if is_together:
            self._team.hire(entrant.name for entrant in self._active())
            for entrant in self._active():
                self._prepare(entrant)
            self._measure(self._active())
            self._drop(self._entrants)
        else:
            for entrant in self._shuffled(self._active()):
                entrant.is_interleaved = False
                self._prepare(entrant)
                self._measure([entrant])
                self._drop([entrant])
        self._calibrations = before, self._calibrate()
        for entrant in self._active():
            for trial in entrant.active:
                trial.finish(self._case, self._settings)

    def _active(self) -> list[Entrant]:
        return [entrant for entrant in self._entrants if entrant.active]

    def _shuffled(self, entrants: list[Entrant]) -> list[Entrant]:
        draw = random.Random(f"{self._settings.seed} {self._case.label}")
        return draw.sample(entrants, len(entrants))

    def _refusal(self, way: Implementation) -> Refusal | None:
        if not self._settings.has_device:
            text = f"PyTorch finds no device {self._case.device!r} here"
            return Refusal("unsupported", "no_cuda", text)
        refusal = self._suite.supports(way, self._case)
        if refusal is None and self._settings.is_quick:
            refusal = self._suite.quick_refusal(way, self._case)
        return refusal

    def _admit(self) -> bool:
        """Refuse the phases that would not fit even alone; True if all programs fit together.

        Together means what every worker keeps, and the largest of what a call takes besides.
        """
        room = memory_room(self._settings.memory_limit_bytes)
        for entrant in self._entrants:
            entrant.available_bytes = room.bytes
            for trial in entrant.active:
                needed = trial.needs.total_bytes
                if needed > room.bytes and not self._settings.forces_attempt:
                    trial.fail(
                        "oom",
                        "predicted",
                        f"needs {gibibytes(needed)}, {gibibytes(room.bytes)} available ({needed} "
                        f"bytes needed, {room.bytes} bytes available; limit: {room.limit})",
                    )
        needs = [entrant.needs for entrant in self._active()]
        staying = sum(need.resident_bytes for need in needs)
        return staying + max((need.transient_bytes for need in needs), default=0) <= room.bytes

    def _calibrate(self) -> list[int] | None:
        """The machine's own speed, by a worker of our kernels if there is one."""
        ours = [way for way in self._active() if way.implementation.origin == "ablation"]
        return self._team.calibrate(ours[0].name) if ours else None

    def _request(self, entrant: Entrant, message: Message, timeout_s: float) -> Message:
        """Ask the entrant's worker; one that does not know the case loads it first."""
        if not self._knows(entrant):
            self._load(entrant)
        return self._team.ask(entrant.name, message, timeout_s)

    def _knows(self, entrant: Entrant) -> bool:
        """True when the worker that is there has loaded this case."""
        return 0 < entrant.generation == self._team.generation(entrant.name)

    def _load(self, entrant: Entrant) -> None:
        start = time.monotonic()
        try:
            load = load_message(self._case, self._settings.seed, entrant)
            self._team.ask(entrant.name, load, LOAD_TIMEOUT_S)
            if entrant.implementation.origin in COMPILED:
                reply = self._team.ask(entrant.name, {"request": "compile"}, COMPILE_TIMEOUT_S)
                entrant.compile_ns = reply["compile_ns"]
            # A new worker in the midst of the rounds counts from here.
            for trial in entrant.active:
                if trial.n_warmup:
                    message = {"request": "start", "phase": trial.phase}
                    self._team.ask(entrant.name, message, SHORT_TIMEOUT_S)
            entrant.generation = self._team.generation(entrant.name)
        finally:
            entrant.used_s += time.monotonic() - start

    def _ask_all(self, entrant: Entrant, message: Message, timeout_s: float) -> Message | None:
        """Ask for what all phases share; None if that has ended them."""
        start = time.monotonic()
        for trial in entrant.active:
            trial.was_attempted = True
        try:
            return self._request(entrant, message, timeout_s)
        except Failed as failed:
            for trial in entrant.active:
                trial.fail_by(failed)
            return None
        finally:
            entrant.used_s += time.monotonic() - start

    def _ask(
        self, entrant: Entrant, trial: Trial, message: Message, timeout_s: float
    ) -> Message | None:
        """Ask about one phase; None if that has ended it. The time counts towards its budget."""
        if not trial.is_active:
            return None
        start = time.monotonic()
        trial.was_attempted = True
        try:
            return self._request(entrant, {**message, "phase": trial.phase}, timeout_s)
        except Failed as failed:
            trial.fail_by(failed)
            return None
        finally:
            trial.used_s += time.monotonic() - start

    def _prepare(self, entrant: Entrant) -> None:
        """Load, call once, probe, check and warm up; what is wrong ends here."""
        budget_s = self._settings.budget_s
        for trial in entrant.active:
            trial.was_attempted = True
        try:
            self._load(entrant)
        except Failed as failed:
            for trial in entrant.active:
                trial.fail_by(failed)
        for trial in entrant.active:
            first = self._ask(entrant, trial, {"request": "first"}, budget_s)
            if first is not None:
                trial.first_call_ns = trial.estimate_ns = first["first_call_ns"]
                trial.n_warmup = 1
        phases = [trial.phase for trial in entrant.active]
        for request in ({"request": "probe"}, {"request": "check", "phases": phases}):
            if not entrant.active:
                return
            reply = self._ask_all(entrant, request, CHECK_TIMEOUT_S)
            if reply is None:
                return
            entrant.verdict = reply
            if reply["reason"] is not None:
                entrant.check = "fail"
                for trial in entrant.active:
                    trial.fail("incorrect", str(request["request"]), reply["reason"])
                return
        entrant.check = "pass"
        for trial in entrant.active:
            self._warm(entrant, trial)

    def _warm(self, entrant: Entrant, trial: Trial) -> None:
        limit_ns = int(0.25e9 * self._settings.budget_s)
        if trial.estimate_ns < limit_ns:
            message = {
                "request": "warm",
                "count": WARM_CALLS,
                "least_ns": WARM_NS,
                "limit_ns": limit_ns,
            }
            warm = self._ask(entrant, trial, message, self._timeout_s(trial))
            if warm is None:
                return
            trial.n_warmup += len(warm["samples_ns"])
            trial.estimate_ns = min(warm["samples_ns"])
        self._ask(entrant, trial, {"request": "start"}, SHORT_TIMEOUT_S)

    def _timeout_s(self, trial: Trial) -> float:
        """Seconds that a request of a few calls may take: what is left of the budget, and one call
        more, so that the last one can end."""
        left_s = max(0.0, self._settings.budget_s - trial.used_s)
        return max(1.0, left_s) + 2 * trial.estimate_ns / 1e9

    def _measure(self, entrants: list[Entrant]) -> None:
        """Rounds in which each phase of each implementation has one turn, in an order drawn anew
        each time; those that turn out wide have more of them, unless the run is quick."""
        draw = random.Random(f"{self._settings.seed} {self._case.label} rounds")
        pairs = [(entrant, trial) for entrant in entrants for trial in entrant.active]
        wanted = {id(trial): trial.wanted_rounds(self._settings) for _, trial in pairs}
        done = 0
        for _ in range(1 if self._settings.is_quick else 1 + MORE_ROUNDS):
            count = max((wanted[id(trial)] for _, trial in pairs), default=0)
            for index in range(count):
                taking = [pair for pair in pairs if index < wanted[id(pair[1])]]
                for entrant, trial in draw.sample(taking, len(taking)):
                    self._turn(entrant, trial, done + index)
            done += count
            pairs = [
                (entrant, trial)
                for entrant, trial in pairs
                if trial.may_repeat(self._settings) and trial.is_wide
            ]
        for entrant in filter(self._knows, entrants):
            for trial in entrant.active:
                finish = {"request": "finish"}
                trial.facts = self._ask(entrant, trial, finish, SHORT_TIMEOUT_S) or {}

    def _turn(self, entrant: Entrant, trial: Trial, index: int) -> None:
        if not trial.is_active or trial.is_spent:
            return
        discard, count = trial.calls_of_turn
        message = {"request": "turn", "discard": discard, "count": count, "limit_ns": TURN_LIMIT_NS}
        reply = self._ask(entrant, trial, message, self._timeout_s(trial))
        if reply is None:
            return
        with signals_held():
            trial.samples_ns += reply["samples_ns"]
            trial.sample_rounds += [index] * len(reply["samples_ns"])
            trial.cpu_ns += reply["cpu_ns"]
            if reply["event_ns"] is not None:
                trial.event_ns.append(reply["event_ns"])
        if trial.used_s > self._settings.budget_s:
            if trial.has_enough:
                trial.is_spent = True
            else:
                budget = f"{self._settings.budget_s:g} s of a row"
                done = len(trial.samples_ns)
                trial.fail("timeout", "budget", f"{done} samples when the {budget} were used up")

    def _drop(self, entrants: list[Entrant]) -> None:
        """What is not told to forget its case keeps memory that another one needs."""
        for entrant in filter(self._knows, entrants):
            try:
                self._team.ask(entrant.name, {"request": "drop"}, SHORT_TIMEOUT_S)
            except Failed:
                self._team.dismiss(entrant.name)

    def _measure_memory(self, entrant: Entrant) -> None:
        """Memory of the phases that have times, in a process that measures nothing else."""
        trials = [trial for trial in entrant.trials if trial.status == "ok"]
        if not trials:
            return
        team = Team(self._suite.name, self._case.threads, self._folder, measures_memory=True)
        start = time.monotonic()
        try:
            load = load_message(self._case, self._settings.seed, entrant)
            team.ask(entrant.name, load, LOAD_TIMEOUT_S)
            if entrant.implementation.origin in COMPILED:
                team.ask(entrant.name, {"request": "compile"}, COMPILE_TIMEOUT_S)
            for trial in trials:
                timeout_s = SHORT_TIMEOUT_S + MEMORY_CALLS * trial.estimate_ns / 1e9
                request = {"request": "memory", "phase": trial.phase}
                trial.memory = team.ask(entrant.name, request, timeout_s)
        except Failed as failed:
            # The times stand; what could not be measured is told beside them.
            for trial in trials:
                if not trial.memory:
                    trial.memory = {"details": {"mem_failed": str(failed)}}
        finally:
            team.close()
            entrant.used_s += time.monotonic() - start


def load_message(case: Case, seed: int, entrant: Entrant) -> Message:
    """The request to load a case, under the limit of memory that its entrant was admitted by."""
    return {
        "request": "load",
        "case": case.to_dict(),
        "seed": seed,
        "limit_bytes": entrant.available_bytes,
    }
