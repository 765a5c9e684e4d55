"""What a run tells while it works: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from .run_reading import Row
from .terminal import printable

PLAIN_EVERY_S = 15.0
LIVE_EVERY_S = 0.2


def duration(seconds: float) -> str:
    """Seconds as 45 s, 12 min or 1 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


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


class PlainProgress:
    """A line for each config, then one now and then, and one for each cell that failed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._config = ""
        self._start = self._last = time.monotonic()

    def _line(self, text: str, style: str = "") -> None:
        elapsed = duration(time.monotonic() - self._start)
        self._console.print(Text(printable(f"[{elapsed}] {text}"), style=style), soft_wrap=True)
        self._last = time.monotonic()

    def stage(self, config: str, what: str) -> None:
        """A part of the work on a config begins."""
        if config != self._config:
            self._config = config
            self._line(f"{config}: preparing")
        elif time.monotonic() - self._last > PLAIN_EVERY_S:
            self._line(f"{config}: {what}")

    def turn(self, config: str, variant: str, index: int, rounds: int, left_s: float) -> None:
        """A variant's turn in a round begins."""
        if time.monotonic() - self._last > PLAIN_EVERY_S:
            left = f", about {duration(left_s)} left for {config}" if left_s else ""
            self._line(f"{config}: round {index + 1} of {rounds}, {variant}{left}")

    def finished(self, row: Row) -> None:
        """Cells that are not ok are told at once."""
        if row["status"] != "ok":
            reason = f"{row['config']} {row['variant']}: {row['status']}: {row['reason']}"
            self._line(reason, "red")

    def note(self, text: str) -> None:
        """Something the user should know."""
        self._line(text, "yellow")

    def close(self) -> None:
        """Nothing to take away."""


class LiveProgress:
    """One line that is rewritten by the bench itself, so that no thread wakes while it measures."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()
        self._last = 0.0

    def _show(self, text: str, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now - self._last > LIVE_EVERY_S:
            self._last = now
            self._live.update(
                Text(printable(text), overflow="ellipsis", no_wrap=True), refresh=True
            )

    def stage(self, config: str, what: str) -> None:
        """A part of the work on a config begins."""
        self._show(f"{config:<8} {what}", at_once=True)

    def turn(self, config: str, variant: str, index: int, rounds: int, left_s: float) -> None:
        """A variant's turn in a round begins."""
        left = f"about {duration(left_s)} left" if left_s else ""
        self._show(f"{config:<8} {variant:<26} round {index + 1:>3}/{rounds:<3} {left}")

    def finished(self, row: Row) -> None:
        """Cells that are not ok are told at once, above the line."""
        if row["status"] != "ok":
            reason = f"{row['config']} {row['variant']}: {row['status']}: {row['reason']}"
            self._console.print(Text(printable(reason), style="red"), soft_wrap=True)

    def note(self, text: str) -> None:
        """Something the user should know."""
        self._console.print(Text(printable(text), style="yellow"), soft_wrap=True)

    def close(self) -> None:
        """Take the line away."""
        self._live.stop()


def make_progress(console: Console) -> Any:
    """Live on a terminal, plain otherwise."""
    can_rewrite = console.is_terminal and not console.is_dumb_terminal
    return LiveProgress(console) if can_rewrite else PlainProgress(console)
