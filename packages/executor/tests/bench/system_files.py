"""Files that stand in for those of /proc, /sys and /run."""

from __future__ import annotations

import builtins
import io
from collections.abc import Mapping
from typing import Any

import pytest

FOLDERS = ("/proc/", "/sys/", "/run/")
Content = str | Exception


def replace_files(
    monkeypatch: pytest.MonkeyPatch,
    files: Mapping[str, Content],
    others: Content | None = None,
    folders: tuple[str, ...] = FOLDERS,
) -> None:
    """Let the folders hold these files; each other one is missing, or holds `others`."""
    real = io.open

    def fake(path: Any, *arguments: Any, **options: Any) -> Any:
        if not str(path).startswith(folders):
            return real(path, *arguments, **options)
        missing = FileNotFoundError(2, "No such file or directory", str(path))
        text = files.get(str(path), missing if others is None else others)
        if isinstance(text, Exception):
            raise text
        mode = arguments[0] if arguments else options.get("mode", "r")
        return io.BytesIO(text.encode()) if "b" in mode else io.StringIO(text)

    monkeypatch.setattr(io, "open", fake)
    monkeypatch.setattr(builtins, "open", fake)
