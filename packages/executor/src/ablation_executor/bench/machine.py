"""Facts of the machine that a run records, and the memory that a cell may use."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from .baselines import DISTRIBUTIONS

MIN_RESERVE_BYTES = 512 << 20
RESERVE_SHARE = 0.03


def affinity_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _sysctl(name: str) -> str | None:
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu_info(key: str) -> str | None:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def cpu_model() -> str:
    """The processor's name as the system tells it."""
    name = _cpu_info("model name") or _sysctl("machdep.cpu.brand_string")
    return name or platform.processor() or platform.machine()


def isa_flags() -> list[str]:
    """Instruction set flags of the processor that matter to float32 and short types."""
    listed = (_cpu_info("flags") or _cpu_info("Features") or "").split()
    wanted = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "sme", "bf16", "i8mm", "neon")
    if not listed and platform.system() == "Darwin" and platform.machine() == "arm64":
        return ["neon"]
    # smep is memory protection, not the matrix extension that its name begins with.
    return sorted(flag for flag in listed if flag.startswith(wanted) and flag != "smep")


def cache_sizes() -> dict[str, str]:
    """Cache name to size, for example L1d: 32K, of the first core."""
    caches: dict[str, str] = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind = _read(f"{folder}/level"), _read(f"{folder}/type")
        size = _read(f"{folder}/size")
        if level and kind and size:
            suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
            caches[f"L{level}{suffix}"] = size
    for name in ("l1dcachesize", "l1icachesize", "l2cachesize"):
        size = None if caches else _sysctl(f"hw.perflevel0.{name}")
        if size:
            caches[name.removesuffix("cachesize").upper()] = size
    return caches


def describe_machine() -> dict[str, Any]:
    """The `machine` object of run.json."""
    return {
        "cpu_model": cpu_model(),
        "cores": affinity_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "os": f"{platform.system()} {platform.release()}",
        "arch": platform.machine(),
        "isa_flags": isa_flags(),
        "caches": cache_sizes(),
    }


def versions() -> dict[str, str | None]:
    """Installed versions, without importing anything; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    own = ("numpy", "torch", "triton", "ablation-kernels", "ablation-executor")
    for name in dict.fromkeys((*own, *DISTRIBUTIONS)):
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


def _control_group_room() -> int | None:
    """Bytes left under the control group's memory limit, or None without a limit."""
    for limit_path, used_path in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        limit, used = _read(limit_path), _read(used_path)
        if limit and used and limit.isdigit() and int(limit) < psutil.virtual_memory().total:
            return int(limit) - int(used)
    return None


def available_bytes(limit_bytes: int | None) -> int:
    """Bytes that the cells of a config may use.

    What is free now less a reserve for the system and for the processes themselves, or the
    user's limit if that is smaller.
    """
    memory = psutil.virtual_memory()
    free = int(memory.available)
    room = _control_group_room()
    if room is not None:
        free = min(free, room)
    free -= max(MIN_RESERVE_BYTES, int(RESERVE_SHARE * memory.total))
    return max(0, free if limit_bytes is None else min(free, limit_bytes))


def gibibytes(count: int) -> str:
    """Bytes as printed: 1.50 GiB, or MiB below a tenth of one."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"


def system_kills() -> int | None:
    """How many processes Linux has ended for want of memory since it started; None elsewhere."""
    for line in (_read("/proc/vmstat") or "").splitlines():
        name, _, count = line.partition(" ")
        if name == "oom_kill":
            return int(count)
    return None


def thread_time_ns(pid: int) -> int | None:
    """Processor time of all threads of a process; None where only Linux could tell."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        text = _read(str(path))
        if text is None:
            continue
        total += int(text.split()[0])
    return total or None


def busy_share(seconds: float = 0.3) -> float:
    """Share of all cores that is at work just now, this process asleep; 0 to 1."""
    return float(psutil.cpu_percent(interval=seconds)) / 100
