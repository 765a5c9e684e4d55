"""What may change from one session of a run to the next, and what makes its times untrustworthy.

Files that are missing, that may not be read or that hold something else give None; no probe ends a
run.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from ablation_kernels.limits import (
    affinity_processors,
    group_folders,
    parse_number,
    processor_quota,
    read_counts,
    read_number,
    read_text,
)
from ablation_kernels.machine import PROCESSORS, allowed_processors
from ablation_report.stats import BUSY_SHARE

from .hardware import answer
from .memory_room import memory_room

BUSY_PROBE_S = 0.3
STEAL_SHARE = 0.02
SLOW_GOVERNORS = ("powersave", "conservative")
# Drivers whose powersave chooses the clock by load, as schedutil does.
DYNAMIC_DRIVERS = ("intel_pstate", "amd-pstate-epp")
# Columns of the line "cpu" in /proc/stat: see proc_stat(5). Guests are part of user and nice.
IDLE, IOWAIT, STEAL, COUNTED = 3, 4, 7, 8
SUPPLIES = Path("/sys/class/power_supply")

Json = dict[str, Any]


class Watch:
    """Records the conditions of a session in `machine["conditions"]`, which has one entry for each.

    `note` is called at once with what makes times untrustworthy from the start.
    """

    def __init__(
        self, machine: Json, session: int, threads: int, note: Callable[[str], None]
    ) -> None:
        self._before, self._note = Counters(), note
        warnings = list(start_warnings(found := read_conditions(), threads))
        self._entry: Json = {"session": session, **found, "warnings": warnings}
        entries = machine.get("conditions")
        machine["conditions"] = [*(entries if isinstance(entries, list) else ()), self._entry]
        for warning in warnings:
            note(warning)

    def begin_case(self, name: str) -> None:
        """Measure what other programs use before a case; keep the most, and warn of a tenth."""
        if (share := busy_share()) is None:
            return
        self._entry["busy_share"] = max(share, self._entry.get("busy_share", 0.0))
        if share >= BUSY_SHARE:
            warning = f"{name}: other programs use {share:.0%} of the processors"
            self._entry["warnings"].append(warning)
            self._note(warning)

    def end(self) -> list[str]:
        """Add what has happened since; give what makes times untrustworthy for that."""
        happened = Counters().since(self._before)
        warnings = list(end_warnings(happened))
        self._entry.update(happened)
        self._entry["warnings"] += warnings
        return warnings


class Counters:
    """What the system counts as it goes on, now."""

    def __init__(self) -> None:
        self._stat = _processor_times()
        self._heat = throttle_count()
        self._groups = {str(folder): read_counts(folder / "cpu.stat") for folder in _groups()}

    def since(self, before: Counters) -> Json:
        """Return what was added since: share of stolen time, hot processors, groups held back."""
        steal = None
        if len(self._stat) == len(before._stat) == COUNTED:
            spent = [now - then for now, then in zip(self._stat, before._stat, strict=True)]
            wanted = sum(spent) - spent[IDLE] - spent[IOWAIT]
            steal = round(max(0.0, spent[STEAL] / wanted), 4) if wanted > 0 else 0.0
        heat = None
        if self._heat is not None and before._heat is not None:
            heat = max(0, self._heat - before._heat)
        held = []
        for group, now in self._groups.items():
            then = before._groups.get(group, {})
            count = now.get("nr_throttled", 0) - then.get("nr_throttled", 0)
            periods = now.get("nr_periods", 0) - then.get("nr_periods", 0)
            if count > 0:
                held.append({"group": group, "throttled_periods": count, "periods": periods})
        return {"steal_share": steal, "hot_processors": heat, "throttled_groups": held}


def _processor_times() -> list[int]:
    """Return the first eight counts of all processors together; empty where Linux lacks them."""
    words = (read_text("/proc/stat") or "").partition("\n")[0].split()
    counts = [count for word in words[1 : COUNTED + 1] if (count := parse_number(word)) is not None]
    return counts if words and words[0] == "cpu" and len(counts) == COUNTED else []


def _groups() -> list[Path]:
    return group_folders("cpu")


def throttle_count() -> int | None:
    """Return how often the allowed processors were slowed by heat; None where nobody counts."""
    folders = [PROCESSORS / f"cpu{number}/thermal_throttle" for number in allowed_processors()]
    counts = [read_number(folder / "core_throttle_count") for folder in folders]
    return sum(known) if (known := [count for count in counts if count is not None]) else None


def read_conditions() -> Json:
    """Return the conditions now; None for what is not known."""
    room, quota = memory_room(None), processor_quota()
    return {
        "memory_free_bytes": room.bytes,
        "memory_limit": room.limit,
        "processor_quota": None if quota is None else quota._asdict(),
        "load_average": load_average(),
        **describe_power(),
    }


def describe_power() -> Json:
    """Return what decides how fast the clocks of the processors run."""
    return {
        "governor": _of_all("cpufreq/scaling_governor"),
        "frequency_driver": _of_all("cpufreq/scaling_driver"),
        "boost": boost(),
        "power_source": power_source(),
    }


def _of_all(name: str) -> str | None:
    """Return what a file of each allowed processor says: one text, or several by commas."""
    texts = [read_text(PROCESSORS / f"cpu{number}" / name) for number in allowed_processors()]
    return ", ".join(sorted({text for text in texts if text})) or None


def load_average() -> float | None:
    """Return the machine's load average of the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def boost() -> bool | None:
    """Return whether clocks above the nominal one are allowed."""
    if (boosts := read_number(PROCESSORS / "cpufreq/boost")) is not None:
        return boosts > 0
    stays = read_number(PROCESSORS / "intel_pstate/no_turbo")
    return None if stays is None else stays == 0


