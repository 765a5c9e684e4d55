"""What machines are called, by what their runs recorded of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ablation_report.machines import full_name, machine_name, microarchitecture

RUNS = Path(__file__).parents[3] / "data" / "runs"
NAMES = {
    "zen4": "Zen 4 server, 2 vCPUs",
    "zen5": "Zen 5 server, 2 vCPUs",
    "emerald-rapids": "Emerald Rapids server, 2 vCPUs",
}


def make_machine(model: str, **changes: Any) -> dict[str, Any]:
    """Make the table of a machine without flags and caches."""
    return {"cpu_model": model, "cores": 2, "isa_flags": [], "caches": {}} | changes


@pytest.mark.skipif(not RUNS.is_dir(), reason="no recorded runs beside this package")
def test_recorded_machines_have_the_names_of_their_folders() -> None:
    found = set()
    for path in RUNS.glob("*/run.json"):
        machine = json.loads(path.read_text(encoding="utf-8"))["machine"]
        for key, name in NAMES.items():
            if f"-{key}-" in path.parent.name:
                assert machine_name(machine) == name, path
                found.add(name)
    assert found == set(NAMES.values())


@pytest.mark.parametrize(
    ("machine", "name"),
    [
        (make_machine("Apple M4 Max", cores=16), "Apple M4 Max"),
        (make_machine("AMD EPYC", cpu_family=26, cpu_model_number=2), "Zen 5 server, 2 vCPUs"),
        (make_machine("AMD EPYC", cpu_family=25, cpu_model_number=1), "Zen 3 server, 2 vCPUs"),
        (
            make_machine("Intel(R) Xeon(R) Processor", cpu_family=6, cpu_model_number=0x8F),
            "Sapphire Rapids server, 2 vCPUs",
        ),
        (
            make_machine("AMD EPYC 9654 96-Core Processor", cores=96, isa_flags=["avx512_bf16"]),
            "AMD EPYC 9654, 96 cores",
        ),
        (
            make_machine("AMD EPYC 7R13 Processor", virtualization="kvm", cpu_family=25),
            "AMD EPYC 7R13, 2 cores",
        ),
        (
            make_machine("Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz", cores=12),
            "Intel Core i7-8700K, 12 cores",
        ),
        (make_machine("Neoverse-N1", cores=1), "Neoverse-N1, 1 core"),
        (
            make_machine("AMD EPYC", cores=1, cpu_family=26, cpu_model_number=2),
            "Zen 5 server, 1 vCPU",
        ),
        (make_machine("", cores=4), "unknown processor, 4 cores"),
    ],
)
def test_a_machine_is_called_by_what_is_known_of_it(machine: dict[str, Any], name: str) -> None:
    assert machine_name(machine) == name


@pytest.mark.parametrize("cache", ["115200K", "105M", 117964800, "", None])
def test_a_cache_that_a_sapphire_rapids_has_makes_none_an_emerald_rapids(cache: Any) -> None:
    machine = make_machine("Intel(R) Xeon(R) Processor", isa_flags=["amx_tile"])
    machine["caches"] = {"L3": cache}
    assert microarchitecture(machine) == "Sapphire Rapids"
    assert microarchitecture(machine | {"caches": {"L3": "300M"}}) == "Emerald Rapids"


def test_a_processor_that_nothing_tells_of_has_no_microarchitecture() -> None:
    assert microarchitecture(make_machine("AMD EPYC")) is None
    assert microarchitecture(make_machine("AMD EPYC", cpu_family=1, cpu_model_number=1)) is None
    assert machine_name(make_machine("AMD EPYC")) == "AMD EPYC, 2 cores"


def test_a_full_name_has_what_the_processor_calls_itself_once() -> None:
    machine = make_machine("AMD EPYC", cpu_family=26, cpu_model_number=2)
    assert full_name(machine) == "Zen 5 server, 2 vCPUs (AMD EPYC)"
    assert full_name(make_machine("Neoverse-N1")) == "Neoverse-N1, 2 cores"
