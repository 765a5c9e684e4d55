"""One call of the command on a run: measure, print, and end with a status, whatever happens.

Rows are written before anything is made of them: a fault of the tables is printed, and fails the
command, but costs no row.
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
    """Begin, measure and print; return the exit status.

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
        for lost in lost_before(interrupted):
            print_error(_said(lost))
    except UsageError as error:
        status = error.status
        close_progress()
        print_error(str(error))
    except Exception as error:
        status = EXIT_FAILED
        close_progress()
        for each in (error, *lost_before(error)):
            print_error(_said(each))
    finally:
        close_progress()
        if session is not None:
            session.folder.close()
    return status if session is None else _print_ending(session, status)


def _print_ending(session: Session, status: int) -> int:
    """Print the tables of a run, where its rows are, and the commands that continue it."""
    folder = session.folder
    if status not in (EXIT_USAGE, EXIT_FAILED):
        try:
            session.print_tables()
        except Exception as error:
            print_error(f"the tables cannot be printed: {_said(error)}")
            status = status or EXIT_FAILED
    print(f"rows: {shown(folder.rows_path)}")
    if status > _FIRST_SIGNAL:
        print(f"interrupted; continue with: {PROGRAM} --resume {quoted(folder.path)}")
    elif folder.info["finished_utc"] is None:
        print_error(f"not finished; continue with: {PROGRAM} --resume {quoted(folder.path)}")
    elif folder.rows:
        _print_next(folder)
    wrong = any(row["status"] in ("incorrect", "error") for row in folder.rows)
    return status or (EXIT_FAILED if wrong else 0)


def _print_next(folder: RunFolder) -> None:
    """Print the noise of a run, and the commands to type next."""
    # Here, since it brings the report's tables
    from ablation_report.output import width
    from ablation_report.tables.fitting import filled

    from .ending import last_lines

    try:
        for text in last_lines(folder):
            # A command is a line of its own, however long
            print("\n".join([text] if text.startswith(" ") else filled(text, width())))
    except Exception as error:
        print_error(f"the next commands cannot be listed: {_said(error)}")


def print_error(text: str) -> None:
    """Print an error, line by line safe for a terminal."""
    print(f"{PROGRAM}: error: {printable_lines(text)}", file=sys.stderr)


def lost_before(error: BaseException) -> Iterator[BaseException]:
    """The errors before this one that name where rows are that the run does not have."""
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
