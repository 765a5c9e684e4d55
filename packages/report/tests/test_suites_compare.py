"""Two runs of a further suite beside each other: what agrees, what does not, what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from rows import make_timed_cell, write_run
from suite_samples import (
    BACKWARD,
    make_failed_suite_row,
    make_suite_header,
    make_suite_row,
    suite_source,
    write_suite,
)

from ablation_report.__main__ import main
from ablation_report.suite_compare import SuiteChange, compare_suites, suite_compare_table

Rows = list[dict[str, Any]]


def compared(folder: Path, first: Rows, second: Rows) -> dict[str, SuiteChange]:
    changes = compare_suites(
        suite_source(folder / "a", *first), suite_source(folder / "b", *second)
    )
    return {change.measure["impl"]: change for change in changes}


def notes(folder: Path, first: Rows, second: Rows) -> list[str]:
    sources = suite_source(folder / "a", *first), suite_source(folder / "b", *second)
    return list(suite_compare_table(*sources, compare_suites(*sources)).notes)


def pair(sdpa: int, ours: int) -> Rows:
    return [
        make_suite_row("torch_sdpa_flash", (sdpa,) * 6),
        make_suite_row("ablation_flash", (ours,) * 6),
    ]


@pytest.mark.parametrize(
    ("second", "verdict"),
    [(1099, "agrees"), (1101, "slower"), (910, "agrees"), (909, "faster")],
)
def test_medians_agree_within_a_tenth_either_way(tmp_path: Path, second: int, verdict: str) -> None:
    change = compared(tmp_path, pair(1000, 1000), pair(1000, second))["ablation_flash"]
    assert change.verdict == verdict
    assert change.time == pytest.approx(second / 1000)


def test_a_slower_machine_leaves_the_ratio_to_the_baseline(tmp_path: Path) -> None:
    found = compared(tmp_path, pair(2000, 1000), pair(3000, 1500))
    assert [found[impl].verdict for impl in found] == ["slower", "slower"]
    assert found["ablation_flash"].relative == pytest.approx(1.0)
    assert found["torch_sdpa_flash"].relative is None
    said = notes(tmp_path / "again", pair(2000, 1000), pair(3000, 1500))
    assert "medians: 0 of 2 agree within 10%, 0 noisy ones left out" in said
    assert any("1 of 1 agree within 10%" in note for note in said)


def test_a_ratio_that_no_common_round_pairs_is_not_compared(tmp_path: Path) -> None:
    alone = [{**row, "interleaved": False} for row in pair(1000, 1000)]
    change = compared(tmp_path, alone, pair(1000, 1000))["ablation_flash"]
    assert (change.verdict, change.relative) == ("agrees", None)


@pytest.mark.parametrize("is_second", [False, True])
def test_a_noisy_row_is_neither_said_to_agree_nor_not(tmp_path: Path, is_second: bool) -> None:
    noisy = [make_suite_row("torch_sdpa_flash", (1000, 1000, 1000, 1500, 1500, 1500))]
    steady = [make_suite_row("torch_sdpa_flash")]
    runs = (steady, noisy) if is_second else (noisy, steady)
    assert compared(tmp_path, *runs)["torch_sdpa_flash"].verdict == "noisy"
    assert "medians: 0 of 0 agree within 10%, 1 noisy ones left out" in notes(tmp_path, *runs)


def test_the_ratio_of_a_noisy_row_is_left_out(tmp_path: Path) -> None:
    noisy = make_suite_row("ablation_flash", (1000, 1000, 1000, 1500, 1500, 1500))
    said = notes(tmp_path, pair(1000, 1000), [pair(1000, 1000)[0], noisy])
    assert any(note.endswith("0 of 0 agree within 10%") for note in said)


def test_a_row_without_a_time_has_its_status(tmp_path: Path) -> None:
    first = [make_suite_row("ablation_flash"), make_failed_suite_row("triton_flash")]
    second = [make_failed_suite_row("ablation_flash"), make_failed_suite_row("triton_flash")]
    found = compared(tmp_path, first, second)
    assert found["ablation_flash"].verdict == "ok and oom (predicted)"
    assert found["triton_flash"].verdict == "oom (predicted)"


def test_a_row_of_one_run_alone_is_told(tmp_path: Path) -> None:
    found = compared(tmp_path, pair(1000, 1000)[:1], pair(1000, 1000)[1:])
    assert found["torch_sdpa_flash"].verdict == "only in a"
    assert found["ablation_flash"].verdict == "only in b"


def test_memory_is_compared_where_both_measured_it(tmp_path: Path) -> None:
    rows = [make_suite_row(mem_op_peak_bytes=size) for size in (4 << 20, 6 << 20)]
    assert compared(tmp_path, rows[:1], rows[1:])["torch_sdpa_flash"].peak == 1.5
    none = [make_suite_row()]
    assert compared(tmp_path, rows[:1], none)["torch_sdpa_flash"].peak is None


def test_the_fixed_product_tells_how_the_machine_changed(tmp_path: Path) -> None:
    later = [{**row, "calibration_before_ns": [750]} for row in pair(1000, 1000)]
    told = notes(tmp_path, pair(1000, 1000), later)[-1]
    assert told.endswith("1.50x in the median, 1.50 to 1.50")


def test_the_command_prints_the_table_and_fails_on_request(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [
        str(write_suite(tmp_path / name, rows))
        for name, rows in (("a", pair(1000, 1000)), ("b", pair(1000, 1200)))
    ]
    assert main(["compare", *paths]) == 0
    printed = capsys.readouterr().out
    assert "1.200x" in printed
    assert "medians: 1 of 2 agree within 10%" in printed
    assert main(["compare", *paths, "--fail-on", "slower"]) == 3
    assert main(["compare", *reversed(paths), "--fail-on", "slower"]) == 0
    assert main(["compare", *reversed(paths), "--fail-on", "different"]) == 3


def test_runs_of_two_suites_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = str(write_suite(tmp_path / "sweep", pair(1000, 1000)))
    other = str(write_suite(tmp_path / "other", [make_suite_row(suite=BACKWARD)]))
    assert main(["compare", sweep, other]) == 2
    assert "differ in suite: attention-sweep and attention-backward" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("device",), "cuda", "device: cpu and cuda"),
        (("machine", "cpu_model"), "Another", "machine"),
        (("machine", "isa_flags"), ["none"], "instruction sets, caches and quota"),
        (("versions", "torch"), "0.1", "version of torch"),
        (("providers", "simd"), "none", "instruction set used"),
    ],
)
def test_runs_that_differ_in_more_than_time_are_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    path: tuple[str, ...],
    value: object,
    said: str,
) -> None:
    rows = pair(1000, 1000)
    header = copy.deepcopy(make_suite_header(rows))
    place = header
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    first = str(write_suite(tmp_path / "first", rows))
    second = str(write_suite(tmp_path / "second", rows, header))
    assert main(["compare", first, second]) == 2
    assert said in capsys.readouterr().err
    assert main(["compare", first, second, "--force"]) == 0
    assert f"Forced; the runs differ in {said}" in capsys.readouterr().out


def test_a_run_of_the_block_is_no_run_of_a_suite(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = str(write_suite(tmp_path / "suite", pair(1000, 1000)))
    block = str(write_run(tmp_path / "block", [make_timed_cell("torch-naive", [1000] * 12)]))
    for paths in ((suite, block), (block, suite)):
        assert main(["compare", *paths]) == 2
        assert "one is a run of the block" in capsys.readouterr().err
