"""Facts of the hardware, from files that stand in for the system's."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest

from ablation_executor.bench import hardware
from ablation_kernels import machine

from .system_files import replace_files

CPU = "/sys/devices/system/cpu"


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux, processors 1 to 3 and 8."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {8, 1, 2, 3}, raising=False)
    monkeypatch.delenv("container", raising=False)


@pytest.mark.parametrize(
    ("numbers", "text"),
    [([], ""), ([4], "4"), ([0, 1], "0-1"), ([1, 2, 3, 8], "1-3,8"), ([0, 2, 4], "0,2,4")],
)
def test_processors_as_the_kernel_lists_them(numbers: list[int], text: str) -> None:
    assert hardware.listed(numbers) == text


def test_processors_that_share_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    siblings = {1: "1,3", 3: "1,3", 2: "2,4", 8: "8"}
    files = {f"{CPU}/cpu{n}/topology/thread_siblings_list": text for n, text in siblings.items()}
    replace_files(monkeypatch, {**files, f"{CPU}/smt/active": "1\n"})
    found = hardware.describe_hardware()
    assert (found["affinity"], found["physical_cores"], found["smt_active"]) == ("1-3,8", 3, True)
    del files[f"{CPU}/cpu8/topology/thread_siblings_list"]
    replace_files(monkeypatch, {**files, f"{CPU}/smt/active": "0\n"})
    assert hardware.physical_cores() is None
    assert hardware.describe_hardware()["smt_active"] is False


def test_kinds_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_files(monkeypatch, {f"{CPU}/cpu{n}/cpu_capacity": "1024\n" for n in (1, 2, 3, 8)})
    assert hardware.core_kinds() == {}
    capacity = {1: 446, 2: 446, 3: 446, 8: 1024}
    replace_files(
        monkeypatch, {f"{CPU}/cpu{n}/cpu_capacity": str(size) for n, size in capacity.items()}
    )
    assert hardware.core_kinds() == {"capacity 446": 3, "capacity 1024": 1}
    kinds = {"/sys/devices/cpu_core/cpus": "0-15\n", "/sys/devices/cpu_atom/cpus": "16-23\n"}
    replace_files(monkeypatch, kinds)
    assert hardware.core_kinds() == {"cpu_core": 16, "cpu_atom": 8}


def test_facts_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        "/sys/devices/system/node/online": "0-1,4\n",
        "/sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "/sys/class/dmi/id/product_name": "Standard PC\n",
        "/proc/cpuinfo": "processor : 0\nflags\t\t: fpu avx2 hypervisor\n",
    }
    replace_files(monkeypatch, files)
    found = hardware.describe_hardware()
    assert (found["numa_nodes"], found["transparent_huge_pages"]) == (3, "madvise")
    virtual = found["virtualization"]
    assert (virtual["hypervisor"], virtual["product"]) == ("unnamed", "Standard PC")
    assert found["page_bytes"] == os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize(
    ("files", "release", "kind"),
    [
        ({}, "6.1", None),
        ({"/proc/cpuinfo": "flags : fpu\n"}, "6.1", None),
        ({"/sys/hypervisor/type": "xen\n", "/proc/cpuinfo": "flags : hypervisor\n"}, "6.1", "xen"),
        ({"/proc/device-tree/hypervisor/compatible": "linux,kvm\0"}, "6.1", "linux,kvm"),
        ({}, "5.15-microsoft-standard-WSL2", "wsl"),
    ],
)
def test_hypervisor(
    files: dict[str, str], release: str, kind: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    replace_files(monkeypatch, files)
    assert hardware.virtualization()["hypervisor"] == kind


@pytest.mark.parametrize(
    ("files", "there", "expected"),
    [
        ({}, (), None),
        ({}, ("/.dockerenv",), "docker"),
        ({}, ("/run/.containerenv",), "podman"),
        ({"/run/systemd/container": "systemd-nspawn\n"}, (), "systemd-nspawn"),
        ({"/proc/self/cgroup": "0::/kubepods/burstable/pod1/2\n"}, (), "kubepods"),
        ({"/proc/1/cgroup": "4:memory:/lxc/one\n0::/\n"}, (), "lxc"),
    ],
)
def test_container(
    files: dict[str, str],
    there: tuple[str, ...],
    expected: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: str(path) in there)
    replace_files(monkeypatch, files)
    assert hardware.container() == expected


def test_caches_are_those_of_a_processor_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for number, size in ((0, "64K"), (1, "32K")):
        folder = tmp_path / f"cpu{number}/cache/index0"
        folder.mkdir(parents=True)
        for name, text in {"level": "1", "type": "Data", "size": size}.items():
            (folder / name).write_text(text)
    monkeypatch.setattr(machine, "PROCESSORS", tmp_path)
    assert machine.cache_sizes() == {"L1d": "32K"}
