"""What a suite is: its cases, its implementations, and the program that a worker runs.

A suite is one module that ends in an instance of its subclass of `Suite`, named in `SUITES`. The
parent process asks it for cases, implementations, refusals and predictions, and must never load a
framework for that: torch and triton are imported by `start`, which only workers call.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .case import Case, CustomTier
from .memory import measure

ORIGINS = ("torch", "inductor", "triton", "ablation")

# Name of a suite to the module below this package whose attribute SUITE is the suite.
SUITES: dict[str, str] = {
    "attention-sweep": "attention_sweep",
    "lm-step": "lm_step",
    "attention-backward": "attention_backward",
    "attention-parts": "attention_parts",
}


@dataclass(frozen=True)
class Implementation:
    """One way to compute what the suite measures.

    `published_name` is what the published run called it, where it was there; `what` says in a
    sentence what it really is. Each of `phases` becomes a row of its own in every case; all phases
    of an implementation run in one worker, on one program.
    """

    name: str
    origin: str
    what: str
    published_name: str | None = None
    phases: tuple[str, ...] = ("fwd",)


@dataclass(frozen=True)
class Refusal:
    """Why an implementation is not run in a case: status unsupported or skipped, a reason code of
    `rows.REASONS`, and a sentence with names and numbers."""

    status: str
    reason: str
    text: str


@dataclass(frozen=True)
class Needs:
    """Predicted bytes of a program in a case: those it keeps between calls, inputs included, and
    those of a call besides, its result included."""

    resident_bytes: int
    transient_bytes: int

    @property
    def total_bytes(self) -> int:
        """What the worker takes at the worst moment."""
        return self.resident_bytes + self.transient_bytes


@dataclass(frozen=True)
class Flops:
    """Operations of one call of a phase: those that count, and by the convention of the
    FlashAttention papers (backward 2.5 times the forward); None where nothing is counted."""

    useful: int | None
    fa: int | None = None


@dataclass
class Verdict:
    """What a check found: the largest error of each output, |a - b| over the largest |b|, and the
    limit of each; `reason` names the output that is wrong, None when all are right.

    Keys are o, lse, dq, dk, dv, or what else the suite compares (loss, grad).
    """

    errors: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    reason: str | None = None


class Program(ABC):
    """An implementation with the inputs of a case, in a worker.

    A sample is `call` alone between two clock reads: `prepare` runs before the first read, the
    result is dropped after the second. Raise NotImplementedError for what the framework refuses,
    with its own words.
    """

    # Whether PyTorch's allocator gives the memory, so that its trace can be asked.
    is_traced: bool = True
    # Tells the scratch that our kernels counted in the last call; None where they are not used.
    arena_bytes: Callable[[], int] | None = None

    def compile(self) -> None:
        """Have every phase compiled, by a first call of each kind of call that will be timed; asked
        for after `load` and timed apart. Nothing to do where nothing is compiled."""
        return None

    @abstractmethod
    def probe(self) -> Verdict:
        """Run small cases that are hard to get right by accident (scores up to 80, lengths that no
        block divides, Nq != Nk, Nq = 1) and tell the first that is wrong.

        What is compiled for one shape runs large scores at that shape instead.
        """

    @abstractmethod
    def check(self, phases: Sequence[str]) -> Verdict:
        """Compare this case's outputs with a float64 reference, on the inputs that are timed.

        `phases` are those that are to be timed: gradients are compared only if one of them has
        some, since the memory for them may not be there.
        """

    def prepare(self, phase: str) -> Any:
        """What one call of a phase needs and is not timed, such as a fresh graph; made anew for
        every call."""
        return None

    @abstractmethod
    def call(self, phase: str, prepared: Any) -> Any:
        """One call of a phase; the result is freshly allocated, as for any caller."""

    def synchronize(self) -> None:
        """Wait until the device has done what was asked; nothing to wait for on a CPU."""
        return None

    def event_ns(self, phase: str) -> int | None:
        """One more call of a phase, timed by the device's own events; None, and no call, where it
        has no such clock."""
        return None

    def start_timing(self, phase: str) -> None:
        """Told before a phase's first counted call: forget counts and parts kept so far."""
        return None

    def memory(self, phase: str) -> dict[str, Any]:
        """Columns mem_* of a phase, in a process started for nothing else: any of
        `rows.MEMORY_KEYS`, and under "details" what else was found.

        Asked for instead of times, after `load` and `compile`.
        """
        reading = measure(
            lambda prepared: self.call(phase, prepared),
            lambda: self.prepare(phase),
            is_traced=self.is_traced,
            arena=self.arena_bytes,
        )
        return reading.columns()

    def facts(self, phase: str) -> dict[str, Any]:
        """Columns of the phase's row that only the program knows, asked for after its last call:
        any of `rows.FACT_KEYS`, and under "details" an object of the suite's own."""
        return {}


class Suite(ABC):
    """Cases, implementations and programs of one suite.

    `name` is that of `SUITES`; `baseline` the implementation that the table's ratios divide by;
    `tiers` maps each tier to one line that tells what it holds.
    """

    name: str
    what: str
    baseline: str
    tiers: Mapping[str, str]
    devices: Sequence[str] = ("cpu", "cuda")

    def default_tiers(self, device: str) -> Sequence[str]:
        """The tiers of a run that names none and is not quick; all unless overridden."""
        return tuple(self.tiers)

    @abstractmethod
    def cases(self, tier: str, threads: Sequence[int], device: str) -> list[Case]:
        """The cases of a tier, `threads` outermost."""

    @abstractmethod
    def quick_cases(self, threads: Sequence[int], device: str) -> list[Case]:
        """What --quick runs: a selection of under three minutes on two cores."""

    def custom_cases(
        self, custom: CustomTier, threads: Sequence[int], device: str
    ) -> list[Case] | None:
        """The cases of sizes given on the command line, tier `custom.name`; None where the suite
        takes none."""
        return None

    @abstractmethod
    def implementations(self, device: str) -> tuple[Implementation, ...]:
        """All there are, those that this machine cannot run included; order of the table."""

    @abstractmethod
    def supports(self, implementation: Implementation, case: Case) -> Refusal | None:
        """Why the case is refused before any process is started, or None."""

    @abstractmethod
    def needs(self, implementation: Implementation, case: Case, phase: str) -> Needs:
        """Predicted bytes of a phase; a case is admitted by the largest of its phases."""

    def quick_refusal(self, implementation: Implementation, case: Case) -> Refusal | None:
        """Why --quick leaves a cell out that could run (status skipped, reason policy), or None."""
        return None

    def flops(self, case: Case, phase: str) -> Flops:
        """Operations of a phase; those of a forward unless overridden."""
        return Flops(case.flops_useful, case.flops_fa)

    def measures_memory(self, case: Case, is_quick: bool) -> bool:
        """Whether memory is measured in a case, in a process of its own for each implementation."""
        return not is_quick

    def start(self, implementation: str, threads: int) -> None:
        """Import what the implementation needs and set its threads: once, in the new worker, before
        anything is loaded and before the limit of memory is set."""
        return None

    @abstractmethod
    def load(self, implementation: str, case: Case, seed: int) -> Program:
        """The program of an implementation in this process, with inputs made and touched."""


def find_suite(name: str) -> Suite:
    """The suite of exactly this name; KeyError if there is none."""
    module = importlib.import_module(f"{__package__}.{SUITES[name]}")
    suite: Suite = module.SUITE
    return suite
