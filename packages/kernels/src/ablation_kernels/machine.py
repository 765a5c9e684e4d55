"""The machine that kernels are timed on, and the processor time that other programs take of it.

Unknown facts are None; nothing here raises.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ablation_kernels.limits import (
    affinity_processors,
    parse_number,
    processor_quota,
    read_text,
)

# Other programs' share of the processors from which on times are noisy
BUSY_SHARE = 0.1
_PROBE_S = 0.3
# Columns of the line "cpu" in /proc/stat, in ticks: see proc_stat(5). Guests are part of user.
_IDLE, _IOWAIT, _COUNTED = 3, 4, 8
_FLAGS = ("sse4", "avx", "fma", "f16c", "amx", "asimd", "sve", "sme", "bf16", "i8mm", "neon")
PROCESSORS = Path("/sys/devices/system/cpu")


def describe_machine() -> dict[str, Any]:
    """Return the facts by which a machine is known, named as in the `machine` of a bench's run."""
    quota = processor_quota()
    return {
        "cpu_model": cpu_model(),
        # Of x86: a virtual machine's name says less
        "cpu_family": parse_number(cpu_info("cpu family") or ""),
        "cpu_model_number": parse_number(cpu_info("model") or ""),
        "cores": affinity_processors(),
        "os": f"{platform.system()} {platform.release()}",
        "arch": platform.machine(),
        "isa_flags": isa_flags(),
        "caches": cache_sizes(),
        "processor_quota": None if quota is None else quota.processors,
    }


def cpu_model() -> str:
    """Return the processor's name as the system has it."""
    name = cpu_info("model name") or sysctl("machdep.cpu.brand_string")
    return name or platform.processor() or platform.machine()


def isa_flags() -> list[str]:
    """Return the instruction set flags that matter to float32 and short types."""
    listed = (cpu_info("flags") or cpu_info("Features") or "").split()
    if not listed and platform.system() == "Darwin" and platform.machine() == "arm64":
        return ["neon"]
    # smep is memory protection, not the matrix extension that its name begins with.
    return sorted(flag for flag in listed if flag.startswith(_FLAGS) and flag != "smep")


def cache_sizes() -> dict[str, str]:
    """Return the size of each cache by name, for example L1d: 32K.

    They are those of the first processor that this process may run on.
    """
    found: dict[str, str] = {}
    first = next(iter(allowed_processors()), 0)
    for folder in sorted((PROCESSORS / f"cpu{first}/cache").glob("index*")):
        level, kind, size = (read_text(folder / name) for name in ("level", "type", "size"))
        if level and kind and size:
            suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
            found[f"L{level}{suffix}"] = size
    for name in ("l1dcachesize", "l1icachesize", "l2cachesize"):
        size = None if found else sysctl(f"hw.perflevel0.{name}")
        if size:
            found[name.removesuffix("cachesize").upper()] = size
    return found


def allowed_processors() -> list[int]:
    """Return the numbers of the processors that this process may run on; empty on macOS."""
    try:
        return sorted(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return []


def cpu_info(key: str) -> str | None:
    """Return what /proc/cpuinfo says of the first processor."""
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def sysctl(name: str) -> str | None:
    """Return a value of macOS; None elsewhere and where it is not known."""
    if sys.platform != "darwin":
        return None
    try:
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


class OtherLoad:
    """The share of the machine's processors that other programs have used since a moment."""

    def __init__(self) -> None:
        self._before = self._counts()

    def share(self) -> float | None:
        """Return the share from 0 to 1; None where the system does not count, or no tick passed."""
        now = self._counts()
        if now is None or self._before is None:
            return None
        busy_s, all_s, own_s = (b - a for a, b in zip(self._before, now, strict=True))
        return max(0.0, min(1.0, (busy_s - own_s) / all_s)) if all_s > 0 else None

    @staticmethod
    def _counts() -> tuple[float, float, float] | None:
        """Return busy and all seconds of all processors, and this process's own."""
        words = (read_text("/proc/stat") or "").partition("\n")[0].split()[: _COUNTED + 1]
        counts = [count for word in words[1:] if (count := parse_number(word)) is not None]
        if len(counts) != _COUNTED:
            return None
        ticks_a_second = os.sysconf("SC_CLK_TCK")
        idle = counts[_IDLE] + counts[_IOWAIT]
        total = sum(counts)
        return (total - idle) / ticks_a_second, total / ticks_a_second, time.process_time()


def other_load() -> float | None:
    """Return the share of the processors that other programs use just now; sleeps for 0.3 s."""
    load = OtherLoad()
    time.sleep(_PROBE_S)
    return load.share()


def busy_warning(share: float | None, when: str) -> str | None:
    """Return a warning where other programs use a tenth of the processors and more."""
    if share is None or share < BUSY_SHARE:
        return None
    return f"other programs {when} {share:.0%} of the processors: times are noisy"
