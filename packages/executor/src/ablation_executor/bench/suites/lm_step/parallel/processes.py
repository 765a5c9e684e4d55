"""Processes of this machine that train together: they meet in a file and talk over the loopback.

torchrun's own meeting place takes connections from every network that the machine is in, and asks
for no password. Nothing of these processes can be reached from another machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import IO, Any

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
STOP_TIMEOUT_S, END_TIMEOUT_S, POLL_S = 10.0, 5.0, 0.2


def start(
    world_size: int, arguments: Sequence[str], threads: int, store: Path, output: IO[Any] | None
) -> list[subprocess.Popen[bytes]]:
    """Start so many processes of this package on this machine.

    Args:
        world_size: how many train together.
        arguments: of each, besides the file in which they meet.
        threads: of each.
        store: that file, which is not there yet, in a folder of this user alone.
        output: where all of them print; None for where this process does.
    """
    command = [sys.executable, "-m", __package__, *arguments]
    return [
        subprocess.Popen(
            [*command, "--store", str(store)],
            env=environment(rank, world_size, threads),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        for rank in range(world_size)
    ]


def environment(rank: int, world_size: int, threads: int) -> dict[str, str]:
    """The variables of one of the processes, with the names that torchrun gives them."""
    return {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
        "OMP_NUM_THREADS": str(threads),
        "GLOO_SOCKET_IFNAME": LOOPBACK,
        "NCCL_SOCKET_IFNAME": LOOPBACK,
    }


def failed(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """The status of the first process that has failed; None without one."""
    return next((process.returncode for process in processes if process.poll()), None)


def wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait until all have ended, and end the others where one fails; return the status of one that
    has failed, or 0."""
    while not _have_ended(processes, POLL_S):
        if failed(processes) is not None:
            stop(processes)
    return failed(processes) or 0


def stop(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let processes end by themselves, since they have been asked to; else end them."""
    if _have_ended(processes, STOP_TIMEOUT_S):
        return
    for process in processes:
        process.terminate()
    if not _have_ended(processes, END_TIMEOUT_S):
        for process in processes:
            process.kill()
            process.wait()


def _have_ended(processes: Sequence[subprocess.Popen[bytes]], timeout_s: float) -> bool:
    """True where all have ended, at the latest after this time."""
    deadline = monotonic() + timeout_s
    try:
        for process in processes:
            process.wait(max(0.0, deadline - monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return True
