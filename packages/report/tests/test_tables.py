"""What a ladder prints, read back figure by figure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from samples import SIZES, make_header, make_row, make_run, make_timed, make_untimed, write_run
from test_published import BLOCK, read_lines

from ablation_report.__main__ import main
from ablation_report.run import Run
from ablation_report.tables import Table, duration, run_tables, show
from ablation_report.tables.layout import times

GROUPS = {"torch-naive": "Baselines", "torch-sdpa": "Baselines"}
TORCH: dict[str, Any] = {"origin": "torch", "worker": "torch", "factors": {"executor": "torch"}}


def timed(variant: str, samples: list[int], **changes: Any) -> dict[str, Any]:
    """A row of a variant, of PyTorch by its name."""
    known = TORCH if variant.startswith("torch") else {}
    return make_timed(variant, samples, **{**known, **changes})


def sample_rows() -> list[dict[str, Any]]:
    """Two baselines, one of them out of memory, two equal rungs, a faster one."""
    samples = {
        "torch-naive": [4_000_000, 4_200_000, 4_100_000],
        "torch-sdpa": [4_000_000],
        "attention-fused-parallel": [2_000_000, 2_020_000, 2_050_000],
        "layernorm-parallel": [2_010_000, 2_000_000, 2_050_000],
        "flash-layernorm": [1_000_000, 1_010_000, 1_030_000],
    }
    rows = [timed(name, found, group=GROUPS.get(name, "Ours")) for name, found in samples.items()]
    reason = "needs 12 GB | has 8 GB"
    rows[1] = make_untimed(rows[1]) | {"printed_name": "PT SDPA", "reason_text": reason}
    return rows


def tables_of(run: Run) -> dict[str, Table]:
    """The tables of a run by the first word of their title."""
    return {table.title.replace(":", " ").split()[0]: table for table in run_tables(run)}


def of(*rows: dict[str, Any], **changes: Any) -> dict[str, Table]:
    return tables_of(make_run(list(rows), **changes))


def test_a_text_table_has_a_line_for_each_row() -> None:
    lines = of(*sample_rows())["Toy"].text().splitlines()
    assert lines[0] == "Toy: d_model 64, heads 4, seq_len 32, batch 1"
    assert lines[2].split() == [
        *("Variant", "Total", "Attn", "LN", "Other", "Attn%", "LN%", "vs", "PT"),
        *("±", "Ops/wall", "Noisy"),
    ]
    assert lines[4:6] == ["  Baselines", lines[5]]
    naive = lines[5].split()
    assert naive[:3] == ["torch-naive", "4.05", "ms"]
    assert "30.0%" in naive and "10.0%" in naive and "1.00x" in naive
    assert lines[6].split() == ["PT", "SDPA", "oom", *["-"] * 9]
    flash = next(line for line in lines if line.startswith("flash-layernorm")).split()
    # Paired: 1.00/4.00, 1.01/4.20, 1.03/4.10; the middle one is 0.25
    assert flash[1:3] == ["1.00", "ms"] and "0.25x" in flash
    assert "PT SDPA: oom, needs 12 GB | has 8 GB" in lines
    # Of three rounds the further end counts: 2020/2000
    pair = "attention-fused-parallel 1.002 in 3 rounds"
    assert lines[-1] == "Calibration product 0.5 µs before, +2.0% after"
    assert lines[-2] == f"Noise floor 1.0%; same program twice: {pair}"


def test_a_markdown_table_has_as_many_fields_in_every_row() -> None:
    text = of(*sample_rows())["Toy"].markdown()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {12}
    assert "| **Baselines** |" in text
    assert "- PT SDPA: oom, needs 12 GB &#124; has 8 GB" in text


def test_the_summary_takes_the_fastest_compiled_variant() -> None:
    (row,) = of(*sample_rows())["SUMMARY"].rows
    best = ["1.00 ms (flash-layernorm)", "0.25x", "-", "-", "1.0%"]
    other = ["4.05 ms (torch-naive)", "0.25x ~"]
    assert row == ["Toy", "4.05 ms", "-", *best, "-", "-", *other]


def test_the_best_other_may_be_of_the_league_and_is_never_ours() -> None:
    league: dict[str, Any] = {"origin": "jax", "group": "League", "profile": None, "ops": None}
    tables = of(
        timed("jax", [250] * 6, **league),
        timed("attention-fused-parallel", [500] * 6),
        timed("layernorm-parallel", [505] * 6),
        timed("torch-naive", [900] * 6),
        timed("percall-native", [100] * 6, factors={"executor": "per_op"}),
    )
    (row,) = tables["SUMMARY"].rows
    assert row[3] == "0.5 µs (attention-fused-parallel)"
    assert row[-2:] == ["0.2 µs (jax)", "2.00x"]
    assert tables["Toy"].groups[-1][0] == "League"
    assert tables["Toy"].groups[-1][1][0][2:7] == ["-"] * 5


def test_the_summary_has_the_share_of_the_ceiling() -> None:
    # Toy: 24 * 32 * 64^2 + 4 * 32^2 * 64 = 3,407,872 FLOPs in 1.00 ms are 3.39 GFLOP/s
    rates = {"2": {"multiply_add_flops_per_s": 10e9}}
    table = of(*sample_rows(), ceilings=rates)["SUMMARY"]
    assert table.rows[0][table.header.index("of ceiling")] == "34%"


def test_the_summary_sets_our_error_against_that_of_sdpa() -> None:
    table = of(
        timed("torch-sdpa", [900] * 6, errors={"output": 2e-6}),
        timed("attention-fused-parallel", [500] * 6, errors={"output": 3e-6}),
    )["SUMMARY"]
    assert table.rows[0][table.header.index("error / PT's")] == "1.50x"


def test_a_rung_stands_over_its_parent() -> None:
    """Half its parent's time, resolved by the run's twins; equal to it, not resolved."""
    samples = {
        "attention-fused-parallel": [1000, 1001, 1002, 1003, 1004, 1005],
        "layernorm-parallel": [1001, 1002, 1003, 1004, 1005, 1006],
        "beyond-packed": [500, 501, 502, 503, 504, 505],
        "beyond-epilogues": [500, 501, 502, 503, 504, 505],
    }
    parents = {"beyond-packed": "layernorm-parallel", "beyond-epilogues": "beyond-packed"}
    table = of(*(timed(n, s, parent=parents.get(n)) for n, s in samples.items()))["RUNGS"]
    assert table.header == ["Rung", "over", "Toy"]
    assert table.rows == [
        ["beyond-packed", "layernorm-parallel", "0.50x"],
        ["beyond-epilogues", "beyond-packed", "1.00x ~"],
    ]


def test_a_ratio_within_the_noise_is_marked() -> None:
    tables = of(
        timed("torch-naive", [1000] * 6),
        timed("torch-sdpa", [2000] * 6),
        timed("passes-none", [990, 1010, 980] * 2),
        timed("attention-fused-parallel", [500] * 6),
        timed("layernorm-parallel", [510, 505, 490] * 2),
    )
    versus = {row[0]: row[7] for row in tables["Toy"].rows}
    assert versus["passes-none"] == "0.98x ~"
    assert versus["torch-naive"] == "1.00x"
    assert versus["torch-sdpa"] == "2.00x"
    (row,) = tables["SUMMARY"].rows
    assert row[3:7] == ["0.5 µs (layernorm-parallel)", "0.49x", "0.25x", "faster"]


def test_rows_stand_in_the_order_of_the_header_with_the_league_below() -> None:
    rows = [
        timed("jax", [4000], group="League", origin="jax"),
        *(timed(name, [4000], group="Ours") for name in ("new", "flash", "torch-naive")),
    ]
    table = of(*rows, variants=["torch-naive", "flash", "new", "jax"])["Toy"]
    assert [row[0] for row in table.rows] == ["torch-naive", "flash", "new", "jax"]


def test_a_rung_that_nobody_knows_is_in_every_table() -> None:
    new = timed("beyond-new", [500] * 6, parent="torch-naive", group="New", printed_name="+ new")
    tables = of(timed("torch-naive", [1000] * 6, group="Baselines"), new)
    assert tables["Toy"].groups[-1][0] == "New"
    assert tables["SUMMARY"].rows[0][3] == "0.5 µs (+ new)"
    assert ["+ new", "torch-naive", "0.50x ~"] in tables["RUNGS"].rows


def test_the_summary_of_a_config_without_our_times() -> None:
    failed = make_untimed(make_row())
    (row,) = of(timed("torch-naive", [4000]), failed)["SUMMARY"].rows
    assert row == ["Toy", "4.0 µs", *["-"] * 8, "4.0 µs (torch-naive)", "-"]


def test_several_cases_have_means() -> None:
    small = {"sizes": SIZES | {"Nq": 128, "Nk": 128, "d": 64, "config": "Small"}}
    rows = [
        timed(name, [time] * 6, parent=parent, **changes)
        for changes, pair in (({}, (1000, 500)), (small, (1000, 800)))
        for name, parent, time in zip(
            ("torch-naive", "passes-none"), (None, "torch-naive"), pair, strict=True
        )
    ]
    tables = of(*rows)
    assert tables["RUNGS"].header[-1] == "geo. mean (n)"
    # The root of 0.5 x 0.8
    line = ["passes-none", "torch-naive", "0.50x ~", "0.80x ~", "0.63x (2)"]
    assert tables["RUNGS"].rows == [line]
    notes = tables["SUMMARY"].notes
    assert "vs naive: geometric mean 0.63x over 2 configs" in notes
    assert not any(note.startswith("vs SDPA") for note in notes)


@pytest.mark.parametrize(("second", "is_noisy"), [(1090, False), (1120, True)])
def test_a_case_with_a_high_floor_says_so_at_the_top(second: int, is_noisy: bool) -> None:
    table = of(
        timed("attention-fused-parallel", [second] * 6), timed("layernorm-parallel", [1000] * 6)
    )["Toy"]
    said = "Too noisy to compare: noise floor 12.0%, above 10%"
    assert list(table.warnings) == ([said] if is_noisy else [])
    assert (table.text().splitlines()[1] == said) == is_noisy
    assert (f"**{said}**" in table.markdown()) == is_noisy


def test_an_assumed_floor_is_called_so() -> None:
    table = of(timed("torch-naive", [1000] * 6), assumed_floor=0.05)["Toy"]
    assert "Noise floor 5.0% assumed: no program ran twice" in table.notes


def test_measured_memory_of_a_ladder_has_a_table() -> None:
    row = timed("passes-none", [1000] * 6)
    row["memory"] = row["memory"] | {"weights": 2**20, "arena": 3 * 2**19, "peak": 2**22}
    table = of(timed("torch-naive", [1000] * 6), row)["Memory"]
    assert table.rows == [["passes-none", "fwd", "Toy", "1.00", "-", "1.50", "-", "4.00"]]
    assert "Memory" not in of(timed("torch-naive", [1000] * 6))


def test_a_ladder_of_another_suite_has_its_own_base() -> None:
    toy: dict[str, Any] = {"suite": "toy", "tier": "all", "sizes": {"n": 3}, "flops": None}
    run = make_run(
        [
            timed("base", [1000] * 6, **toy, group="Toys"),
            timed("rung", [40] * 6, **toy, group="Toys", parent="base"),
        ],
        baseline="base",
        twins=[],
    )
    case, rungs = run_tables(run)
    assert case.title == "toy/all: n 3"
    assert case.header[7] == "vs base" and case.rows[1][7] == "0.040x ~"
    assert rungs.rows == [["rung", "base", "0.040x ~"]]


def test_the_published_ratios_are_printed_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(BLOCK), "--format", "md"]) == 0
    printed = capsys.readouterr().out
    rows = [
        [field.strip() for field in line.strip("|").split("|")]
        for line in printed.partition("### RUNGS")[0].splitlines()
        if line.startswith("|") and "**" not in line and "---" not in line and "Variant" not in line
    ]
    texts = read_lines(BLOCK)
    assert len(rows) == len(texts)
    for row, text in zip(rows, texts, strict=True):
        assert row[0] == text["printed_name"]
        printed_ratio, published = float(row[7].split("x")[0]), text["ratio_vs_torch_naive"]
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


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(None, "-"), (12.678, "12.68x"), (0.1, "0.10x"), (0.0634, "0.063x"), (0.05, "0.050x")],
)
def test_small_ratios_have_two_digits(ratio: float | None, text: str) -> None:
    assert times(ratio) == text


def test_show_says_what_ran_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(write_run(tmp_path / "run", sample_rows()))]) == 0
    printed = capsys.readouterr().out
    assert "Machine:   Test CPU, 2 cores, 24.0 GiB, Linux x86_64" in printed
    assert "2026-01-02T03:06:05Z, 2.0 minutes" in printed
    assert "Ceilings:  not measured" in printed
    assert "Rows:      4 of 5 timed, 1 cases" in printed
    assert "SUMMARY: best compiled variant vs PyTorch" in printed


def test_show_prints_the_ceilings() -> None:
    rates = {"multiply_add_flops_per_s": 234.4e9, "memory_bytes_per_s": 34.1e9}
    ceilings = {"2": {"provider": "avx512", **rates}, "1": {"multiply_add_flops_per_s": 120e9}}
    said = "Ceilings:  234 GFLOP/s (avx512), 34 GB/s on 2 threads; 120 GFLOP/s on 1 thread"
    rows = [timed("torch-naive", [40_000])]
    assert f"{said}\n" in show(make_run(rows, ceilings=ceilings), "text")
    refuted = make_run(rows, refuted_ceilings=ceilings)
    assert f"{said}; not used: rows of this run exceed it\n" in show(refuted, "text")


def test_show_of_a_run_that_was_stopped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = sample_rows()
    stopped = make_header(rows, finished_utc=None, elapsed_s=None)
    run = write_run(tmp_path / "run", rows, stopped)
    assert main(["show", str(run), "--format", "md"]) == 0
    assert "to not finished\n" in capsys.readouterr().out
    empty = write_run(tmp_path / "empty", [], make_header([], finished_utc=None))
    assert main(["show", str(empty)]) == 0
    assert "a run without rows: it was stopped before its first" in capsys.readouterr().out


def test_faults_go_to_stderr_with_status_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = make_row(case="block/configs full B1 H4 Q32 K32 d16 float32 t2 cpu config=Toy")
    run = write_run(tmp_path / "run", [row | {"threads": -1}], make_header([row]))
    for command in ("show", "check"):
        assert main([command, str(run)]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        place = f"{run / 'rows.jsonl'}:1: column threads: "
        assert captured.err == f"{place}-1, expected an integer above 0\n"
    assert main(["show", str(tmp_path / "none")]) == 1
    assert "no such file or folder" in capsys.readouterr().err


def test_show_wants_one_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, sample_rows())
    assert main(["show", str(tmp_path)]) == 1
    assert "holds 2 runs; name one of them" in capsys.readouterr().err
    assert main(["check", str(tmp_path)]) == 0


def test_tables_are_light_to_import() -> None:
    """The bench prints through them, and a command that draws nothing waits for no chart."""
    heavy = "[name for name in ('polars', 'altair') if name in sys.modules]"
    script = f"import sys, ablation_report.tables, ablation_report.__main__; print({heavy})"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_rows_of_a_folder_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path / "run", sample_rows())
    read: list[str] = []
    opened = Path.open

    def noted(path: Path, *arguments: Any, **options: Any) -> Any:
        read.append(path.name)
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", noted)
    assert main(["show", str(run)]) == 0
    assert read.count("rows.jsonl") == 1
