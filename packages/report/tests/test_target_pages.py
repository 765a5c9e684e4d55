"""The tables of targets: which run a figure is from, what is met, and the committed rows again."""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from rows import make_header, make_timed_cell, write_run
from test_attention import make_attention_header, make_row, write_attention

from ablation_report.site.attention_pages import attention_targets_block
from ablation_report.site.choose import recorded, settings
from ablation_report.site.target_pages import (
    TARGETS,
    instruction_sets_block,
    rungs_beyond_block,
    targets_block,
)
from ablation_report.sources import Gathered, gather

DATA = Path(__file__).parents[3] / "data"
OURS = ("attention-fused-parallel", "layernorm-parallel", "flash-layernorm", "beyond-default")
MEDIUM: dict[str, Any] = {
    "config": "Medium",
    "d_model": 512,
    "n_heads": 8,
    "seq_len": 256,
    "flops": 24 * 256 * 512**2 + 4 * 256**2 * 512,
}


def make_league(
    folder: Path,
    theirs: int,
    *,
    day: int = 1,
    size: dict[str, Any] | None = None,
    command: tuple[str, ...] = (),
    **header: Any,
) -> Path:
    """Write a run of our variants at 1000 ns and of a runtime of the league."""
    profile = [name for name in make_timed_cell("jax", [1]) if "profile" in name]
    cells = [make_timed_cell(name, [1000] * 8, **(size or {})) for name in OURS]
    league = {"group": "League", "ops": None, **dict.fromkeys(profile)}
    cells.append(make_timed_cell("openvino", [theirs] * 8, **league, **(size or {})))
    made = {
        "created_utc": f"2026-01-0{day}T00:00:00Z",
        "command": ["ablation-bench", *command],
        "build_info": {"isa_available": ["avx2", "baseline"], "isa_used": "avx2"},
    }
    return write_run(folder, cells, make_header(**(made | header)))


def rows_of(block: str) -> dict[str, list[str]]:
    """The rows of the first table of a block, by their first cell."""
    table = block.partition("| --- ")[2].partition("\n\n")[0].splitlines()[1:]
    split = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {cells[0]: cells for cells in split}


def test_every_target_stands_beside_what_was_measured(tmp_path: Path) -> None:
    make_league(tmp_path / "toy", 2500)
    make_league(tmp_path / "medium", 1100, size=MEDIUM)
    rows = rows_of(targets_block(gather(tmp_path)))
    assert list(rows) == list(TARGETS)
    # 1000 / 2500 and 1000 / 1100
    assert rows["Toy"][3:5] == ["0.40x", "0.40, met"]
    assert rows["Medium"][3:5] == ["0.91x", "0.90, **missed**"]
    assert rows["GPT-2"][1:5] == ["-", "-", "not measured", "0.96"]
    assert rows["GPT-2"][5:] == ["-"]


def test_a_config_of_one_machine_is_missing_on_the_other(tmp_path: Path) -> None:
    machine = make_header()["machine"] | {"caches": {"L1d": 49152}}
    make_league(tmp_path / "one", 2000)
    make_league(tmp_path / "other", 1100, size=MEDIUM, machine=machine)
    parts = targets_block(gather(tmp_path)).split("**Test CPU")[1:]
    assert len(parts) == 2
    tables = [rows_of(part) for part in parts]
    assert sorted(table["Toy"][3] for table in tables) == ["0.50x", "not measured"]
    assert sorted(table["Medium"][3] for table in tables) == ["0.91x", "not measured"]


def test_the_newest_run_with_the_config_counts_and_a_quick_one_stands_back(tmp_path: Path) -> None:
    make_league(tmp_path / "old", 4000, day=1)
    make_league(tmp_path / "new", 2000, day=2)
    make_league(tmp_path / "quick", 1000, day=3, command=("--quick",))
    make_league(tmp_path / "newest", 1100, day=4, size=MEDIUM)
    block = targets_block(gather(tmp_path))
    assert rows_of(block)["Toy"][3] == "0.50x"
    assert "Rows: [new](runs/new.md), [newest](runs/newest.md)." in block


def test_fewer_threads_have_a_table_without_targets(tmp_path: Path) -> None:
    make_league(tmp_path / "one", 1100, threads=1)
    rows = rows_of(targets_block(gather(tmp_path)))
    assert list(rows) == ["Toy"] and "0.40" not in rows["Toy"][4]


