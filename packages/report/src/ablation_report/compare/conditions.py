"""Whether two runs are of the same work on the same machine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ablation_report.escaping import visible
from ablation_report.machines import full_name
from ablation_report.run import Run

# What must be the same for two times to be of the same thing.
VERSIONS = ("python", "numpy", "torch")


def differences(first: Run, second: Run) -> list[str]:
    """Say in which respects two runs are not of the same work, machine, threads and versions."""
    headers = (first.header, second.header)
    respects = {
        "suite": (first.suite, second.suite),
        "device": tuple(header["device"] for header in headers),
        "machine": tuple(full_name(header["machine"]) for header in headers),
        "threads": tuple(", ".join(map(str, header["threads"])) for header in headers),
        **{f"version of {n}": tuple(h["versions"][n] for h in headers) for n in VERSIONS},
        "instruction set used": tuple(header["providers"].get("simd") for header in headers),
    }
    if set(first.header["threads"]) & set(second.header["threads"]):
        del respects["threads"]
    found = [f"{what}: {a} and {b}" for what, (a, b) in respects.items() if a != b]
    if hardware(headers[0]) != hardware(headers[1]):
        found.append("instruction sets, caches and quota")
    return list(map(visible, found))


def hardware(header: Mapping[str, Any]) -> str:
    """Return what distinguishes machines, processors of one name too, as one text to group by."""
    machine = header["machine"]
    told = ("cpu_model", "cores", "arch", "isa_flags", "caches")
    quota = machine.get("processor_quota")
    return json.dumps([*(machine[name] for name in told), quota], sort_keys=True)
