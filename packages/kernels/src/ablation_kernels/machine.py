"""The machine that kernels are timed on, and the processor time that other programs take of it.

What the system does not tell is None; nothing here raises.
"""

from __future__ import annotations

import os
import platform
import subprocess
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


def describe_machine() -> dict[str, Any]:
    """Return the facts by which a machine is known, named as in the `machine` of a bench's run."""
    quota = processor_quota()
    return {
        "cpu_model": _cpu_info("model name") or _apple_model() or platform.machine(),
        "cpu_family": parse_number(_cpu_info("cpu family") or ""),
        "cpu_model_number": parse_number(_cpu_info("model") or ""),
        "cores": affinity_processors(),
        "os": f"{platform.system()} {platform.release()}",
        "arch": platform.machine(),
        "isa_flags": sorted(
            flag
            for flag in (_cpu_info("flags") or _cpu_info("Features") or "").split()
            if flag.startswith(_FLAGS) and flag != "smep"
        ),
        "caches": _caches(),
        "processor_quota": None if quota is None else quota.processors,
    }


def _cpu_info(key: str) -> str | None:
    """Return what /proc/cpuinfo says of the first processor."""
    for line in (read_text("/proc/cpuinfo") or "").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def _apple_model() -> str | None:
    command = ["sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None


def _caches() -> dict[str, str]:
    """Return the size of each cache by name, for example L1d: 32K."""
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (read_text(folder / name) for name in ("level", "type", "size"))
        if level and kind and size:
            suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
            found[f"L{level}{suffix}"] = size
    return found


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
