"""The workers of a suite and number of threads: replaced when they die, asked one at a time."""

from __future__ import annotations

import contextlib
import re
import select
import signal
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from ablation_report.rows import REASONS

from .case import Case
from .interrupt import signals_held
from .machine import system_kills
from .protocol import Message, RequestFailed, WorkerDied, WorkerProcess, WorkerTimeout

CALIBRATION_CALLS = 10
# Loading imports a framework and makes the inputs; references are float64, and a compiler may take
# its time. None of that is the row's own time, but must end too.
LOAD_TIMEOUT_S, CHECK_TIMEOUT_S, BUILD_TIMEOUT_S = 600.0, 300.0, 600.0
SHORT_TIMEOUT_S = 60.0
_CLASS = re.compile(r"[A-Za-z_][\w.]*")
_TIMEOUTS = {"first": "first_call", "compile": "compile", "build": "compile"}


class Failed(Exception):
    """A request that gave no result: status and reason code of the row, the text, a signal.

    `is_shared` is True where it ends every variant of the worker.
    """

    def __init__(self, status: str, reason: str, text: str, signal: int | None = None) -> None:
        self.status = status
        self.reason = reason
        self.signal = signal
        self.is_shared = False
        super().__init__(text)


class Crew:
    """Workers by name; one that dies or hangs is replaced when it is next asked.

    A worker loads the case of `begin` when it is first asked, or by `hire` in the background.
    `generation` counts the loads of a worker: what was built before is gone.
    """

    def __init__(
        self,
        suite: str,
        threads: int,
        folder: Path,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._suite = suite
        self._threads = threads
        self._folder = folder
        self._variables = variables or {}
        self._kills = system_kills()
        self._last: str | None = None
        self._hired = 0
        self._workers: dict[str, WorkerProcess] = {}
        # The workers that have been sent the case, and those whose answer is still to come.
        self._loaded: set[str] = set()
        self._loading: set[str] = set()
        self._generations: dict[str, int] = {}
        self._load: Message = {}

    def begin(self, case: Case, seed: int, limit_bytes: int | None) -> None:
        """Have workers load this case from now on, under a limit of memory."""
        self._load = {
            "request": "load",
            "case": case.label,
            "seed": seed,
            "limit_bytes": limit_bytes,
        }
        self._loaded.clear()

    def generation(self, name: str) -> int:
        """Return the number of a worker's load; -1 where none is there."""
        return self._generations.get(name, -1) if name in self._loaded else -1

    def hire(self, name: str) -> None:
        """Start a worker that is not there yet, and have it load in the background.

        One that cannot, says so when it is first asked.
        """
        with contextlib.suppress(RequestFailed, WorkerDied):
            self._send_load(name)

    def _send_load(self, name: str) -> None:
        if name not in self._workers:
            self._hired += 1
            log = self._folder / f"{name}-{self._threads}-{self._hired}.log"
            with signals_held():
                self._workers[name] = WorkerProcess(
                    self._suite, name, self._threads, log, self._variables
                )
        self._generations[name] = self._generations.get(name, -1) + 1
        self._loaded.add(name)
        self._loading.add(name)
        self._workers[name].send(self._load)

    def load(self, name: str) -> None:
        """Wait until a worker has loaded the case; raises Failed, which ends all its variants."""
        try:
            self._guarded(name, "load", LOAD_TIMEOUT_S, lambda: self._await_load(name))
        except Failed as failed:
            failed.is_shared = True
            self.dismiss(name)
            raise

    def _await_load(self, name: str) -> Message:
        if name not in self._loaded:
            self._send_load(name)
        if name in self._loading:
            self._loading.discard(name)
            self._workers[name].receive(LOAD_TIMEOUT_S)
        return {}

    def ask(self, name: str, message: Message, timeout_s: float) -> Message:
        """Send a request to a worker that has loaded the case, and wait; raises Failed."""
        self.load(name)
        self._settle(name)
        worker = self._workers[name]
        return self._guarded(
            name, message["request"], timeout_s, lambda: worker.request(message, timeout_s)
        )

    def ask_at_once(
        self, messages: Mapping[str, Sequence[Message]], timeout_s: float
    ) -> dict[str, list[Message]]:
        """Send workers that are there their requests, one after another each and all at once.

        Returns:
            The replies of each worker, up to the first request that failed.
        """
        waiting = {name: list(own) for name, own in messages.items()}
        replies: dict[str, list[Message]] = {name: [] for name in messages}
        for name in messages:
            self._send_next(name, waiting)
        while waiting:
            descriptors = {self._workers[name].descriptor: name for name in waiting}
            ready, _, _ = select.select(list(descriptors), [], [], timeout_s)
            # If none answers in time, none of them does
            left_s = timeout_s if ready else 0.0
            for name in [descriptors[descriptor] for descriptor in ready or descriptors]:
                worker, message = self._workers[name], waiting[name].pop(0)
                receive = partial(worker.receive, left_s)
                try:
                    reply = self._guarded(name, message["request"], timeout_s, receive)
                except Failed:
                    del waiting[name]
                else:
                    replies[name].append(reply)
                    self._send_next(name, waiting)
        return replies

    def _send_next(self, name: str, waiting: dict[str, list[Message]]) -> None:
        """Send a worker its next request; without one, or if it has gone, it waits no longer."""
        worker = self._workers[name]
        try:
            if waiting[name]:
                message = waiting[name][0]
                worker.send(message)
                return
        except WorkerDied:
            self.dismiss(name)
        del waiting[name]

    def _guarded(
        self, name: str, request: str, timeout_s: float, ask: Callable[[], Message]
    ) -> Message:
        try:
            return ask()
        except RequestFailed as error:
            raise Failed(error.status, reason_of(error.status, str(error)), str(error)) from None
        except WorkerDied as error:
            self.dismiss(name)
            raise self._death(error, request) from None
        except WorkerTimeout:
            self.dismiss(name)
            text = f"{request} took longer than {timeout_s:g} s; the process was ended"
            raise Failed("timeout", _TIMEOUTS.get(request, "budget"), text) from None

    def _death(self, error: WorkerDied, request: str) -> Failed:
        """Say how a worker ended; one that the system ended for want of memory did not break."""
        text = f"{error} during {request}"
        if error.signal is None:
            return Failed("error", "ended", text)
        if error.signal == signal.SIGKILL and system_kills() != self._kills:
            self._kills = system_kills()
            return Failed("oom", "killed", text, error.signal)
        return Failed("error", signal.Signals(error.signal).name, text, error.signal)

    def dismiss(self, name: str) -> None:
        """End a worker, if it is there."""
        with signals_held():
            worker = self._workers.pop(name, None)
            if worker is not None:
                worker.kill()
        self._loaded.discard(name)
        self._loading.discard(name)
        if self._last == name:
            self._last = None

    def _settle(self, name: str) -> None:
        """Before another worker computes, wait until the last one's threads are parked."""
        last = self._workers.get(self._last or "")
        if last is not None and self._last != name:
            last.settle()
        self._last = name

    def settle_all(self) -> None:
        """Wait until the threads of all workers are parked."""
        for worker in list(self._workers.values()):
            worker.settle()
        self._last = None

    def calibrate(self, name: str, note: Callable[[str], None]) -> list[int] | None:
        """Return times in ns of a fixed matrix product in a worker of our kernels; None if it
        fails."""
        request = {"request": "calibrate", "count": CALIBRATION_CALLS}
        try:
            samples: list[int] | None = self.ask(name, request, SHORT_TIMEOUT_S)["samples_ns"]
        except Failed as failed:
            note(f"calibration failed: {failed}")
            return None
        return samples if samples and min(samples) > 0 else None

    def drop_all(self) -> None:
        """Have every worker forget its case; one that does not, ends."""
        for name in list(self._workers):
            if name in self._loaded:
                try:
                    self.ask(name, {"request": "drop"}, SHORT_TIMEOUT_S)
                except Failed:
                    self.dismiss(name)
        self._loaded.clear()

    def close(self) -> None:
        """End every worker."""
        for name in list(self._workers):
            self.dismiss(name)


def reason_of(status: str, text: str) -> str:
    """Return the reason code of a failure that a worker reported, "Class: message"."""
    if status == "oom":
        return "cuda_oom" if "CUDA" in text else "alloc_failed"
    if status == "unsupported":
        code = text.partition(": ")[2].partition(":")[0].strip()
        return code if code in REASONS["unsupported"] else "refused"
    found = _CLASS.match(text)
    return found.group() if found else "failed"
