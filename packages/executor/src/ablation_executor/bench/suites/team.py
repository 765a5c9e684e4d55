"""The workers of one suite and number of threads: one for each implementation, asked one at a
time."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterable
from pathlib import Path

from ..crew import CALIBRATION_CALLS, CALIBRATION_TIMEOUT_S, DeathCauses
from ..interrupt import signals_held
from ..protocol import CellFailed, Message, WorkerDied, WorkerProcess, WorkerTimeout
from . import memory
from .rows import REASONS

MODULE = "suites.worker"
_CLASS = re.compile(r"[A-Za-z_][\w.]*")


class Failed(Exception):
    """A request that gave no result: status and reason code of the row, the text, a signal."""

    def __init__(self, status: str, reason: str, text: str, signal: int | None = None) -> None:
        self.status = status
        self.reason = reason
        self.signal = signal
        super().__init__(text)


class Team:
    """Workers that outlive a case; one that dies or hangs is replaced when it is next asked.

    `generation` counts the workers that an implementation has had: what an earlier one has loaded
    is gone.
    """

    def __init__(self, suite: str, threads: int, folder: Path, measures_memory: bool) -> None:
        self._suite = suite
        self._threads = threads
        self._folder = folder
        self._variables = memory.environment() if measures_memory else {}
        self._kind = "memory" if measures_memory else "time"
        self._causes = DeathCauses()
        self._last: str | None = None
        self._workers: dict[str, WorkerProcess] = {}
        self._generations: dict[str, int] = {}

    def hire(self, names: Iterable[str]) -> None:
        """Start the workers that are not there yet; they import in the background.

        One that cannot be started is told of when it is first asked.
        """
        for name in names:
            with contextlib.suppress(CellFailed):
                self._hire(name)

    def _hire(self, name: str) -> None:
        """Start a worker if it is not there yet; CellFailed if it cannot be started."""
        if name in self._workers:
            return
        number = self._generations[name] = self._generations.get(name, 0) + 1
        log = self._folder / f"{self._kind}-{name}-{self._threads}-{number}.log"
        with signals_held():
            self._workers[name] = WorkerProcess(
                f"{self._suite}/{name}", self._threads, log, MODULE, self._variables
            )

    def generation(self, name: str) -> int:
        """Which worker of an implementation is there now, counted from 1; 0 before any."""
        return self._generations.get(name, 0) if name in self._workers else 0

    def ask(self, name: str, message: Message, timeout_s: float) -> Message:
        """Send a request and wait for the reply; Failed when there is none, or one that tells of
        a failure."""
        self._settle(name)
        request = message["request"]
        try:
            self._hire(name)
            return self._workers[name].request(message, timeout_s)
        except CellFailed as error:
            raise Failed(error.status, reason_of(error.status, str(error)), str(error)) from None
        except WorkerDied as error:
            status, number = self._causes.status_of(error)
            self.dismiss(name)
            reason = "killed" if status == "oom" else "ended"
            if status == "error" and number is not None:
                reason = signal.Signals(number).name
            raise Failed(status, reason, f"{error} during {request}", number) from None
        except WorkerTimeout:
            self.dismiss(name)
            reason = {"first": "first_call", "compile": "compile"}.get(request, "budget")
            text = f"{request} took longer than {timeout_s:g} s; the process was ended"
            raise Failed("timeout", reason, text) from None

    def dismiss(self, name: str) -> None:
        """End a worker, if it is there."""
        with signals_held():
            worker = self._workers.pop(name, None)
            if worker is not None:
                worker.kill()
        if self._last == name:
            self._last = None

    def _settle(self, name: str) -> None:
        """Before another worker computes, wait until the last one's threads are parked."""
        last = self._workers.get(self._last or "")
        if last is not None and self._last != name:
            last.settle()
        self._last = name

    def calibrate(self, name: str) -> list[int] | None:
        """Times in ns of a fixed matrix product in a worker of our kernels; None if it fails."""
        request = {"request": "calibrate", "count": CALIBRATION_CALLS}
        with contextlib.suppress(Failed):
            samples: list[int] | None = self.ask(name, request, CALIBRATION_TIMEOUT_S)["samples_ns"]
            return samples if samples and min(samples) > 0 else None
        return None

    def close(self) -> None:
        """End every worker."""
        for name in list(self._workers):
            self.dismiss(name)


def reason_of(status: str, text: str) -> str:
    """The reason code of a failure that a worker told in words, "Class: message"."""
    if status == "oom":
        return "cuda_oom" if "CUDA" in text else "alloc_failed"
    if status == "unsupported":
        code = text.partition(": ")[2].partition(":")[0].strip()
        return code if code in REASONS["unsupported"] else "refused"
    found = _CLASS.match(text)
    return found.group() if found else "failed"
