"""Facts of the machine that a run records, and what its system counts of processes."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from ablation_kernels import machine
from ablation_kernels.limits import parse_number, read_counts, read_text

from .children import told_by
from .conditions import describe_power
from .hardware import describe_hardware
from .memory_room import machine_bound
from .runtimes import DISTRIBUTIONS


def describe_machine() -> dict[str, Any]:
    """The `machine` object of run.json, without the conditions of its sessions.

    Governor and power source are those at the start of the run: a session has them anew.
    """
    return {
        **machine.describe_machine(),
        "memory_bytes": machine_bound().limit_bytes,
        **describe_hardware(),
        **describe_power(),
    }


def versions() -> dict[str, str | None]:
    """Installed versions, without importing anything; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    own = ("numpy", "torch", "triton", "ablation-kernels", "ablation-executor")
    libraries = ("transformers", "timm")
    for name in dict.fromkeys((*own, *DISTRIBUTIONS, *libraries)):
        try:
            found[name.replace("-", "_")] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name.replace("-", "_")] = None
    return found


def git_sha() -> str | None:
    """The commit of the source tree that this file lies in, or None.

    Ends in "-dirty" when a tracked file of it has been changed since.
    """

    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        folder = Path(__file__).parent
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        sha = git("rev-parse", "HEAD")
        is_dirty = git("status", "--porcelain", "--untracked-files=no", ":/packages")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{sha}-dirty" if is_dirty else sha


def kernels_info() -> dict[str, Any]:
    """Return build_info() of the kernels; empty when the wheel is not installed."""
    try:
        import ablation_kernels
    except ImportError:
        return {}
    return dict(ablation_kernels.build_info())


_CUDA_PROGRAM = """
import json, torch
print(json.dumps(torch.cuda.get_device_name() if torch.cuda.is_available() else None))
"""


def cuda_name() -> str | None:
    """Return the name of the GPU that PyTorch would use, or None."""
    name: str | None = told_by(_CUDA_PROGRAM)
    return name


def system_kills() -> int | None:
    """How many processes Linux has ended for want of memory since it started; None elsewhere."""
    return read_counts("/proc/vmstat").get("oom_kill")


def thread_time_ns(pid: int) -> int | None:
    """Processor time of all threads of a process; None where only Linux could tell."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        time_ns, _, _ = (read_text(path) or "").partition(" ")
        total += parse_number(time_ns) or 0
    return total or None
