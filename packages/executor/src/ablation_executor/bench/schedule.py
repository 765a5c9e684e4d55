"""One config from start to rows: workers, memory, check, and interleaved rounds.

Only one worker computes at a time; the bench itself sleeps in a read meanwhile.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ..variants import SAME_PROGRAM_PAIRS, Variant
from .baselines import missing_reason, weights_copies
from .cells import MIN_ROUNDS, Cell, RunIdentity, Settings, to_row
from .check import reference_bytes
from .configs import Config
from .crew import Crew
from .interrupt import Interrupted
from .machine import available_bytes
from .protocol import THREAD_VARIABLES
from .record import Row, utc_now

MAX_EXTENSION = 3
TURN_CALLS = 5
TURN_LIMIT_NS = 10_000_000
# While a whole round is this short, every cell takes part in the extra rounds.
SHORT_ROUND_S = 2.0
# A process that has imported torch, or our wheel and torch for the export, without any model.
PROCESS_BYTES = 400 << 20


class Progress(Protocol):
    """Where a run tells what it is doing."""

    def stage(self, config: str, what: str) -> None:
        """A part of the work on a config begins."""

    def turn(self, config: str, variant: str, index: int, rounds: int, left_s: float) -> None:
        """A variant's turn in a round begins."""

    def finished(self, row: Row) -> None:
        """A cell has its status."""

    def note(self, text: str) -> None:
        """Something the user should know."""


