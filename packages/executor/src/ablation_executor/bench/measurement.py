"""A variant in a case while it is measured, the phases of it that become rows, and those rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ablation_report.rows import RATE_SLACK, Row, blank_row, rate_faults
from ablation_report.stats import MIN_ROUNDS_OK, time_interval

from .case import Case
from .crew import Failed
from .run_writing import utc_now
from .suite import Flops, Needs, Suite, Variant

# Below this a sample is one of several in a turn, after a call that refills the caches.
FAST_NS = 5_000_000
# Below this one, too, is taken after a call that is not counted: what the turn before left in the
# caches, which is a neighbor's weights or another process's, would show in the time. A call above
# it is warm after the first.
SLOW_NS = 1_000_000_000
# What a quick run has time for.
SLOW_QUICK_NS = 100_000_000
TURN_CALLS = 5
TURN_LIMIT_NS = 10_000_000

FACT_COLUMNS = (
    *("kernels", "n_calls", "timing_overhead_ns", "program_hash", "build_ns", "counters"),
)
NO_DEVICE = "none"


@dataclass(frozen=True)
class Settings:
    """How to measure; the same for every case of a run.

    `samples` are rounds at least, None where `time_s`, the seconds that the rounds of a case should
    take, decides. `has_device` is False when the device that was asked for is not there.
    """

    seed: int
    is_quick: bool
    samples: int | None
    budget_s: float
    time_s: float
    memory_limit_bytes: int | None = None
    forces_attempt: bool = False
    has_device: bool = True
    device_name: str = NO_DEVICE

    @property
    def slow_ns(self) -> int:
        """A call above this needs no call before it that is not counted."""
        return SLOW_QUICK_NS if self.is_quick else SLOW_NS


@dataclass
class Timing:
    """A phase of a variant in a case; `status` is None until it is finished."""

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
    # Rounds that it takes part in at first.
    wanted: int = 0
    samples_ns: list[int] = field(default_factory=list)
    sample_rounds: list[int] = field(default_factory=list)
    cpu_ns: list[int] = field(default_factory=list)
    event_ns: list[float] = field(default_factory=list)
    profile: dict[str, list[int]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    ops: list[dict[str, Any]] | None = None
    process_peak: int | None = None
    memory: dict[str, Any] = field(default_factory=dict)
    last_turn_s: float = 0.0
    used_s: float = 0.0
    # The caches, and perhaps the pages, know nothing of it yet.
    is_cold: bool = True
    # The budget is used up; the samples so far stand.
    is_spent: bool = False

    @property
    def is_active(self) -> bool:
        """True while it is still to be measured."""
        return self.status is None

    @property
    def rounds_done(self) -> int:
        """Rounds with at least one sample."""
        return len(set(self.sample_rounds))

    @property
    def has_enough(self) -> bool:
        """True when the samples so far can stand, whatever comes."""
        return self.rounds_done >= MIN_ROUNDS_OK

    @property
    def calls(self) -> int:
        """Samples of a turn at most."""
        return TURN_CALLS if self.estimate_ns < FAST_NS else 1

    def discards(self, settings: Settings) -> int:
        """Return the calls before them that are not counted."""
        return 1 if self.is_cold or self.estimate_ns < settings.slow_ns else 0

    def is_wide(self) -> bool:
        """True when the interval of the time is wider than a noisy row's."""
        return bool(time_interval(self.samples_ns, self.sample_rounds).is_noisy)

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


@dataclass
class Measurement:
    """A variant in a case: what its phases share."""

    variant: Variant
    timings: list[Timing]
    # Bytes of the worker that this variant shares with others.
    shared_bytes: int = 0
    # What the suite knows of its rows before anything runs.
    known: Mapping[str, Any] = field(default_factory=dict)
    available_bytes: int | None = None
    # What it needs, and what is known of it, now that it is built.
    built_needs: Needs | None = None
    built_facts: dict[str, Any] = field(default_factory=dict)
    compile_ns: int | None = None
    build_s: float = 0.0
    verdict: dict[str, Any] = field(default_factory=dict)
    check: str = "skipped"
    # The load of its worker that has built it, counted by the crew; -1 before any has.
    generation: int = -1
    # Its memory is given up after each turn, so that others fit.
    is_evicted: bool = False
    is_interleaved: bool = True
    used_s: float = 0.0
    started_utc: str = field(default_factory=utc_now)

    @property
    def name(self) -> str:
        """The variant's name."""
        return self.variant.name

    @property
    def active(self) -> list[Timing]:
        """The phases that are still to be measured."""
        return [timing for timing in self.timings if timing.is_active]

    @property
    def needs(self) -> Needs:
        """What it needs once built, or else the largest needs of the phases still to be
        measured."""
        return self.built_needs or Needs(
            max((timing.needs.resident_bytes for timing in self.active), default=0),
            max((timing.needs.transient_bytes for timing in self.active), default=0),
        )


