"""The memory that programs may use: the least that any limit of the system leaves, by name.

Page cache counts as free, as it does in the system's own MemAvailable: the kernel gives it back
before it ends a process. Swap does not count: what is swapped out cannot be timed.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from ablation_kernels.limits import (
    group_folders,
    listed_ranges,
    parse_number,
    read_counts,
    read_number,
    read_text,
)

from .hardware import answer

MIN_RESERVE_BYTES = 512 << 20
RESERVE_SHARE = 0.03
# Of memory.stat; "file" and "cache" would have the pages of tmpfs too, which only swap could take.
CACHE_KEYS = ("inactive_file", "active_file", "slab_reclaimable")
NODES = Path("/sys/devices/system/node")
MOST_NODES = 1024  # of Linux: MAX_NUMNODES
NODE_FREE = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")
# Linux has not enforced RLIMIT_RSS since 2.4.30.
PROCESS_LIMITS = (
    ("RLIMIT_AS (ulimit -v)", resource.RLIMIT_AS, "VmSize"),
    ("RLIMIT_DATA (ulimit -d)", resource.RLIMIT_DATA, "VmData"),
)


@dataclass(frozen=True)
class Bound:
    """A limit: its name, its bytes, and those that are free under it."""

    source: str
    limit_bytes: int
    free_bytes: int

    @property
    def reserve_bytes(self) -> int:
        """Bytes that stay free for the processes themselves, and for others under this limit."""
        return max(MIN_RESERVE_BYTES, int(RESERVE_SHARE * self.limit_bytes))

    @property
    def room_bytes(self) -> int:
        """Bytes that may be used."""
        return max(0, self.free_bytes - self.reserve_bytes)

    def __str__(self) -> str:
        """The limit in a row's reason."""
        used, reserve = self.limit_bytes - self.free_bytes, self.reserve_bytes
        use = f"{gibibytes(used)} in use, {gibibytes(reserve)} kept in reserve"
        return f"{self.source}: {gibibytes(self.limit_bytes)}, {use}"


@dataclass(frozen=True)
class Room:
    """Bytes that may be used, and the limit that leaves no more, in words."""

    bytes: int
    limit: str


def gibibytes(count: int) -> str:
    """Bytes as printed: 1.50 GiB, or MiB below a tenth of one."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"


def memory_room(limit_bytes: int | None) -> Room:
    """Return the memory that the programs of a case may use.

    The least of what is free on the machine, on the NUMA nodes that this process may use, in each
    control group from its own up to the root, and under the limits of a process; each less a
    reserve (3% of the limit, 512 MiB at least). `limit_bytes`, the user's own, if that is smaller.
    """
    machine = machine_bound()
    nearest = min(
        (*group_bounds(machine.limit_bytes), *process_bounds(), *node_bounds(), machine),
        key=lambda bound: bound.room_bytes,
    )
    if limit_bytes is not None and limit_bytes < nearest.room_bytes:
        return Room(limit_bytes, f"--mem-limit: {gibibytes(limit_bytes)}")
    return Room(nearest.room_bytes, str(nearest))


def machine_bound() -> Bound:
    """Return the memory of the machine: psutil's figures, or those of sysconf without /proc."""
    memory = answer(psutil.virtual_memory)
    if memory is not None:
        return Bound("the machine", int(memory.total), int(memory.available))
    total, free = (os.sysconf(name) for name in ("SC_PHYS_PAGES", "SC_AVPHYS_PAGES"))
    page = os.sysconf("SC_PAGE_SIZE")
    return Bound("the machine", total * page, free * page)


def group_bounds(machine_bytes: int) -> Iterator[Bound]:
    """Give what each limit of each control group leaves; a limit of the machine's size is none.

    A group's use is that of all processes in it and below it. Usage that cannot be read counts as
    none.
    """
    for depth, folder in enumerate(group_folders("memory")):
        stat = read_counts(folder / "memory.stat")
        # Version 1 tells a group's own pages, and beside them the total with the groups below.
        cache = sum(stat.get(f"total_{key}", stat.get(key, 0)) for key in CACHE_KEYS)
        for name, limit, usage in _limits(folder, stat, is_own=depth == 0):
            if limit is not None and limit < machine_bytes:
                used = read_number(folder / usage) or 0
                free = max(0, limit - max(0, used - cache))
                yield Bound(f"control group {folder} ({name})", limit, free)


def _limits(
    folder: Path, stat: Mapping[str, int], is_own: bool
) -> Iterator[tuple[str, int | None, str]]:
    """Give the name and the bytes of each limit of a group, and the file of its usage.

    memory.high ends no process, but slows all of the group for as long as they are above it. Groups
    of version 1 may be told not to count those below them, and tell the least limit of the groups
    above them, which a container may not see.
    """
    for name in ("memory.max", "memory.high"):
        yield name, read_number(folder / name), "memory.current"
    if is_own:
        name = "hierarchical_memory_limit"
        yield name, stat.get(name), "memory.usage_in_bytes"
    if is_own or read_number(folder / "memory.use_hierarchy") != 0:
        for kind in ("memory", "memory.memsw"):
            name = f"{kind}.limit_in_bytes"
            yield name, read_number(folder / name), f"{kind}.usage_in_bytes"


def node_bounds() -> Iterator[Bound]:
    """Give the memory of the allowed NUMA nodes where a processor set leaves some out."""
    allowed = ""
    for line in (read_text("/proc/self/status") or "").splitlines():
        name, _, value = line.partition(":")
        allowed = value.strip() if name == "Mems_allowed_list" else allowed
    online = _nodes(read_text(NODES / "online") or "")
    used = [node for node in _nodes(allowed) if node in online]
    if not used or len(used) == len(online):
        return
    texts = [read_text(NODES / f"node{node}/meminfo") or "" for node in used]
    # Node 0 MemFree:  1234 kB
    words = [line.split() for text in texts for line in text.splitlines()]
    sizes = [(word[2].rstrip(":"), parse_number(word[3])) for word in words if len(word) > 3]
    total = sum(size or 0 for name, size in sizes if name == "MemTotal") * 1024
    free = sum(size or 0 for name, size in sizes if name in NODE_FREE) * 1024
    if total:
        yield Bound(f"NUMA nodes {allowed}", total, free)


def _nodes(text: str) -> list[int]:
    ranges = listed_ranges(text)
    return [node for node in range(MOST_NODES) if any(node in part for part in ranges)]


def process_bounds() -> Iterator[Bound]:
    """Give what the limits of a process leave, beyond what this one has now.

    Each worker may use as much; the sum of all is held to it, which is on the safe side.
    """
    for source, kind, field in PROCESS_LIMITS:
        soft, _ = resource.getrlimit(kind)
        if soft != resource.RLIM_INFINITY:
            yield Bound(source, soft, max(0, soft - (process_bytes(field) or 0)))


def process_bytes(field: str) -> int | None:
    """Return a size in bytes of this process, such as VmData; None where only Linux could tell."""
    kibibytes = read_counts("/proc/self/status").get(field)
    return None if kibibytes is None else kibibytes * 1024
