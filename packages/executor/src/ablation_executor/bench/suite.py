"""What a suite has to be: its cases, its variants, and the programs that workers run.

A suite is one folder of `suites/` whose package ends in `SUITE`, an instance of its subclass of
`Suite`, and a line of `suites.SUITES`. The bench asks it for cases, variants, refusals and
predictions, and must never load a framework for that: torch and others are imported by `start`,
which only workers call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

from .case import Case, CustomTier, Scalar
from .memory import measure
from .names import resolve_names


@dataclass(frozen=True)
class Variant:
    """One way to compute a case.

    `worker` names the process that runs it: variants with one name share a process, what it has
    loaded, and its weights. Each of `phases` becomes a row of its own in every case. `what` says in
    a sentence what the variant really is; `published_name` what the published run called it. A rung
    of a ladder has the variant below it as `parent`, the one axis that differs as `changed`, and
    the heading of its part of the table as `group`. `factors` are its settings on all axes.
    """

    name: str
    origin: str
    what: str = ""
    published_name: str | None = None
    phases: tuple[str, ...] = ("fwd",)
    worker: str = ""
    printed_name: str = ""
    group: str | None = None
    parent: str | None = None
    changed: str | None = None
    factors: Mapping[str, Scalar] = field(default_factory=dict)
    passes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """A variant is its own worker, and printed by its name, unless it says otherwise."""
        for name in ("worker", "printed_name"):
            if not getattr(self, name):
                object.__setattr__(self, name, self.name)


@dataclass(frozen=True)
class Refusal:
    """Why a variant is not run in a case: status unsupported or skipped, a reason code of
    `rows.REASONS`, and a sentence with names and numbers."""

    status: str
    reason: str
    text: str


@dataclass(frozen=True)
class Needs:
    """Bytes of a program: those it keeps between calls, inputs included unless its worker shares
    them, and those that a call adds, its result included."""

    resident_bytes: int
    transient_bytes: int

    @property
    def total_bytes(self) -> int:
        """What the worker takes at the worst moment."""
        return self.resident_bytes + self.transient_bytes


@dataclass(frozen=True)
class Flops:
    """Operations of one call of a phase: those that count, and by the convention of the field;
    None where nothing is counted."""

    useful: int | None
    convention: int | None = None


@dataclass
class Verdict:
    """What a check found: the largest error of each output and its limit; `reason` names what is
    wrong, None when all is right.

    Keys are o, lse, dq, dk, dv, or what else the suite compares (loss, grad, output).
    """

    errors: dict[str, float] = field(default_factory=dict)
    limits: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    checked_rows: int | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Profile:
    """Some calls with a clock around each operation: name, op, category and kernel of each, (calls,
    operations) nanoseconds, and nanoseconds of each whole call."""

    ops: list[dict[str, Any]]
    times_ns: Sequence[Sequence[int]]
    total_ns: Sequence[int]


class Program(ABC):
    """A variant with the inputs of a case, in a worker.

    A sample is one call between two clock reads: `prepare` runs before the first, the result is
    dropped after the second. Raise NotImplementedError for what the framework refuses, with its own
    words.
    """

    # Whether PyTorch's allocator gives the memory, so that its trace can be asked.
    is_traced: bool = True
    # The scratch that our kernels counted in the last call; None where they are not used.
    arena_bytes: Callable[[], int] | None = None

    def compile(self) -> None:
        """Have every phase compiled, by a first call of each kind of call that will be timed; timed
        apart. Nothing to do where nothing is compiled."""
        return None

    @abstractmethod
    def probe(self) -> Verdict:
        """Run small cases that are hard to get right by accident and name the first that is wrong.

        What is compiled for one shape runs large scores at that shape instead.
        """

    @abstractmethod
    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """Compare this case's outputs with a float64 reference, on the inputs that are timed.

        `phases` are those that are to be timed: gradients are compared only if one of them has
        some. `reference` is the file of `Suite.write_reference`, None where the suite has none.
        """

    def keep_output(self, phase: str, result: Any) -> None:
        """Take the result of the first call, for `check` where that compares it."""
        return None

    def prepare(self, phase: str) -> Any:
        """What one call of a phase needs and is not timed, such as a fresh graph; made anew for
        every call."""
        return None

    @abstractmethod
    def call(self, phase: str, prepared: Any) -> Any:
        """One call of a phase; the result is freshly allocated, as for any caller."""

    def caller(self, phase: str) -> Callable[[Any], Any]:
        """What is timed: takes what `prepare` made. Override where one frame of Python shows."""
        return partial(self.call, phase)

    def synchronize(self) -> None:
        """Wait until the device has done what was asked; nothing to wait for on a CPU."""
        return None

    def event_ns(self, phase: str) -> float | None:
        """One more call of a phase, timed by the device's own events; None, and no call, where it
        has no such clock."""
        return None

    def start_timing(self, phase: str) -> None:
        """Forget counts and parts kept so far: the next call is the first that counts."""
        return None

    def profile(self, phase: str, repeat: int) -> Profile | None:
        """`repeat` calls with a clock around each operation; None where there is no breakdown."""
        return None

    def memory(self, phase: str) -> dict[str, Any]:
        """Entries of the row's `memory`, and under "details" what else was found, in a process
        started for nothing else; asked for instead of times, after `compile`."""
        reading = measure(
            lambda prepared: self.call(phase, prepared),
            lambda: self.prepare(phase),
            is_traced=self.is_traced,
            arena=self.arena_bytes,
        )
        return reading.columns()

    def needs(self) -> Needs | None:
        """Bytes of this program now that it is built; None where `Suite.needs` stands."""
        return None

    def built_facts(self) -> dict[str, Any]:
        """What of `facts` is known as soon as the program is built."""
        return {}

    def facts(self, phase: str) -> dict[str, Any]:
        """Columns of the phase's row that only the program knows, asked for after its last call:
        kernels, providers, n_calls, timing_overhead_ns, program_hash, build_ns, entries of
        `memory` under "memory", and an object of the suite's own under "details"."""
        return {}


