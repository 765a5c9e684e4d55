"""What the command line prints, read back cell by cell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rows import make_failed_cell, make_header, make_timed_cell, write_run
from test_published import BLOCK, read_lines

from ablation_report.__main__ import main
from ablation_report.ladder import LADDER
from ablation_report.load import load
from ablation_report.tables import config_tables, duration, rungs_table, summary_table

GROUPS = {"torch-naive": "Baselines", "torch-sdpa": "Baselines"}


def make_run(folder: Path) -> Path:
    """Write a run: two baselines, one of them out of memory, two equal rungs, a faster one."""
    times = {
        "torch-naive": [4_000_000, 4_200_000, 4_100_000],
        "attention-fused-parallel": [2_000_000, 2_020_000, 2_050_000],
        "layernorm-parallel": [2_010_000, 2_000_000, 2_050_000],
        "flash-layernorm": [1_000_000, 1_010_000, 1_030_000],
    }
    cells = [
        make_timed_cell(name, samples, group=GROUPS.get(name, "Ours"))
        for name, samples in times.items()
    ]
    out_of_memory: dict[str, Any] = {"variant": "torch-sdpa", "printed_name": "PT SDPA"}
    reason = "needs 12 GB | has 8 GB"
    cells.insert(1, make_failed_cell(reason=reason, group="Baselines", **out_of_memory))
    return write_run(folder, cells)


def test_a_text_table_has_a_line_for_each_cell(tmp_path: Path) -> None:
    (table,) = config_tables(load(make_run(tmp_path / "run")).collect())
    lines = table.text().splitlines()
    assert lines[0] == "Toy: d_model 64, heads 4, seq_len 32, batch 1"
    assert lines[2].split() == [
        *("Variant", "Total", "Attn", "LN", "Other", "Attn%", "LN%", "vs", "PT"),
        *("±", "Ops/wall", "Noisy"),
    ]
    assert lines[4:6] == ["  Baselines", lines[5]]
    naive = lines[5].split()
    assert naive[:3] == ["torch-naive", "4.10", "ms"]
    assert "30.0%" in naive and "10.0%" in naive and "1.00x" in naive
    assert lines[6].split() == ["PT", "SDPA", "oom", *["-"] * 9]
    flash = next(line for line in lines if line.startswith("flash-layernorm")).split()
    # Paired: 1.00/4.00, 1.01/4.20, 1.03/4.10; the middle one is 0.25
    assert flash[1:3] == ["1.01", "ms"] and "0.25x" in flash
    assert "PT SDPA: oom, needs 12 GB | has 8 GB" in lines
    # Paired: 2000/2010, 2020/2000, 2050/2050, so that half the range is 0.749%
    pair = "attention-fused-parallel 1.000 in 3 rounds"
    assert lines[-1] == "Calibration product 0.5 µs before, +2.0% after"
    assert lines[-2] == f"Noise floor 0.7%; same program twice: {pair}"


def test_a_markdown_table_has_as_many_fields_in_every_row(tmp_path: Path) -> None:
    (table,) = config_tables(load(make_run(tmp_path / "run")).collect())
    text = table.markdown()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {12}
    assert "| **Baselines** |" in text
    assert "- PT SDPA: oom, needs 12 GB &#124; has 8 GB" in text


def test_the_summary_takes_the_fastest_compiled_variant(tmp_path: Path) -> None:
    table = summary_table(load(make_run(tmp_path / "run")).collect())
    ((_, (row,)),) = table.groups
    best = ["1.01 ms (flash-layernorm)", "0.25x", "-", "-", "0.7%"]
    other = ["4.10 ms (torch-naive)", "0.25x ~"]
    assert row == ["Toy", "4.10 ms", "-", *best, "-", "-", *other]


def test_the_best_other_may_be_of_the_league_and_is_never_ours(tmp_path: Path) -> None:
    empty = dict.fromkeys([name for name in make_timed_cell("jax", [1]) if "profile" in name])
    times = {"attention-fused-parallel": 500, "layernorm-parallel": 505, "torch-naive": 900}
    cells = [make_timed_cell("jax", [250] * 6, group="League", ops=None, **empty)]
    cells += [make_timed_cell(name, [time] * 6) for name, time in times.items()]
    frame = load(write_run(tmp_path / "run", cells)).collect()
    ((_, (row,)),) = summary_table(frame).groups
    assert row[3] == "0.5 µs (attention-fused-parallel)"
    assert row[-2:] == ["0.2 µs (jax)", "2.00x"]
    (table,) = config_tables(frame)
    assert table.groups[-1][0] == "League"
    assert table.groups[-1][1][0][2:7] == ["-"] * 5


def test_the_summary_has_the_share_of_the_ceiling(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    # Toy: 24 * 32 * 64^2 + 4 * 32^2 * 64 = 3,407,872 FLOPs in 1.01 ms are 3.374 GFLOP/s
    table = summary_table(load(run).collect(), 10e9)
    column = table.header.index("of ceiling")
    assert table.groups[0][1][0][column] == "34%"


def test_the_summary_sets_our_error_against_that_of_sdpa(tmp_path: Path) -> None:
    cells = [
        make_timed_cell("torch-sdpa", [900] * 6, max_abs_error=2e-6),
        make_timed_cell("attention-fused-parallel", [500] * 6, max_abs_error=3e-6),
    ]
    table = summary_table(load(write_run(tmp_path / "run", cells)).collect())
    assert table.groups[0][1][0][table.header.index("error / PT's")] == "1.50x"


def test_a_rung_stands_over_its_parent(tmp_path: Path) -> None:
    """Half its parent's time, resolved by the run's A/A pair; equal to it, not resolved."""
    times = {
        "attention-fused-parallel": [1000, 1001, 1002, 1003, 1004, 1005],
        "layernorm-parallel": [1001, 1002, 1003, 1004, 1005, 1006],
        "beyond-packed": [500, 501, 502, 503, 504, 505],
        "beyond-epilogues": [500, 501, 502, 503, 504, 505],
    }
    parents = {"beyond-packed": "layernorm-parallel", "beyond-epilogues": "beyond-packed"}
    cells = [
        make_timed_cell(name, samples, parent=parents.get(name), group="Beyond")
        for name, samples in times.items()
    ]
    table = rungs_table(load(write_run(tmp_path / "run", cells)).collect())
    assert table.header == ("Rung", "over", "Toy")
    assert table.groups[0][1] == [
        ["beyond-packed", "layernorm-parallel", "0.50x"],
        ["beyond-epilogues", "beyond-packed", "1.00x ~"],
    ]


def test_a_run_is_shown_against_its_own_ceiling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ceilings = {"provider": "avx2", "threads": 2, "memory_bytes_per_s": 1e10}
    run = make_run(tmp_path / "run")
    header = make_header(ceilings={**ceilings, "multiply_add_flops_per_s": 10e9})
    (run / "run.json").write_text(json.dumps(header), encoding="utf-8")
    assert main(["show", str(run)]) == 0
    assert "34%" in capsys.readouterr().out


def test_a_ratio_within_the_noise_is_marked(tmp_path: Path) -> None:
    times = {
        "torch-naive": [1000] * 6,
        "torch-sdpa": [2000] * 6,
        "passes-none": [990, 1010, 980] * 2,
        "attention-fused-parallel": [500] * 6,
        "layernorm-parallel": [510, 505, 490] * 2,
    }
    cells = [make_timed_cell(name, samples) for name, samples in times.items()]
    frame = load(write_run(tmp_path / "run", cells)).collect()
    (table,), summary = config_tables(frame), summary_table(frame)
    versus = {row[0]: row[7] for _, group in table.groups for row in group}
    assert versus["passes-none"] == "0.99x ~"
    assert versus["torch-naive"] == "1.00x"
    assert versus["torch-sdpa"] == "2.00x"
    ((_, (row,)),) = summary.groups
    assert row[3:7] == ["0.5 µs (attention-fused-parallel)", "0.50x", "0.25x", "faster"]


def test_the_ladder_is_that_of_the_published_run() -> None:
    assert list(LADDER[:18]) == [
        text["variant"] for text in read_lines(BLOCK) if text["config"] == "Toy"
    ]


def test_rows_stand_in_the_order_of_the_ladder(tmp_path: Path) -> None:
    cells = [make_timed_cell(name, [4000]) for name in ("new", "flash-layernorm", "torch-naive")]
    (table,) = config_tables(load(write_run(tmp_path / "run", cells)).collect())
    (group,) = table.groups
    assert [row[0] for row in group[1]] == ["torch-naive", "flash-layernorm", "new"]


def test_the_summary_of_a_config_without_our_times(tmp_path: Path) -> None:
    cells = [make_timed_cell("torch-naive", [4000]), make_failed_cell(variant="passes-none")]
    table = summary_table(load(write_run(tmp_path / "run", cells)).collect())
    ((_, (row,)),) = table.groups
    assert row == ["Toy", "4.0 µs", *["-"] * 8, "4.0 µs (torch-naive)", "-"]


def test_the_published_ratios_are_printed_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(BLOCK), "--format", "md"]) == 0
    printed = capsys.readouterr().out
    rows = [
        [field.strip() for field in line.strip("|").split("|")]
        for line in printed.partition("### SUMMARY")[0].splitlines()
        if line.startswith("|") and "**" not in line and "---" not in line and "Variant" not in line
    ]
    texts = read_lines(BLOCK)
    assert len(rows) == len(texts)
    for row, text in zip(rows, texts, strict=True):
        assert row[0] == text["printed_name"]
        printed_ratio, published = float(row[7].removesuffix("x")), text["ratio_vs_torch_naive"]
        assert printed_ratio == pytest.approx(float(published), abs=0.0101)


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (None, "-"),
        (21, "0.0 µs"),
        (27_500, "27.5 µs"),
        (2_660_000, "2.66 ms"),
        (1_100_000_000, "1.10 s"),
    ],
)
def test_durations(ns: float | None, text: str) -> None:
    assert duration(ns) == text


def test_show_says_what_ran_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(make_run(tmp_path / "run"))]) == 0
    printed = capsys.readouterr().out
    assert "Machine:   Test CPU, 2 cores, 24.0 GiB, Linux x86_64" in printed
    assert "2026-01-02T03:06:05Z, 2.0 minutes" in printed
    assert "Ceilings:  not measured" in printed
    assert "SUMMARY: best compiled variant vs PyTorch" in printed


def test_show_prints_the_ceilings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rates = {"multiply_add_flops_per_s": 234.4e9, "memory_bytes_per_s": 34.1e9}
    header = make_header(ceilings={"provider": "avx512", "threads": 2} | rates)
    said = "Ceilings:  234 GFLOP/s (avx512), 34 GB/s on 2 threads"
    run = write_run(tmp_path / "run", [make_timed_cell("torch-naive", [40_000])], header)
    assert main(["show", str(run)]) == 0
    assert f"{said}\n" in capsys.readouterr().out
    # 3.4 MFLOP in 4 us
    above = write_run(tmp_path / "above", [make_timed_cell("torch-naive", [4_000])], header)
    assert main(["show", str(above)]) == 0
    assert f"{said}; not used: cells of this run exceed it\n" in capsys.readouterr().out


def test_show_of_a_run_that_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stopped = make_header(finished_utc=None, elapsed_s=None)
    run = write_run(tmp_path / "run", [make_timed_cell("torch-naive", [4000])], stopped)
    assert main(["show", str(run), "--format", "md"]) == 0
    assert "to not finished\n" in capsys.readouterr().out


def test_faults_go_to_stderr_with_status_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path / "run", [make_timed_cell("torch-naive", [4000], threads=-1)])
    for command in ("show", "check"):
        assert main([command, str(run)]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        place = f"{run / 'cells.jsonl'}:1: column threads: "
        assert captured.err == f"{place}-1, expected an integer above 0\n"
    assert main(["show", str(tmp_path / "none")]) == 1
    assert "no such file or folder" in capsys.readouterr().err


def test_show_wants_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b")
    assert main(["show", str(tmp_path)]) == 1
    assert "holds 2 runs, name one" in capsys.readouterr().err
    assert main(["check", str(tmp_path)]) == 0
