"""Two runs beside each other: what is called slower, what is not, what is refused."""

from __future__ import annotations

import itertools
import json
import statistics
from pathlib import Path
from typing import Any

import pytest
from rows import make_failed_cell, make_header, make_noisy_samples, make_timed_cell, write_run

from ablation_report.__main__ import main
from ablation_report.compare import Changes, compare_runs
from ablation_report.ladder import AA_PAIRS
from ablation_report.processes import MIN_CELLS, common_change
from ablation_report.sources import read_source

RUNS = Path(__file__).parents[3] / "data" / "runs"
VARIANTS = (
    "attention-fused-parallel",
    "layernorm-parallel",
    "passes-none",
    "passes-fold",
    "passes-absorb",
    "beyond-packed",
    "beyond-default",
)
KERNEL = {"name": "attention", "op": "attention", "category": "attention", "median_ns": 300.0}


def make_run(
    folder: Path,
    slower: dict[str, float] | None = None,
    machine: float = 1.0,
    process: float = 1.0,
    variants: tuple[str, ...] = VARIANTS,
) -> Path:
    """Write a run of two controls and our cells, with a tenth of a percent of noise.

    `machine` slows all cells, `process` all of ours, `slower` single ones.
    """
    cells = []
    for number, name in enumerate(("torch-naive", "torch-sdpa", *variants)):
        factor = machine * (process if number > 1 else 1.0) * (slower or {}).get(name, 1.0)
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


def compared(first: Path, second: Path) -> Changes:
    return compare_runs(read_source(first), read_source(second))


def verdicts(first: Path, second: Path) -> dict[str, str]:
    return {change.variant: change.verdict for change in compared(first, second).cells}


def process_verdicts(first: Path, second: Path) -> dict[str, str]:
    found = compared(first, second).processes
    return {process.runtime: process.verdict for process in found}


def test_the_same_code_is_the_same(tmp_path: Path) -> None:
    found = verdicts(make_run(tmp_path / "a"), make_run(tmp_path / "b"))
    assert set(found.values()) <= {"same", "not resolved"}
    assert "same" in found.values()


def test_a_slower_machine_is_not_slower_code(tmp_path: Path) -> None:
    found = verdicts(make_run(tmp_path / "a"), make_run(tmp_path / "b", machine=1.3))
    assert set(found.values()) <= {"same", "not resolved"}