def power_source() -> str | None:
    """Return mains or battery; None where there is no battery that could drive the machine."""
    try:
        folders = sorted(SUPPLIES.iterdir())
    except OSError:
        return _power_source_elsewhere()
    is_discharging = False
    for folder in folders:
        kind = read_text(folder / "type")
        if kind != "Battery" and read_number(folder / "online"):
            return "mains"
        # A mouse has a battery too.
        if kind == "Battery" and read_text(folder / "scope") != "Device":
            is_discharging |= read_text(folder / "status") == "Discharging"
    return "battery" if is_discharging else None


def _power_source_elsewhere() -> str | None:
    battery = answer(lambda: psutil.sensors_battery())
    if battery is None or battery.power_plugged is None:
        return None
    return "mains" if battery.power_plugged else "battery"


def start_warnings(found: Json, threads: int) -> Iterator[str]:
    """Give what makes times untrustworthy before anything is measured."""
    quota, usable = found["processor_quota"], affinity_processors()
    if threads > usable:
        yield f"{threads} threads on {usable} processors of this process: threads will wait"
    if quota is not None and threads > quota["processors"]:
        yield (
            f"{threads} threads under a quota of {quota['processors']:g} processors "
            f"({quota['source']}): threads will be throttled"
        )
    if found["power_source"] == "battery":
        yield "the machine runs on its battery: its clock rate may be reduced"
    governor, driver = found["governor"] or "", found["frequency_driver"]
    slow = [name for name in SLOW_GOVERNORS if name in governor.split(", ")]
    if slow and driver not in DYNAMIC_DRIVERS:
        yield f"the processor's governor is {governor}: its clock rate may stay low"
    load, machine = found["load_average"], os.cpu_count() or 1
    if load is not None and load > machine:
        yield f"the load average is {load:g} on {machine} processors: times will be noisy"


def end_warnings(happened: Json) -> Iterator[str]:
    """Give what made times untrustworthy while they were measured."""
    for held in happened["throttled_groups"]:
        yield (
            f"the quota of control group {held['group']} throttled the run in "
            f"{held['throttled_periods']} of {held['periods']} periods: times include waiting"
        )
    if (steal := happened["steal_share"]) is not None and steal > STEAL_SHARE:
        yield f"the hypervisor took {steal:.0%} of the processors' time: times are noisy"
    if happened["hot_processors"]:
        yield f"heat slowed the processors {happened['hot_processors']} times"


def busy_share() -> float | None:
    """Return the share of all processors that other programs use just now, after 0.3 s of sleep."""
    percent = answer(psutil.cpu_percent, BUSY_PROBE_S)
    return None if percent is None else round(percent / 100, 4)
