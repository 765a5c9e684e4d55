"""One case from admission to rows: workers, memory, check, interleaved rounds, memory children.

Only one worker computes while anything is timed; the bench itself sleeps in a read meanwhile.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablation_report.rows import Row

from . import memory
from .case import Case
from .crew import BUILD_TIMEOUT_S, CHECK_TIMEOUT_S, SHORT_TIMEOUT_S, Crew, Failed
from .interrupt import signals_held
from .measurement import Measurement, Settings, Timing, impossible, make_measurement, to_row
from .memory_room import gibibytes, memory_room
from .progress import Progress, duration
from .protocol import Message
from .reference import LARGE_BYTES, Reference
from .requests import Requests
from .rounds import LONG_ROUND_S, Pair, Rounds, forecast, make_plan
from .suite import Refusal, Suite, Variant

# A process that has imported torch, or our wheel and torch for the export, without any model.
PROCESS_BYTES = 400 << 20
# A memory child makes a few calls, each after a forward where a backward is measured; one is made
# under a profiler, and all of them with an allocator that asks the system for every page.
MEMORY_CALLS = 20
# What is built longer than this, by a compiler that tries its own code, is not built for it again.
MOST_BUILD_S = 5.0
# Measurements of the ceilings before a rate above them is called impossible.
CEILINGS_AGAIN = 5


def place(
    measurements: Sequence[Measurement], room: int
) -> Iterator[tuple[Measurement, int | None]]:
    """Mark as evicted the largest programs until all fit, and give those that cannot be as they
    are.

    All resident memory and the largest passing need have to fit in `room` bytes; an evicted
    program's memory passes. Gives (measurement, None) for an evicted one, and (measurement, bytes
    it needs) for one that does not fit even alone.
    """
    placed = [m for m in measurements if m.needs.total_bytes <= room]
    for measurement in measurements:
        if measurement.needs.total_bytes > room:
            yield measurement, measurement.needs.total_bytes
    for measurement in sorted(placed, key=lambda m: m.needs.resident_bytes, reverse=True):
        staying = sum(m.needs.resident_bytes for m in placed if not m.is_evicted)
        passing = max(
            m.needs.total_bytes if m.is_evicted else m.needs.transient_bytes for m in placed
        )
        if staying + passing <= room:
            return
        measurement.is_evicted = True
        yield measurement, None


@dataclass(frozen=True)
class Surroundings:
    """What the cases of a run share: the progress, what identifies its rows, and its ceilings.

    `write` appends finished rows; `measure_again` measures the ceilings of some threads once more.
    """

    progress: Progress
    write: Callable[[Sequence[Row]], None]
    run: Mapping[str, Any]
    ceilings: Callable[[], Mapping[str, Any] | None]
    measure_again: Callable[[int], None]


class CaseRun:
    """Measures the given variants of one case; whatever one of them does ends its own rows only."""

    def __init__(
        self,
        suite: Suite,
        case: Case,
        variants: Sequence[Variant],
        settings: Settings,
        crew: Crew,
        folder: Path,
        surroundings: Surroundings,
    ) -> None:
        self._suite = suite
        self._case = case
        self._settings = settings
        self._crew = crew
        self._folder = folder
        self._around = surroundings
        self._progress = surroundings.progress
        self._measurements = [make_measurement(suite, variant, case) for variant in variants]
        self._requests = Requests(crew, self._measurements, self._ended)
        self._calibrations: tuple[list[int] | None, list[int] | None] = None, None
        self._reference: Reference | None = None
        self._room = memory_room(settings.memory_limit_bytes)
        self._start = time.monotonic()

    def run(self) -> None:
        """Measure; every phase of every variant ends as one written row.

        What cuts it short leaves rows of the phases whose samples can stand, and none of the
        others.
        """
        self._progress.stage(self._case.name, "start")
        with tempfile.TemporaryDirectory(prefix="case-", dir=self._folder) as folder:
            try:
                self._refuse()
                together, alone = self._admit()
                if self._active() and self._begin_reference(Path(folder)):
                    self._measure(together, alone)
                    self._crew.drop_all()
                    self._accept([pair for m in self._measurements for pair in _pairs(m)], True)
            except BaseException:
                # An interruption, a disk that is full, or a fault of the bench
                checked = [m for m in self._measurements if m.check == "pass"]
                self._accept([p for m in checked for p in _pairs(m) if p[1].has_enough], False)
                raise
            finally:
                if self._reference is not None:
                    self._reference.close()

    def _active(self, worker: str | None = None) -> list[Measurement]:
        return [m for m in self._measurements if m.active and worker in (None, m.variant.worker)]

    def _ended(self, measurement: Measurement, timings: Sequence[Timing]) -> None:
        """Write the rows of phases that have failed at once."""
        with signals_held():
            self._record([(measurement, timing) for timing in timings])

    def _fail(self, measurement: Measurement, status: str, reason: str, text: str) -> None:
        timings = measurement.active
        for timing in timings:
            timing.fail(status, reason, text)
        self._ended(measurement, timings)

    def _record(self, pairs: Sequence[Pair]) -> None:
        rows = [self._row(measurement, timing) for measurement, timing in pairs]
        if rows:
            self._around.write(rows)
        for row in rows:
            self._progress.finished(row)

    def _row(self, measurement: Measurement, timing: Timing) -> Row:
        around, case = self._around, self._case
        return to_row(measurement, timing, case, self._settings, around.run, self._calibrations)

    # Admission.

    def _refuse(self) -> None:
        """Refuse before any process is started."""
        for measurement in self._measurements:
            refusal = self._refusal(measurement.variant)
            if refusal is not None:
                self._fail(measurement, refusal.status, refusal.reason, refusal.text)

    def _refusal(self, variant: Variant) -> Refusal | None:
        if not self._settings.has_device:
            text = f"PyTorch finds no device {self._case.device!r} here"
            return Refusal("unsupported", "no_cuda", text)
        refusal = self._suite.supports(variant, self._case)
        if refusal is None and self._settings.is_quick:
            refusal = self._suite.quick_refusal(variant, self._case)
        return refusal

    def _shortage(self, needed: int, what: str = "") -> str:
        available = self._room.bytes
        return (
            f"needs {gibibytes(needed)}, {gibibytes(available)} available: {what or 'the program'} "
            f"({needed} bytes needed, {available} bytes available; limit: {self._room.limit})"
        )

    def _admit(self) -> tuple[list[Measurement], list[Measurement]]:
        """Refuse by prediction what would not fit, and give what is measured together and what
        alone.

        Workers that share memory among their variants come first, each with those before it; then
        each phase is seen alone; then all of them together.
        """
        room, shared, forces = self._room.bytes, 0, self._settings.forces_attempt
        for measurement in self._measurements:
            measurement.available_bytes = room
        for worker in dict.fromkeys(m.variant.worker for m in self._active()):
            own = self._active(worker)
            needed = own[0].shared_bytes + PROCESS_BYTES if own[0].shared_bytes else 0
            if needed and shared + needed > room and not forces:
                text = self._shortage(shared + needed, f"the {worker} worker")
                for measurement in own:
                    self._fail(measurement, "oom", "predicted", text)
            else:
                shared += needed
        for measurement in self._active():
            for timing in measurement.active:
                needed = timing.needs.total_bytes
                if needed > room - shared and not forces:
                    timing.fail("oom", "predicted", self._shortage(shared + needed))
                    self._ended(measurement, [timing])
        self._shared_bytes = shared
        for _ in place(self._active(), max(0, room - shared)):
            pass
        alone = [m for m in self._active() if m.is_evicted and not self._is_shared(m)]
        for measurement in alone:
            measurement.is_evicted = measurement.is_interleaved = False
        return [m for m in self._active() if m not in alone], alone

    def _is_shared(self, measurement: Measurement) -> bool:
        """True where the worker has loaded what its programs share: one of them is soon built
        again."""
        return measurement.shared_bytes > 0

    def _begin_reference(self, folder: Path) -> bool:
        """Start the reference in the background, if the suite has one and there is room for it."""
        needed = self._suite.reference_bytes(self._case)
        if needed is None:
            return True
        if needed > self._room.bytes and not self._settings.forces_attempt:
            text = self._shortage(needed, "the float64 reference")
            for measurement in self._active():
                self._fail(measurement, "oom", "predicted", text)
            return False
        self._progress.stage(self._case.name, "reference")
        self._reference = Reference(self._case, self._settings.seed, folder)
        if needed > LARGE_BYTES:
            self._await_reference()
        return bool(self._active())

    def _await_reference(self) -> None:
        failure = self._reference.wait() if self._reference is not None else None
        for measurement in self._active() if failure else ():
            self._fail(measurement, "error", "reference", str(failure))

    # Measuring.

    def _measure(self, together: list[Measurement], alone: list[Measurement]) -> None:
        self._crew.begin(self._case, self._settings.seed, self._room.bytes)
        for worker in dict.fromkeys(m.variant.worker for m in together):
            self._progress.stage(self._case.name, f"load {worker}")
            self._crew.hire(worker)
        self._build(together)
        self._await_reference()
        self._forecast()
        self._measure_together([m for m in together if m.active])
        if alone:
            self._crew.drop_all()
        draw = random.Random(f"{self._settings.seed} {self._case.label}")
        for measurement in draw.sample(alone, len(alone)):
            self._crew.begin(self._case, self._settings.seed, self._room.bytes)
            if measurement.active and self._requests.build(measurement):
                self._measure_together([measurement])
            self._crew.drop_all()

    def _build(self, measurements: Sequence[Measurement]) -> None:
        """Build, which touches no arena yet, and see again what fits: now it is known."""
        for measurement in measurements:
            if measurement.active:
                self._progress.stage(self._case.name, f"build {measurement.name}")
                self._requests.build(measurement)
        if self._settings.forces_attempt:
            return
        built = [m for m in measurements if m.active and m.built_needs is not None]
        for measurement, needed in place(built, self._room.bytes - self._shared_bytes):
            if needed is not None:
                self._requests.drop(measurement)
                text = self._shortage(
                    self._shared_bytes + needed, "the program with the loaded weights"
                )
                self._fail(measurement, "oom", "predicted", text)
            else:
                self._requests.release(measurement)

    def _forecast(self) -> None:
        """Say before the first call what the time of the case buys."""
        pairs = [pair for m in self._active() for pair in _pairs(m)]
        if not pairs or not forecast(self._suite, self._case, pairs, self._around.ceilings()):
            return
        plan = make_plan(pairs, set(self._suite.first_variants(self._case)), self._settings)
        first_s = sum(timing.estimate_ns for _, timing in pairs) / 1e9
        if plan.seconds > LONG_ROUND_S:
            given = f"--samples {self._settings.samples}"
            if self._settings.samples is None:
                given = f"--time {self._settings.time_s:g}"
            text = f"about {duration(plan.seconds + first_s)} by its operations ({given}): {plan}"
            self._progress.note(f"{self._case.name}: {text}")

    def _measure_together(self, measurements: Sequence[Measurement]) -> None:
        """Check, warm up and time programs that are built."""
        self._check(measurements)
        if not any(m.active for m in measurements):
            return
        if self._calibrations[0] is None:
            self._calibrations = self._calibrate(), None
        rounds = Rounds(
            self._suite, self._case, measurements, self._settings, self._requests, self._progress
        )
        rounds.warm_up()
        rounds.run()
        for measurement, timing in rounds.pairs():
            used_s = timing.used_s
            about = {"request": "finish"}
            reply = self._requests.ask(measurement, timing, about, SHORT_TIMEOUT_S)
            timing.used_s = used_s
            if reply is not None:
                timing.facts, timing.ops = reply["facts"], reply["ops"]
                timing.process_peak = reply["process_peak"]
        self._calibrations = self._calibrations[0], self._calibrate() or self._calibrations[1]

    def _calibrate(self) -> list[int] | None:
        """Measure the machine's own speed, by a worker of our kernels if there is one."""
        for measurement in self._active():
            if measurement.variant.origin == "ablation" and self._requests.knows(measurement):
                return self._crew.calibrate(measurement.variant.worker, self._progress.note)
        return None

    def _check(self, measurements: Sequence[Measurement]) -> None:
        """Probe, call once and check; wrong programs end here."""
        self._progress.stage(self._case.name, "probes")
        active = [m for m in measurements if m.active]
        replies = self._requests.probe(active)
        for measurement in active:
            if not measurement.active:
                continue
            self._progress.stage(self._case.name, f"check {measurement.name}")
            probe = replies.get(measurement.name)
            if probe is None:
                probe = self._requests.ask_all(measurement, {"request": "probe"})
            if probe is not None and not self._is_wrong(measurement, "probe", probe):
                self._check_calls(measurement)
                self._requests.release(measurement)

    def _check_calls(self, measurement: Measurement) -> None:
        for timing in measurement.active:
            # A program that is built again for its first call spends none of its budget
            timing.used_s = 0.0
            first = self._requests.ask(
                measurement, timing, {"request": "first"}, self._settings.budget_s
            )
            if first is not None:
                timing.first_call_ns = timing.estimate_ns = first["first_call_ns"]
                timing.n_warmup = 1
        if not measurement.active:
            return
        phases = [timing.phase for timing in measurement.active]
        path = None if self._reference is None else str(self._reference.path)
        message = {"request": "check", "phases": phases, "reference": path}
        reply = self._requests.ask_all(measurement, message, CHECK_TIMEOUT_S)
        if reply is not None and not self._is_wrong(measurement, "check", reply):
            measurement.verdict, measurement.check = reply, "pass"

    def _is_wrong(self, measurement: Measurement, what: str, reply: Message) -> bool:
        if reply["reason"] is None:
            return False
        measurement.verdict, measurement.check = reply, "fail"
        self._fail(measurement, "incorrect", what, reply["reason"])
        return True

    # The end.

    def _accept(self, pairs: Sequence[Pair], measures_memory: bool) -> None:
        """Finish phases with their times and write their rows; first their memory is measured."""
        active = [pair for pair in pairs if pair[1].is_active]
        wants = self._suite.measures_memory(self._case, self._settings.is_quick)
        with signals_held():
            for measurement, timing in active:
                timing.status = "ok"
                self._refute(measurement, timing)
        try:
            if wants and measures_memory:
                self._measure_memory()
        finally:
            for _, timing in active:
                if wants and timing.status == "ok" and not timing.memory:
                    timing.memory = {"details": {"mem_failed": "the run ended before"}}
            with signals_held():
                self._record(active)

    def _refute(self, measurement: Measurement, timing: Timing) -> None:
        """Turn what cannot have been measured into an error."""
        if min(timing.samples_ns) <= 0:
            timing.status = None
            text = "a call took 0 ns: the clock of this machine stands still"
            timing.fail("error", "no_time", text)
            return
        row = self._row(measurement, timing)
        for _ in range(CEILINGS_AGAIN):
            if impossible(row, self._around.ceilings()) is None:
                return
            # What else ran on the machine may have held up the ceilings more than the row
            self._around.measure_again(self._case.threads)
        fault = impossible(row, self._around.ceilings())
        if fault is not None:
            timing.status = None
            timing.fail("error", "impossible_rate", fault)

    def _measure_memory(self) -> None:
        """Measure the memory of phases that have times, in processes that measure nothing else:
        one for each variant, or for each worker whose variants share what it has loaded."""
        first = self._suite.first_variants(self._case)
        measured = [m for m in self._measurements if any(t.status == "ok" for t in m.timings)]
        measured.sort(key=lambda m: first.index(m.name) if m.name in first else len(first))
        case, settings = self._case, self._settings
        crew = Crew(case.suite, case.threads, self._folder, memory.environment())
        crew.begin(case, settings.seed, self._room.bytes)
        try:
            for measurement in measured:
                timings = [t for t in measurement.timings if t.status == "ok"]
                omitted: str | None = None
                if time.monotonic() - self._start > settings.time_s:
                    omitted = f"left out: the case has used its {settings.time_s:g} s"
                elif measurement.build_s > MOST_BUILD_S:
                    omitted = f"left out: another build takes {measurement.build_s:.0f} s"
                if omitted is not None:
                    for timing in timings:
                        timing.memory = {"details": {"mem_failed": omitted}}
                    continue
                self._progress.stage(case.name, f"memory of {measurement.name}")
                start = time.monotonic()
                self._measure_memory_of(crew, measurement, timings)
                measurement.used_s += time.monotonic() - start
        finally:
            crew.close()

    def _measure_memory_of(
        self, crew: Crew, measurement: Measurement, timings: Sequence[Timing]
    ) -> None:
        worker, about = measurement.variant.worker, {"variant": measurement.name}
        try:
            crew.ask(worker, {"request": "build", **about}, BUILD_TIMEOUT_S)
            crew.ask(worker, {"request": "compile", **about}, BUILD_TIMEOUT_S)
            for timing in timings:
                timeout_s = SHORT_TIMEOUT_S + MEMORY_CALLS * timing.estimate_ns / 1e9
                message = {"request": "memory", "phase": timing.phase, **about}
                timing.memory = crew.ask(worker, message, timeout_s)
            if self._is_shared(measurement):
                crew.ask(worker, {"request": "drop", **about}, SHORT_TIMEOUT_S)
            else:
                crew.dismiss(worker)
        except Failed as failed:
            # The times stand; what could not be measured is said with them
            for timing in timings:
                if not timing.memory:
                    timing.memory = {"details": {"mem_failed": str(failed)}}
            crew.dismiss(worker)


def _pairs(measurement: Measurement) -> list[Pair]:
    return [(measurement, timing) for timing in measurement.active]
