"""What the commands print: text of files, with nothing in it that a terminal takes as an order."""

from __future__ import annotations

import io
import sys
from typing import TextIO

from ablation_report.escaping import terminal_text


def say(text: object) -> None:
    """Print lines on standard output; a letter that its encoding lacks is written as `\\xb5`."""
    _write(sys.stdout, text)


def complain(text: object) -> None:
    """Print lines on standard error, as `say` does on standard output."""
    _write(sys.stderr, text)


def _write(stream: TextIO, text: object) -> None:
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    print(terminal_text(str(text)), file=stream)
