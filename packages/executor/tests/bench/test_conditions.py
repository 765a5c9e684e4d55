"""Conditions of a session: what is recorded, what is told, and that no probe ends a run."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

from ablation_executor.bench import conditions, hardware, machine, memory_room
from ablation_executor.bench.conditions import Watch

from .system_files import Content, replace_files

ROOT = "/sys/fs/cgroup"
CPU = "/sys/devices/system/cpu"


@pytest.fixture(autouse=True)
def four_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Four processors of eight, no battery, and nobody at work."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 5}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.4, 0.3))
    monkeypatch.setattr(conditions, "SUPPLIES", tmp_path)


def begin(threads: int) -> tuple[dict[str, Any], list[str], Watch]:
    """A session of a run: its machine, the notes, and the watch."""
    found: dict[str, Any] = {}
    notes: list[str] = []
    return found, notes, Watch(found, 1, threads, notes.append)


def test_quiet_machine_warns_of_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_files(monkeypatch, {"/proc/stat": "cpu 5 0 1 90 0 0 0 0 0 0\n"})
    found, notes, watch = begin(4)
    replace_files(monkeypatch, {"/proc/stat": "cpu 99 0 9 95 0 0 0 1 0 0\n"})
    assert watch.end() == notes == []
    (entry,) = found["conditions"]
    assert entry["warnings"] == []
    assert (entry["session"], entry["load_average"], entry["hot_processors"]) == (1, 0.5, None)
    assert entry["memory_free_bytes"] > 0
    assert "the machine" in entry["memory_limit"]
    assert entry["steal_share"] == pytest.approx(1 / 103, abs=1e-4)


WARNED: dict[str, tuple[dict[str, Content], str]] = {
    "quota": (
        {f"{ROOT}/cpu.max": "150000 100000\n"},
        f"4 threads under a quota of 1.5 processors ({ROOT}/cpu.max)",
    ),
    "governor": (
        {f"{CPU}/cpu{n}/cpufreq/scaling_governor": "powersave\n" for n in (0, 1, 2, 5)},
        "the processor's governor is powersave",
    ),
    "one governor of several": (
        {
            f"{CPU}/cpu0/cpufreq/scaling_governor": "performance\n",
            f"{CPU}/cpu5/cpufreq/scaling_governor": "powersave\n",
        },
        "the processor's governor is performance, powersave",
    ),
}


@pytest.mark.parametrize("name", WARNED)
def test_warnings_of_files(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files, text = WARNED[name]
    replace_files(monkeypatch, files)
    found, notes, _ = begin(4)
    (note,) = notes
    assert text in note
    assert found["conditions"][0]["warnings"] == notes


def test_powersave_of_a_driver_that_goes_by_load(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {
        f"{CPU}/cpu0/cpufreq/scaling_governor": "powersave\n",
        f"{CPU}/cpu0/cpufreq/scaling_driver": "intel_pstate\n",
        f"{CPU}/intel_pstate/no_turbo": "1\n",
    }
    replace_files(monkeypatch, files)
    found, notes, _ = begin(4)
    assert notes == []
    (entry,) = found["conditions"]
    assert (entry["governor"], entry["boost"]) == ("powersave", False)
    assert machine.describe_machine()["governor"] == "powersave"


def test_family_and_model_of_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "processor\t: 0\ncpu family\t: 26\nmodel\t\t: 2\nmodel name\t: AMD EPYC\n"
    replace_files(monkeypatch, {"/proc/cpuinfo": told})
    found = machine.describe_machine()
    assert (found["cpu_family"], found["cpu_model_number"]) == (26, 2)
    replace_files(monkeypatch, {"/proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd40\n"})
    assert machine.describe_machine()["cpu_family"] is None


def test_more_threads_than_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_files(monkeypatch, {})
    assert begin(5)[1] == ["5 threads on 4 processors of this process: threads will wait"]


def test_load_of_the_whole_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_files(monkeypatch, {})
    monkeypatch.setattr(os, "getloadavg", lambda: (7.9, 0, 0))
    assert begin(4)[1] == []
    monkeypatch.setattr(os, "getloadavg", lambda: (8.4, 0, 0))
    assert begin(4)[1] == ["the load average is 8.4 on 8 processors: times will be noisy"]


def add_supply(folder: Path, name: str, **files: str) -> None:
    (folder / name).mkdir()
    for file, text in files.items():
        (folder / name / file).write_text(text + "\n")


def test_power_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_supply(tmp_path, "mouse", type="Battery", scope="Device", status="Discharging")
    assert conditions.power_source() is None
    add_supply(tmp_path, "BAT0", type="Battery", status="Discharging")
    assert conditions.power_source() == "battery"
    _, notes, _ = begin(4)
    assert "the machine runs on its battery: its clock rate may be reduced" in notes
    add_supply(tmp_path, "AC", type="Mains", online="0")
    assert conditions.power_source() == "battery"
    add_supply(tmp_path, "USBC0", type="USB", online="1")
    assert conditions.power_source() == "mains"


@pytest.mark.parametrize(("plugged", "source"), [(True, "mains"), (False, "battery"), (None, None)])
def test_power_source_without_sys(
    plugged: bool | None, source: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(conditions, "SUPPLIES", tmp_path / "missing")
    battery = SimpleNamespace(power_plugged=plugged)
    monkeypatch.setattr(psutil, "sensors_battery", lambda: battery, raising=False)
    assert conditions.power_source() == source


def counted(steal: int, idle: int, throttled: int, heat: int) -> dict[str, Content]:
    """The system's counters."""
    return {
        "/proc/self/cgroup": "0::/job/step\n",
        "/proc/stat": f"cpu  {1000 - idle} 0 0 {idle} 0 0 0 {steal} 7 7\ncpu0 1 1 1\n",
        f"{ROOT}/job/step/cpu.stat": f"usage_usec 5\nnr_periods 90\nnr_throttled {throttled}\n",
        f"{ROOT}/job/cpu.stat": "usage_usec 5\n",
        f"{CPU}/cpu5/thermal_throttle/core_throttle_count": f"{heat}\n",
    }


