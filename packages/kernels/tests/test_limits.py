"""Processors that control groups and the affinity mask leave, by files that stand in for the
system's."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from ablation_kernels import limits

ROOT = "/sys/fs/cgroup"
GROUPS, MOUNTS = "/proc/self/cgroup", "/proc/self/mountinfo"
VERSION_2 = f"30 23 0:26 / {ROOT} rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
Install = Callable[[Mapping[str, str | Exception]], None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Let these files, and no others, be what /proc and /sys hold."""

    def replace(files: Mapping[str, str | Exception]) -> None:
        real = io.open

        def fake(path: Any, *arguments: Any, **options: Any) -> Any:
            if not str(path).startswith(("/proc/", "/sys/")):
                return real(path, *arguments, **options)
            text = files.get(str(path), FileNotFoundError(2, "No such file", str(path)))
            if isinstance(text, Exception):
                raise text
            return io.StringIO(text)

        monkeypatch.setattr(io, "open", fake)

    return replace


QUOTAS: dict[str, tuple[dict[str, str], float | None]] = {
    "own group": (
        {GROUPS: "0::/job\n", MOUNTS: VERSION_2, f"{ROOT}/job/cpu.max": "400000 100000\n"},
        4.0,
    ),
    "group above": (
        {
            GROUPS: "0::/job/step/task\n",
            MOUNTS: VERSION_2,
            f"{ROOT}/job/step/task/cpu.max": "max 100000\n",
            f"{ROOT}/job/step/cpu.max": "800000 100000\n",
            f"{ROOT}/job/cpu.max": "150000 100000\n",
        },
        1.5,
    ),
    "no limit": ({GROUPS: "0::/job\n", f"{ROOT}/job/cpu.max": "max 100000\n"}, None),
    "group of others": (
        {GROUPS: "0::/job\n", MOUNTS: VERSION_2, f"{ROOT}/other/cpu.max": "100000 100000\n"},
        None,
    ),
    "mounts unknown": ({GROUPS: "0::/\n", f"{ROOT}/cpu.max": "200000 100000\n"}, 2.0),
    "groups unknown": ({f"{ROOT}/cpu.max": "200000 100000\n"}, 2.0),
    "mounted elsewhere": (
        {
            GROUPS: "0::/job\n",
            MOUNTS: "30 23 0:26 / /mnt/the\\040groups rw - cgroup2 none rw\n",
            "/mnt/the groups/job/cpu.max": "",
            f"{ROOT}/job/cpu.max": "100000 100000\n",
        },
        None,
    ),
    "version 1": (
        {
            GROUPS: "4:cpu,cpuacct:/job\n3:memory:/other\n0::/\n",
            MOUNTS: f"32 31 0:29 / {ROOT}/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
            f"33 31 0:30 / {ROOT}/unified rw - cgroup2 cgroup2 rw\n",
            f"{ROOT}/cpu,cpuacct/job/cpu.cfs_quota_us": "250000\n",
            f"{ROOT}/cpu,cpuacct/job/cpu.cfs_period_us": "50000\n",
            f"{ROOT}/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            f"{ROOT}/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
        5.0,
    ),
    "version 1, its own mount": (
        {
            GROUPS: "2:cpu:/docker/abc/sub\n",
            MOUNTS: f"32 31 0:29 /docker/abc {ROOT}/cpu rw - cgroup cgroup rw,cpu\n",
            f"{ROOT}/cpu/cpu.cfs_quota_us": "300000\n",
            f"{ROOT}/cpu/cpu.cfs_period_us": "100000\n",
        },
        3.0,
    ),
    "outside the namespace": (
        {GROUPS: "0::/../..\n", MOUNTS: VERSION_2, f"{ROOT}/cpu.max": "200000 100000\n"},
        2.0,
    ),
    "mount of a group above the namespace": (
        {
            GROUPS: "0::/../job\n",
            MOUNTS: VERSION_2.replace(f" / {ROOT}", f" /.. {ROOT}"),
            f"{ROOT}/job/cpu.max": "200000 100000\n",
        },
        2.0,
    ),
    "period of nothing": ({GROUPS: "0::/\n", f"{ROOT}/cpu.max": "200000 0\n"}, None),
}


@pytest.mark.parametrize("name", QUOTAS)
def test_the_smallest_quota_of_all_groups(name: str, install: Install) -> None:
    files, expected = QUOTAS[name]
    install(files)
    found = limits.processor_quota()
    assert (found and found.processors) == expected
    if found is not None:
        assert found.source in files


def test_mount_point_with_a_space(install: Install) -> None:
    install({GROUPS: "0::/a\n", MOUNTS: "1 0 0:1 / /proc/of\\040us rw - cgroup2 none rw\n"})
    folders = [str(folder) for folder in limits.group_folders("memory")]
    assert folders[-2:] == ["/proc/of us/a", "/proc/of us"]


@pytest.mark.parametrize(
    ("affinity", "files", "threads"),
    [
        (8, {}, 8),
        (8, {f"{ROOT}/cpu.max": "390000 100000"}, 3),
        (8, {f"{ROOT}/cpu.max": "50000 100000"}, 1),
        (8, {f"{ROOT}/cpu.max": "1600000 100000"}, 8),
        (8, {f"{ROOT}/cpuset.cpus.effective": "0-3,8"}, 5),
        (8, {f"{ROOT}/cpuset.cpus.effective": "\n"}, 8),
        (8, {f"{ROOT}/cpuset/cpuset.effective_cpus": "6"}, 1),
        (4096, {}, 1024),
    ],
)
def test_default_threads(
    affinity: int,
    files: dict[str, str],
    threads: int,
    install: Install,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(affinity), raising=False)
    install(files)
    assert limits.default_threads() == threads


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 1),
        ("0-3", 4),
        ("0-3,8,10-11", 7),
        ("", None),
        ("3-1", None),
        ("a-b", None),
        ("0-" + "9" * 20, 10**20),
    ],
)
def test_count_of_a_list(text: str, count: int | None) -> None:
    assert limits.count_listed(text) == count


