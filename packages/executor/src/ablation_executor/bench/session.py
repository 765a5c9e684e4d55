"""One call of the command on a run: measure, tell, and end with a status, whatever happens.

What is measured is written before anything is made of it: a fault of the tables is told, and fails
the command, but costs no row.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .interrupt import (
    EXIT_FAILED,
    EXIT_USAGE,
    Interrupted,
    UsageError,
    end_at_once,
    raise_when_asked_to_end,
)
from .run_folder import RunFolder
from .run_writing import FaultyRows, RowsNotWritten
from .terminal import printable_lines, quoted, shown

PROGRAM = "ablation-bench"
_FIRST_SIGNAL = 128


@dataclass(frozen=True)
class Session:
    """A run that is there to be measured: what does that, and what prints its tables."""

    folder: RunFolder
    measure: Callable[[], None]
    print_tables: Callable[[], None]


def carry_out(begin: Callable[[], Session], close_progress: Callable[[], None]) -> int:
    """Begin, measure and tell; give the exit status.

    0: done; 1: done, but a row is incorrect or failed, or the run could not be ended; 2: the
    request was refused; 3: our runtime does not cover a module; 129, 130 and 143: ended by SIGHUP,
    Ctrl-C and SIGTERM.
    """
    session: Session | None = None
    status = 0
    try:
        raise_when_asked_to_end()
        session = begin()
        session.measure()
        end_at_once()
    except Interrupted as interrupted:
        status = interrupted.status
        close_progress()
        for told in lost_before(interrupted):
            tell_error(_said(told))
    except UsageError as error:
        status = error.status
        close_progress()
        tell_error(str(error))
    except Exception as error:
        status = EXIT_FAILED
        close_progress()
        for told in (error, *lost_before(error)):
            tell_error(_said(told))
    finally:
        close_progress()
        if session is not None:
            session.folder.close()
    return status if session is None else _tell(session, status)


def _tell(session: Session, status: int) -> int:
    """Print what there is of a run, and how to go on with it."""
    folder = session.folder
    if status not in (EXIT_USAGE, EXIT_FAILED):
        try:
            session.print_tables()
        except Exception as error:
            tell_error(f"the tables cannot be printed: {_said(error)}")
            status = status or EXIT_FAILED
    print(f"rows: {shown(folder.rows_path)}")
    if status > _FIRST_SIGNAL:
        print(f"interrupted; go on with: {PROGRAM} --resume {quoted(folder.path)}")
    elif folder.info["finished_utc"] is None:
        tell_error(f"not finished; go on with: {PROGRAM} --resume {quoted(folder.path)}")
    elif folder.rows:
        _tell_next(folder)
    wrong = any(row["status"] in ("incorrect", "error") for row in folder.rows)
    return status or (EXIT_FAILED if wrong else 0)


def _tell_next(folder: RunFolder) -> None:
    """Print whether a run may be used, and the commands that go on from it."""
    # Here, since it brings the report's tables
    from .ending import last_lines

    try:
        for line in last_lines(folder):
            print(line)
    except Exception as error:
        tell_error(f"the next commands cannot be listed: {_said(error)}")


def tell_error(text: str) -> None:
    """Print an error, line by line safe for a terminal."""
    print(f"{PROGRAM}: error: {printable_lines(text)}", file=sys.stderr)


def lost_before(error: BaseException) -> Iterator[BaseException]:
    """The errors before this one that tell where rows are that the run does not have."""
    while (before := error.__context__) is not None:
        error = before
        if isinstance(error, RowsNotWritten | FaultyRows):
            yield error


def _said(error: BaseException) -> str:
    """An error in words; one that the bench did not foresee with its place."""
    if isinstance(error, OSError | FaultyRows):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
