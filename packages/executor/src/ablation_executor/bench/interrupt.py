"""How a command ends: its exit statuses, and the signals that ask it to end.

While a run measures, Ctrl-C, SIGTERM and SIGHUP become one exception, for which the run puts its
affairs in order. Before and after, they end the process at once. Its status is 128 and the signal's
number in every case: 130, 143 and 129.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

EXIT_USAGE = 2
EXIT_FAILED = 1
EXIT_UNCOVERED = 3
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_held = 0
_pending: int | None = None


class UsageError(Exception):
    """A request that cannot be carried out as written; the command ends with `status`, 2."""

    status = EXIT_USAGE


class Uncovered(UsageError):
    """A module that our runtime does not cover; the message has what it refuses, and the command
    ends with status 3."""

    status = EXIT_UNCOVERED


class Interrupted(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP; `number` is that of the signal."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)

    @property
    def status(self) -> int:
        """The exit status of a command that was ended by the signal."""
        return 128 + self.number


def end_at_once() -> None:
    """Have the signals end this process without more ado, where nothing can be lost."""
    _handle(lambda number, frame: os._exit(128 + number))


def raise_when_asked_to_end() -> None:
    """Have the first of the signals raise Interrupted; later ones interrupt nothing."""
    _handle(_interrupt)


def _handle(handler: object) -> None:
    for number in ENDING:
        # A user who starts the command with nohup wants it to outlive the terminal
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)  # type: ignore[arg-type]


def _interrupt(number: int, frame: FrameType | None) -> None:
    global _pending
    for again in ENDING:
        signal.signal(again, signal.SIG_IGN)
    if _held:
        _pending = number
    else:
        raise Interrupted(number)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Put Interrupted off until the block ends, so that what belongs together is done whole.

    An error of the block comes first, and ends the command too. Not by a signal mask: processes
    that are started meanwhile would inherit it.
    """
    global _held, _pending
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _held += 1
    try:
        yield
    except BaseException:
        _pending = None
        raise
    finally:
        _held -= 1
    if _held == 0 and _pending is not None:
        number, _pending = _pending, None
        raise Interrupted(number)
