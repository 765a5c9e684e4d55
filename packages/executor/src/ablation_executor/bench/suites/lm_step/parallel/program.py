"""The program of data parallel training: processes of this machine, asked step by step."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import torch

from ....case import Case
from ....suite import Program, Verdict
from ..program import PARTS
from .processes import failed, start, stop
from .rank import CHECK, STEP, details_of

START_TIMEOUT_S, REPLY_TIMEOUT_S = 120.0, 600.0


class ParallelProgram(Program):
    """So many processes, asked from outside for one step at a time. A sample has the round trip
    to them in it, and ends when the slowest has ended."""

    is_traced = False

    def __init__(self, world_size: int, case: Case, seed: int) -> None:
        self._exit = contextlib.ExitStack()
        self._case, self._size = case, world_size
        if case.device == "cuda" and torch.cuda.device_count() < world_size:
            found = torch.cuda.device_count()
            raise NotImplementedError(f"no_cuda: {found} GPUs for {world_size} processes")
        self._parts: dict[str, list[int]] = {name: [] for name in PARTS}
        folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="ablation-")))
        self._start(folder, seed)

    def _start(self, folder: Path, seed: int) -> None:
        control, log = folder / "control", folder / "log"
        server = self._exit.enter_context(socket.socket(socket.AF_UNIX))
        server.bind(str(control))
        server.listen(1)
        server.settimeout(1.0)
        errors = self._exit.enter_context(log.open("wb"))
        case = json.dumps(self._case.to_dict())
        arguments = ["--case", case, "--seed", str(seed), "--control", str(control)]
        processes = start(self._size, arguments, self._case.threads, folder / "store", errors)
        self._exit.callback(stop, processes)
        channel = self._exit.enter_context(accept(server, processes, log))
        channel.settimeout(REPLY_TIMEOUT_S)
        self._requests = self._exit.enter_context(channel.makefile("w"))
        self._replies = self._exit.enter_context(channel.makefile("r"))

    def __del__(self) -> None:
        """The end of the connection ends the processes."""
        self._exit.close()

    def _ask(self, command: int, argument: int = 0) -> dict[str, Any]:
        self._requests.write(json.dumps([command, argument]) + "\n")
        self._requests.flush()
        line = self._replies.readline()
        if not line:
            raise RuntimeError("the processes ended during a request")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def probe(self) -> Verdict:
        """Another batch than the one that is timed."""
        return Verdict(**self._ask(CHECK, 1))

    def check(self, phases: Sequence[str], reference: Path | None) -> Verdict:
        """Gradients against those of one process with the joined batch."""
        return Verdict(**self._ask(CHECK, 0))

    def call(self, phase: str, prepared: Any) -> None:
        """One step of all processes."""
        for name, passed in self._ask(STEP).items():
            self._parts[name].append(passed)

    def start_timing(self, phase: str) -> None:
        """Forget the parts of earlier steps."""
        self._parts = {name: [] for name in PARTS}

    def facts(self, phase: str) -> dict[str, Any]:
        """How many processes, and the parts of every step since the timing began, by the clock of
        the first one."""
        return {"details": {**details_of(self._case, self._size), "parts_ns": self._parts}}


def accept(
    server: socket.socket, processes: Sequence[subprocess.Popen[bytes]], log: Path
) -> socket.socket:
    """The connection of the first process; RuntimeError if there is none in time."""
    deadline = monotonic() + START_TIMEOUT_S
    while monotonic() < deadline:
        with contextlib.suppress(TimeoutError):
            return server.accept()[0]
        status = failed(processes)
        if status is not None:
            tail = log.read_text(errors="replace").strip()[-500:]
            raise RuntimeError(f"a process ended with status {status}: {tail}")
    raise RuntimeError(f"the processes were not ready after {START_TIMEOUT_S:g} s")
