"""One case from start to rows: memory, check, and interleaved rounds within a budget."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..cells import CHECK_KEYS, FAST_NS
from ..crew import MIN_TIMEOUT_S
from ..machine import available_bytes
from ..protocol import SETTLE_CALLS_NS, SETTLE_POLL_S, Message
from ..record import Row, utc_now
from ..schedule import TURN_CALLS, TURN_LIMIT_NS, gibibytes
from .cases import BATCH, Case
from .implementations import (
    KERNELS_MATERIALIZED,
    Implementation,
    kernels_used,
    memory,
    scratch_bytes,
)
from .record import ROW_KEYS, SCHEMA_VERSION, SUITE
from .reference import attention_reference
from .team import Failed, Team

MAX_WARM_UP = 3
# A call above this is a sample without a call before it that is not counted: at a third of seq_len
# FLOPs for each byte of its inputs, what it finds of them in the caches does not show.
SLOW_NS = 100_000_000
# For the estimate of a run only: a core's rate over scores that stay in the caches, and over those
# that go through memory.
TILED_FLOPS_PER_S, MATERIALIZED_FLOPS_PER_S = 100e9, 50e9


@dataclass(frozen=True)
class Settings:
    """How to measure; the same for every case of a run."""

    seed: int
    rounds: int
    min_rounds: int
    budget_s: float
    memory_limit_bytes: int | None

    @property
    def timeout_s(self) -> float:
        """Seconds that a single request may take."""
        return max(MIN_TIMEOUT_S, self.budget_s)


@dataclass
class Trial:
    """An implementation in a case; `status` is None until it is finished."""

    implementation: Implementation
    status: str | None = None
    reason: str | None = None
    signal: int | None = None
    verdict: dict[str, Any] = field(default_factory=dict)
    first_call_ns: int | None = None
    n_warmup: int | None = None
    estimate_ns: int = 0
    samples_ns: list[int] = field(default_factory=list)
    sample_rounds: list[int] = field(default_factory=list)
    predicted_bytes: int | None = None
    available_bytes: int | None = None
    is_evicted: bool = False
    used_s: float = 0.0
    started_utc: str = field(default_factory=utc_now)

    @property
    def name(self) -> str:
        """The implementation's name."""
        return self.implementation.name

    @property
    def calls_of_turn(self) -> tuple[int, int]:
        """Calls that are not counted and, after them, samples at most."""
        return (1 if self.estimate_ns < SLOW_NS else 0), (
            TURN_CALLS if self.estimate_ns < FAST_NS else 1
        )


def turn_s(estimate_ns: int) -> float:
    """Seconds that a turn of such calls takes, the wait before it included."""
    trial = Trial(Implementation("", ""), estimate_ns=estimate_ns)
    discard, count = trial.calls_of_turn
    timed_ns = min(count * estimate_ns, TURN_LIMIT_NS + estimate_ns)
    uncounted_ns = discard * max(estimate_ns, SETTLE_CALLS_NS)
    return (uncounted_ns + timed_ns) / 1e9 + SETTLE_POLL_S


def affordable_rounds(left_s: float, estimates_ns: Sequence[int], settings: Settings) -> int:
    """Rounds that fit into the time left: as many as wanted, or fewer, but not below the least."""
    round_s = sum(turn_s(estimate_ns) for estimate_ns in estimates_ns)
    return min(settings.rounds, max(settings.min_rounds, int(left_s / round_s)))


def estimated_s(cases: Sequence[Case], ways: Sequence[Implementation], settings: Settings) -> float:
    """Seconds that the cases take on cores of the assumed rates; none of it is used to measure."""
    total_s = 0.0
    for case in cases:
        estimates_ns = []
        for way in ways:
            is_materialized = way.form == "materialized"
            rate = MATERIALIZED_FLOPS_PER_S if is_materialized else TILED_FLOPS_PER_S
            full = 4 * case.heads * case.head_dim * case.seq_len**2
            flops = full if is_materialized else case.flops_useful
            estimates_ns.append(int(1e9 * flops / (rate * case.threads)))
        first_s = sum(estimates_ns) / 1e9
        rounds = affordable_rounds(settings.budget_s - first_s, estimates_ns, settings)
        total_s += first_s + rounds * sum(turn_s(estimate_ns) for estimate_ns in estimates_ns)
    return total_s