def make_measurement(suite: Suite, variant: Variant, case: Case) -> Measurement:
    """Make what is measured of a variant in a case."""
    phases = variant.phases
    return Measurement(
        variant,
        [
            Timing(phase, suite.needs(variant, case, phase), suite.flops(case, phase))
            for phase in phases
        ],
        suite.shared_bytes(variant.worker, case),
        suite.known(variant, case),
    )


def to_row(
    measurement: Measurement,
    timing: Timing,
    case: Case,
    settings: Settings,
    run: Mapping[str, Any],
    calibrations: tuple[list[int] | None, list[int] | None],
) -> Row:
    """Return a finished phase as a row; `run` has run_id and session."""
    variant, is_ok = measurement.variant, timing.status == "ok"
    known = measurement.known
    passes = known.get("passes", variant.passes)
    facts = {**known, **measurement.built_facts, **timing.facts}
    needs = measurement.built_needs or timing.needs
    row = blank_row()
    row.update(
        run_id=run["run_id"],
        session=run["session"],
        suite=case.suite,
        tier=case.tier,
        case=case.label,
        variant=variant.name,
        worker=variant.worker,
        phase=timing.phase,
        parent=known.get("parent", variant.parent),
        changed=variant.changed,
        group=variant.group,
        printed_name=variant.printed_name,
        published_name=variant.published_name,
        origin=variant.origin,
        factors=dict(known.get("factors") or variant.factors),
        sizes=dict(case.sizes),
        dtype=case.dtype,
        threads=case.threads,
        device=case.device,
        device_name=settings.device_name,
        seed=settings.seed,
        status=timing.status,
        reason=timing.reason,
        reason_text=timing.text,
        signal=timing.signal,
        attempted=timing.was_attempted,
        check=measurement.check,
        errors=measurement.verdict.get("errors") or None,
        limits=measurement.verdict.get("limits") or None,
        checked_rows=measurement.verdict.get("checked_rows"),
        flops=timing.flops.useful,
        flops_convention=timing.flops.convention,
        passes=None if passes is None else list(passes),
        providers=facts.get("providers") or {},
        build_ns=measurement.compile_ns,
        calibration_before_ns=calibrations[0],
        calibration_after_ns=calibrations[1],
        started_utc=measurement.started_utc,
        elapsed_s=round(measurement.used_s + timing.used_s, 6),
    )
    row.update({key: facts[key] for key in FACT_COLUMNS if key in facts})
    if is_ok:
        row.update(
            timer="host_sync" if case.device == "cuda" else "host",
            n_warmup=timing.n_warmup,
            samples_ns=timing.samples_ns,
            sample_rounds=timing.sample_rounds,
            cpu_ns=timing.cpu_ns,
            event_ns=timing.event_ns or None,
            first_call_ns=timing.first_call_ns,
            interleaved=measurement.is_interleaved,
            profile=timing.profile or None,
            ops=timing.ops,
        )
    measured = {k: v for k, v in timing.memory.items() if k != "details"} if is_ok else {}
    # What a kernel counts is exact; what pages tell is not.
    row["memory"].update(
        measured,
        **facts.get("memory", {}),
        process_peak=timing.process_peak,
        predicted=measurement.shared_bytes + needs.total_bytes,
        available=measurement.available_bytes,
    )
    details = dict(known.get("details", {}))
    if is_ok:
        details |= measurement.verdict.get("details", {})
        details |= facts.get("details", {})
        details |= timing.memory.get("details", {})
    row["details"] = details or None
    return row


def impossible(row: Row, ceilings: Mapping[str, Any] | None) -> str | None:
    """Say why an ok row cannot have been measured, or return None."""
    fault = rate_faults(row, ceilings).get("samples_ns")
    return None if fault is None else f"{fault} (above {RATE_SLACK:g} times the ceiling)"
