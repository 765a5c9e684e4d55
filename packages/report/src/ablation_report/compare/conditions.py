"""Whether two runs are of the same work on the same machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ablation_report.escaping import visible
from ablation_report.machines import full_name
from ablation_report.run import Run

# What must be the same for two times to be of the same thing.
VERSIONS = ("python", "numpy", "torch")
THREADS = "threads"


@dataclass(frozen=True)
class Conditions:
    """What a run was made under, by respect as messages name it, and its hardware as one text.

    `threads` are the numbers of threads: two runs need only one of them in common.
    """

    facts: Mapping[str, str]
    hardware: str
    threads: frozenset[int]


def conditions_of(run: Run) -> Conditions:
    """Return what a recorded run was made under."""
    if "conditions" not in run.derived:
        run.derived["conditions"] = _conditions(run)
    found: Conditions = run.derived["conditions"]
    return found


def _conditions(run: Run) -> Conditions:
    header = run.header
    facts = {
        "suite": run.suite,
        "device": header["device"],
        "machine": full_name(header["machine"]),
        THREADS: ", ".join(map(str, header["threads"])),
        **{f"version of {name}": header["versions"][name] for name in VERSIONS},
        "instruction set used": header["providers"].get("simd"),
    }
    texts = {what: visible(value) for what, value in facts.items()}
    return Conditions(texts, hardware(header), frozenset(header["threads"]))


def differences(first: Run, second: Run) -> list[str]:
    """Say in which respects two runs are not of the same work, machine, threads and versions."""
    here, there = conditions_of(first), conditions_of(second)
    found = [
        f"{what}: {facts} and {there.facts[what]}"
        for what, facts in here.facts.items()
        if facts != there.facts[what] and not (what == THREADS and here.threads & there.threads)
    ]
    if here.hardware != there.hardware:
        found.append("instruction sets, caches and quota")
    return found


def hardware(header: Mapping[str, Any]) -> str:
    """Return what distinguishes machines, processors of one name too, as one text to group by."""
    machine = header["machine"]
    facts = ("cpu_model", "cores", "arch", "isa_flags", "caches")
    quota = machine.get("processor_quota")
    return json.dumps([*(machine[name] for name in facts), quota], sort_keys=True)
