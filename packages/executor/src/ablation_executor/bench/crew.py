"""The workers of one config: one per runtime, replaced when they die, asked one at a time."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from .cells import Cell, Settings
from .configs import Config
from .interrupt import signals_held
from .machine import system_kills
from .protocol import CellFailed, Message, WorkerDied, WorkerProcess, WorkerTimeout

CALIBRATION_CALLS = 10
CALIBRATION_TIMEOUT_S = 60.0
# Building, probing and checking are not the cell's own time, but must end too.
MIN_TIMEOUT_S = 60.0


class ActiveCells(Protocol):
    """Gives the cells that are still to be measured, of one runtime or of all."""

    def __call__(self, runtime: str | None = None) -> list[Cell]: ...


class FailCell(Protocol):
    """Finishes a cell without times."""

    def __call__(
        self, cell: Cell, status: str, reason: str, signal_: int | None = None
    ) -> None: ...


class DeathCauses:
    """Tells a worker that the system ended for want of memory from one that broke."""

    def __init__(self) -> None:
        self._system_kills = system_kills()

    def status_of(self, error: WorkerDied | CellFailed) -> tuple[str, int | None]:
        """The status that a failure gives its cell, and the signal that ended the worker."""
        if isinstance(error, CellFailed):
            return error.status, None
        if error.signal == signal.SIGKILL and system_kills() != self._system_kills:
            self._system_kills = system_kills()
            return "oom", error.signal
        return "error", error.signal


class Crew:
    """The workers of a config; whatever they do, it ends the cell asked about and no other."""

    def __init__(
        self,
        config: Config,
        settings: Settings,
        folder: Path,
        active: ActiveCells,
        fail: FailCell,
    ) -> None:
        self._config = config
        self._settings = settings
        self._folder = folder
        self._active = active
        self.fail = fail
        self._workers: dict[str, WorkerProcess] = {}
        self._generations: dict[str, int] = {}
        self._last_runtime: str | None = None
        self._causes = DeathCauses()

    def hire(self, runtime: str) -> None:
        """Start a runtime's worker; it loads in the background."""
        self._generations[runtime] = self._generations.get(runtime, -1) + 1
        log = self._folder / f"{runtime}-{self._generations[runtime]}.log"
        try:
            with signals_held():
                worker = WorkerProcess(runtime, self._settings.threads, log)
                self._workers[runtime] = worker
        except CellFailed as error:
            for cell in self._active(runtime):
                self.fail(cell, error.status, str(error))
            return
        request = {"config": self._config.to_dict(), "seed": self._settings.seed}
        # A worker that is dead already is found out by whoever waits for its answer.
        with contextlib.suppress(WorkerDied):
            worker.send({"request": "load", **request})

    def load_all(self) -> None:
        """Wait until every worker has loaded."""
        for runtime in list(self._workers):
            self._load(runtime)

    def _load(self, runtime: str) -> None:
        """Wait until a worker has loaded; without it, none of its cells can run."""
        try:
            self._workers[runtime].receive()
        except (WorkerDied, CellFailed) as error:
            status, signal_ = self._causes.status_of(error)
            self._workers.pop(runtime).kill()
            for cell in self._active(runtime):
                self.fail(cell, status, str(error), signal_)

    def _replace(self, runtime: str) -> None:
        """A new worker for the cells that a dead one left behind; they are built when needed."""
        self._workers.pop(runtime).kill()
        if self._active(runtime):
            self.hire(runtime)
        if runtime in self._workers:
            self._load(runtime)

    def ask(self, cell: Cell, message: Message, timeout_s: float | None = None) -> Message | None:
        """Send a request about a cell; None if that has ended the cell.

        A cell that the present worker does not know is built first. The time counts as the
        cell's own. None too for a cell that another cell's failure has ended meanwhile.
        """
        runtime, request = cell.variant.runtime, message["request"]
        if not cell.is_active or runtime not in self._workers:
            return None
        timeout_s = timeout_s or max(MIN_TIMEOUT_S, self._settings.budget_s)
        start = time.monotonic()
        try:
            worker = self._workers[runtime]
            self._settle(runtime)
            if cell.generation != self._generations[runtime]:
                build = {"request": "build", "variant": cell.variant.name}
                cell.facts = worker.request(build, max(MIN_TIMEOUT_S, self._settings.budget_s))
                cell.generation = self._generations[runtime]
                cell.is_cold = True
                if request == "build":
                    return cell.facts
            return worker.request({**message, "variant": cell.variant.name}, timeout_s)
        except CellFailed as error:
            self.fail(cell, error.status, str(error))
        except WorkerDied as error:
            status, signal_ = self._causes.status_of(error)
            self.fail(cell, status, f"{error} during {request}", signal_)
            self._replace(runtime)
        except WorkerTimeout:
            if cell.has_enough_rounds:
                cell.is_spent = True
            else:
                budget = f"the {self._settings.budget_s:g} s budget of a cell"
                self.fail(cell, "timeout", f"{request} took longer than {budget} allows")
            self._replace(runtime)
        finally:
            cell.used_s += time.monotonic() - start
        return None

    def release(self, cell: Cell) -> None:
        """Have a cell that cannot stay give up its memory."""
        if cell.is_evicted and cell.is_active:
            self.ask(cell, {"request": "release"})

    def _settle(self, runtime: str) -> None:
        """Before another runtime computes, wait until the last one's threads are parked."""
        last = self._workers.get(self._last_runtime or "")
        if last is not None and self._last_runtime != runtime:
            last.settle()
        self._last_runtime = runtime

    def calibrate(self, note: Callable[[str], None]) -> list[int] | None:
        """Times in ns of a fixed matrix product, if a worker with the kernels is there."""
        worker = self._workers.get("kernels")
        if worker is None:
            return None
        self._settle("kernels")
        request = {"request": "calibrate", "count": CALIBRATION_CALLS}
        try:
            samples: list[int] | None = worker.request(request, CALIBRATION_TIMEOUT_S)["samples_ns"]
        except (WorkerDied, WorkerTimeout, CellFailed) as error:
            note(f"calibration failed: {error}")
            self._replace("kernels")
            return None
        return samples if samples and min(samples) > 0 else None

    def close(self) -> None:
        """End every worker."""
        with signals_held():
            for worker in self._workers.values():
                worker.kill()
            self._workers.clear()
