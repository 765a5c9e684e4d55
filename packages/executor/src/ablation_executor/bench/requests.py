"""Requests about a variant or one of its phases; what fails ends the rows asked about."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .crew import BUILD_TIMEOUT_S, CHECK_TIMEOUT_S, SHORT_TIMEOUT_S, Crew, Failed
from .measurement import Measurement, Timing
from .protocol import Message
from .suite import Needs


class Requests:
    """Asks the workers about the measurements of one case.

    A program that the present worker does not know is built first. `ended` is called with phases
    that a failure has ended.
    """

    def __init__(
        self,
        crew: Crew,
        measurements: Sequence[Measurement],
        ended: Callable[[Measurement, list[Timing]], None],
    ) -> None:
        self._crew = crew
        self._measurements = measurements
        self.ended = ended

    def knows(self, measurement: Measurement) -> bool:
        """True when the worker that is there has built this variant."""
        return 0 <= measurement.generation == self._crew.generation(measurement.variant.worker)

    def build(self, measurement: Measurement) -> bool:
        """Build a variant; False if that has ended it."""
        return self._shared(measurement, lambda: self._build(measurement)) is not None

    def _build(self, measurement: Measurement) -> Message:
        """Build and compile, unless that is done."""
        crew, worker = self._crew, measurement.variant.worker
        crew.load(worker)
        if self.knows(measurement):
            return {}
        about, start = {"variant": measurement.name}, time.monotonic()
        reply = crew.ask(worker, {"request": "build", **about}, BUILD_TIMEOUT_S)
        if reply["needs"] is not None:
            measurement.built_needs = Needs(*reply["needs"])
        measurement.built_facts = reply["facts"]
        self._refuse_other_program(measurement)
        compiled = crew.ask(worker, {"request": "compile", **about}, BUILD_TIMEOUT_S)
        measurement.compile_ns = compiled["compile_ns"]
        measurement.build_s = time.monotonic() - start
        for timing in measurement.active:
            timing.is_cold = True
            if timing.n_warmup:
                # A new worker in the midst of the rounds counts from here
                message = {"request": "start", "phase": timing.phase, **about}
                crew.ask(worker, message, SHORT_TIMEOUT_S)
        measurement.generation = crew.generation(worker)
        return {}

    def _refuse_other_program(self, measurement: Measurement) -> None:
        """Raise Failed where what was built is not what the suite had foreseen."""
        foreseen = measurement.known.get("program_hash")
        built = measurement.built_facts.get("program_hash")
        if foreseen is not None and foreseen != built:
            raise Failed("error", "plan", f"program {built} was built, {foreseen} was planned")

    def ask_all(
        self, measurement: Measurement, message: Message, timeout_s: float = CHECK_TIMEOUT_S
    ) -> Message | None:
        """Ask for what all phases share; None if that has ended them."""
        return self._shared(measurement, lambda: self._send(measurement, message, timeout_s))

    def ask(
        self, measurement: Measurement, timing: Timing, message: Message, timeout_s: float
    ) -> Message | None:
        """Ask about one phase; None if that has ended it. The time counts as its own, that of
        building the program again does not."""
        if not timing.is_active or not self.build(measurement) or not timing.is_active:
            return None
        start = time.monotonic()
        timing.was_attempted = True
        try:
            return self._send(measurement, {**message, "phase": timing.phase}, timeout_s)
        except Failed as failed:
            self._fail(measurement, [timing], failed)
            return None
        finally:
            timing.used_s += time.monotonic() - start

    def _send(self, measurement: Measurement, message: Message, timeout_s: float) -> Message:
        self._build(measurement)
        about = {**message, "variant": measurement.name}
        return self._crew.ask(measurement.variant.worker, about, timeout_s)

    def _shared(self, measurement: Measurement, ask: Callable[[], Message]) -> Message | None:
        """Do what all phases share; None if that has ended them."""
        if not measurement.active:
            return None
        start = time.monotonic()
        for timing in measurement.active:
            timing.was_attempted = True
        try:
            return ask()
        except Failed as failed:
            self._fail(measurement, measurement.active, failed)
            return None
        finally:
            measurement.used_s += time.monotonic() - start

    def _fail(self, measurement: Measurement, timings: list[Timing], failed: Failed) -> None:
        """End phases by a request that failed; without its case, a worker runs none of its
        variants."""
        ending = [(measurement, timings)]
        if failed.is_shared:
            worker = measurement.variant.worker
            same = [other for other in self._measurements if other.variant.worker == worker]
            ending = [(other, other.active) for other in same]
        for other, others in ending:
            for timing in others:
                timing.fail_by(failed)
            self.ended(other, [timing for timing in others if not timing.is_active])

    def release(self, measurement: Measurement) -> None:
        """Have a program that cannot stay give up its memory."""
        if measurement.is_evicted and self.knows(measurement):
            self.ask_all(measurement, {"request": "release"}, SHORT_TIMEOUT_S)

    def drop(self, measurement: Measurement) -> None:
        """Have a worker forget a variant; one that does not, ends."""
        if self.knows(measurement):
            worker = measurement.variant.worker
            try:
                about = {"request": "drop", "variant": measurement.name}
                self._crew.ask(worker, about, SHORT_TIMEOUT_S)
            except Failed:
                self._crew.dismiss(worker)
            measurement.generation = -1

    def probe(self, measurements: Sequence[Measurement]) -> dict[str, Message]:
        """Run the probes of all workers at once, since nothing is timed; gives the replies by
        variant. What gives none here is to be probed alone."""
        by_worker: dict[str, list[Measurement]] = {}
        for measurement in measurements:
            if self.knows(measurement) and not measurement.is_evicted:
                by_worker.setdefault(measurement.variant.worker, []).append(measurement)
        messages = {
            worker: [{"request": "probe", "variant": measurement.name} for measurement in own]
            for worker, own in by_worker.items()
        }
        found = self._crew.ask_at_once(messages, CHECK_TIMEOUT_S)
        replies = {
            measurement.name: reply
            for worker, own in by_worker.items()
            for measurement, reply in zip(own, found[worker], strict=False)
        }
        self._crew.settle_all()
        return replies
