"""The study of warm-up: each sample is a call of a new process, after a known number of calls.

What a first call pays for (threads, caches of libraries, pages never touched, an optimizer without
state) is paid once in a process; so every sample has one of its own. Processes are forked from one
that has PyTorch loaded and has computed nothing.
"""

from __future__ import annotations

import gc
import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from ...case import Case
from ...suite import Program, Verdict
from ...timing import timed_calls
from .program import StepProgram


class FreshProgram(Program):
    """A program whose every call is made by a new process, warmed up by the case's
    `study_warmup` calls. A sample has the round trip between the processes in it."""

    def __init__(self, attention: str, case: Case, seed: int) -> None:
        self._arguments = (attention, case, seed)
        self._count = int(case.get("study_warmup"))
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([StepProgram.__module__])
        self._child: Any = None
        self._calls_ns: dict[str, list[list[int]]] = {}

    def _program(self) -> StepProgram:
        """The program that the processes run."""
        attention, case, seed = self._arguments
        return StepProgram(attention, False, case, seed)

    def probe(self) -> Verdict:
        """Those of the program."""
        return self._program().probe()

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """That of the program."""
        return self._program().check(phases, None)

    def prepare(self, phase: str) -> Connection:
        """A new process, ready for its call."""
        self._reap()
        ours, theirs = self._context.Pipe()
        arguments = (theirs, *self._arguments, phase, self._count, torch.get_num_threads())
        self._child = self._context.Process(target=serve_call, args=arguments, daemon=True)
        self._child.start()
        theirs.close()
        ours.recv()
        return ours

    def call(self, phase: str, prepared: Connection) -> None:
        """One call, there."""
        prepared.send(None)
        self._calls_ns.setdefault(phase, []).append(prepared.recv())

    def _reap(self) -> None:
        if self._child is not None:
            self._child.join()

    def start_timing(self, phase: str) -> None:
        """Forget the processes so far."""
        self._calls_ns.pop(phase, None)

    def facts(self, phase: str) -> dict[str, Any]:
        """Of every process the times of its calls by its own clock, in their order."""
        return {"details": {"calls_ns": self._calls_ns.get(phase)}}


def serve_call(
    pipe: Connection,
    attention: str,
    case: Case,
    seed: int,
    phase: str,
    count: int,
    threads: int,
) -> None:
    """Make `count` calls, say that they are done, make one more when asked to, send all times."""
    torch.set_num_threads(threads)
    program = StepProgram(attention, False, case, seed)
    gc.disable()
    before_ns, _ = timed_calls(program, phase, count, None)
    pipe.send(None)
    pipe.recv()
    last_ns, _ = timed_calls(program, phase, 1, None)
    pipe.send(before_ns + last_ns)
