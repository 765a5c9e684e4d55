"""A module of the caller's under PyTorch and under ours, in the caller's process.

The bench has a process for each runtime, which a module that stands in memory alone cannot enter.
Here all take turns in one process. A turn begins with calls that are not counted, so long that the
threads of the runtime before it have parked.
"""

from __future__ import annotations

import copy
import gc
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

import ablation_kernels
from ablation_report.stats import (
    MIN_ROUNDS,
    floor_of,
    median,
    ratio_interval,
    round_times,
    time_interval,
    verdict,
)

from ..exporter import export
from ..ir import Graph
from ..passes import optimize
from ..refusal import ExportError, RefusalGroup
from ..rewrite import RewriteLog
from . import timing
from .compared import BASELINE, Compared, ComparedVariant
from .interrupt import UsageError
from .measurement import FAST_NS, SLOW_NS, TURN_CALLS, TURN_LIMIT_NS
from .rounds import MAX_EXTENSION, USUAL_ROUNDS, WARM_CALLS, WARM_NS, wanted_profiles
from .runtimes import torch_eager
from .runtimes.adapter import Model, Runner, as_tensors
from .runtimes.ours import Exported, GraphRunner, Options
from .suite import Verdict
from .suites.model.ladder import BY_NAME, DEFAULT
from .suites.model.reference import Reference, compute_reference
from .suites.model.reference import compare as compare_results
from .suites.model.subject import Subject, subject_of
from .suites.runner_program import RunnerProgram
from .suites.twins import SUFFIX

COMPILED = "torch-compile"
_NAMES = {BASELINE: "PyTorch eager", COMPILED: "torch.compile", DEFAULT: "Ours"}
_PHASE = "fwd"
_INPUTS = "a tensor, a tuple of arguments or a dict of keyword arguments"


class _Program(RunnerProgram):
    """A variant with a reference that is in memory."""

    def __init__(self, name: str, runner: Runner, reference: Reference) -> None:
        super().__init__(name, runner, weights_bytes=0)
        self._reference = reference

    def probe(self) -> Verdict:
        """Find nothing: a module has no smaller form."""
        return Verdict()

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """Compare the results of a call with the reference."""
        return compare_results(self._runner.outputs(self._runner.call(None)), self._reference)


@dataclass
class _Turns:
    """A program while it is measured; `estimate_ns` is about the time of a call."""

    program: _Program
    checked: Verdict
    estimate_ns: int = 0
    samples_ns: list[int] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)
    profile: dict[str, list[int]] = field(default_factory=dict)

    def warm_up(self) -> None:
        """Make the calls before the first sample."""
        samples = timing.timed_calls(self.program, _PHASE, 1, None)[0]
        if samples[0] < SLOW_NS:
            samples += timing.timed_calls(self.program, _PHASE, 1_000, WARM_NS)[0]
            while len(samples) < WARM_CALLS:
                samples += timing.timed_calls(self.program, _PHASE, 1, None)[0]
        self.estimate_ns = min(samples)

    def take(self, index: int) -> None:
        """Take a turn: calls that are not counted, samples, and a profiled call while there are too
        few of these."""
        discard = 1 if self.estimate_ns < SLOW_NS else 0
        timing.settle_calls(self.program, _PHASE, discard)
        count = TURN_CALLS if self.estimate_ns < FAST_NS else 1
        samples, _ = timing.timed_calls(self.program, _PHASE, count, TURN_LIMIT_NS)
        self.samples_ns += samples
        self.rounds += [index] * len(samples)
        if len(self.profile.get("total", ())) < wanted_profiles(self.estimate_ns):
            found = self.program.profile(_PHASE, discard + 1)
            parts = {} if found is None else timing.profile_parts(found)
            for name, times in parts.items():
                self.profile.setdefault(name, []).extend(times[discard:])

    @property
    def times(self) -> dict[int, float]:
        """The time of each round."""
        return round_times(self.samples_ns, self.rounds)


