"""The memory that admission goes by: the nearest of all limits, by name."""

from __future__ import annotations

import os
import resource
from types import SimpleNamespace

import psutil  # type: ignore[import-untyped]
import pytest

from ablation_executor.bench.memory_room import Room, memory_room

from .system_files import replace_files

GIB = 1 << 30
ROOT, GROUPS = "/sys/fs/cgroup", "/proc/self/cgroup"
TOTAL, AVAILABLE, RESERVE = 64 * GIB, 48 * GIB, int(0.03 * 64 * GIB)
LEAST_RESERVE = 512 << 20
NO_LIMIT_1 = "9223372036854771712\n"


def memory_files(folder: str, limit: str, used_gib: float, **stat_gib: float) -> dict[str, str]:
    """A group of version 2."""
    stat = "".join(f"{key} {int(gib * GIB)}\n" for key, gib in stat_gib.items())
    return {
        f"{folder}/memory.max": f"{limit}\n",
        f"{folder}/memory.current": f"{int(used_gib * GIB)}\n",
        f"{folder}/memory.stat": stat,
    }


def memory_files_1(folder: str, limit: str, used_gib: float, **stat_gib: float) -> dict[str, str]:
    """A group of version 1."""
    stat = "".join(f"{key} {int(gib * GIB)}\n" for key, gib in stat_gib.items())
    return {
        f"{folder}/memory.limit_in_bytes": limit,
        f"{folder}/memory.usage_in_bytes": f"{int(used_gib * GIB)}\n",
        f"{folder}/memory.stat": stat,
    }


EIGHT = str(8 * GIB)
VERSION_1 = f"35 31 0:32 / {ROOT}/memory rw - cgroup cgroup rw,memory\n"
CASES: dict[str, tuple[dict[str, str], float, str]] = {
    "no group": ({}, 48, "the machine"),
    "own group": (memory_files(ROOT, EIGHT, 2), 6, f"control group {ROOT} (memory.max)"),
    "page cache counts as free": (
        memory_files(ROOT, EIGHT, 7, inactive_file=3, active_file=1.5, slab_reclaimable=0.5),
        6,
        f"control group {ROOT}",
    ),
    "pages of tmpfs do not": (memory_files(ROOT, EIGHT, 7, file=4, shmem=4, anon=3), 1, ROOT),
    "more cache than is used": (memory_files(ROOT, EIGHT, 1, inactive_file=3), 8, ROOT),
    "no limit": (memory_files(ROOT, "max", 7), 48, "the machine"),
    "a limit above the machine's size": (memory_files(ROOT, str(TOTAL), 63), 48, "the machine"),
    "used up": (memory_files(ROOT, EIGHT, 9), 0, ROOT),
    "usage unknown": ({f"{ROOT}/memory.max": EIGHT}, 8, ROOT),
    "group above, with all of its usage": (
        {
            GROUPS: "0::/job/step\n",
            **memory_files(f"{ROOT}/job/step", str(20 * GIB), 1),
            **memory_files(f"{ROOT}/job", str(16 * GIB), 12),
            **memory_files(f"{ROOT}/other", "1", 1),
        },
        4,
        f"control group {ROOT}/job (memory.max)",
    ),
    "groups are slowed from memory.high on": (
        {**memory_files(ROOT, EIGHT, 2), f"{ROOT}/memory.high": str(5 * GIB)},
        3,
        f"control group {ROOT} (memory.high)",
    ),
    "version 1": (
        {
            GROUPS: "4:memory:/a/b\n0::/\n",
            "/proc/self/mountinfo": VERSION_1,
            **memory_files_1(f"{ROOT}/memory/a/b", NO_LIMIT_1, 1),
            **memory_files_1(f"{ROOT}/memory/a", EIGHT, 7, inactive_file=1, total_inactive_file=5),
            **memory_files_1(f"{ROOT}/memory", NO_LIMIT_1, 30),
        },
        6,
        f"control group {ROOT}/memory/a (memory.limit_in_bytes)",
    ),
    "version 1, memory and swap": (
        {
            **memory_files_1(f"{ROOT}/memory", EIGHT, 2),
            f"{ROOT}/memory/memory.memsw.limit_in_bytes": EIGHT,
            f"{ROOT}/memory/memory.memsw.usage_in_bytes": str(7 * GIB),
        },
        1,
        "memory.memsw.limit_in_bytes",
    ),
    "version 1, a group above that cannot be seen": (
        memory_files_1(f"{ROOT}/memory", NO_LIMIT_1, 2, hierarchical_memory_limit=8),
        6,
        "hierarchical_memory_limit",
    ),
    "version 1, a group above that counts itself alone": (
        {
            GROUPS: "4:memory:/a/b\n",
            "/proc/self/mountinfo": VERSION_1,
            **memory_files_1(f"{ROOT}/memory/a", EIGHT, 7),
            f"{ROOT}/memory/a/memory.use_hierarchy": "0\n",
        },
        48,
        "the machine",
    ),
}