def test_affinity_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> set[int]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_getaffinity", refuse, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert limits.affinity_processors() == 1


UNREADABLE: list[str | Exception] = [
    *(PermissionError(13, "Permission denied"), OSError(5, "Input/output error")),
    *(IsADirectoryError(21, "Is a directory"), ValueError("embedded null byte")),
    *("", "\n", "max", "-1", "text", "1 2 3", "9" * 5000, "\u0663", "\x00", "0::/\n" * 3, " - "),
]


@pytest.mark.parametrize("content", UNREADABLE, ids=lambda content: repr(content)[:20])
def test_no_file_can_raise(content: str | Exception, install: Install) -> None:
    files = {GROUPS: "4:cpu,cpuset:/a\n0::/a\n", MOUNTS: VERSION_2}
    for folder in (ROOT, f"{ROOT}/a", f"{ROOT}/cpu", f"{ROOT}/cpuset/a"):
        for name in ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpuset.cpus.effective"):
            files[f"{folder}/{name}"] = content  # type: ignore[assignment]
    whole = limits.affinity_processors()
    for changes in ({}, {GROUPS: content}, {MOUNTS: content}, {GROUPS: content, MOUNTS: content}):
        install({**files, **changes})
        assert limits.processor_quota() is None
        assert limits.default_threads() == whole
        assert limits.read_counts(f"{ROOT}/cpu.max").get("text") is None


UNDER_A_QUOTA = """
import io
real = io.open
def fake(path, *arguments, **options):
    if str(path).startswith("/sys/fs/cgroup") or str(path) == "/proc/self/mountinfo":
        if str(path) != "/sys/fs/cgroup/cpu.max":
            raise FileNotFoundError(2, "No such file", path)
        return io.StringIO("100000 100000")
    return real(path, *arguments, **options)
io.open = fake
import ablation_kernels
print(ablation_kernels.get_num_threads())
"""


def test_the_kernels_start_with_as_many_threads_as_the_quota_has() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", UNDER_A_QUOTA], capture_output=True, text=True, check=True
    )
    assert printed.stdout == "1\n"