def measured(
    module: Any, inputs: Any, torch_compile: bool, threads: int | None, time_s: float
) -> Compared:
    """Do what `ablation_executor.compare` says."""
    count = _checked_threads(threads)
    if isinstance(time_s, bool) or not isinstance(time_s, int | float) or not 0 < time_s < 1e6:
        raise ValueError(f"compare: argument 'time_s' is {time_s!r}; accepted: seconds above 0")
    subject = _subject(module, inputs)
    # It leaves the module in float64
    reference = compute_reference(_subject(copy.deepcopy(module), inputs))
    graph, refused = _graph(subject)
    with ExitStack() as stack:
        stack.enter_context(_measuring(count))
        runners, log = _our_runners(graph, subject, count)
        runners |= _torch_runners(stack, subject, count, torch_compile)
        failed = {name: str(found) for name, found in runners.items() if isinstance(found, str)}
        turns = _checked_turns(runners, reference)
        rounds = _rounds([t for t in turns.values() if t.checked.reason is None], time_s)
    if refused:
        failed[DEFAULT] = "calls of the module are outside our op set"
    return Compared(
        _title(module),
        count,
        rounds,
        _floor(turns),
        _variants(turns, failed),
        log,
        refused,
    )


# Before the first call ----------------------------------------------------------------------------


def _checked_threads(threads: int | None) -> int:
    if threads is None:
        return ablation_kernels.get_num_threads()
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(
            f"compare: argument 'threads' is {threads!r}; accepted: 1 or more, or None"
        )
    return threads


def _subject(module: Any, inputs: Any) -> Subject:
    if not isinstance(module, nn.Module):
        given = type(module).__name__
        raise TypeError(f"compare: argument 'module' is {given}; accepted: a torch.nn.Module")
    if module.training:
        raise ValueError(
            "compare: argument 'module' is in training mode; accepted: eval mode, by module.eval()"
        )
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    if isinstance(inputs, torch.Tensor):
        args = (inputs,)
    elif isinstance(inputs, tuple):
        args = inputs
    elif isinstance(inputs, Mapping):
        kwargs = inputs
    else:
        given = type(inputs).__name__
        raise TypeError(f"compare: argument 'inputs' is {given}; accepted: {_INPUTS}")
    try:
        return subject_of(module, args, kwargs)
    except UsageError as error:
        raise ValueError(f"compare: {error}") from None
    except Exception as error:
        given = ", ".join(
            f"{str(leaf.dtype).removeprefix('torch.')}{list(leaf.shape)}"
            for leaf in pytree.tree_leaves((args, kwargs))
            if isinstance(leaf, torch.Tensor)
        )
        raise ValueError(
            f"compare: the module does not take inputs of {given}: {type(error).__name__}: {error}"
        ) from error


def _title(module: nn.Module) -> str:
    parameters = sum(part.numel() for part in module.parameters())
    return f"{type(module).__name__}, {parameters:,} parameters"


def _graph(subject: Subject) -> tuple[Graph | None, Sequence[RefusalGroup]]:
    """Return the graph of a module, or the calls that export does not cover."""
    try:
        return export(subject.module, as_tensors(subject.inputs)), ()
    except ExportError as error:
        if not error.refusals:
            raise
        return None, error.groups


@contextmanager
def _measuring(threads: int) -> Iterator[None]:
    """Set the threads of both sides, and collect no garbage meanwhile."""
    ours, theirs, collects = (
        ablation_kernels.get_num_threads(),
        torch.get_num_threads(),
        gc.isenabled(),
    )
    ablation_kernels.set_num_threads(threads)
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        ablation_kernels.set_num_threads(ours)
        torch.set_num_threads(theirs)
        if collects:
            gc.enable()


# Programs -----------------------------------------------------------------------------------------


def _our_runners(
    graph: Graph | None, subject: Subject, threads: int
) -> tuple[dict[str, Runner | str], RewriteLog | None]:
    """Return our tuned default twice, which measures the noise floor, and what the passes did."""
    if graph is None:
        return {}, None
    rung = BY_NAME[DEFAULT]
    options = Options("compiled", rung.passes(), rung.kernels, rung.share_rows)
    rewritten, log = optimize(graph, passes=options.passes)
    exported = Exported(graph, subject.inputs, 0)
    return {
        name: GraphRunner(exported, rewritten, options, "kernels", threads, time.perf_counter_ns())
        for name in (DEFAULT, DEFAULT + SUFFIX)
    }, log


