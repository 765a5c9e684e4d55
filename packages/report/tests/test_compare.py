"""Two runs beside each other: what is called slower, what is not, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rows import make_failed_cell, make_header, make_noisy_samples, make_timed_cell, write_run

from ablation_report.__main__ import main
from ablation_report.compare import compare_runs
from ablation_report.sources import read_source

VARIANTS = ("attention-fused-parallel", "layernorm-parallel", "passes-none")
KERNEL = {"name": "attention", "op": "attention", "category": "attention", "median_ns": 300.0}


def make_run(folder: Path, slower: dict[str, float] | None = None, machine: float = 1.0) -> Path:
    """Write a run of two controls and three cells of ours, with one percent of noise."""
    cells = []
    for number, name in enumerate(("torch-naive", "torch-sdpa", *VARIANTS)):
        factor = machine * (slower or {}).get(name, 1.0)
        noise = make_noisy_samples(1000, 12, seed=hash_of(folder.name, number))
        samples = [int(factor * (100_000 + sample)) for sample in noise]
        changes: dict[str, Any] = {"runtime": "torch" if number < 2 else "kernels"}
        if name == "attention-fused-parallel":
            changes["ops"] = [{**KERNEL, "kernel": "attention_fused_simd_parallel"}]
        cells.append(make_timed_cell(name, samples, **changes))
    return write_run(folder, cells)


def hash_of(name: str, number: int) -> int:
    """A seed that is the same in every process, other than hash()."""
    return sum(map(ord, name)) * 31 + number


def verdicts(first: Path, second: Path) -> dict[str, str]:
    changes = compare_runs(read_source(first), read_source(second))
    return {change.variant: change.verdict for change in changes}


def test_the_same_code_is_the_same(tmp_path: Path) -> None:
    found = verdicts(make_run(tmp_path / "a"), make_run(tmp_path / "b"))
    assert set(found.values()) <= {"same", "not resolved"}
    assert "same" in found.values()


def test_a_slower_machine_is_not_slower_code(tmp_path: Path) -> None:
    found = verdicts(make_run(tmp_path / "a"), make_run(tmp_path / "b", machine=1.3))
    assert set(found.values()) <= {"same", "not resolved"}


def test_a_slower_kernel_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = make_run(tmp_path / "a")
    second = make_run(tmp_path / "b", {"attention-fused-parallel": 1.1}, machine=0.8)
    # The other cell of the A/A pair keeps its time: the pair is no longer the same program
    changes = {c.variant: c for c in compare_runs(read_source(first), read_source(second))}
    assert changes["passes-none"].verdict != "slower"
    slowed = changes["attention-fused-parallel"]
    assert slowed.ratio is not None
    assert slowed.ratio.median == pytest.approx(1.1, rel=0.01)
    assert slowed.kernels == ("attention_fused_simd_parallel",)


@pytest.mark.parametrize(("factor", "code"), [(1.0, 0), (1.5, 3)])
def test_fail_on_slower_sets_the_exit_code(tmp_path: Path, factor: float, code: int) -> None:
    runs = make_run(tmp_path / "a"), make_run(tmp_path / "b", {"passes-none": factor})
    assert main(["compare", *map(str, runs), "--fail-on", "slower"]) == code


def test_other_threads_are_refused_unless_forced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = make_run(tmp_path / "a")
    cells = [make_timed_cell("passes-none", [1000] * 8)]
    second = write_run(tmp_path / "b", cells, make_header(threads=1))
    assert main(["compare", str(first), str(second)]) == 2
    assert "threads: 2 and 1" in capsys.readouterr().err
    assert main(["compare", str(first), str(second), "--force"]) == 0
    assert "Forced; the runs differ in threads: 2 and 1" in capsys.readouterr().out


def test_another_processor_of_the_same_name_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [make_timed_cell("passes-none", [1000] * 8)]
    machine = make_header()["machine"] | {"isa_flags": ["avx2", "avx512f"]}
    first = write_run(tmp_path / "a", cells)
    second = write_run(tmp_path / "b", cells, make_header(machine=machine))
    assert main(["compare", str(first), str(second)]) == 2
    assert "instruction sets and caches" in capsys.readouterr().err


def test_cells_without_a_partner_say_so(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a")
    failed = make_failed_cell(variant="passes-none", printed_name="No passes")
    second = write_run(tmp_path / "b", [failed, make_timed_cell("passes-fold", [1000] * 8)])
    found = verdicts(first, second)
    assert found["passes-none"] == "ok and oom"
    assert found["passes-fold"] == "only in b"
    assert found["torch-naive"] == "only in a"
