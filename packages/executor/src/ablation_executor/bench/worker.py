"""One worker: a process in which a suite builds, checks and times programs on request.

The parent asks, the worker answers; between requests it blocks in a read. Requests are methods of
`Worker` by name.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import os
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any, BinaryIO

import numpy as np

from .case import case_of
from .memory import give_back
from .memory_room import process_bytes
from .protocol import Message, receive, send
from .suite import Loaded, Program, Suite, Verdict
from .suites import find_suite
from .timing import profile_parts, settle_calls, timed_calls

FILL_SIZE = 512
_INHERITED_DATA_LIMIT = resource.getrlimit(resource.RLIMIT_DATA)


def is_out_of_memory(error: BaseException) -> bool:
    """True for MemoryError and for what torch raises when its allocator fails."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError)
        and any(mark in text for mark in ("can't allocate memory", "out of memory", "bad_alloc"))
    )


def failure(error: BaseException) -> Message:
    """Return the reply that says why a request failed, as the status and reason of a row."""
    reason = f"{type(error).__name__}: {error}".strip()
    if is_out_of_memory(error):
        return {"failed": "oom", "reason": reason}
    unsupported = isinstance(error, NotImplementedError) or "Unsupported" in type(error).__name__
    return {"failed": "unsupported" if unsupported else "error", "reason": reason}


class Answers:
    """Answers the parent's requests; a method `do_<request>` for each."""

    def handle(self, message: Message) -> Message:
        """Answer one request; a failure becomes a reply that says so."""
        arguments = dict(message)
        name = arguments.pop("request")
        try:
            reply: Message = getattr(self, f"do_{name}")(**arguments)
            return reply
        except Exception as error:
            traceback.print_exc()
            return failure(error)


class _Entry:
    """A variant's program; `program` is None while its memory is given up."""

    def __init__(self, build: Callable[[], Program]) -> None:
        self._build = build
        self.program: Program | None = build()
        self.ops: list[dict[str, Any]] = []
        self.op_times: list[list[int]] = []

    def get(self) -> Program:
        """Return the program; built again if it was released."""
        if self.program is None:
            self.program = self._build()
        return self.program


class Worker(Answers):
    """Builds, checks and times the variants of one worker's name, of one case at a time."""

    def __init__(
        self, suite: Suite, name: str, calibrate: Callable[[int], list[int]] | None = None
    ) -> None:
        self._suite = suite
        self._name = name
        self._calibrate = calibrate
        self._loaded: Loaded | None = None
        self._entries: dict[str, _Entry] = {}

    def do_load(self, case: str, seed: int, limit_bytes: int | None) -> Message:
        """Load the case of a label, under a limit of memory; what was loaded before is dropped."""
        self.do_drop()
        limit_data(limit_bytes)
        self._loaded = self._suite.load(self._name, case_of(case), seed)
        gc.collect()
        gc.freeze()
        return {}

    def do_build(self, variant: str) -> Message:
        """Build a variant; what it needs now that it is built, where it knows."""
        loaded = self._loaded
        if loaded is None:
            raise RuntimeError("build before load")
        entry = self._entries[variant] = _Entry(lambda: loaded.build(variant))
        program = entry.get()
        needs, facts = program.needs(), program.built_facts()
        gc.collect()
        told = None if needs is None else [needs.resident_bytes, needs.transient_bytes]
        return {"needs": told, "facts": facts}

    def do_compile(self, variant: str) -> Message:
        """Compile, and the time of that; null where nothing is compiled."""
        program = self._program(variant)
        if type(program).compile is Program.compile:
            return {"compile_ns": None}
        start = perf_counter_ns()
        program.compile()
        return {"compile_ns": perf_counter_ns() - start}

    def do_probe(self, variant: str) -> Message:
        """Run the small cases that are hard to get right."""
        return verdict_message(self._program(variant).probe(), "probe: ")

    def do_first(self, variant: str, phase: str) -> Message:
        """Time the first call of a phase; `check` may compare its result."""
        program = self._program(variant)
        prepared = program.prepare(phase)
        program.synchronize()
        call = program.caller(phase)
        start = perf_counter_ns()
        result = call(prepared)
        program.synchronize()
        elapsed = perf_counter_ns() - start
        program.keep_output(phase, result)
        return {"first_call_ns": elapsed}

    def do_check(self, variant: str, phases: list[str], reference: str | None) -> Message:
        """Compare the case's own outputs with the reference."""
        path = None if reference is None else Path(reference)
        verdict = self._program(variant).check(phases, path)
        gc.collect()
        return verdict_message(verdict, "")

    def do_warm(
        self, variant: str, phase: str, count: int, least_ns: int, limit_ns: int
    ) -> Message:
        """Make at least `count` calls and `least_ns` of them, unless they pass `limit_ns`; their
        times only choose how a turn is made."""
        program, samples = self._program(variant), []
        start = perf_counter_ns()
        while True:
            samples += timed_calls(program, phase, 1, None)[0]
            spent = perf_counter_ns() - start
            if spent > limit_ns or (len(samples) >= count and spent >= least_ns):
                return {"samples_ns": samples}

    def do_start(self, variant: str, phase: str) -> Message:
        """Count from the next call of a phase on."""
        self._program(variant).start_timing(phase)
        return {}

    def do_turn(
        self, variant: str, phase: str, discard: int, count: int, limit_ns: int, profile: int
    ) -> Message:
        """Take a turn: discarded calls, timed calls until the limit, then profiled calls.

        Profiled calls run a loop of their own, so as many of them are discarded before it counts.
        """
        entry = self._entries[variant]
        is_released = entry.program is None
        program = entry.get()
        if is_released:
            # Memory that was never touched would show in the first sample
            timed_calls(program, phase, 1, None)
        settle_calls(program, phase, discard)
        samples, cpu_ns = timed_calls(program, phase, count, limit_ns)
        parts: dict[str, list[int]] = {}
        if profile:
            taken = program.profile(phase, discard + profile)
            if taken is not None:
                parts = {name: times[discard:] for name, times in profile_parts(taken).items()}
                entry.ops = taken.ops
                entry.op_times.extend(list(map(int, row)) for row in taken.times_ns[discard:])
        return {
            "samples_ns": samples,
            "cpu_ns": cpu_ns,
            "event_ns": program.event_ns(phase),
            "profile": parts,
        }

    def do_memory(self, variant: str, phase: str) -> Message:
        """Measure the memory of a phase."""
        return self._program(variant).memory(phase)

    def do_finish(self, variant: str, phase: str) -> Message:
        """Return what only the program knows, the median of each operation, and the peak memory of
        this process."""
        entry = self._entries[variant]
        facts = self._program(variant).facts(phase)
        medians = [int(median(times)) for times in zip(*entry.op_times, strict=True)]
        ops = [{**op, "median_ns": value} for op, value in zip(entry.ops, medians, strict=False)]
        return {"facts": facts, "ops": ops or None, "process_peak": peak_rss_bytes()}

    def do_release(self, variant: str) -> Message:
        """Give up a variant's memory until its next request."""
        self._entries[variant].program = None
        return {}

    def do_drop(self, variant: str | None = None) -> Message:
        """Forget a variant, or the case and all that was built, and give the memory back."""
        if variant is not None:
            self._entries.pop(variant, None)
        else:
            self._entries.clear()
            self._loaded = None
            gc.unfreeze()
        give_back()
        return {}

    def do_calibrate(self, count: int) -> Message:
        """Time a fixed matrix product; null where there are no kernels."""
        return {"samples_ns": self._calibrate(count) if self._calibrate else None}

    def _program(self, variant: str) -> Program:
        return self._entries[variant].get()


