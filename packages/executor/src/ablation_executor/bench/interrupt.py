"""How a command ends: exit statuses, the paths that it tells, and Ctrl-C and SIGTERM as one
exception that a run can put its affairs in order for."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from types import FrameType
from typing import NoReturn

EXIT_USAGE = 2
EXIT_FAILED = 1


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(number)


def interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """A signal handler: raise Interrupted, and let no second signal cut what follows."""
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_IGN)
    raise Interrupted(number)


def shown(path: Path) -> str:
    """A path relative to the current directory where that is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)