class Loaded(ABC):
    """A case in a worker: inputs and weights made and touched, graphs exported."""

    @abstractmethod
    def build(self, variant: str) -> Program:
        """Build one variant; those of one worker share what is loaded."""


class Suite(ABC):
    """Cases, variants and programs of one suite.

    `baseline` is the variant that ratios are to; `tiers` maps each tier to one line that says what
    it holds; `twins` are pairs of variants that are the same program: what their times differ by is
    the noise floor, without which nothing is resolved.
    """

    name: str
    what: str
    baseline: str
    tiers: Mapping[str, str]
    twins: Sequence[tuple[str, str]]
    devices: Sequence[str] = ("cpu", "cuda")
    # The options of `add_options` that choose cases, by their names in the namespace.
    case_options: Sequence[str] = ()
    # Whether workers go on from one case to the next; otherwise each case has new ones.
    keeps_workers: bool = True

    def header(self) -> dict[str, Any]:
        """Return what the header of a run says of this suite alone: `factors`, `options`."""
        return {}

    def resume(self, header: Mapping[str, Any]) -> None:
        """Take up what a run was asked for, before its variants are looked at."""
        return None

    def known(self, variant: Variant, case: Case) -> dict[str, Any]:
        """Return what is known of a row before anything runs: `counters`, `program_hash`, `passes`,
        `parent`, `factors` and `details`."""
        return {}

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Add the options that only this suite has; `chosen_cases` and `chosen_variants` read
        them."""
        return None

    def chosen_cases(
        self, options: argparse.Namespace, cases: list[Case], threads: Sequence[int]
    ) -> list[Case]:
        """Return the cases of a run by the suite's own options; `cases` are those of its tiers.

        UsageError for options that leave none.
        """
        return cases

    def chosen_variants(self, options: argparse.Namespace, given: list[str] | None) -> list[str]:
        """Return the names of a run's variants by the suite's own options; `given` are those of
        `--variants`, None for all. UsageError for an unknown one."""
        names = [variant.name for variant in self.variants(options.device)]
        published = {v.published_name: v.name for v in self.variants(options.device)}
        if given is None:
            return names
        return resolve_names("variant", [published.get(name, name) for name in given], names)

    def asked_listing(self, options: argparse.Namespace) -> str | None:
        """Return what an option of the suite prints in the place of a run; None without one."""
        return None

    def case_lines(self) -> list[str]:
        """Return the lines of `--list` about cases that follow those of the tiers."""
        return []

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
    def variants(self, device: str) -> tuple[Variant, ...]:
        """All there are, those that this machine cannot run included; order of the table."""

    def usual_variants(self, case: Case) -> Sequence[str]:
        """The names that run in a case when none are named; all unless overridden."""
        return [variant.name for variant in self.variants(case.device)]

    def first_variants(self, case: Case) -> Sequence[str]:
        """What is asked most: these have the first rounds, so that a run that is ended early has an
        answer. The baseline and the twins unless overridden."""
        return [self.baseline, *(name for pair in self.twins for name in pair)]

    @abstractmethod
    def supports(self, variant: Variant, case: Case) -> Refusal | None:
        """Why the case is refused before any process is started, or None."""

    @abstractmethod
    def needs(self, variant: Variant, case: Case, phase: str) -> Needs:
        """Predicted bytes of a phase; a case is admitted by the largest of its phases. Bytes that a
        worker's variants share are in `shared_bytes`."""

    def shared_bytes(self, worker: str, case: Case) -> int:
        """Bytes that a worker keeps for all of its variants of a case, such as weights."""
        return 0

    def quick_refusal(self, variant: Variant, case: Case) -> Refusal | None:
        """Why --quick leaves a row out that could run (status skipped, reason policy), or None."""
        return None

    def slowdown(self, variant: Variant, case: Case) -> float:
        """Return about how many times longer a call takes than its operations at the measured
        ceiling: for the forecast before the first call."""
        return 2.0

    def flops(self, case: Case, phase: str) -> Flops:
        """Operations of a phase; those of an attention's forward unless overridden."""
        return Flops(case.flops_useful, case.flops_fa)

    def measures_memory(self, case: Case, is_quick: bool) -> bool:
        """Whether memory is measured in a case, in a process of its own for each variant."""
        return not is_quick

    def reference_bytes(self, case: Case) -> int | None:
        """Bytes that the process of `write_reference` takes; None where programs compare with
        references of their own."""
        return None

    def write_reference(self, case: Case, seed: int, path: Path) -> None:
        """Compute the float64 reference of a case and write it, in a process of its own that has
        ended before anything is timed."""
        raise NotImplementedError

    def start(self, worker: str, threads: int) -> None:
        """Import what a worker needs and set its threads: once, in the new process, before anything
        is loaded and before the limit of memory is set."""
        return None

    @abstractmethod
    def load(self, worker: str, case: Case, seed: int) -> Loaded:
        """Load a case in this process; `OneProgram` does for a suite with one variant a worker."""


class OneProgram(Loaded):
    """A worker with one program: loading it is building it."""

    def __init__(self, make: Callable[[str], Program]) -> None:
        self._make = make

    def build(self, variant: str) -> Program:
        """Make the program, with its inputs."""
        return self._make(variant)