def verdict_message(verdict: Verdict, prefix: str) -> Message:
    """Return the reply with a verdict; `prefix` stands before its reason."""
    fields = dataclasses.asdict(verdict)
    reason = None if verdict.reason is None else prefix + verdict.reason
    return {**fields, "reason": reason}


def limit_data(extra_bytes: int | None) -> None:
    """Let this process take `extra_bytes` beyond what it has now; no limit for None.

    RLIMIT_DATA, since an allocation beyond it fails with an error that can be caught, where memory
    that runs out ends a process. Not RLIMIT_AS: address space that is only reserved costs nothing.
    The limit that the process was started with stays the highest.
    """
    soft, hard = _INHERITED_DATA_LIMIT
    if extra_bytes is not None:
        now = process_bytes("VmData")
        if now is None:
            return
        most = now + extra_bytes
        soft = most if soft == resource.RLIM_INFINITY else min(soft, most)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def fill_libraries() -> None:
    """Make one product, after which threads and work space of the libraries are there: they belong
    to the process, and not to the case that happens to be first.

    By PyTorch where a suite has imported it, or else by our kernels.
    """
    shape = (FILL_SIZE, FILL_SIZE)
    torch = sys.modules.get("torch")
    if torch is not None:
        ones = torch.ones(shape)
        ones @ ones
    elif "ablation_kernels" in sys.modules:
        array = np.ones(shape, np.float32)
        sys.modules["ablation_kernels"].matmul(array, array, kernel="blas_parallel")


def peak_rss_bytes() -> int:
    """Return the largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(worker: Answers, requests: BinaryIO, replies: BinaryIO) -> None:
    """Answer until the parent closes the pipe; no garbage collection in between."""
    gc.disable()
    while (message := receive(requests)) is not None:
        send(replies, worker.handle(message))


def open_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes to the parent; what prints to standard output goes to standard error."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return requests, replies


def prefer_to_be_killed() -> None:
    """When memory runs out, let Linux end this process and not the bench."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def main(arguments: list[str] | None = None) -> None:
    """Serve one worker of a suite over standard input and output."""
    parser = argparse.ArgumentParser(prog="ablation_executor.bench.worker")
    parser.add_argument("--suite", required=True)
    parser.add_argument("--worker", required=True)
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args(arguments)
    requests, replies = open_pipes()
    prefer_to_be_killed()
    suite = find_suite(options.suite)
    suite.start(options.worker, options.threads)
    fill_libraries()
    calibrate: Callable[[int], list[int]] | None = None
    origins = {
        variant.origin for variant in suite.variants("cpu") if variant.worker == options.worker
    }
    if "ablation" in origins:
        from .calibration import calibrate as calibrate_kernels

        calibrate = calibrate_kernels
    serve(Worker(suite, options.worker, calibrate), requests, replies)


if __name__ == "__main__":
    main()
