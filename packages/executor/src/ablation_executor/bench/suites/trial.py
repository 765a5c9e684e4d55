"""An implementation in a case, the phases of it that become rows, and how those are timed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..cells import FAST_NS
from ..protocol import SETTLE_CALLS_NS
from ..record import utc_now
from ..rounds import TURN_CALLS, TURN_LIMIT_NS
from ..run_reading import Row
from ..stats import MIN_ROUNDS, cell_interval, is_noisy, median
from .case import Case
from .peaks import Peaks
from .rows import (
    FACT_KEYS,
    MEASURED_KEYS,
    MEMORY_KEYS,
    MIN_SAMPLES,
    RATE_SLACK,
    SCHEMA,
    SCHEMA_VERSION,
)
from .suite import Flops, Implementation, Needs, Refusal
from .team import Failed

NO_DEVICE = "none"
QUICK_BUDGET_S, FULL_BUDGET_S = 20.0, 120.0
QUICK_TARGET_S, FULL_TARGET_S = 1.0, 3.0
QUICK_ROUNDS, FULL_ROUNDS = 10, 20
# As many as a 95% interval takes; fewer for calls so slow that these would fill the budget.
LEAST_ROUNDS, LEAST_ROUNDS_LONG = MIN_ROUNDS, MIN_SAMPLES
LONG_NS = 5_000_000_000
WARM_CALLS, WARM_NS = 3, 200_000_000
# A call above this is a sample without a call before it that is not counted: at a third of N FLOPs
# for each byte of its inputs, what it finds of them in the caches does not show.
SLOW_NS = 100_000_000


@dataclass(frozen=True)
class Settings:
    """How to measure; the same for every case of a run.

    `peaks` bounds the rates of a CPU; `has_device` is False when the device that was asked for is
    not there, and `device_name` is NO_DEVICE then.
    """

    seed: int
    is_quick: bool
    budget_s: float
    memory_limit_bytes: int | None = None
    forces_attempt: bool = False
    has_device: bool = True
    device_name: str = NO_DEVICE
    peaks: Peaks = field(default_factory=lambda: Peaks({}))

    @property
    def target_s(self) -> float:
        """Seconds of samples that a row should have."""
        return QUICK_TARGET_S if self.is_quick else FULL_TARGET_S

    @property
    def most_rounds(self) -> int:
        """Rounds at most."""
        return QUICK_ROUNDS if self.is_quick else FULL_ROUNDS


@dataclass
class Trial:
    """A phase of an implementation in a case; `status` is None until it is finished."""

    phase: str
    needs: Needs
    flops: Flops
    status: str | None = None
    reason: str | None = None
    text: str | None = None
    signal: int | None = None
    was_attempted: bool = False
    first_call_ns: int | None = None
    n_warmup: int = 0
    estimate_ns: int = 0
    samples_ns: list[int] = field(default_factory=list)
    sample_rounds: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)
    event_ns: list[int] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    is_spent: bool = False
    used_s: float = 0.0

    @property
    def is_active(self) -> bool:
        """True while it is still to be measured."""
        return self.status is None

    @property
    def has_enough(self) -> bool:
        """True when the samples so far can stand, whatever comes."""
        return len(set(self.sample_rounds)) >= MIN_SAMPLES

    @property
    def calls_of_turn(self) -> tuple[int, int]:
        """Calls that are not counted and, after them, samples at most."""
        return (1 if self.estimate_ns < SLOW_NS else 0), (
            TURN_CALLS if self.estimate_ns < FAST_NS else 1
        )

    def wanted_rounds(self, settings: Settings) -> int:
        """Rounds that fill the wanted time, between the least and the most."""
        discard, count = self.calls_of_turn
        timed_ns = min(count * self.estimate_ns, TURN_LIMIT_NS + self.estimate_ns)
        turn_s = (discard * max(self.estimate_ns, SETTLE_CALLS_NS) + timed_ns) / 1e9
        least = LEAST_ROUNDS_LONG if self.estimate_ns > LONG_NS else LEAST_ROUNDS
        return min(settings.most_rounds, max(least, int(settings.target_s / max(turn_s, 1e-9))))

    def may_repeat(self, settings: Settings) -> bool:
        """True where more rounds can be had: samples enough, budget left, and calls so short that
        the least rounds do not fill the wanted time alone. Slow calls would take hours of a run,
        and tell how wide they are all the same."""
        is_short = LEAST_ROUNDS * self.estimate_ns <= settings.target_s * 1e9
        return self.is_active and not self.is_spent and self.has_enough and is_short

    @property
    def is_wide(self) -> bool:
        """True when the interval of the median is wider than a noisy cell's."""
        return is_noisy(cell_interval(self.samples_ns, self.sample_rounds))

    def fail(self, status: str, reason: str, text: str, signal: int | None = None) -> None:
        """Finish without times, unless finished already."""
        if self.status is None:
            self.status, self.reason, self.text, self.signal = status, reason, text, signal

    def fail_by(self, failed: Failed) -> None:
        """Finish by a request that failed, unless its samples stand without it."""
        if failed.status == "timeout" and self.has_enough:
            self.is_spent = True
        else:
            self.fail(failed.status, failed.reason, str(failed), failed.signal)

    def finish(self, case: Case, settings: Settings) -> None:
        """Ok, or an error where the clock stands still, or the rate is higher than the machine can
        compute in float32."""
        if self.is_active and min(self.samples_ns, default=0) <= 0:
            self.fail(
                "error", "no_time", "a call took 0 ns: the clock of this machine stands still"
            )
        useful = self.flops.useful
        # Autocast leaves float32, and with it the peak.
        is_float32 = case.dtype == "float32" and case.get("autocast", "none") == "none"
        if self.is_active and useful and case.device == "cpu" and is_float32:
            rate = useful / (median(self.samples_ns) / 1e9)
            peak = settings.peaks.flops_per_s(case.threads)
            if peak and rate > RATE_SLACK * peak:
                peak = settings.peaks.measure_again(case.threads)
            if peak and rate > RATE_SLACK * peak:
                self.fail(
                    "error",
                    "impossible_rate",
                    f"{rate / 1e9:.1f} GFLOP/s, the multiply-adds of {case.threads} threads reach "
                    f"{peak / 1e9:.1f}",
                )
        if self.is_active:
            self.status = "ok"