def test_what_happens_while_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_files(monkeypatch, counted(steal=10, idle=1000, throttled=3, heat=2))
    found, notes, watch = begin(4)
    assert notes == []
    replace_files(monkeypatch, counted(steal=110, idle=600, throttled=15, heat=6))
    told = watch.end()
    (entry,) = found["conditions"]
    held = {"group": f"{ROOT}/job/step", "throttled_periods": 12, "periods": 0}
    assert entry["throttled_groups"] == [held]
    # 100 of 400 + 100: time that nobody wanted does not count
    assert entry["steal_share"] == 0.2
    assert entry["hot_processors"] == 4
    assert entry["warnings"] == told
    assert [text.split(":")[0] for text in told] == [
        f"the quota of control group {ROOT}/job/step throttled the run in 12 of 0 periods",
        "the hypervisor took 20% of the processors' time",
        "heat slowed the processors 4 times",
    ]


def test_each_session_has_its_own_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    replace_files(monkeypatch, {})
    found: dict[str, Any] = {"conditions": [{"session": 1}]}
    Watch(found, 2, 1, print).end()
    assert [entry["session"] for entry in found["conditions"]] == [1, 2]
    damaged: dict[str, Any] = {"conditions": "none"}
    Watch(damaged, 2, 1, print).end()
    assert [entry["session"] for entry in damaged["conditions"]] == [2]


def test_what_other_programs_use_before_a_case_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    found: dict[str, Any] = {}
    said: list[str] = []
    watch = Watch(found, 1, 1, said.append)
    said.clear()
    (entry,) = found["conditions"]
    before = list(entry["warnings"])
    for percent in (None, 4.0, 51.27, 8.0):
        monkeypatch.setattr(psutil, "cpu_percent", lambda _, p=percent: p)
        watch.begin_case("GPT-2")
    assert entry["busy_share"] == 0.5127
    assert said == ["GPT-2: other programs use 51% of the processors"]
    assert entry["warnings"] == [*before, *said]


def watched() -> None:
    """A session from start to end."""
    Watch({}, 1, 1, print).end()


PROBES: list[Callable[[], object]] = [
    *(machine.describe_machine, machine.system_kills),
    *(hardware.describe_hardware, hardware.container, conditions.read_conditions),
    *(conditions.busy_share, conditions.power_source, memory_room.machine_bound, watched),
    *(lambda: machine.thread_time_ns(os.getpid()), lambda: memory_room.memory_room(None)),
]
CONTENTS: list[Content | None] = [
    *("0-99999999999999999999", "Mems_allowed_list: 0-9999999999\n", "Node 0 MemTotal: x kB"),
    *(None, PermissionError(13, "Permission denied"), OSError(5, "Input/output error")),
    *("", "\n\n", "max", "-1", "text", "cpu", "1 2", "9" * 5000, "\u0663", "\x00\ufffd", ": : :"),
    *("cpu " + "x " * 9, "nr_throttled 1" * 9, "MemTotal: kB\nMemFree: kB\n"),
]


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: repr(content)[:20])
@pytest.mark.parametrize("probe", range(len(PROBES)))
def test_no_probe_ends_a_run(
    probe: int, content: Content | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(conditions, "BUSY_PROBE_S", 0.001)
    monkeypatch.setattr(os, "getloadavg", refuse)
    if isinstance(content, Exception):
        monkeypatch.setattr(os, "sched_getaffinity", refuse, raising=False)
        monkeypatch.setattr(Path, "exists", refuse)
        monkeypatch.setattr(Path, "iterdir", refuse)
    replace_files(monkeypatch, {}, others=content)
    PROBES[probe]()
