"""Names of machines: by microarchitecture, where family and model, or flags, identify it.

A cloud's virtual machine says "AMD EPYC" or "Intel(R) Xeon(R) Processor", whatever it runs on.
Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from ablation_report.run import Run

# Linux, arch/x86/kernel/cpu/amd.c: family, first and last model
_AMD: tuple[tuple[int, int, int, str], ...] = (
    *((0x17, low, high, "Zen") for low, high in ((0x00, 0x2F), (0x50, 0x5F))),
    (0x17, 0x30, 0xFF, "Zen 2"),
    *((0x19, low, high, "Zen 3") for low, high in ((0x00, 0x0F), (0x20, 0x5F))),
    *((0x19, low, high, "Zen 4") for low, high in ((0x10, 0x1F), (0x60, 0xAF))),
    *((0x1A, low, high, "Zen 5") for low, high in ((0x00, 0x4F), (0x60, 0x7F))),
    *((0x1A, low, high, "Zen 6") for low, high in ((0x50, 0x5F), (0x80, 0xCF))),
)
# Linux, arch/x86/include/asm/intel-family.h: models of family 6
_INTEL: Mapping[int, str] = {
    **dict.fromkeys((0x4F, 0x56), "Broadwell"),
    0x55: "Skylake",
    **dict.fromkeys((0x6A, 0x6C), "Ice Lake"),
    0x8F: "Sapphire Rapids",
    0xCF: "Emerald Rapids",
    **dict.fromkeys((0xAD, 0xAE), "Granite Rapids"),
    0xAF: "Sierra Forest",
    **dict.fromkeys((0x97, 0x9A), "Alder Lake"),
    **dict.fromkeys((0xB7, 0xBA, 0xBF), "Raptor Lake"),
    **dict.fromkeys((0xAA, 0xAC), "Meteor Lake"),
    **dict.fromkeys((0xC5, 0xC6), "Arrow Lake"),
    0xBD: "Lunar Lake",
}
# The largest third-level cache of a Sapphire Rapids, in KiB
_SAPPHIRE_RAPIDS_L3 = 115200
_SERVER = re.compile(r"EPYC|Xeon", re.IGNORECASE)
_CLEAN = re.compile(r"\((?:R|TM)\)|\bCPU\b|@.*|\b(?:Processor|\d+-Core)\b")
_SIZE = re.compile(r"(\d+)\s*([KMG]?)i?B?", re.IGNORECASE)
_KIB = {"": 1 / 1024, "K": 1, "M": 1024, "G": 1024**2}


def machine_name(machine: Mapping[str, Any]) -> str:
    """Return the name of a machine by the header's table: Zen 4 server, 2 vCPUs; Apple M4 Max.

    An unknown processor has its own string as name.
    """
    text = " ".join(str(machine["cpu_model"]).split())
    plain = " ".join(_CLEAN.sub(" ", text).split())
    if plain.startswith("Apple"):
        return plain
    kind = microarchitecture(machine)
    # A processor of its own number is known by it; the name in a virtual machine has none
    has_number = any(map(str.isdigit, plain))
    is_virtual = machine.get("virtualization") or not has_number
    cores = machine["cores"]
    size = f"{cores} {'vCPU' if kind and is_virtual else 'core'}{'' if cores == 1 else 's'}"
    if kind is None or has_number:
        return f"{plain if has_number else text or 'unknown processor'}, {size}"
    return f"{kind}{' server' if _SERVER.search(text) else ''}, {size}"


def full_name(machine: Mapping[str, Any]) -> str:
    """Return the name of a machine, and what its processor calls itself where that is not in it."""
    name, text = machine_name(machine), str(machine["cpu_model"])
    return name if not text or text in name else f"{name} ({text})"


def microarchitecture(machine: Mapping[str, Any]) -> str | None:
    """Return what an x86 processor is of, by family and model or else by flags and caches; None
    where neither identifies it."""
    text, flags = str(machine["cpu_model"]), machine["isa_flags"]
    is_amd = "AMD" in text
    family, model = machine.get("cpu_family"), machine.get("cpu_model_number")
    if isinstance(family, int) and isinstance(model, int):
        if is_amd:
            found = (k for f, low, high, k in _AMD if f == family and low <= model <= high)
            return next(found, None)
        return _INTEL.get(model) if family == 6 else None
    if is_amd:
        return _amd_by_flags(flags)
    return _intel_by_flags(flags, machine["caches"]) if "Intel" in text else None


def _amd_by_flags(flags: Collection[str]) -> str | None:
    if "avx512_vp2intersect" in flags:
        return "Zen 5"
    return "Zen 4" if "avx512_bf16" in flags else None


def _intel_by_flags(flags: Collection[str], caches: Mapping[str, Any]) -> str | None:
    if "amx_fp16" in flags:
        return "Granite Rapids"
    if "amx_tile" in flags:
        last = _kib(caches.get("L3"))
        # Both have the same flags and the same second-level cache
        return "Emerald Rapids" if last > _SAPPHIRE_RAPIDS_L3 else "Sapphire Rapids"
    return None


def _kib(size: Any) -> float:
    """Read the size of a cache, bytes or text with a unit; 0 where it is not known."""
    found = _SIZE.fullmatch(str(size))
    return int(found[1]) * _KIB[found[2].upper()] if found else 0


def machine_of(run: Run) -> str:
    """Return the name of the machine of a run, or the device that published figures are of."""
    if not run.is_published:
        return machine_name(run.header["machine"])
    known = (row["device_name"] for row in run.rows if row["device_name"])
    return next(known, "Apple M4 Max" if "m4max" in run.name else run.name)
