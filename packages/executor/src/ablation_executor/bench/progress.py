"""What a run prints while it works: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ablation_report.rows import Row, case_name

from .terminal import printable

if TYPE_CHECKING:
    from .time_left import TimeLeft

PLAIN_EVERY_S = 15.0
LIVE_EVERY_S = 0.2
# What a run leaves out on purpose is in its tables; there may be hundreds.
QUIET = ("ok", "skipped")
SHORT_NAME = 16


def duration(seconds: float) -> str:
    """Seconds as 45 s, 12 min or 1 h 05 min."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02} min"


def _said(row: Row) -> str:
    """Say why a row is not ok."""
    case = case_name(row["sizes"]) or row["case"]
    phase = "" if row["phase"] == "fwd" else f" {row['phase']}"
    return f"{case} {row['variant']}{phase}: {row['status']}: {row['reason_text']}"


def _left_text(left: TimeLeft | None, case_s: float = 0.0) -> str:
    """Say how long the run still takes, where it is known."""
    return "" if left is None else f", about {duration(left.seconds(case_s))} left"


def _placed(case: str, text: str) -> str:
    """Write a text with its case, which comes last where it would leave no room for the text."""
    return f"{case:<8} {text}" if len(case) <= SHORT_NAME else f"{text}  {case}"


class Progress(Protocol):
    """Where a run says what it is doing."""

    def plan(self, left: TimeLeft) -> None:
        """A run begins that takes about so long."""

    def stage(self, case: str, what: str) -> None:
        """A part of the work on a case begins."""

    def turn(self, case: str, variant: str, index: int, rounds: int, left_s: float) -> None:
        """A variant's turn in a round begins."""

    def finished(self, row: Row) -> None:
        """A row has its status."""

    def case_done(self, case: str, summary: str) -> None:
        """Every row of a case has its status."""

    def note(self, text: str) -> None:
        """Something the user should know."""


class PlainProgress:
    """A line for each case, then one now and then, and one for each row that failed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._case = ""
        self._left: TimeLeft | None = None
        self._start = self._last = time.monotonic()

    def _line(self, text: str, style: str = "") -> None:
        elapsed = duration(time.monotonic() - self._start)
        self._console.print(Text(printable(f"[{elapsed}] {text}"), style=style), soft_wrap=True)
        self._last = time.monotonic()

    def plan(self, left: TimeLeft) -> None:
        """The first line says how long the run takes."""
        self._left = left
        cases = f"{left.n_cases} case{'s' if left.n_cases > 1 else ''}"
        self._line(f"{cases}, about {duration(left.seconds())}")

    def stage(self, case: str, what: str) -> None:
        """A part of the work on a case begins."""
        if case != self._case:
            self._case = case
            self._line(f"{case}: preparing{_left_text(self._left)}")
        elif time.monotonic() - self._last > PLAIN_EVERY_S:
            self._line(f"{case}: {what}{_left_text(self._left)}")

    def turn(self, case: str, variant: str, index: int, rounds: int, left_s: float) -> None:
        """A variant's turn in a round begins."""
        if time.monotonic() - self._last > PLAIN_EVERY_S:
            left = _left_text(self._left, left_s)
            self._line(f"{case}: round {index + 1} of {rounds}, {variant}{left}")

    def finished(self, row: Row) -> None:
        """Rows that failed are printed at once."""
        if row["status"] not in QUIET:
            reason = _said(row)
            self._line(reason, "red")

    def case_done(self, case: str, summary: str) -> None:
        """Every row of a case has its status."""
        self._line(f"{case}: {summary}")

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
        self._left: TimeLeft | None = None
        self._last = 0.0

    def _show(self, text: str, case_s: float = 0.0, at_once: bool = False) -> None:
        """Write the line, the time that is left first: a narrow terminal cuts the end."""
        now = time.monotonic()
        if at_once or now - self._last > LIVE_EVERY_S:
            self._last = now
            left = "" if self._left is None else f"{duration(self._left.seconds(case_s))} left  "
            line = Text(printable(f"{left}{text}"), overflow="ellipsis", no_wrap=True)
            self._live.update(line, refresh=True)

    def plan(self, left: TimeLeft) -> None:
        """The line says from now on how long the run still takes."""
        self._left = left
        self._show("measuring the machine's ceilings", at_once=True)

    def stage(self, case: str, what: str) -> None:
        """A part of the work on a case begins."""
        self._show(_placed(case, what), at_once=True)

    def turn(self, case: str, variant: str, index: int, rounds: int, left_s: float) -> None:
        """A variant's turn in a round begins."""
        self._show(_placed(case, f"{variant:<26} round {index + 1:>3}/{rounds:<3}"), left_s)

    def finished(self, row: Row) -> None:
        """Rows that failed are printed at once, above the line."""
        if row["status"] not in QUIET:
            reason = _said(row)
            self._console.print(Text(printable(reason), style="red"))

    def case_done(self, case: str, summary: str) -> None:
        """Every row of a case has its status; the tables have the times."""

    def note(self, text: str) -> None:
        """Something the user should know."""
        self._console.print(Text(printable(text), style="yellow"))

    def close(self) -> None:
        """Take the line away."""
        self._live.stop()


def make_progress(console: Console) -> Any:
    """Live on a terminal, plain otherwise."""
    can_rewrite = console.is_terminal and not console.is_dumb_terminal
    return LiveProgress(console) if can_rewrite else PlainProgress(console)