@dataclass
class Entrant:
    """An implementation in a case: what its phases share."""

    implementation: Implementation
    trials: list[Trial]
    available_bytes: int | None = None
    compile_ns: int | None = None
    verdict: dict[str, Any] = field(default_factory=dict)
    check: str = "skipped"
    # The worker that has loaded the case; 0 before any has.
    generation: int = 0
    is_interleaved: bool = True
    used_s: float = 0.0
    started_utc: str = field(default_factory=utc_now)

    @property
    def name(self) -> str:
        """The implementation's name."""
        return self.implementation.name

    @property
    def active(self) -> list[Trial]:
        """The phases that are still to be measured."""
        return [trial for trial in self.trials if trial.is_active]

    @property
    def needs(self) -> Needs:
        """The largest needs of the phases that are still to be measured."""
        return Needs(
            max((trial.needs.resident_bytes for trial in self.active), default=0),
            max((trial.needs.transient_bytes for trial in self.active), default=0),
        )

    def refuse(self, refusal: Refusal) -> None:
        """Finish every phase before anything was started."""
        for trial in self.trials:
            trial.fail(refusal.status, refusal.reason, refusal.text)


def to_row(
    entrant: Entrant,
    trial: Trial,
    case: Case,
    settings: Settings,
    run: Mapping[str, Any],
    calibrations: tuple[list[int] | None, list[int] | None],
) -> Row:
    """A finished trial as a row of rows.jsonl; `run` has run_id and session."""
    row = SCHEMA.blank_row()
    row.update({**case.to_dict(), "case": case.label, "scale": case.scale})
    row.update(
        schema_version=SCHEMA_VERSION,
        run_id=run["run_id"],
        session=run["session"],
        impl=entrant.name,
        published_name=entrant.implementation.published_name,
        origin=entrant.implementation.origin,
        phase=trial.phase,
        device_name=settings.device_name,
        seed=settings.seed,
        mask_align="top_left",
        status=trial.status,
        reason=trial.reason,
        reason_text=trial.text,
        signal=trial.signal,
        attempted=trial.was_attempted,
        check=entrant.check,
        errors=entrant.verdict.get("errors") or None,
        limits=entrant.verdict.get("limits") or None,
        flops_useful=trial.flops.useful,
        flops_fa=trial.flops.fa,
        mem_predicted_bytes=trial.needs.total_bytes,
        mem_available_bytes=entrant.available_bytes,
        calibration_before_ns=calibrations[0],
        calibration_after_ns=calibrations[1],
        started_utc=entrant.started_utc,
        elapsed_s=round(entrant.used_s + trial.used_s, 6),
    )
    if trial.status == "ok":
        row.update(
            timer="host_sync" if case.device == "cuda" else "host",
            n_warmup=trial.n_warmup,
            samples_ns=trial.samples_ns,
            sample_rounds=trial.sample_rounds,
            cpu_ns=trial.cpu_ns,
            event_samples_ns=trial.event_ns or None,
            first_call_ns=trial.first_call_ns,
            compile_ns=entrant.compile_ns,
            interleaved=entrant.is_interleaved,
        )
    _tell(row, trial)
    return row


def _tell(row: Row, trial: Trial) -> None:
    """Add what the program told of a phase; what was measured only where the status is ok."""
    told = {key: trial.facts[key] for key in FACT_KEYS if key in trial.facts}
    measured = {key: trial.memory[key] for key in MEMORY_KEYS if key in trial.memory}
    details = {**told.pop("details", {}), **trial.memory.get("details", {})}
    # Scratch that a kernel counts is exact; what pages tell is not.
    for key, value in {**measured, **told}.items():
        if trial.status == "ok" or key not in MEASURED_KEYS:
            row[key] = value
    row["details"] = details if trial.status == "ok" and details else None
