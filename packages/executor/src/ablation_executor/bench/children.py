"""The processes and files that a bench starts and makes, and that must not outlive it.

A shell outside the bench's process group waits for the end of a pipe from the bench. When the bench
has ended, by SIGKILL too, it ends the process groups that the bench has left, and deletes the
folder of temporary files. Nothing runs beside a measurement for that.

Children are started so that neither the current folder nor a script's is searched for modules: a
user's `random.py` is no part of a measurement. What PYTHONPATH names is the user's wish and stays.
"""

from __future__ import annotations

import atexit
import contextlib
import getpass
import json
import math
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .interrupt import signals_held

_REAPER = """
trap '' HUP INT TERM
mkdir -m 700 "$1" || exit 1
echo
exec >/dev/null 2>&1
cd /
groups=
while read -r word; do
  case $word in
    -*) kept=
        for group in $groups; do [ "$group" = "${word#-}" ] || kept="$kept $group"; done
        groups=$kept ;;
    *) groups="$groups $word" ;;
  esac
done
for group in $groups; do kill -9 "-$group"; done
rm -rf "$1"
"""
# They would change what a worker does: warnings as errors, a prompt after its end
_UNWANTED = ("PYTHONWARNINGS", "PYTHONINSPECT", "PYTHONSTARTUP")
_POLL_S = 0.005


class _Reaper:
    """The shell that cleans up, and the folder that it makes and deletes."""

    def __init__(self) -> None:
        name = f"ablation-bench-{secrets.token_hex(6)}"
        self.folder = Path(tempfile.gettempdir()).absolute() / name
        command = ["/bin/sh", "-c", _REAPER, "ablation-bench", str(self.folder)]
        self._shell = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            bufsize=0,
        )
        assert self._shell.stdout is not None and self._shell.stderr is not None
        with self._shell.stdout as made, self._shell.stderr as errors:
            if not made.readline():
                text = errors.read().decode(errors="replace").strip()
                raise OSError(f"cannot make a folder of temporary files: {text}")

    def send(self, word: str) -> None:
        """Send a word: the number of a process group, or that with a minus when it has ended."""
        assert self._shell.stdin is not None
        with contextlib.suppress(OSError):
            self._shell.stdin.write(f"{word}\n".encode())

    def close(self) -> None:
        """Clean up at a regular end."""
        shutil.rmtree(self.folder, ignore_errors=True)
        assert self._shell.stdin is not None
        with contextlib.suppress(OSError):
            self._shell.stdin.close()
        self._shell.wait()


_reaper: _Reaper | None = None


def _the_reaper() -> _Reaper:
    global _reaper
    if _reaper is None:
        with signals_held():
            _reaper = _Reaper()
            atexit.register(_close)
    return _reaper


def _close() -> None:
    global _reaper
    if _reaper is not None:
        _reaper.close()
        _reaper = None


def scratch_folder() -> Path:
    """The folder of temporary files of this process and its children; gone when it has ended.

    Raises OSError where no temporary folder can be made.
    """
    return _the_reaper().folder


def environment(variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child, with `variables` besides.

    Python does not search the folder of a script, nor the current one, for modules. Temporary files
    go into `scratch_folder`; what PyTorch has compiled stays where it would lie
    otherwise, so that other runs and programs find it.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    if "TORCHINDUCTOR_CACHE_DIR" not in kept:
        folder = Path(tempfile.gettempdir()) / f"torchinductor_{_user()}"
        kept["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
    return {
        **kept,
        "PYTHONSAFEPATH": "1",
        # Sources and logs are UTF-8, whatever the locale of the terminal is
        "PYTHONUTF8": "1",
        "TMPDIR": str(scratch_folder()),
        **(variables or {}),
    }


def _user() -> str:
    try:
        return getpass.getuser().replace("/", "_")
    except (KeyError, OSError, ImportError):
        return str(os.getuid())


def start(
    command: Sequence[str], variables: Mapping[str, str] | None = None, **pipes: Any
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own, so that Ctrl-C reaches only the bench.

    `pipes` are stdin, stdout and stderr of `subprocess.Popen`. `end` or `ended` has to follow.
    """
    given = environment(variables)
    with signals_held():
        process = subprocess.Popen(
            list(command), env=given, bufsize=0, start_new_session=True, **pipes
        )
        _the_reaper().send(str(process.pid))
    return process


def ended(process: subprocess.Popen[bytes], limit_s: float = math.inf) -> int:
    """Wait until a process has ended by itself, or end it after `limit_s` seconds, and end what it
    has left; give its status."""
    deadline = time.monotonic() + limit_s
    # Not reaped yet, so that its number cannot be another group's when that is ended
    while process.returncode is None and not _has_ended(process) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    return end(process)


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    how = os.WEXITED | os.WNOWAIT | os.WNOHANG
    return os.waitid(os.P_PID, process.pid, how) is not None


def end(process: subprocess.Popen[bytes]) -> int:
    """End a process and its group now, and give its status."""
    with signals_held():
        if process.returncode is None:
            # macOS does not let a group be ended whose only member waits to be reaped
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        _the_reaper().send(f"-{process.pid}")
    return status


class ChildFailed(Exception):
    """A program that was to write JSON did not; the message has its status and its last words."""


def json_of(package: str | None, arguments: Sequence[str], variables: Mapping[str, str]) -> Any:
    """Run `python -m package` with an option --out, and return the JSON that it writes to that
    file; ChildFailed where it fails."""
    folder = Path(tempfile.mkdtemp(dir=scratch_folder()))
    path, log = folder / "out.json", folder / "log"
    with log.open("wb") as errors:
        process = start(
            [sys.executable, "-m", str(package), "--out", str(path), *arguments],
            variables,
            stdin=subprocess.DEVNULL,
            stdout=errors,
            stderr=errors,
        )
    if status := ended(process):
        said = log.read_text("utf-8", "replace").strip().splitlines()
        raise ChildFailed(f"status {status}: {said[-1:]}")
    return json.loads(path.read_text("utf-8"))


def told_by(program: str, *arguments: str) -> Any:
    """What a Python program prints as JSON, in a process of its own; None where it fails."""
    command = [sys.executable, "-c", program, *arguments]
    process = start(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        printed, _ = process.communicate()
    finally:
        status = end(process)
    if status:
        return None
    with contextlib.suppress(ValueError):
        return json.loads(printed)
    return None