def gibibytes(count: int) -> str:
    """Bytes as printed: 1.50 GiB, or MiB below a tenth of one."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"


def profile_share(index: int, rounds: int, wanted: int) -> int:
    """Profiled calls in round `index`, so that `rounds` rounds have `wanted` of them, spread.

    The first round has one, so that a cell whose budget ends early has a breakdown too.
    """
    if index >= rounds:
        return 0
    return -(-(index + 1) * wanted // rounds) - -(-index * wanted // rounds)


def wanted_profiles(estimate_ns: int) -> int:
    """Profiled calls of a cell: 10, or fewer for long calls."""
    if estimate_ns > 5_000_000_000:
        return 2
    return 3 if estimate_ns > 500_000_000 else 10


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
        self._available_bytes = available_bytes(settings.memory_limit_bytes)

    def run(self) -> None:
        """Measure; every cell ends as one written row.

        An interruption leaves rows of the cells whose samples can stand, and none of the others.
        """
        with tempfile.TemporaryDirectory(prefix="ablation-bench-") as folder:
            self._folder = Path(folder)
            self._crew = Crew(self._config, self._settings, self._folder, self._active, self._fail)
            try:
                self._start()
                self._check()
                if self._active():
                    self._calibration_before = self._crew.calibrate(self._progress.note)
                    self._warm_up()
                    self._rounds()
                    self._finish()
            except Interrupted:
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
        if needed > self._available_bytes:
            for cell in self._active():
                cell.predicted_bytes = needed
                cell.available_bytes = self._available_bytes
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
        available = self._available_bytes
        return (
            f"needs {gibibytes(needed)}, {gibibytes(available)} available: {what} "
            f"({needed} bytes needed, {available} bytes available)"
        )

    def _admit_runtime(self, runtime: str) -> None:
        """Start a worker if the weights fit beside what is there; it loads in the background."""
        needed = weights_copies(runtime) * self._config.weights_bytes + PROCESS_BYTES
        total = self._resident_bytes + needed
        if total > self._available_bytes:
            for cell in self._active(runtime):
                cell.predicted_bytes = self._config.weights_bytes
                cell.available_bytes = self._available_bytes
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
        cell.available_bytes = self._available_bytes

    def _admit(self) -> None:
        """Cells that fit only alone give their memory up after each turn; others do not start."""
        room = self._available_bytes - self._resident_bytes
        for cell, needed in place_cells(self._active(), room):
            if needed is not None:
                reason = self._shortage(
                    self._resident_bytes + needed, "the cell beside the loaded weights"
                )
                if self._crew.ask(cell, {"request": "drop"}) is not None:
                    self._fail(cell, "oom", reason)
            else:
                self._release(cell)

    def _release(self, cell: Cell) -> None:
        """Give up the memory of a cell that cannot stay."""
        if cell.is_evicted and cell.is_active:
            self._crew.ask(cell, {"request": "release"})

    def _start_reference(self) -> None:
        environment = dict(os.environ)
        environment.update({name: str(self._settings.threads) for name in THREAD_VARIABLES})
        command = [sys.executable, "-m", f"{__package__}.check"]
        command += ["--config", json.dumps(self._config.to_dict())]
        command += ["--seed", str(self._settings.seed), "--out", str(self._reference_path)]
        self._reference = subprocess.Popen(command, env=environment, start_new_session=True)

    @property
    def _reference_path(self) -> Path:
        return self._folder / "reference.npz"

    def _await_reference(self) -> None:
        if self._reference is None:
            return
        returncode = self._reference.wait()
        self._reference = None
        if returncode:
            for cell in self._active():
                self._fail(cell, "error", f"the float64 reference ended with status {returncode}")

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
        self._release(cell)

    # Rounds.

    def _warm_up(self) -> None:
        """Calls before the first sample; the first call was one of them."""
        settings = self._settings
        wanted = settings.warm_up_long if self._config.is_long else settings.warm_up
        for cell in self._active():
            self._progress.stage(self._config.name, f"warm up {cell.variant.name}")
            affordable = int(0.25e9 * settings.budget_s / max(1, cell.estimate_ns))
            count = min(wanted - 1, affordable)
            if count < 1:
                continue
            budget_left_s = max(1.0, settings.budget_s - cell.used_s)
            reply = self._crew.ask(cell, {"request": "warm", "count": count}, budget_left_s)
            if reply is not None:
                cell.n_warmup = 1 + count
                cell.estimate_ns = min(reply["samples_ns"])
                cell.is_cold = False
                cell.last_turn_s = cell.estimate_ns / 1e9
                self._release(cell)

    def _wants_round(self, cell: Cell) -> bool:
        """Whether a cell is still to be sampled for its own sake."""
        settings = self._settings
        if not cell.is_active or cell.is_spent:
            return False
        if cell.rounds_done < settings.samples:
            return True
        return (
            settings.can_extend
            and cell.rounds_done < MAX_EXTENSION * settings.samples
            and cell.used_s < settings.budget_s / 4
            and cell.is_wide()
        )

    def _companions(self, wanting: Sequence[Cell], round_s: float) -> list[Cell]:
        """Cells that take part in an extra round so that ratios can be paired."""
        limit_s = self._settings.budget_s / 4
        others = [
            cell
            for cell in self._active()
            if cell not in wanting and not cell.is_spent and cell.used_s < limit_s
        ]
        if round_s > SHORT_ROUND_S:
            paired = {name for pair in SAME_PROGRAM_PAIRS[:1] for name in pair}
            others = [
                cell
                for cell in others
                if cell.variant.runtime == "torch" or cell.variant.name in paired
            ]
        return others

    def _rounds(self) -> None:
        """Rounds in which each cell has one turn, in an order drawn anew each time."""
        config, samples = self._config, self._settings.samples
        draw = random.Random(f"{self._settings.seed} {zlib.crc32(config.name.encode())}")
        index, start, round_s = 0, time.monotonic(), 0.0
        while wanting := [cell for cell in self._cells if self._wants_round(cell)]:
            if index >= samples:
                wanting += self._companions(wanting, round_s)
            draw.shuffle(wanting)
            planned = samples if index < samples else MAX_EXTENSION * samples
            round_start = time.monotonic()
            for turn, cell in enumerate(wanting):
                done = index + turn / len(wanting)
                left_s = (time.monotonic() - start) / done * (planned - done) if done else 0.0
                self._progress.turn(config.name, cell.variant.name, index, planned, left_s)
                self._turn(cell, index)
            round_s = time.monotonic() - round_start
            index += 1

    def _turn(self, cell: Cell, index: int) -> None:
        """A cell's samples of one round, and its share of the profiled calls."""
        settings = self._settings
        if not cell.is_active:
            return
        if cell.used_s + cell.last_turn_s > settings.budget_s:
            self._spend(cell)
            return
        message = {
            "request": "turn",
            "discard": 1 if cell.needs_discard else 0,
            "count": TURN_CALLS if cell.is_fast else 1,
            "limit_ns": TURN_LIMIT_NS,
            "profile": profile_share(index, settings.samples, wanted_profiles(cell.estimate_ns)),
        }
        before_s = cell.used_s
        timeout_s = max(1.0, settings.budget_s - cell.used_s)
        reply = self._crew.ask(cell, message, timeout_s)
        if reply is None:
            return
        cell.is_cold = False
        cell.last_turn_s = cell.used_s - before_s
        cell.samples_ns += reply["samples_ns"]
        cell.sample_rounds += [index] * len(reply["samples_ns"])
        cell.profile += reply["profile"]
        self._release(cell)

    def _spend(self, cell: Cell) -> None:
        """The budget is used up: enough samples stand, too few are a timeout."""
        cell.is_spent = True
        if not cell.has_enough_rounds:
            reason = (
                f"{cell.rounds_done} of at least {MIN_ROUNDS} rounds in the "
                f"{self._settings.budget_s:g} s budget (first call "
                f"{(cell.first_call_ns or 0) / 1e9:.3g} s)"
            )
            self._fail(cell, "timeout", reason)

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
        for cell in cells:
            cell.status = "ok"
        self._record(cells, calibration_after)

    def _stop(self) -> None:
        if self._reference is not None:
            self._reference.kill()
            self._reference.wait()
        self._crew.close()
