"""Standard streams that let no output fail a measurement, and text that is safe to print.

A terminal may know ASCII alone, a reader may go away, a stream may be closed before the command
begins. `ablation-report` has a like module: neither package needs the other.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

STAND_INS = {
    "µ": "u",
    "μ": "u",
    "±": "+-",
    "×": "x",
    "·": ".",
    "…": "...",
    "–": "-",
    "—": "-",
    "−": "-",
    "≤": "<=",
    "≥": ">=",
    "─": "-",
    "━": "-",
    "│": "|",
    "┃": "|",
    "→": "->",
    "•": "*",
}
HANDLER = "ablation-stand-ins"


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """An error handler of codecs: what a stream cannot write as ASCII that means the same."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    told = (
        STAND_INS.get(char) or char.encode("ascii", "backslashreplace").decode() for char in text
    )
    return "".join(told), error.end


class Lasting:
    """A text stream whose writes never fail: once one has failed, nothing more is written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_gone = False

    def write(self, text: str) -> int:
        """Write a text, or drop it."""
        with self._watched():
            self._stream.write(text)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write texts, or drop them."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what was written."""
        with self._watched():
            self._stream.flush()

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """After an error (EPIPE, EIO, ENOSPC, a closed file) the null device takes the stream's
        place, for the interpreter's own flush at its end too."""
        try:
            yield
        except (OSError, ValueError):
            self.is_gone = True
            with contextlib.suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare_streams() -> None:
    """Make the standard streams last, whatever they are connected to.

    Descriptors that are closed are opened on the null device: a file of the run would otherwise
    get the number 1, and whatever a library prints would go into it.
    """
    for descriptor, mode in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, mode)
    codecs.register_error(HANDLER, _stand_in)
    sys.stdout = _lasting(sys.stdout)
    sys.stderr = _lasting(sys.stderr)


def _lasting(stream: TextIO | None) -> TextIO:
    if isinstance(stream, Lasting):
        return stream
    if stream is None:
        stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    with contextlib.suppress(AttributeError, ValueError, OSError):
        stream.reconfigure(errors=HANDLER)  # type: ignore[attr-defined]
    return Lasting(stream)  # type: ignore[return-value]


def printable(text: str) -> str:
    """The text in one line, with characters that could rewrite the terminal as escapes."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def printable_lines(text: str) -> str:
    """The text with its line breaks, and otherwise as `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def _near(path: Path) -> str:
    """A path relative to the current directory where that is shorter; read as UTF-8, whatever the
    locale of the terminal is."""
    text = str(path)
    # Where the current directory is gone, nothing is relative to it
    with contextlib.suppress(OSError):
        relative = os.path.relpath(path)
        text = relative if not relative.startswith("..") else text
    return os.fsencode(text).decode("utf-8", "surrogateescape")


def shown(path: Path) -> str:
    """A path for a reader: short, and in one line."""
    return printable(_near(path))


def quoted(path: Path) -> str:
    """A path for a shell: short, and in one line of printable characters."""
    text = _near(path)
    if text.isprintable():
        return shlex.quote(text)
    escaped = "".join(
        f"\\{char}" if char in "\\'" else char if char.isprintable() else _octal(char)
        for char in text
    )
    return f"$'{escaped}'"


def _octal(char: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", "surrogateescape"))
