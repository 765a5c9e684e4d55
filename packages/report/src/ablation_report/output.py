"""What a command writes: to a terminal or pipe of any encoding, or over a file of its own making.

Nothing that a command did not write itself is overwritten or deleted.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from pathlib import Path

import polars as pl

from ablation_report.escaping import visible
from ablation_report.tables import frame_csv, frame_markdown

# What stands in for the characters of tables where a terminal has none of them
PLAIN = {"µ": "u", "±": "+-", "×": "x", "–": "-", "—": "-", "…": "..."}
_HANDLER = "ablation_report.plain"
# The columns that every summary begins with
SUMMARY_START = ("run", "config", "variant")
_MARKS = (
    ",".join(SUMMARY_START).encode(),
    f"| {' | '.join(SUMMARY_START)} |".encode(),
)


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


def said(error: Exception) -> str:
    """Write an error in a line, or a line for each of its faults."""
    if isinstance(error, OSError) and error.strerror:
        where = "the output" if error.filename is None else error.filename
        return visible(f"{where}: {error.strerror}")
    return "\n".join(map(visible, str(error).split("\n")))


def write_summary(frame: pl.DataFrame, out: Path, layout: str) -> None:
    """Write a summary as csv, md or parquet into a file, whole or not at all.

    Raises:
        UsageError: the file exists and holds something else than a summary.
        OSError: it cannot be written.
    """
    target = Path(os.path.realpath(out))
    is_special = target.exists() and not target.is_file()
    if target.is_dir():
        raise UsageError(f"--out {out}: a folder, expected a file")
    if not is_special and not _is_summary(target):
        message = "exists and is no summary that ablation-report wrote"
        raise UsageError(f"--out {out}: {message}; name a file that does not exist, or remove it")
    # A device or pipe is written to; a file is replaced
    written = target if is_special else target.with_name(f".{os.getpid()}.partial")
    try:
        with written.open("wb" if is_special else "xb") as file:
            if layout == "parquet":
                frame.write_parquet(file)
            else:
                text = frame_csv(frame) if layout == "csv" else frame_markdown(frame)
                file.write(text.encode("utf-8"))
        if not is_special:
            written.replace(target)
    finally:
        if not is_special:
            written.unlink(missing_ok=True)


def _is_summary(path: Path) -> bool:
    """True for a summary, and for what is empty or not there."""
    if not path.exists() or path.stat().st_size == 0:
        return True
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"PAR1"):
        try:
            return tuple(pl.read_parquet_schema(path))[: len(SUMMARY_START)] == SUMMARY_START
        except (pl.exceptions.PolarsError, OSError):
            return False
    return start.startswith(_MARKS)