def test_a_slower_kernel_is_named(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a")
    # Both cells of an A/A pair run the kernel: the pair is the same program still
    both = dict.fromkeys(("attention-fused-parallel", "layernorm-parallel"), 1.1)
    second = make_run(tmp_path / "b", both)
    changes = {change.variant: change for change in compared(first, second).cells}
    assert {name for name, change in changes.items() if change.verdict == "slower"} == both.keys()
    slowed = changes["attention-fused-parallel"]
    assert slowed.ratio is not None
    assert slowed.ratio.median == pytest.approx(1.1, rel=0.01)
    assert slowed.kernels == ("attention_fused_simd_parallel",)


@pytest.mark.parametrize("process", [0.8, 1.2])
def test_a_slower_kernel_is_named_in_a_process_that_changed_as_a_whole(
    tmp_path: Path, process: float
) -> None:
    first = make_run(tmp_path / "a")
    second = make_run(tmp_path / "b", {"passes-absorb": 1.1}, process=process)
    found = verdicts(first, second)
    assert {name for name, said in found.items() if said in ("slower", "faster")} == {
        "passes-absorb"
    }
    said = "slower" if process > 1 else "faster"
    assert process_verdicts(first, second) == {"torch": "not resolved", "kernels": said}


def test_what_all_cells_of_a_process_share_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = make_run(tmp_path / "a"), make_run(tmp_path / "b", process=1.2)
    assert set(verdicts(*runs).values()) <= {"same", "not resolved"}
    assert main(["compare", *map(str, runs)]) == 0
    printed = capsys.readouterr().out
    assert "Toy: the kernels process of b as a whole: 1.20x slower; a state of the" in printed
    assert "with fewer than 5 cells none is told from what all have in common" in printed


@pytest.mark.parametrize("part", [3, 4])
def test_half_of_the_cells_may_change_alike(tmp_path: Path, part: int) -> None:
    """A kernel of half of the cells: it is they that are named, not the others."""
    slower = dict.fromkeys(VARIANTS[-part:], 1.1)
    runs = make_run(tmp_path / "a"), make_run(tmp_path / "b", slower)
    found = verdicts(*runs)
    # Four of seven are the process as a whole; a reader sees a change either way
    if part == 3:
        assert {name for name, said in found.items() if said == "slower"} == slower.keys()
        assert process_verdicts(*runs)["kernels"] != "slower"
    else:
        assert process_verdicts(*runs)["kernels"] == "slower"


@pytest.mark.parametrize(
    ("slower", "process", "code"),
    [({}, 1.0, 0), ({"passes-none": 1.5}, 1.0, 3), ({}, 1.2, 4), ({"passes-none": 1.5}, 1.2, 3)],
)
def test_fail_on_slower_sets_the_exit_code(
    tmp_path: Path, slower: dict[str, float], process: float, code: int
) -> None:
    runs = make_run(tmp_path / "a"), make_run(tmp_path / "b", slower, process=process)
    assert main(["compare", *map(str, runs), "--fail-on", "slower"]) == code
    assert main(["compare", *map(str, runs), "--fail-on", "different"]) == code
    back = main(["compare", *map(str, reversed(runs)), "--fail-on", "slower"])
    assert back == 0
    assert main(["compare", *map(str, reversed(runs)), "--fail-on", "different"]) == code


def test_too_few_cells_of_a_process_resolve_nothing(tmp_path: Path) -> None:
    few = VARIANTS[: MIN_CELLS - 1]
    runs = (
        make_run(tmp_path / "a", variants=few),
        make_run(tmp_path / "b", {"passes-none": 1.5}, variants=few),
    )
    assert verdicts(*runs)["passes-none"] == "not resolved"
    assert set(process_verdicts(*runs).values()) == {"not resolved"}


def test_a_machine_that_changed_resolves_no_less_than_its_change(tmp_path: Path) -> None:
    runs = make_run(tmp_path / "a"), make_run(tmp_path / "b", {"passes-none": 1.2}, machine=1.3)
    assert verdicts(*runs)["passes-none"] == "not resolved"
    far = make_run(tmp_path / "far", {"passes-none": 1.5}, machine=1.3)
    assert verdicts(runs[0], far)["passes-none"] == "slower"


def test_what_most_ratios_have_in_common() -> None:
    assert common_change([1.2]).median == 1.2
    found = common_change([1.0, 1.01, 1.02, 1.5, 1.6])
    assert (found.median, found.low, found.high, found.n) == (1.01, 1.0, 1.02, 5)
    # As many here as there, as far apart: those nearer to 1
    assert common_change([0.5, 0.5, 1.1, 1.1]).median == 1.1
    with pytest.raises(ValueError, match="no ratio"):
        common_change([])


def quick_pairs() -> list[tuple[Path, Path]]:
    folders = [RUNS / f"2026-11-21-zen5-quick-{name}" for name in "abcde"]
    return list(itertools.combinations(folders, 2))


@pytest.mark.skipif(not RUNS.is_dir(), reason="no recorded runs beside this package")
def test_recorded_runs_of_the_same_code_are_hardly_ever_called_different() -> None:
    pairs = quick_pairs()
    assert len(pairs) == 10
    cells = [change for pair in pairs for change in compared(*pair).cells]
    called = [change for change in cells if change.verdict in ("slower", "faster")]
    assert len(cells) == 500
    assert 0 < len(called) <= 0.05 * len(cells)
    # The page of runs says the same
    text = (RUNS.parents[1] / "docs" / "runs.md").read_text("utf-8")
    assert f"Of the 500 cells of the ten pairs {len(called)} ({len(called) / 500:.1%})" in text
    whole = [p for pair in pairs for p in compared(*pair).processes]
    assert not [process for process in whole if process.verdict in ("slower", "faster")]


@pytest.mark.skipif(not RUNS.is_dir(), reason="no recorded runs beside this package")
def test_a_machine_that_changed_moved_single_cells_as_far_as_the_method_says() -> None:
    """Why the machine's change is part of the floor: docs/method.md quotes these two."""
    (a, c) = (read_source(RUNS / f"2026-11-21-zen5-quick-{name}") for name in "ac")
    times = {v: (a.time("Small", v), c.time("Small", v)) for v in a.by_config["Small"]}
    ratios = {v: t[1].median / t[0].median for v, t in times.items() if t[0] and t[1]}
    ours = [r for v, r in ratios.items() if a.by_config["Small"][v]["runtime"] == "kernels"]
    common = statistics.median(ours)
    assert 1.2 < statistics.median(r for r in ratios.values() if r not in ours) < 1.3
    assert min(ours) / common == pytest.approx(5 / 6, rel=0.02)
    assert max(ours) / common == pytest.approx(5 / 4, rel=0.02)


@pytest.mark.skipif(not RUNS.is_dir(), reason="no recorded runs beside this package")
def test_two_recorded_runs_on_a_machine_that_changed() -> None:
    pair = [RUNS / f"2026-11-20-zen4-small-{name}" for name in "ab"]
    cells = compared(*pair).cells
    called = [change for change in cells if change.verdict in ("slower", "faster")]
    assert len(cells) == 72 and len(called) <= 0.05 * len(cells)


@pytest.mark.skipif(not RUNS.is_dir(), reason="no recorded runs beside this package")
def test_a_slower_cell_of_a_recorded_run_is_named(tmp_path: Path) -> None:
    """Of the recorded pair that met the same machine, one cell after the other a tenth slower."""
    first, second = (RUNS / f"2026-11-21-zen5-quick-{name}" for name in "ab")
    rows = [json.loads(line) for line in (second / "cells.jsonl").read_text("utf-8").splitlines()]
    ours = [row for row in rows if row["config"] == "Toy" and row["runtime"] == "kernels"]
    header = json.loads((second / "run.json").read_text("utf-8"))
    named = 0
    for row in ours:
        # The A/A pairs would no longer be the same program
        if row["variant"] in {name for pair in AA_PAIRS for name in pair}:
            continue
        slowed = row | {"samples_ns": [round(1.1 * ns) for ns in row["samples_ns"]]}
        others = [slowed if other is row else other for other in rows]
        run = write_run(tmp_path / row["variant"], others, header)
        cells = compared(first, run).cells
        found = {c.variant: c.verdict for c in cells if c.config == "Toy"}
        named += found[row["variant"]] == "slower"
    assert named >= 0.9 * (len(ours) - 4)


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
    assert "instruction sets, caches and quota" in capsys.readouterr().err


def test_cells_without_a_partner_say_so(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a")
    failed = make_failed_cell(variant="passes-none", printed_name="No passes")
    second = write_run(tmp_path / "b", [failed, make_timed_cell("passes-matmul-add", [1000] * 8)])
    found = verdicts(first, second)
    assert found["passes-none"] == "ok and oom"
    assert found["passes-matmul-add"] == "only in b"
    assert found["torch-naive"] == "only in a"
