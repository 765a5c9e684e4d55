"""One owner of a run folder: whoever writes to a run holds its lock from before the first read.

The lock is `flock` on a file of the folder. The system releases it when its process ends, however
that is; the file alone means nothing, and says who held it last. Children do not inherit it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path

from .interrupt import UsageError
from .terminal import printable

LOCK_NAME = ".ablation-bench.lock"
_READ_BYTES = 1 << 16


class RunLock:
    """The lock of a run folder that is there; hold it until `release`.

    Raises UsageError, with the owner, if another process holds it, and where the folder cannot be
    written or its file system has no locks: nothing would keep a second bench out.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        while not self._acquire(folder):
            # Whoever held it has deleted the file between our open and our lock
            pass
        self._write_holder()

    def _acquire(self, folder: Path) -> bool:
        try:
            # Not inheritable: a worker that outlives its bench holds nothing
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise UsageError(f"cannot write to {folder}: {error.strerror or error}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = self._owner()
            os.close(self._file)
            if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                raise UsageError(f"{folder} is in use by {owner}") from None
            raise UsageError(
                f"cannot lock {folder}: {error.strerror}; its file system has no locks, so a "
                "second bench could write to it; --out takes a folder of another file system"
            ) from None
        with contextlib.suppress(FileNotFoundError):
            if self._is_mine():
                return True
        os.close(self._file)
        return False

    def _owner(self) -> str:
        """Who holds the lock, as the file says."""
        try:
            holder = json.loads(os.pread(self._file, _READ_BYTES, 0))
            return printable(
                f"process {int(holder['pid'])} on {holder['host']} since {holder['since']}: "
                f"{holder['command']}"
            )
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return "another process"

    def _write_holder(self) -> None:
        """Write who holds the lock; without room on the disk the file stays empty."""
        owner = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "command": shlex.join(["ablation-bench", *sys.argv[1:]]),
        }
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(owner).encode() + b"\n", 0)

    def release(self) -> None:
        """Delete the file and let go; again does nothing."""
        if self._file < 0:
            return
        with contextlib.suppress(OSError):
            if self._is_mine():
                self._path.unlink()
        os.close(self._file)
        self._file = -1

    def _is_mine(self) -> bool:
        """True while the path leads to the file that is locked."""
        mine, there = os.fstat(self._file), os.stat(self._path)
        return (mine.st_ino, mine.st_dev) == (there.st_ino, there.st_dev)
