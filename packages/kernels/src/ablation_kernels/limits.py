"""What the system lets this process use: its affinity mask, and the limits of its control groups.

A limit of any group from the process's own up to the root holds. Files that are missing, that may
not be read or that hold something else count as no limit; nothing here raises.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Of the kernels (`set_num_threads`).
MAX_THREADS = 1024
_MOUNTS, _GROUPS = "/proc/self/mountinfo", "/proc/self/cgroup"
# Where systems mount control groups, for a process that cannot read its mounts.
_USUAL_MOUNT = "/sys/fs/cgroup"
_LONGEST_NUMBER = 20


def available_bytes() -> int | None:
    """Return the bytes of memory that programs may still take; None where the system says none."""
    kibibytes = read_counts("/proc/meminfo").get("MemAvailable")
    return None if kibibytes is None else 1024 * kibibytes


class Quota(NamedTuple):
    """Processors' worth of time that a control group may use, and the file that limits it."""

    processors: float
    source: str


class _Mount(NamedTuple):
    """The group that is seen at a mount point; `controllers` is None for version 2."""

    root: str
    point: str
    controllers: frozenset[str] | None


def read_text(path: str | Path) -> str | None:
    """Return the stripped text of a file of the system; None where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, ValueError):
        return None


def read_number(path: str | Path) -> int | None:
    """Return the whole number in a file; None for "max", -1, anything else and no file."""
    return parse_number(read_text(path) or "")


def read_counts(path: str | Path) -> dict[str, int]:
    """Return the second word of each line by the first, where that is a whole number.

    As in memory.stat, cpu.stat, /proc/vmstat and /proc/self/status; empty without the file.
    """
    lines = [line.split() for line in (read_text(path) or "").splitlines()]
    found = {words[0].rstrip(":"): parse_number(words[1]) for words in lines if len(words) > 1}
    return {name: number for name, number in found.items() if number is not None}


def parse_number(text: str) -> int | None:
    """Return a whole number of at most 20 digits; None for other text."""
    is_number = text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER
    return int(text) if is_number else None


def group_folders(controller: str) -> list[Path]:
    """Return the folders of this process's control groups, its own first and the root's last.

    `controller` is "memory", "cpu" or "cpuset". Where systems mix both versions of control groups,
    the folders of version 1 stand first; those that lack the controller have no file of it.
    """
    paths = dict(_own_paths(controller))
    mounts = list(_mounts())
    first = [mount for mount in mounts if controller in (mount.controllers or ())]
    second = [mount for mount in mounts if mount.controllers is None]
    first = first or [_Mount("/", f"{_USUAL_MOUNT}/{controller}", frozenset((controller,)))]
    second = second or [_Mount("/", _USUAL_MOUNT, None)]
    folders = [*_levels(first, paths.get(1, "/")), *_levels(second, paths.get(2, "/"))]
    return list(dict.fromkeys(folders))


def _own_paths(controller: str) -> Iterator[tuple[int, str]]:
    """Give the version and path of the groups that may limit a controller."""
    for line in (read_text(_GROUPS) or "").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0" and not controllers:
            yield 2, path
        elif controller in controllers.split(","):
            yield 1, path


def _mounts() -> Iterator[_Mount]:
    """Give the mounts of control groups: see proc(5), /proc/pid/mountinfo."""
    for line in (read_text(_MOUNTS) or "").splitlines():
        left, _, right = line.partition(" - ")
        fields, tail = left.split(), right.split()
        if len(fields) < 5 or len(tail) < 2:
            continue
        root, point = map(_unescaped, fields[3:5])
        if tail[0] == "cgroup2":
            yield _Mount(root, point, None)
        elif tail[0] == "cgroup":
            yield _Mount(root, point, frozenset(tail[-1].split(",")))


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _levels(mounts: list[_Mount], path: str) -> list[Path]:
    """Return the folder of a group and of those above it, at each mount that shows it.

    A container may see its group by another path than that of its mount, or a path that leaves the
    namespace ("/../.."). What is mounted is then the nearest group that can be seen.
    """
    own = [part for part in path.split("/") if part]
    found = []
    for mount in mounts:
        root = [part for part in mount.root.split("/") if part]
        below = own[len(root) :]
        if own[: len(root)] == root and ".." not in below:
            found += [Path(mount.point, *below[:n]) for n in range(len(below), -1, -1)]
    return found or [Path(mount.point) for mount in mounts]


def processor_quota() -> Quota | None:
    """Return the smallest quota of processor time among this process's control groups, or None.

    Version 2: `cpu.max`, version 1: `cpu.cfs_quota_us` over `cpu.cfs_period_us`.
    """
    quotas = [quota for folder in group_folders("cpu") if (quota := _quota(folder))]
    return min(quotas, key=lambda quota: quota.processors, default=None)


def _quota(folder: Path) -> Quota | None:
    for name, words in (
        ("cpu.max", (read_text(folder / "cpu.max") or "").split()),
        (
            "cpu.cfs_quota_us",
            [read_text(folder / f"cpu.cfs_{what}_us") or "" for what in ("quota", "period")],
        ),
    ):
        used, period = map(parse_number, words) if len(words) == 2 else (None, None)
        if used and period:
            return Quota(used / period, str(folder / name))
    return None


def affinity_processors() -> int:
    """Return how many processors this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


def group_processors() -> int | None:
    """Return how many processors the control groups' sets have, or None without such a set."""
    sets = []
    for folder in group_folders("cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus"):
            sets.append(count_listed(read_text(folder / name) or ""))
    return min((size for size in sets if size), default=None)


def listed_ranges(text: str) -> list[range]:
    """Return the ranges of a list of the kernel's, such as 0-3,8; empty for other text."""
    ranges = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        first, last = parse_number(low), parse_number(high if dash else low)
        if first is None or last is None or last < first:
            return []
        ranges.append(range(first, last + 1))
    return ranges


def count_listed(text: str) -> int | None:
    """Return how many numbers a list of the kernel's has; None for other text."""
    return sum(part.stop - part.start for part in listed_ranges(text)) or None


def default_threads() -> int:
    """Return how many threads this process can keep at work, 1 to 1024.

    The least of the affinity mask, the sets of processors, and the quota rounded down: more threads
    than the quota has processors would be stopped in every period of it. At least one.
    """
    counts = [affinity_processors(), MAX_THREADS, group_processors()]
    quota = processor_quota()
    counts.append(int(quota.processors) if quota else None)
    return max(1, min(count for count in counts if count is not None))
