"""The rounds of a config: cells take turns in random order until each has samples enough."""

from __future__ import annotations

import random
import time
import zlib
from collections.abc import Sequence

from ..variants import SAME_PROGRAM_PAIRS
from .cells import MIN_ROUNDS, Cell, Settings
from .configs import Config
from .crew import Crew
from .interrupt import signals_held
from .progress import Progress

MAX_EXTENSION = 3
TURN_CALLS = 5
TURN_LIMIT_NS = 10_000_000
# While a whole round is this short, every cell takes part in the extra rounds.
SHORT_ROUND_S = 2.0


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


class Rounds:
    """Warms up and samples the active cells of a config."""

    def __init__(
        self,
        config: Config,
        cells: Sequence[Cell],
        settings: Settings,
        crew: Crew,
        progress: Progress,
    ) -> None:
        self._config = config
        self._cells = cells
        self._settings = settings
        self._crew = crew
        self._progress = progress

    def _active(self) -> list[Cell]:
        return [cell for cell in self._cells if cell.is_active]

    def warm_up(self) -> None:
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
                self._crew.release(cell)

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

    def run(self) -> None:
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
        with signals_held():
            cell.is_cold = False
            cell.last_turn_s = cell.used_s - before_s
            cell.samples_ns += reply["samples_ns"]
            cell.sample_rounds += [index] * len(reply["samples_ns"])
            cell.profile += reply["profile"]
        self._crew.release(cell)

    def _spend(self, cell: Cell) -> None:
        """The budget is used up: enough samples stand, too few are a timeout."""
        cell.is_spent = True
        if not cell.has_enough_rounds:
            reason = (
                f"{cell.rounds_done} of at least {MIN_ROUNDS} rounds in the "
                f"{self._settings.budget_s:g} s budget (first call "
                f"{(cell.first_call_ns or 0) / 1e9:.3g} s)"
            )
            self._crew.fail(cell, "timeout", reason)
