"""One config from start to rows: workers, memory, check, and interleaved rounds.

Only one worker computes at a time; the bench itself sleeps in a read meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ..variants import Variant
from . import children
from .baselines import missing_reason, weights_copies
from .cells import Cell, RunIdentity, Settings, to_row
from .check import reference_bytes
from .configs import Config
from .crew import Crew
from .interrupt import signals_held
from .memory_room import gibibytes, memory_room
from .progress import Progress
from .protocol import thread_variables
from .record import utc_now
from .rounds import Rounds
from .run_reading import Row

# A process that has imported torch, or our wheel and torch for the export, without any model.
PROCESS_BYTES = 400 << 20


def place_cells(cells: Sequence[Cell], room: int) -> Iterator[tuple[Cell, int | None]]:
    """Mark as evicted the largest cells until all fit, and give those that cannot be as they are.

    All resident memory and the largest passing need have to fit in `room` bytes; an evicted
    cell's memory passes. Gives (cell, None) for an evicted cell, and (cell, bytes it needs) for
    one that does not fit even alone.
    """

    def resident(cell: Cell) -> int:
        return int(cell.facts["resident_bytes"])

    def alone(cell: Cell) -> int:
        return resident(cell) + int(cell.facts["transient_bytes"])

    placed = [cell for cell in cells if alone(cell) <= room]
    for cell in cells:
        if alone(cell) > room:
            yield cell, alone(cell)
    for cell in sorted(placed, key=resident, reverse=True):
        staying = sum(resident(other) for other in placed if not other.is_evicted)
        passing = max(
            alone(other) if other.is_evicted else int(other.facts["transient_bytes"])
            for other in placed
        )
        if staying + passing <= room:
            return
        cell.is_evicted = True
        yield cell, None


class ConfigRun:
    """Measures the given variants of one config."""

    def __init__(
        self,
        config: Config,
        variants: Sequence[Variant],
        settings: Settings,
        identity: RunIdentity,
        write: Callable[[Sequence[Row]], None],
        progress: Progress,
    ) -> None:
        self._config = config
        self._cells = [Cell(variant) for variant in variants]
        self._settings = settings
        self._identity = identity
        self._write = write
        self._progress = progress
        self._reference: subprocess.Popen[bytes] | None = None
        self._calibration_before: list[int] | None = None
        # Processes and their weights.
        self._resident_bytes = 0
        self._room = memory_room(settings.memory_limit_bytes)

    def run(self) -> None:
        """Measure; every cell ends as one written row.

        What cuts it short leaves rows of the cells whose samples can stand, and none of the others.
        """
        scratch = children.scratch_folder()
        with tempfile.TemporaryDirectory(prefix="config-", dir=scratch) as folder:
            self._folder = Path(folder)
            self._crew = Crew(self._config, self._settings, self._folder, self._active, self._fail)
            try:
                self._start()
                self._check()
                if self._active():
                    self._calibration_before = self._crew.calibrate(self._progress.note)
                    rounds = Rounds(
                        self._config, self._cells, self._settings, self._crew, self._progress
                    )
                    rounds.warm_up()
                    rounds.run()
                    self._finish()
            except BaseException:
                # An interruption, a disk that is full, or a fault of the bench
                self._keep()
                raise
            finally:
                self._stop()

    def _active(self, runtime: str | None = None) -> list[Cell]:
        return [
            cell
            for cell in self._cells
            if cell.is_active and (runtime is None or cell.variant.runtime == runtime)
        ]

    def _fail(self, cell: Cell, status: str, reason: str, signal_: int | None = None) -> None:
        """Finish a cell without times and write its row at once."""
        with signals_held():
            cell.fail(status, reason, signal_)
            self._record([cell], None)

    def _record(self, cells: Sequence[Cell], calibration_after: list[int] | None) -> None:
        before = self._calibration_before
        rows = [
            to_row(cell, self._config, self._identity, before, calibration_after) for cell in cells
        ]
        self._write(rows)
        for row in rows:
            self._progress.finished(row)

    # Start: reference, workers, builds, memory.

    def _refuse_missing(self) -> None:
        """A runtime that is not installed starts no worker; its row tells how to install it."""
        for cell in self._active():
            reason = missing_reason(cell.variant.runtime)
            if reason is not None:
                self._fail(cell, "unsupported", reason)

    def _start(self) -> None:
        config = self._config
        self._refuse_missing()
        if not self._active():
            return
        self._progress.stage(config.name, "reference")
        needed = reference_bytes(config)
        if needed > self._room.bytes:
            for cell in self._active():
                cell.predicted_bytes = needed
                cell.available_bytes = self._room.bytes
                self._fail(cell, "oom", self._shortage(needed, "the float64 reference"))
            return
        self._start_reference()
        if config.is_large:
            self._await_reference()
        self._progress.stage(config.name, "workers")
        for runtime in dict.fromkeys(cell.variant.runtime for cell in self._active()):
            self._admit_runtime(runtime)
        self._crew.load_all()
        for cell in self._cells:
            if cell.is_active:
                self._progress.stage(config.name, f"build {cell.variant.name}")
                self._build(cell)
        self._admit()
        self._await_reference()

    def _shortage(self, needed: int, what: str) -> str:
        available = self._room.bytes
        return (
            f"needs {gibibytes(needed)}, {gibibytes(available)} available: {what} "
            f"({needed} bytes needed, {available} bytes available; limit: {self._room.limit})"
        )

    def _admit_runtime(self, runtime: str) -> None:
        """Start a worker if the weights fit beside what is there; it loads in the background."""
        needed = weights_copies(runtime) * self._config.weights_bytes + PROCESS_BYTES
        total = self._resident_bytes + needed
        if total > self._room.bytes:
            for cell in self._active(runtime):
                cell.predicted_bytes = self._config.weights_bytes
                cell.available_bytes = self._room.bytes
                self._fail(cell, "oom", self._shortage(total, f"the {runtime} worker"))
            return
        self._resident_bytes = total
        self._crew.hire(runtime)

    def _build(self, cell: Cell) -> None:
        """Build a cell, which touches no arena yet, and predict its memory."""
        cell.started_utc = utc_now()
        if self._crew.ask(cell, {"request": "build"}) is None:
            return
        needed = cell.facts["resident_bytes"] + cell.facts["transient_bytes"]
        cell.predicted_bytes = self._config.weights_bytes + needed
        cell.available_bytes = self._room.bytes

    def _admit(self) -> None:
        """Cells that fit only alone give their memory up after each turn; others do not start."""
        room = self._room.bytes - self._resident_bytes
        for cell, needed in place_cells(self._active(), room):
            if needed is not None:
                reason = self._shortage(
                    self._resident_bytes + needed, "the cell beside the loaded weights"
                )
                if self._crew.ask(cell, {"request": "drop"}) is not None:
                    self._fail(cell, "oom", reason)
            else:
                self._crew.release(cell)

    def _start_reference(self) -> None:
        command = [sys.executable, "-m", f"{__package__}.check"]
        command += ["--config", json.dumps(self._config.to_dict())]
        command += ["--seed", str(self._settings.seed), "--out", str(self._reference_path)]
        log = self._folder / "reference.log"
        with log.open("wb") as errors:
            self._reference = children.start(
                command,
                thread_variables(self._settings.threads),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
            )

    @property
    def _reference_path(self) -> Path:
        return self._folder / "reference.npz"

    def _await_reference(self) -> None:
        if self._reference is None:
            return
        returncode = children.ended(self._reference)
        self._reference = None
        if returncode:
            lines = (self._folder / "reference.log").read_text("utf-8", "replace").splitlines()
            said = f": {lines[-1][:300]}" if lines else ""
            for cell in self._active():
                told = f"the float64 reference ended with status {returncode}{said}"
                self._fail(cell, "error", told)

    # Right before fast.

    def _check(self) -> None:
        """The probes, the first call and its check, for every cell; wrong cells end here."""
        for cell in self._cells:
            if cell.is_active:
                self._progress.stage(self._config.name, f"check {cell.variant.name}")
                self._check_cell(cell)

    def _check_cell(self, cell: Cell) -> None:
        budget_s = self._settings.budget_s
        probe = self._crew.ask(cell, {"request": "probe"})
        if probe is None:
            return
        if probe["reason"] is not None:
            cell.verdict = probe
            self._fail(cell, "incorrect", probe["reason"])
            return
        # The build and the probe are not the cell's own running time.
        cell.used_s = 0.0
        first = self._crew.ask(cell, {"request": "first"}, budget_s)
        if first is None:
            return
        cell.first_call_ns = cell.estimate_ns = first["first_call_ns"]
        cell.n_warmup = 1
        used_s = cell.used_s
        verdict = self._crew.ask(cell, {"request": "check", "reference": str(self._reference_path)})
        cell.used_s = used_s
        if verdict is None:
            return
        cell.verdict = verdict
        if verdict["reason"] is not None:
            self._fail(cell, "incorrect", verdict["reason"])
        self._crew.release(cell)

    # The end.

    def _finish(self) -> None:
        """Write the rows of everything that was measured, in one go."""
        after = self._crew.calibrate(self._progress.note)
        done = []
        for cell in self._active():
            used_s = cell.used_s
            reply = self._crew.ask(cell, {"request": "finish"}, 60)
            cell.used_s = used_s
            if reply is not None:
                cell.finish = reply
                done.append(cell)
        self._accept(done, after)

    def _keep(self) -> None:
        """Write the rows of what was measured so far, without asking workers that may be busy."""
        self._accept([cell for cell in self._active() if cell.has_enough_rounds], None)

    def _accept(self, cells: Sequence[Cell], calibration_after: list[int] | None) -> None:
        """Finish cells with their times and write their rows."""
        with signals_held():
            for cell in cells:
                if min(cell.samples_ns) > 0:
                    cell.status = "ok"
                else:
                    cell.fail("error", "a call took 0 ns: the clock of this machine stands still")
            self._record(cells, calibration_after)

    def _stop(self) -> None:
        if self._reference is not None:
            children.end(self._reference)
        self._crew.close()
