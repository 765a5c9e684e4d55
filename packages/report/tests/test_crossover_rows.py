"""The crossover tier of the sweep in maps, charts and findings of attention alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from suite_samples import make_failed_suite_row, make_suite_row, write_suite

from ablation_report.__main__ import main
from ablation_report.attention_tables import attention_tables
from ablation_report.charts import attention as chart
from ablation_report.findings import attention_crossover
from ablation_report.sources import gather

FLASH, UNFUSED, FUSED = "ablation_flash", "ablation_unfused", "attention_fused_simd_parallel"


def ways(n: int, fused: int = 1500, **changes: Any) -> list[dict[str, Any]]:
    """SDPA at 1000 ns, flash at 500, whole scores at 2000, and ways that stay on other pages."""
    times = {"torch_sdpa_flash": 1000, FLASH: 500, UNFUSED: 2000, FUSED: fused}
    times |= {"torch_flex_compiled": 700, "attention_fused_scalar": 9000}
    return [
        make_suite_row(
            impl,
            [time_ns] * 6,
            n,
            tier="crossover",
            kernels=None if impl.startswith("torch") else [f"kernel of {impl}"],
            **changes,
        )
        for impl, time_ns in times.items()
    ]


def test_the_tier_is_read_as_attention_alone(tmp_path: Path) -> None:
    rows = [make_suite_row(tier="cpu"), *ways(1024)]
    gathered = gather(write_suite(tmp_path / "run", rows))
    (run,) = gathered.attention
    assert [source.name for source in gathered.suite_sources] == ["run"]
    flash = "attention_flash_packed_simd_parallel"
    assert run.header["impls"] == ["torch-sdpa", flash, "kernels-materialized", FUSED]
    assert (run.header["n_cases"], run.header["min_rounds"]) == (1, 6)
    against, whole, rows_of_scores = attention_tables(run.rows, run.header["impls"])
    assert against.groups[0][1][1][:4] == [flash, "0.5 µs", "20.0", "0.50x"]
    assert whole.groups == [("full, 1 thread", [["heads 2, head_dim 64", "flash 4.00x"]])]
    assert rows_of_scores.groups[0][1][0][1] == "flash 3.00x"
    assert chart.rows(run)["over_sdpa"].drop_nulls().to_list() == [1.0, 0.5, 2.0, 1.5]


def test_a_finding_names_the_lines_of_the_file(tmp_path: Path) -> None:
    folder = write_suite(tmp_path / "run", [*ways(256, fused=400), *ways(1024)])
    (run,) = gather(folder).attention
    found = attention_crossover.evaluate(run)
    assert found.verdict == "holds"
    assert "flash wins from seq_len 1024 on" in found.sentence
    assert [row["line"] for row in found.rows] == [2, 4, 8, 10]
    assert {row["path"] for row in found.rows} == {str(folder / "rows.jsonl")}


def test_what_ran_alone_is_not_paired(tmp_path: Path) -> None:
    rows = ways(1024)
    rows[1] = make_suite_row(FLASH, tier="crossover", kernels=["k"], interleaved=False)
    rows[2] = make_failed_suite_row(UNFUSED, tier="crossover")
    (run,) = gather(write_suite(tmp_path / "run", rows)).attention
    against, *_ = attention_tables(run.rows, run.header["impls"])
    assert against.groups[0][1][1][1:5] == ["1.0 µs", "10.0", "-", "-"]
    assert any("oom, predicted" in note for note in against.notes)


def test_the_command_shows_the_tier_and_refuses_other_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["attention", str(write_suite(tmp_path / "run", ways(1024)))]) == 0
    assert "Flash against fused" in capsys.readouterr().out
    assert main(["attention", str(write_suite(tmp_path / "other", [make_suite_row()]))]) == 2
    assert "no row of tier crossover of attention-sweep" in capsys.readouterr().err