@pytest.fixture(autouse=True)
def large_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 GiB of which 48 are free, and no limit of a process."""
    memory = SimpleNamespace(total=TOTAL, available=AVAILABLE)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda kind: unlimited)


@pytest.mark.parametrize("name", CASES)
def test_the_nearest_limit_of_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files, free_gib, source = CASES[name]
    replace_files(monkeypatch, files)
    room = memory_room(None)
    reserve = RESERVE if source == "the machine" else LEAST_RESERVE
    assert room.bytes == max(0, int(free_gib * GIB) - reserve)
    assert source in room.limit
    assert memory_room(None).bytes == room.bytes


def test_the_limit_is_told_with_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_files(monkeypatch, memory_files(ROOT, EIGHT, 2))
    assert memory_room(None).limit == (
        f"control group {ROOT} (memory.max): 8.00 GiB, 2.00 GiB in use, 0.50 GiB kept in reserve"
    )
    assert memory_room(GIB) == Room(GIB, "--mem-limit: 1.00 GiB")
    assert memory_room(6 * GIB) == memory_room(None)


@pytest.mark.parametrize(
    ("kind", "field", "name"),
    [(resource.RLIMIT_AS, "VmSize", "ulimit -v"), (resource.RLIMIT_DATA, "VmData", "ulimit -d")],
)
def test_limits_of_a_process(
    kind: int, field: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_files(monkeypatch, {"/proc/self/status": f"Name:\tbench\n{field}:\t{GIB >> 10} kB\n"})
    limits = {kind: (9 * GIB, resource.RLIM_INFINITY)}
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda asked: limits.get(asked, unlimited))
    room = memory_room(None)
    assert room.bytes == 8 * GIB - LEAST_RESERVE
    assert name in room.limit


def node_files(allowed: str) -> dict[str, str]:
    """Three nodes, of which 0 and 2 have 8 GiB with 5 of them free, 2 of it by page cache."""
    sizes = {
        "MemTotal": 8,
        "MemFree": 2,
        "MemUsed": 6,
        "Active(anon)": 3,
        "Active(file)": 1,
        "Inactive(file)": 1,
        "SReclaimable": 1,
    }
    files = {"/sys/devices/system/node/online": "0-2\n"}
    for node in (0, 2):
        lines = [f"Node {node} {name}: {size * GIB >> 10} kB\n" for name, size in sizes.items()]
        files[f"/sys/devices/system/node/node{node}/meminfo"] = "".join(lines)
    return {**files, "/proc/self/status": f"Mems_allowed:\t5\nMems_allowed_list:\t{allowed}\n"}


@pytest.mark.parametrize(
    ("allowed", "free_gib", "source"),
    [("2", 5, "NUMA nodes 2"), ("0,2", 10, "NUMA nodes 0,2"), ("0-2", 48, "the machine")],
)
def test_nodes_of_a_processor_set(
    allowed: str, free_gib: int, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_files(monkeypatch, node_files(allowed))
    room = memory_room(None)
    reserve = RESERVE if source == "the machine" else LEAST_RESERVE
    assert room.bytes == free_gib * GIB - reserve
    assert room.limit.startswith(f"{source}: ")


@pytest.mark.parametrize("error", [FileNotFoundError, ValueError, KeyError, IndexError])
def test_machine_whose_memory_psutil_cannot_read(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", fail)
    pages = {"SC_PAGE_SIZE": 65536, "SC_PHYS_PAGES": 4 * GIB >> 16, "SC_AVPHYS_PAGES": GIB >> 16}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    replace_files(monkeypatch, {})
    assert memory_room(None).bytes == GIB - LEAST_RESERVE


def test_the_reserve_of_a_small_group_is_not_that_of_a_large_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = SimpleNamespace(total=2048 * GIB, available=2000 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    replace_files(monkeypatch, memory_files(ROOT, str(32 * GIB), 2))
    assert memory_room(None).bytes == 30 * GIB - int(0.03 * 32 * GIB)
