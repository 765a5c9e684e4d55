"""The workers of one number of threads: one for each implementation, asked one at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ..crew import CALIBRATION_CALLS, CALIBRATION_TIMEOUT_S, DeathCauses
from ..protocol import CellFailed, Message, WorkerDied, WorkerProcess, WorkerTimeout

MODULE = "attention.worker"


class Failed(Exception):
    """An implementation cannot be measured in this case: its status, the reason, a signal."""

    def __init__(self, status: str, reason: str, signal: int | None = None) -> None:
        self.status = status
        self.signal = signal
        super().__init__(reason)


class Team:
    """Workers that outlive a case; one that dies or hangs is replaced when it is next asked."""

    def __init__(self, names: Sequence[str], threads: int, folder: Path) -> None:
        self._threads = threads
        self._folder = folder
        self._hired = 0
        self._causes = DeathCauses()
        self._last: str | None = None
        self._workers = {name: self._hire(name) for name in names}

    def _hire(self, name: str) -> WorkerProcess:
        self._hired += 1
        log = self._folder / f"{name}-{self._threads}-{self._hired}.log"
        return WorkerProcess(name, self._threads, log, MODULE)

    def ask(self, name: str, message: Message, timeout_s: float) -> Message:
        """Send a request and wait for the reply; Failed when there is none, or one that tells of
        a failure."""
        self._settle(name)
        try:
            return self._workers[name].request(message, timeout_s)
        except CellFailed as error:
            raise Failed(error.status, str(error)) from None
        except WorkerDied as error:
            status, signal_ = self._causes.status_of(error)
            self._replace(name)
            raise Failed(status, f"{error} during {message['request']}", signal_) from None
        except WorkerTimeout:
            self._replace(name)
            reason = f"{message['request']} took longer than {timeout_s:g} s"
            raise Failed("timeout", reason) from None

    def _replace(self, name: str) -> None:
        self._workers[name].kill()
        self._workers[name] = self._hire(name)

    def _settle(self, name: str) -> None:
        """Before another worker computes, wait until the last one's threads are parked."""
        if self._last is not None and self._last != name:
            self._workers[self._last].settle()
        self._last = name

    def calibrate(self, name: str) -> list[int] | None:
        """Times in ns of a fixed matrix product in a worker of our kernels; None if it fails."""
        request = {"request": "calibrate", "count": CALIBRATION_CALLS}
        with contextlib.suppress(Failed):
            samples: list[int] | None = self.ask(name, request, CALIBRATION_TIMEOUT_S)["samples_ns"]
            return samples
        return None

    def close(self) -> None:
        """End every worker."""
        for worker in self._workers.values():
            worker.kill()
