"""Messages between the bench and its workers: JSON with a four-byte length, over pipes."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from . import children
from .machine import thread_time_ns

Message = dict[str, Any]

_LENGTH = struct.Struct("<I")
THREAD_VARIABLES = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    "VECLIB_MAXIMUM_THREADS",
    # XLA sizes its pool by it
    "NPROC",
)
# Replaces the worker's command, for tests that need a worker that fails on purpose.
WORKER_VARIABLE = "ABLATION_BENCH_WORKER"

# Idle threads of OpenMP spin for about 10 ms after a call, those of NumPy's OpenBLAS for 100 ms.
# Linux adds to a running thread's time at its ticks, up to 10 ms apart.
SETTLE_POLL_S = 0.011
SETTLE_LIMIT_S = 0.5
SETTLED_NS = 200_000

# A worker whose pipe has ended ends soon, or hangs in what a library does at the end.
END_LIMIT_S = 10.0

# A turn of short calls begins with so much of them uncounted: time for clocks to rise, and for the
# scheduler to move a thread that woke on the core of the one that woke it.
SETTLE_CALLS_NS = 10_000_000


class WorkerDied(Exception):
    """The worker's process ended; `signal` is the one that ended it, or None."""

    def __init__(self, returncode: int, tail: str) -> None:
        self.signal = -returncode if returncode < 0 else None
        if self.signal is not None:
            how = f"killed by signal {self.signal} ({signal.Signals(self.signal).name})"
        else:
            how = f"ended with status {returncode}"
        super().__init__(f"worker {how}{': ' + tail if tail else ''}")


class WorkerTimeout(Exception):
    """The worker gave no answer in time."""


class RequestFailed(Exception):
    """The worker answered that a request failed; `status` is the row's status."""

    def __init__(self, status: str, reason: str) -> None:
        self.status = status
        super().__init__(reason)


def send(stream: BinaryIO, message: Message) -> None:
    """Write one message and flush."""
    data = json.dumps(message, separators=(",", ":")).encode()
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> Message | None:
    """Read one message; None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    message: Message = json.loads(stream.read(length))
    return message


def thread_variables(threads: int) -> dict[str, str]:
    """The environment variables by which libraries size their pools."""
    return dict.fromkeys(THREAD_VARIABLES, str(threads))


def worker_command(suite: str, worker: str, threads: int) -> list[str]:
    """Return the command line of a worker."""
    replaced = os.environ.get(WORKER_VARIABLE)
    what = [replaced] if replaced else ["-m", f"{__package__}.worker"]
    names = ["--suite", suite, "--worker", worker, "--threads", str(threads)]
    return [sys.executable, *what, *names]


class WorkerProcess:
    """One worker, in a process group of its own so that Ctrl-C reaches only the bench."""

    def __init__(
        self,
        suite: str,
        worker: str,
        threads: int,
        log: Path,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        """Start it, with `variables` besides those of this process.

        Raises RequestFailed if the system does not let it start.
        """
        self._log = log
        given = {**thread_variables(threads), **(variables or {})}
        command = worker_command(suite, worker, threads)
        try:
            with log.open("wb") as errors:
                self._process = children.start(
                    command, given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
                )
        except OSError as error:
            text = f"the {worker} worker could not be started: {error.strerror or error}"
            raise RequestFailed("error", text) from None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def descriptor(self) -> int:
        """The descriptor that has data when the worker has answered, or has gone."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def send(self, message: Message) -> None:
        """Send a request; raises WorkerDied if the worker has gone."""
        assert self._process.stdin is not None
        try:
            data = json.dumps(message, separators=(",", ":")).encode()
            self._process.stdin.write(_LENGTH.pack(len(data)) + data)
        except BrokenPipeError:
            raise self._died() from None

    def receive(self, timeout_s: float | None = None) -> Message:
        """Wait for the reply; raises WorkerDied, WorkerTimeout (the worker is killed) or
        RequestFailed."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        reply: Message = json.loads(self._read(length, deadline))
        if "failed" in reply:
            raise RequestFailed(reply["failed"], reply["reason"])
        return reply

    def request(self, message: Message, timeout_s: float | None = None) -> Message:
        """Send and wait for the reply."""
        self.send(message)
        return self.receive(timeout_s)

    def _read(self, count: int, deadline: float | None) -> bytes:
        descriptor = self.descriptor
        parts = bytearray()
        while len(parts) < count:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready, _, _ = select.select([descriptor], [], [], left)
            if not ready:
                self.kill()
                raise WorkerTimeout
            part = os.read(descriptor, count - len(parts))
            if not part:
                raise self._died()
            parts += part
        return bytes(parts)

    def _died(self) -> WorkerDied:
        return WorkerDied(children.ended(self._process, END_LIMIT_S), self._tail())

    def _tail(self) -> str:
        try:
            lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1][:300] if lines else ""

    def settle(self) -> None:
        """Sleep until the worker's idle threads have stopped spinning.

        Where thread times cannot be read, long enough for OpenMP.
        """
        deadline = time.monotonic() + SETTLE_LIMIT_S
        before = thread_time_ns(self.pid)
        while time.monotonic() < deadline:
            time.sleep(SETTLE_POLL_S)
            now = thread_time_ns(self.pid)
            if now is None or before is None or now - before < SETTLED_NS:
                return
            before = now

    def kill(self) -> None:
        """End the process and what it has started now, and reap it."""
        children.end(self._process)
        self._close_pipes()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
