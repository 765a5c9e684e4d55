"""What a command prints: to a terminal or pipe of any encoding, faults in words."""

from __future__ import annotations

import codecs
import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from ablation_report.escaping import visible

# What stands in for the characters of tables where a terminal has none of them
PLAIN = {"µ": "u", "±": "+-", "×": "x", "–": "-", "—": "-", "…": "..."}
# Narrower tables would be one column a block
LEAST_WIDTH = 40
_HANDLER = "ablation_report.plain"


class UsageError(ValueError):
    """What was asked for cannot be done; nothing was written or deleted."""


def _plain(error: UnicodeError) -> tuple[str, int]:
    """Write characters that an encoding lacks by others, or by their escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(PLAIN.get(c, c.encode("unicode_escape").decode()) for c in text), error.end


def prepare() -> None:
    """Let no character fail to be printed."""
    codecs.register_error(_HANDLER, _plain)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=_HANDLER)


def width() -> int | None:
    """Return the columns that text has: those of the terminal or of COLUMNS; None for a file or
    pipe, whose lines are as long as they need to be."""
    is_bounded = os.environ.get("COLUMNS", "").isdecimal() or (
        sys.stdout is not None and sys.stdout.isatty()
    )
    # A terminal of no known width says 0
    return max(LEAST_WIDTH, shutil.get_terminal_size().columns) if is_bounded else None


def print_data() -> None:
    """Print UTF-8, as CSV and Markdown are; on a terminal, or where the user named an encoding,
    that one."""
    is_named = "PYTHONIOENCODING" in os.environ
    if hasattr(sys.stdout, "reconfigure") and not sys.stdout.isatty() and not is_named:
        sys.stdout.reconfigure(encoding="utf-8", errors=_HANDLER)


def drop() -> None:
    """Give up standard output, so that what is left of it does not fail when Python ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def flush() -> None:
    """Write out what was printed; OSError where that fails."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        drop()
        raise


def write_file(out: Path, data: bytes, is_own: Callable[[Path], bool]) -> None:
    """Write a file in one step, so that it is never half written; or write into a device or pipe.

    Raises:
        UsageError: the file exists, is not empty, and is none that `is_own` knows.
        OSError: it cannot be written.
    """
    target = Path(os.path.realpath(out))
    if target.is_dir():
        raise UsageError(f"--out {out}: a folder; accepted: a file")
    if target.exists() and not target.is_file():
        target.write_bytes(data)
        return
    if target.exists() and target.stat().st_size > 0 and not is_own(target):
        message = "exists, and ablation-report did not write it"
        raise UsageError(f"--out {out}: {message}; accepted: a new file, or an earlier export")
    written = target.with_name(f".{os.getpid()}.partial")
    try:
        with written.open("xb") as file:
            file.write(data)
        written.replace(target)
    finally:
        written.unlink(missing_ok=True)


def said(error: Exception) -> str:
    """Write an error in a line, or a line for each of its faults."""
    if isinstance(error, OSError) and error.strerror:
        where = "the output" if error.filename is None else error.filename
        return visible(f"{where}: {error.strerror}")
    return "\n".join(map(visible, str(error).split("\n")))