def test_a_forced_instruction_set_is_a_setting_of_its_own(tmp_path: Path) -> None:
    build = {"isa_available": ["avx512", "avx2"], "isa_used": "avx512"}
    providers = make_header()["providers"]
    make_league(tmp_path / "best", 2000, build_info=build, providers=providers | {"simd": "avx512"})
    make_league(tmp_path / "forced", 1100, build_info=build | {"isa_used": "avx2"})
    found = settings(recorded(gather(tmp_path)))
    assert [(setting.simd, setting.is_whole) for setting in found] == [
        ("avx512", True),
        ("avx2", False),
    ]


def test_without_a_run_every_block_says_so() -> None:
    gathered = Gathered((), (), (), ())
    for block in (
        targets_block,
        rungs_beyond_block,
        instruction_sets_block,
        attention_targets_block,
    ):
        assert re.fullmatch(r"\*No .*\.\*\n", block(gathered)), block


def test_attention_takes_each_shape_from_the_newest_run(tmp_path: Path) -> None:
    def run(name: str, day: int, times: dict[int, int]) -> None:
        rows = [
            make_row(impl, [time] * 6, Nq=n, Nk=n, flops_useful=4 * 2 * 8 * n * n)
            for n, ours in times.items()
            for impl, time in (("torch-sdpa", 1200), ("flash", ours))
        ]
        header = make_attention_header(created_utc=f"2026-01-0{day}T00:00:00Z")
        write_attention(tmp_path / name, rows, header)

    run("old", 1, {256: 600, 1024: 600})
    run("new", 2, {1024: 1000})
    block = attention_targets_block(gather(tmp_path))
    lines = [line for line in block.splitlines() if line.startswith("| ")]
    short = [line for line in lines if "| 256 |" in line]
    long = [line for line in lines if "| 1024 |" in line]
    assert "0.50x" in short[0] and "met" not in short[1]
    # 1200 / 1000 on one thread, where 1.5 was the target
    assert "0.83x" in long[0] and "1.20x **missed**" in long[1]
    assert "[old](attention.md#old)" in block and "[new](attention.md#new)" in block


def by_round(cell: dict[str, Any]) -> dict[int, float]:
    """The median of each round, by the standard library."""
    rounds: dict[int, list[int]] = {}
    for sample, index in zip(cell["samples_ns"], cell["sample_rounds"], strict=True):
        rounds.setdefault(index, []).append(sample)
    return {index: statistics.median(samples) for index, samples in rounds.items()}


def committed_cells(run: str, config: str) -> dict[str, dict[str, Any]]:
    """The timed cells of a committed run by variant, straight from its file."""
    lines = (DATA / "runs" / run / "cells.jsonl").read_text(encoding="utf-8").splitlines()
    cells = [cell for cell in map(json.loads, lines) if cell["config"] == config]
    return {cell["variant"]: cell for cell in cells if cell["status"] == "ok"}


@pytest.mark.skipif(not (DATA / "runs").is_dir(), reason="no recorded runs beside this package")
def test_the_committed_targets_are_recomputed() -> None:
    n_checked = 0
    for part in targets_block(gather(DATA / "runs")).split("\n**"):
        runs = re.findall(r"\]\(runs/([\w-]+)\.md\)", part)
        for config, row in rows_of(part).items():
            if row[3] in ("not measured", "-"):
                continue
            found = (committed_cells(by_slug()[run], config) for run in runs)
            cells = next(c for c in found if any(v["group"] == "League" for v in c.values()))
            times = {name: statistics.median(by_round(c).values()) for name, c in cells.items()}
            others = [n for n, c in cells.items() if c["group"] in ("League", "Baselines")]
            ours = [n for n, c in cells.items() if c["executor"] == "compiled"]
            best, rival = min(ours, key=times.__getitem__), min(others, key=times.__getitem__)
            pair = by_round(cells[best]), by_round(cells[rival])
            ratio = statistics.median(pair[0][i] / pair[1][i] for i in pair[0].keys() & pair[1])
            assert row[3].removesuffix(" ~") == f"{ratio:.2f}x", (runs, config)
            assert cells[best]["printed_name"] in row[2] and cells[rival]["printed_name"] in row[1]
            n_checked += 1
    assert n_checked >= 16


def by_slug() -> dict[str, str]:
    """The names of the committed runs by those of their pages."""
    names = [path.name for path in (DATA / "runs").iterdir()]
    return {re.sub(r"[^a-z0-9]+", "-", name.lower()): name for name in names}