def _torch_runners(
    stack: ExitStack, subject: Subject, threads: int, torch_compile: bool
) -> dict[str, Runner | str]:
    """Return PyTorch eager twice, and the compiled module, or why it cannot be compiled."""
    model = Model(lambda: subject.module, subject.inputs)
    eager = torch_eager.Adapter("torch", threads)
    stack.callback(eager.close)
    runners: dict[str, Runner | str] = {
        name: eager.build(model) for name in (BASELINE, BASELINE + SUFFIX)
    }
    if torch_compile:
        runners[COMPILED] = _compiled(stack, model, threads)
    return runners


def _compiled(stack: ExitStack, model: Model, threads: int) -> Runner | str:
    """Return the compiled module, or why it cannot be compiled."""
    import torch._inductor.config as settings

    from .runtimes import torch_compile

    # The adapter sets these for its process, which is the caller's here
    names = ("force_disable_caches", "compile_threads")
    stack.enter_context(settings.patch({name: getattr(settings, name) for name in names}))
    adapter = torch_compile.Adapter(COMPILED, threads)
    stack.callback(adapter.close)
    try:
        return adapter.build(model)
    except MemoryError:
        raise
    except Exception as error:
        # Whatever a compiler raises is what it says of the module
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


def _checked_turns(runners: Mapping[str, Runner | str], reference: Reference) -> dict[str, _Turns]:
    """Return the programs with what their check found, those warm that are correct."""
    turns = {}
    for name, runner in runners.items():
        if isinstance(runner, str):
            continue
        program = _Program(name, runner, reference)
        turns[name] = _Turns(program, program.check((_PHASE,), None))
        if turns[name].checked.reason is None:
            turns[name].warm_up()
    return turns


# Figures ------------------------------------------------------------------------------------------


def _rounds(turns: list[_Turns], time_s: float) -> int:
    """Have programs take turns in random order until the time is over; return the rounds."""
    draw = random.Random(0)
    start, index = time.monotonic(), 0
    while index < MIN_ROUNDS or (
        index < MAX_EXTENSION * USUAL_ROUNDS and time.monotonic() - start < time_s
    ):
        draw.shuffle(turns)
        for each in turns:
            each.take(index)
        index += 1
    return index


def _floor(turns: Mapping[str, _Turns]) -> float | None:
    pairs = [(turns.get(name), turns.get(name + SUFFIX)) for name in (BASELINE, DEFAULT)]
    return floor_of(
        ratio_interval(second.times, first.times)
        for first, second in pairs
        if first is not None and second is not None
    )


def _variants(turns: Mapping[str, _Turns], failed: Mapping[str, str]) -> dict[str, ComparedVariant]:
    floor = _floor(turns)
    base = turns[BASELINE].times
    found = {}
    for name, printed in _NAMES.items():
        if name in failed:
            found[name] = ComparedVariant(name, printed, "unsupported", failed[name])
        elif name in turns:
            found[name] = _variant(name, turns[name], base, floor)
    return found


def _variant(
    name: str, turns: _Turns, base: Mapping[int, float], floor: float | None
) -> ComparedVariant:
    checked, printed = turns.checked, _NAMES[name]
    worst = max(checked.errors, key=checked.errors.__getitem__, default=None)
    error = None if worst is None else checked.errors[worst]
    limit = None if worst is None else checked.limits[worst]
    if checked.reason is not None:
        return ComparedVariant(name, printed, "incorrect", checked.reason, error=error, limit=limit)
    ratio = None if name == BASELINE else ratio_interval(turns.times, base)
    return ComparedVariant(
        name,
        printed,
        "ok",
        time_ns=time_interval(turns.samples_ns, turns.rounds),
        ratio=ratio,
        verdict=None if name == BASELINE else verdict(ratio, floor),
        error=error,
        limit=limit,
        parts_ns={part: median(times) for part, times in turns.profile.items()},
    )
