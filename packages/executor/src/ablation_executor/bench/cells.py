"""One cell while it is measured, and the row that it becomes."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from typing import Any

from ..variants import Variant
from .configs import Config
from .record import PARTS, SCHEMA, SCHEMA_VERSION, utc_now
from .run_reading import Row
from .stats import cell_interval, is_noisy

# Keys of a worker's reply to `build` that go into the row as they are.
BUILD_KEYS = (
    *("build_ns", "arena_bytes", "attention_scratch_bytes", "weights_bytes", "n_calls"),
    *("timing_overhead_ns", "attention_kernel", "layer_norm_kernel", "softmax_kernel"),
    *("linear_kernel", "packed_weights_bytes", "providers"),
)
CHECK_KEYS = ("max_abs_error", "tolerance", "worst_ratio", "checked_rows")

# Fewer rounds than this are no measurement.
MIN_ROUNDS = 3
# Below this a sample is one of several in a turn, after a call that refills the caches.
FAST_NS = 5_000_000
# Below this one, too, is taken after a call that is not counted: what the turn before left in the
# caches, which is a neighbor's weights or another process's, would show in the time.
SLOW_NS = 1_000_000_000


def printed_name(variant: Variant) -> str:
    """The name in tables: GCD on Apple, parallel elsewhere."""
    return variant.printed_name_apple if platform.system() == "Darwin" else variant.printed_name


@dataclass
class Cell:
    """A variant of the config being measured; `status` is None until the cell is finished."""

    variant: Variant
    status: str | None = None
    reason: str | None = None
    signal: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    verdict: dict[str, Any] = field(default_factory=dict)
    samples_ns: list[int] = field(default_factory=list)
    sample_rounds: list[int] = field(default_factory=list)
    profile: list[dict[str, int]] = field(default_factory=list)
    first_call_ns: int | None = None
    n_warmup: int | None = None
    estimate_ns: int = 0
    last_turn_s: float = 0.0
    used_s: float = 0.0
    predicted_bytes: int | None = None
    available_bytes: int | None = None
    finish: dict[str, Any] = field(default_factory=dict)
    started_utc: str | None = None
    # The worker that has built this cell, counted from 0; -1 before any has.
    generation: int = -1
    # The caches, and perhaps the pages, know nothing of this cell yet.
    is_cold: bool = True
    # Its memory is given up after each turn, so that others fit.
    is_evicted: bool = False
    # The budget is used up; the samples so far stand.
    is_spent: bool = False

    @property
    def is_active(self) -> bool:
        """True while the cell is still to be measured."""
        return self.status is None

    @property
    def is_fast(self) -> bool:
        """True when several calls make a turn."""
        return self.estimate_ns < FAST_NS

    @property
    def has_enough_rounds(self) -> bool:
        """True when the samples so far can stand, whatever comes."""
        return self.rounds_done >= MIN_ROUNDS

    @property
    def needs_discard(self) -> bool:
        """True when the first call of a turn would not be like those after it."""
        return self.is_cold or self.estimate_ns < SLOW_NS

    @property
    def rounds_done(self) -> int:
        """Rounds with at least one sample."""
        return len(set(self.sample_rounds))

    def is_wide(self) -> bool:
        """True when the interval of the median is wider than a noisy cell's."""
        return is_noisy(cell_interval(self.samples_ns, self.sample_rounds))

    def fail(self, status: str, reason: str, signal: int | None = None) -> None:
        """Finish the cell without times."""
        self.status, self.reason, self.signal = status, reason, signal


@dataclass(frozen=True)
class Settings:
    """How to measure; the same for every config of a run."""

    threads: int
    seed: int
    samples: int
    budget_s: float
    warm_up: int
    warm_up_long: int
    can_extend: bool
    memory_limit_bytes: int | None


@dataclass(frozen=True)
class RunIdentity:
    """What every row of a session has in common."""

    run_id: str
    session: int
    threads: int
    seed: int


def to_row(
    cell: Cell,
    config: Config,
    run: RunIdentity,
    calibration_before_ns: list[int] | None,
    calibration_after_ns: list[int] | None,
) -> Row:
    """The finished cell as a row of cells.jsonl."""
    variant = cell.variant
    row = SCHEMA.blank_row()
    row.update(
        schema_version=SCHEMA_VERSION,
        run_id=run.run_id,
        session=run.session,
        config=config.name,
        d_model=config.d_model,
        n_heads=config.n_heads,
        seq_len=config.seq_len,
        batch=config.batch,
        variant=variant.name,
        printed_name=printed_name(variant),
        group=variant.group,
        parent=variant.parent,
        changed=variant.changed,
        runtime=variant.runtime,
        executor=variant.executor,
        passes=list(variant.passes),
        providers={},
        threads=run.threads,
        seed=run.seed,
        status=cell.status,
        reason=cell.reason,
        signal=cell.signal,
        n_warmup=cell.n_warmup,
        first_call_ns=cell.first_call_ns,
        memory_predicted_bytes=cell.predicted_bytes,
        memory_available_bytes=cell.available_bytes,
        peak_rss_bytes=cell.finish.get("peak_rss_bytes"),
        flops=config.flops,
        calibration_before_ns=calibration_before_ns,
        calibration_after_ns=calibration_after_ns,
        started_utc=cell.started_utc or utc_now(),
        elapsed_s=round(cell.used_s, 6),
    )
    row.update({key: cell.facts[key] for key in BUILD_KEYS if key in cell.facts})
    row.update({key: cell.verdict[key] for key in CHECK_KEYS if key in cell.verdict})
    if cell.status == "ok":
        row.update(samples_ns=cell.samples_ns, sample_rounds=cell.sample_rounds)
        row.update(ops=cell.finish.get("ops"))
        for part in ("total", *PARTS):
            row[f"profile_{part}_ns"] = [entry[part] for entry in cell.profile] or None
    return row
