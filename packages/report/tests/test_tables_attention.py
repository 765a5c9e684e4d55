"""Attention alone: every variant against SDPA, and which form of our kernels is faster where."""

from __future__ import annotations

from typing import Any

import pytest
from samples import make_attention_row, make_run, make_untimed

from ablation_report.run import Run
from ablation_report.tables import legend, run_tables
from ablation_report.tables.crossover import (
    crossover_cases,
    crossover_map,
    crossover_tables,
    form_of,
)

SDPA, MATERIALIZED, FLASH = "torch-sdpa", "kernels-materialized", "flash"
FORMS = {SDPA: "sdpa", MATERIALIZED: "materialized", FLASH: "flash", "other": "flash_packed"}


def row_of(variant: str, samples: list[int], n: int = 100, **changes: Any) -> dict[str, Any]:
    """A row of the tier, with the form that its row names."""
    known: dict[str, Any] = {
        "tier": "crossover",
        "origin": "torch" if variant == SDPA else "ablation",
        "factors": {"form": FORMS[variant]},
    }
    return make_attention_row(variant, samples, n, **{**known, **changes})


def three_of(flash: int, **changes: Any) -> list[dict[str, Any]]:
    """SDPA at 1000 ns, whole scores at 2000 ns, and flash, six rounds each."""
    times = {SDPA: 1000, MATERIALIZED: 2000, FLASH: flash}
    return [row_of(variant, [time] * 6, **changes) for variant, time in times.items()]


def run_of(*rows: dict[str, Any]) -> Run:
    return make_run(list(rows), baseline=SDPA, twins=[], assumed_floor=0.05)


def test_the_table_against_sdpa() -> None:
    two = [row | {"samples_ns": [400] * 6} for row in three_of(500, threads=2)]
    table = crossover_tables(run_of(*three_of(500), *two))[0]
    assert table.title == "Attention alone: full, batch 1, heads 2, head_dim 64"
    ((length, lines),) = table.groups
    assert length == "seq_len 100"
    assert lines[2] == [
        *("flash", "0.5 µs", "10240.0", "0.50x", "0.50-0.50"),
        *("0.4 µs", "12800.0", "1.00x ~", "1.00-1.00", "0.80x"),
    ]
    assert lines[0][:5] == [SDPA, "1.0 µs", "5120.0", "-", "-"]
    assert lines[0][-1] == "0.40x"


def test_what_ran_alone_or_has_no_time_is_not_compared() -> None:
    sdpa, whole, flash = three_of(500)
    rows = (sdpa, make_untimed(whole), flash | {"interleaved": False})
    table = crossover_tables(run_of(*rows))[0]
    assert table.rows[2][1:5] == ["0.5 µs", "10240.0", "0.50x ~", "-"]
    assert table.rows[1][1:3] == ["oom", "-"]
    assert table.notes == [f"{MATERIALIZED}, seq_len 100, 1 thread: oom, predicted in words"]


@pytest.mark.parametrize(
    ("flash", "text"),
    [
        ([1000] * 6, "flash 0.50x"),
        ([1000] * 3, "~ 0.50x"),
        ([3000] * 6, "materialized 0.67x"),
        ([1900, 2100] * 3, "~ 0.95x"),
        ([2060] * 6, "~ 1.03x"),
    ],
)
def test_the_map_names_the_faster_form_and_by_how_much(flash: list[int], text: str) -> None:
    run = run_of(row_of(MATERIALIZED, [2000] * 6), row_of(FLASH, flash))
    table = crossover_map(run, "flash", "materialized", "map")
    assert table.groups == [("full, 1 thread", [["heads 2, head_dim 64", text]])]
    assert table.header == ["seq_len", "100"]


def test_the_map_takes_the_faster_of_a_form() -> None:
    run = run_of(
        row_of(MATERIALIZED, [2000] * 6), row_of(FLASH, [3000] * 6), row_of("other", [1000] * 6)
    )
    table = crossover_map(run, "flash", "materialized", "map")
    assert table.rows[0][1] == "flash 0.50x"


def test_a_status_stands_where_a_form_has_no_time() -> None:
    run = run_of(
        row_of(FLASH, [1000] * 6),
        make_untimed(row_of(MATERIALIZED, [1] * 6)),
        make_untimed(row_of(FLASH, [1] * 6, 200)),
        row_of(MATERIALIZED, [1000] * 6, 200),
    )
    table = crossover_map(run, "flash", "materialized", "map")
    assert table.rows == [["heads 2, head_dim 64", "flash (oom)", "materialized (oom)"]]


@pytest.mark.parametrize(
    ("variant", "form"),
    [
        ("attention_fused_simd_parallel", "fused"),
        ("attention_fused_scalar", None),
        ("ablation_flash", "flash_packed"),
        ("ablation_unfused", "materialized"),
        ("torch_flex_compiled", None),
    ],
)
def test_the_sweep_names_forms_by_variant(variant: str, form: str | None) -> None:
    assert form_of(make_attention_row(variant)) == form


def test_the_tier_of_a_sweep_is_shown_after_its_rows() -> None:
    times = {
        "torch_sdpa_flash": 1000,
        "ablation_flash": 500,
        "ablation_unfused": 2000,
        "attention_fused_simd_parallel": 1500,
        "torch_flex_compiled": 700,
    }
    rows = [
        make_attention_row(
            name,
            [time] * 6,
            tier="crossover",
            origin="torch" if name.startswith("torch") else "ablation",
        )
        for name, time in times.items()
    ]
    other = make_attention_row(tier="cpu")
    changes: dict[str, Any] = {"baseline": "torch_sdpa_flash", "twins": [], "assumed_floor": 0.05}
    run = make_run([other, *rows], **changes)
    assert [len(rows) for rows in crossover_cases(run).values()] == [4]
    titles = [table.title for table in run_tables(run)]
    assert titles[-3:] == [
        "Attention alone: full, batch 1, heads 2, head_dim 64",
        "Flash against materialized (whole scores), our kernels",
        "Flash against fused (whole rows of scores), our kernels",
    ]
    assert [table.rows[0][1] for table in run_tables(run)[-2:]] == ["flash 0.25x", "flash 0.33x"]
    assert any(line.startswith("Attention alone") for line in legend(run))
    assert crossover_tables(make_run([other], **changes)) == []