class CaseRun:
    """Measures every implementation of one case."""

    def __init__(
        self,
        case: Case,
        ways: Sequence[Implementation],
        team: Team,
        settings: Settings,
        folder: Path,
    ) -> None:
        self._case = case
        self._trials = [Trial(way) for way in ways]
        self._team = team
        self._settings = settings
        self._reference_path = folder / "reference.npz"
        self._start = time.monotonic()

    def run(self, run_id: str) -> list[Row]:
        """Measure; gives a row for every implementation, in the order given."""
        self._admit()
        if self._active():
            attention_reference(self._case, self._settings.seed).save(self._reference_path)
        for trial in self._active():
            self._prepare(trial)
        before = after = None
        if self._active():
            before = self._team.calibrate(KERNELS_MATERIALIZED)
            self._rounds()
            after = self._team.calibrate(KERNELS_MATERIALIZED)
        for trial in self._trials:
            if trial.predicted_bytes is not None and trial.status != "oom":
                self._ask(trial, {"request": "drop"})
        for trial in self._active():
            trial.status = "ok"
        return [
            to_row(trial, self._case, self._settings, run_id, before, after)
            for trial in self._trials
        ]

    def _active(self) -> list[Trial]:
        return [trial for trial in self._trials if trial.status is None]

    def _ask(self, trial: Trial, message: Message) -> Message | None:
        """Ask a trial's worker; None if that has ended the trial."""
        start = time.monotonic()
        try:
            return self._team.ask(trial.name, message, self._settings.timeout_s)
        except Failed as failed:
            if trial.status is None:
                trial.status, trial.reason = failed.status, str(failed)
                trial.signal = failed.signal
            return None
        finally:
            trial.used_s += time.monotonic() - start

    def _admit(self) -> None:
        """Refuse what does not fit into memory, and mark what fits only if it keeps nothing.

        The inputs of every worker and what is kept between calls stay; of the rest only the largest
        is needed at a time.
        """
        available = available_bytes(self._settings.memory_limit_bytes)
        inputs = 3 * self._case.array_bytes
        room = available - len(self._trials) * inputs
        for trial in self._trials:
            needs = memory(trial.implementation, self._case)
            alone = needs.resident_bytes + needs.transient_bytes
            trial.predicted_bytes = inputs + alone
            trial.available_bytes = available
            if alone > room:
                trial.status = "oom"
                trial.reason = (
                    f"needs {gibibytes(alone)} beside the inputs of {len(self._trials)} processes, "
                    f"{gibibytes(max(0, room))} available ({alone} bytes needed, {max(0, room)} "
                    "bytes available)"
                )
        placed = [memory(trial.implementation, self._case) for trial in self._active()]
        staying = sum(needs.resident_bytes for needs in placed)
        passing = max((needs.transient_bytes for needs in placed), default=0)
        for trial, needs in zip(self._active(), placed, strict=True):
            trial.is_evicted = staying + passing > room and needs.resident_bytes > 0

    def _prepare(self, trial: Trial) -> None:
        """Load, probe, check and warm up; what is wrong ends here."""
        load = {"request": "load", "case": self._case.to_dict(), "seed": self._settings.seed}
        if self._ask(trial, load) is None:
            return
        check = {"request": "check", "reference": str(self._reference_path)}
        for request in ({"request": "probe"}, check):
            reply = self._ask(trial, request)
            if reply is None:
                return
            if reply["reason"] is not None:
                trial.verdict, trial.status, trial.reason = reply, "incorrect", reply["reason"]
                return
        assert reply is not None
        trial.verdict = reply
        trial.first_call_ns = trial.estimate_ns = reply["first_call_ns"]
        trial.n_warmup = 1
        share_ns = 0.25e9 * self._settings.budget_s / len(self._trials)
        count = min(MAX_WARM_UP, int(share_ns / max(1, trial.estimate_ns)))
        if count:
            warm = self._ask(trial, {"request": "warm", "count": count})
            if warm is None:
                return
            trial.n_warmup += count
            trial.estimate_ns = min(warm["samples_ns"])
        self._release(trial)

    def _release(self, trial: Trial) -> None:
        if trial.is_evicted and trial.status is None:
            self._ask(trial, {"request": "release"})

    def _rounds(self) -> None:
        """Rounds in which each implementation has one turn, in an order drawn anew each time.

        A budget too small for all rounds gets fewer of them, but never fewer than the least.
        """
        draw = random.Random(f"{self._settings.seed} {self._case.name}")
        left_s = self._settings.budget_s - (time.monotonic() - self._start)
        estimates_ns = [trial.estimate_ns for trial in self._active()]
        for index in range(affordable_rounds(left_s, estimates_ns, self._settings)):
            for trial in draw.sample(self._active(), len(self._active())):
                self._turn(trial, index)

    def _turn(self, trial: Trial, index: int) -> None:
        discard, count = trial.calls_of_turn
        message = {
            "request": "turn",
            "discard": discard,
            "count": count,
            "limit_ns": TURN_LIMIT_NS,
        }
        reply = self._ask(trial, message)
        if reply is None:
            return
        trial.samples_ns += reply["samples_ns"]
        trial.sample_rounds += [index] * len(reply["samples_ns"])
        self._release(trial)


def to_row(
    trial: Trial,
    case: Case,
    settings: Settings,
    run_id: str,
    calibration_before_ns: list[int] | None,
    calibration_after_ns: list[int] | None,
) -> Row:
    """A finished trial as a row of attention.jsonl."""
    is_ok = trial.status == "ok"
    row: Row = dict.fromkeys(ROW_KEYS)
    row.update(
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        suite=SUITE,
        B=BATCH,
        H=case.heads,
        Nq=case.seq_len,
        Nk=case.seq_len,
        d=case.head_dim,
        causal=case.causal,
        threads=case.threads,
        seed=settings.seed,
        impl=trial.name,
        form=trial.implementation.form,
        kernels=kernels_used(trial.implementation, case),
        status=trial.status,
        reason=trial.reason,
        signal=trial.signal,
        n_warmup=trial.n_warmup,
        samples_ns=trial.samples_ns if is_ok else None,
        sample_rounds=trial.sample_rounds if is_ok else None,
        first_call_ns=trial.first_call_ns,
        flops_useful=case.flops_useful,
        scratch_bytes=scratch_bytes(trial.implementation, case),
        memory_predicted_bytes=trial.predicted_bytes,
        memory_available_bytes=trial.available_bytes,
        calibration_before_ns=calibration_before_ns,
        calibration_after_ns=calibration_after_ns,
        started_utc=trial.started_utc,
        elapsed_s=round(trial.used_s, 6),
    )
    row.update({key: trial.verdict[key] for key in CHECK_KEYS if key in trial.verdict})
    return row
