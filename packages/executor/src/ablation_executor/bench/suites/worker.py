"""One worker: a process that checks and times one implementation of a suite, or measures its
memory, on request."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import resource
import sys
from collections.abc import Callable
from time import perf_counter_ns, process_time_ns
from typing import Any

import numpy as np

from ..memory_room import process_bytes
from ..protocol import SETTLE_CALLS_NS, Message
from ..worker import Answers, open_pipes, prefer_to_be_killed, serve
from .case import Case
from .memory import give_back
from .suite import Program, Suite, Verdict, find_suite

FILL_SIZE = 512
_INHERITED_DATA_LIMIT = resource.getrlimit(resource.RLIMIT_DATA)


def limit_data(extra_bytes: int | None) -> None:
    """Let this process take `extra_bytes` beyond what it has now; no limit for None.

    RLIMIT_DATA, since an allocation beyond it fails with an error that can be told, where memory
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
    """One product, after which threads and work space of the libraries are there: they belong to
    the process, and not to the case that happens to be first.

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


class SuiteWorker(Answers):
    """Answers for one implementation; a case is loaded, checked, warmed up, timed and dropped."""

    def __init__(
        self, suite: Suite, implementation: str, calibrate: Callable[[int], list[int]] | None
    ) -> None:
        self._suite = suite
        self._implementation = implementation
        self._calibrate = calibrate
        self._program: Program | None = None

    def do_load(self, case: dict[str, Any], seed: int, limit_bytes: int | None) -> Message:
        """Make the program of a case, with its inputs, under a limit of memory."""
        self.do_drop()
        limit_data(limit_bytes)
        self._program = self._suite.load(self._implementation, Case.from_dict(case), seed)
        gc.collect()
        return {}

    def do_compile(self) -> Message:
        """Compile, and the time of that."""
        start = perf_counter_ns()
        self._loaded().compile()
        return {"compile_ns": perf_counter_ns() - start}

    def do_first(self, phase: str) -> Message:
        """The first call of a phase, timed."""
        samples, _ = timed_calls(self._loaded(), phase, 1, None)
        return {"first_call_ns": samples[0]}

    def do_probe(self) -> Message:
        """The small cases that are hard to get right."""
        return verdict_message(self._loaded().probe(), "probe: ")

    def do_check(self, phases: list[str]) -> Message:
        """The case's own outputs against the reference."""
        verdict = self._loaded().check(phases)
        gc.collect()
        return verdict_message(verdict, "")

    def do_warm(self, phase: str, count: int, least_ns: int, limit_ns: int) -> Message:
        """At least `count` calls and `least_ns` of them, unless they take longer than `limit_ns`;
        their times only choose how a turn is made."""
        program, samples = self._loaded(), []
        start = perf_counter_ns()
        while True:
            samples += timed_calls(program, phase, 1, None)[0]
            spent = perf_counter_ns() - start
            if spent > limit_ns or (len(samples) >= count and spent >= least_ns):
                return {"samples_ns": samples}

    def do_start(self, phase: str) -> Message:
        """The next calls of a phase count."""
        self._loaded().start_timing(phase)
        return {}

    def do_turn(self, phase: str, discard: int, count: int, limit_ns: int) -> Message:
        """A turn: discarded calls, then timed calls until the limit."""
        program = self._loaded()
        settle_calls(program, phase, discard)
        samples, cpu = timed_calls(program, phase, count, limit_ns)
        return {"samples_ns": samples, "cpu_ns": cpu, "event_ns": program.event_ns(phase)}

    def do_memory(self, phase: str) -> Message:
        """Columns mem_* of a phase."""
        return self._loaded().memory(phase)

    def do_finish(self, phase: str) -> Message:
        """What the program tells of a phase after its last call."""
        return self._loaded().facts(phase)

    def do_drop(self) -> Message:
        """Forget the case, and give its memory back."""
        self._program = None
        give_back()
        return {}

    def do_calibrate(self, count: int) -> Message:
        """Times of a fixed matrix product; null where there are no kernels."""
        return {"samples_ns": self._calibrate(count) if self._calibrate else None}

    def _loaded(self) -> Program:
        if self._program is None:
            raise RuntimeError("no case is loaded")
        return self._program


def verdict_message(verdict: Verdict, prefix: str) -> Message:
    """The reply that tells a verdict; `prefix` stands before its reason."""
    fields = dataclasses.asdict(verdict)
    reason = None if verdict.reason is None else prefix + verdict.reason
    return {**fields, "reason": reason}


def timed_calls(
    program: Program, phase: str, count: int, limit_ns: int | None
) -> tuple[list[int], list[int]]:
    """Wall and processor time in ns of up to `count` calls, stopping after the one that passes the
    limit.

    What a call needs is made, and its result dropped, outside the clock. Processor time is that of
    all threads, waiting ones that spin included.
    """
    samples: list[int] = []
    cpu: list[int] = []
    spent = 0
    while len(samples) < count and (limit_ns is None or spent < limit_ns):
        prepared = program.prepare(phase)
        program.synchronize()
        cpu_start = process_time_ns()
        start = perf_counter_ns()
        result = program.call(phase, prepared)
        program.synchronize()
        elapsed = perf_counter_ns() - start
        cpu.append(process_time_ns() - cpu_start)
        del result, prepared
        samples.append(elapsed)
        spent += elapsed
    return samples, cpu


def settle_calls(program: Program, phase: str, count: int) -> None:
    """`count` calls that are not counted, or as many as fill SETTLE_CALLS_NS; none if it is 0."""
    start = perf_counter_ns()
    done = 0
    while done < count or (count > 0 and perf_counter_ns() - start < SETTLE_CALLS_NS):
        timed_calls(program, phase, 1, None)
        done += 1


def main(arguments: list[str] | None = None) -> None:
    """Serve one implementation over standard input and output."""
    parser = argparse.ArgumentParser(prog="ablation_executor.bench.suites.worker")
    parser.add_argument("--runtime", required=True, help="suite/implementation")
    parser.add_argument("--threads", type=int, required=True)
    options = parser.parse_args(arguments)
    requests, replies = open_pipes()
    prefer_to_be_killed()
    name, _, implementation = options.runtime.partition("/")
    suite = find_suite(name)
    suite.start(implementation, options.threads)
    fill_libraries()
    calibrate: Callable[[int], list[int]] | None = None
    origins = {way.name: way.origin for way in suite.implementations("cpu")}
    if origins.get(implementation) == "ablation":
        from ..calibration import calibrate as calibrate_kernels

        calibrate = calibrate_kernels
    serve(SuiteWorker(suite, implementation, calibrate), requests, replies)


if __name__ == "__main__":
    main()
