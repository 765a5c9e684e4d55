"""Facts of the hardware and the system that do not change while a run lasts.

Files that are missing, that may not be read or that hold something else give None; nothing here
raises.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ablation_kernels.limits import count_listed, parse_number, read_number, read_text
from ablation_kernels.machine import PROCESSORS, allowed_processors, cpu_info, sysctl

T = TypeVar("T")

CLOCK_SOURCE = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
# Files that only a container has, and whose container that is.
CONTAINER_FILES = (
    ("/.dockerenv", "docker"),
    ("/run/.containerenv", "podman"),
    ("/.singularity.d", "singularity"),
)
CONTAINER_WORDS = ("kubepods", "docker", "libpod", "lxc", "containerd", "garden", "machine.slice")


def answer(question: Callable[..., T], *arguments: object) -> T | None:
    """Return what psutil answers; None where it cannot read the system."""
    try:
        return question(*arguments)
    except Exception:  # It raises whatever its parsing meets: IndexError, TypeError, its own Error
        return None


def listed(numbers: list[int]) -> str:
    """Return sorted numbers as the kernel lists them: 0-3,8."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] + 1 == number:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(map(str, part)) for part in parts)


def physical_cores() -> int | None:
    """Return how many cores the allowed processors are; fewer than these where they share some."""
    if (cores := sysctl("hw.physicalcpu")) is not None:
        return parse_number(cores)
    folders = [PROCESSORS / f"cpu{number}/topology" for number in allowed_processors()]
    siblings = {read_text(folder / "thread_siblings_list") for folder in folders}
    return None if None in siblings or not siblings else len(siblings)


def core_kinds() -> dict[str, int]:
    """Return how many processors there are of each kind, where there is more than one kind.

    The kinds are those of macOS (performance levels), of Intel's hybrid processors, or the relative
    speeds that Linux knows on Arm.
    """
    kinds: dict[str, int] = {}
    for level in ("0", "1"):
        count = sysctl(f"hw.perflevel{level}.logicalcpu") or ""
        kinds[f"perflevel{level}"] = parse_number(count) or 0
    for name in ("cpu_core", "cpu_atom"):
        kinds[name] = count_listed(read_text(f"/sys/devices/{name}/cpus") or "") or 0
    for number in allowed_processors():
        capacity = read_number(PROCESSORS / f"cpu{number}/cpu_capacity")
        if capacity is not None:
            name = f"capacity {capacity}"
            kinds[name] = kinds.get(name, 0) + 1
    found = {name: count for name, count in kinds.items() if count}
    return found if len(found) > 1 else {}


def transparent_huge_pages() -> str | None:
    """Return always, madvise or never: the word that the system has in brackets."""
    text = read_text("/sys/kernel/mm/transparent_hugepage/enabled") or ""
    return text.partition("[")[2].partition("]")[0] or None


def virtualization() -> dict[str, str | None]:
    """Return the hypervisor, the machine's product name and the kind of container, where known.

    Read from files alone: they tell less than a hypervisor that hides would.
    """
    kind = read_text("/sys/hypervisor/type")
    if "microsoft" in platform.release().lower():
        kind = kind or "wsl"
    if "hypervisor" in (cpu_info("flags") or "").split():
        kind = kind or "unnamed"
    if compatible := read_text("/proc/device-tree/hypervisor/compatible"):
        kind = kind or compatible.strip("\0")
    return {
        "hypervisor": kind or None,
        "product": read_text("/sys/class/dmi/id/product_name") or None,
        "container": container(),
    }


def container() -> str | None:
    """Return whose container this process runs in, or None where no file tells of one."""
    for path, name in CONTAINER_FILES:
        try:
            if Path(path).exists():
                return name
        except OSError:
            continue
    # systemd and podman name the variable in lower case.
    named = os.environ.get("container")  # noqa: SIM112
    if told := read_text("/run/systemd/container") or named:
        return told
    paths = "\n".join(read_text(f"/proc/{pid}/cgroup") or "" for pid in ("self", "1"))
    return next((word for word in CONTAINER_WORDS if word in paths), None)


def describe_hardware() -> dict[str, Any]:
    """Return what `machine` in run.json has beside the processor's name and size."""
    active = read_number(PROCESSORS / "smt/active")
    return {
        "affinity": listed(allowed_processors()) or None,
        "physical_cores": physical_cores(),
        "smt_active": None if active is None else active > 0,
        "core_kinds": core_kinds(),
        "numa_nodes": count_listed(read_text("/sys/devices/system/node/online") or ""),
        "page_bytes": os.sysconf("SC_PAGE_SIZE"),
        "transparent_huge_pages": transparent_huge_pages(),
        "clock_source": read_text(CLOCK_SOURCE) or None,
        "kernel_version": platform.version(),
        "virtualization": virtualization(),
    }
