"""Cases with several layers: a name, tables and pages of their own, never mixed with one block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from page_tables import page_tables
from samples import FLOPS, SIZES, make_header, make_row, make_run, make_timed, write_run
from test_site_choice import LADDER, WHOLE, ladder_rows, league_rows, rows_of, write

from ablation_report.charts.block import scaling
from ablation_report.findings.block import dispatch_overhead, feed_forward_dominates
from ablation_report.load import Gathered, gather
from ablation_report.rows import config_name, row_faults
from ablation_report.run import BLOCK, Run
from ablation_report.series import short_case
from ablation_report.site import write_pages
from ablation_report.site.choose import configs_of, main_run, places, settings
from ablation_report.site.inputs import Inputs
from ablation_report.site.navigation import pages_of
from ablation_report.site.pages.cold_weights import NO_RUN, cold_weights_block
from ablation_report.site.pages.configs import config_page
from ablation_report.site.pages.league import league_block
from ablation_report.site.pages.performance import rungs_beyond_block
from ablation_report.site.readme import sizes
from ablation_report.tables import run_tables
from ablation_report.tables.summary import summarize

ROOT = Path(__file__).parents[3]
DEEP: dict[str, Any] = {"sizes": SIZES | {"layers": 4}, "flops": 4 * FLOPS}
SMALL_SIZES = SIZES | {"Nq": 128, "Nk": 128, "d": 64, "config": "Small"}
SMALL: dict[str, Any] = {
    "sizes": SMALL_SIZES,
    "flops": 24 * 128 * 256**2 + 4 * 128**2 * 256,
}
SMALL_DEEP: dict[str, Any] = {
    "sizes": SMALL_SIZES | {"layers": 4},
    "flops": 4 * int(SMALL["flops"]),
}
NAME = "Toy, 4 layers"


def packed_rows(default: int, packed: int, **changes: Any) -> list[dict[str, Any]]:
    """Rows of PT SDPA at 2000 ns, the published best at 1000, packed weights and the default; of
    twins that are exactly alike."""
    times = {"torch-sdpa": 2000, "flash-layernorm": 1000}
    times |= {"attention-fused-parallel": 1500, "layernorm-parallel": 1500}
    rows = [make_timed(name, [ns] * 8, **changes) for name, ns in times.items()]
    beyond: dict[str, Any] = {"group": "Beyond", **changes}
    rows.append(make_timed("beyond-packed", [packed] * 8, **beyond, parent="flash-layernorm"))
    rows.append(make_timed("beyond-default", [default] * 8, **beyond, parent="beyond-packed"))
    return rows


@pytest.mark.parametrize(("flops", "faults"), [(4 * FLOPS, set()), (FLOPS, {"flops"})])
def test_layers_count_in_the_operations(flops: int, faults: set[str]) -> None:
    row = make_row(**DEEP | {"flops": flops})
    assert row["case"].endswith("config=Toy layers=4")
    assert set(row_faults(row)) == faults


def test_a_case_with_layers_has_its_own_name() -> None:
    assert config_name(DEEP["sizes"]) == short_case(make_row(**DEEP)) == NAME
    assert config_name(SIZES) == short_case(make_row()) == "Toy"
    batch: dict[str, Any] = {"sizes": SIZES | {"layers": 4, "B": 3}, "flops": 12 * FLOPS}
    row = make_row(**batch)
    assert config_name(batch["sizes"]) == short_case(row) == f"{NAME}, batch 3"
    assert row_faults(row) == {}
    # A model with layers that is no config is named by its suite
    assert config_name({"size": "xl", "layers": 48}) is None


def test_tables_have_no_mean_over_both() -> None:
    pairs: tuple[tuple[dict[str, Any], int], ...]
    pairs = (({}, 500), (SMALL, 800), (DEEP, 250), (SMALL_DEEP, 640))
    rows = [
        make_timed(name, [ns] * 6, parent=parent, **changes)
        for changes, time in pairs
        for name, parent, ns in (("torch-naive", None, 1000), ("passes-none", "torch-naive", time))
    ]
    tables = run_tables(make_run(rows))
    rungs = [table for table in tables if table.title.startswith("RUNGS")]
    assert [table.header[2:-1] for table in rungs] == [
        ["Toy", "Small"],
        [NAME, "Small, 4 layers"],
    ]
    # The roots of 0.5 x 0.8 and of 0.25 x 0.64
    assert [table.rows[0][-1] for table in rungs] == ["0.63x (2)", "0.40x (2)"]
    summaries = [table for table in tables if table.title.startswith("SUMMARY")]
    assert [[row[0] for row in table.rows] for table in summaries] == [
        ["Toy", "Small"],
        [NAME, "Small, 4 layers"],
    ]
    assert "vs naive: geometric mean 0.40x over 2 configs" in summaries[1].notes
    assert any(table.title.startswith(f"{NAME}: d_model 64") for table in tables)


def test_no_mean_is_over_two_batches(tmp_path: Path) -> None:
    batch: dict[str, Any] = {"sizes": SIZES | {"B": 3}, "flops": 3 * FLOPS}
    rows = [
        make_timed(name, [ns] * 6, parent=parent, **changes)
        for changes in ({}, batch)
        for name, parent, ns in (("torch-naive", None, 1000), ("passes-none", "torch-naive", 500))
    ]
    tables = run_tables(make_run(rows))
    rungs = [table.header[2:] for table in tables if table.title.startswith("RUNGS")]
    assert rungs == [["Toy"], ["Toy, batch 3"]]
    runs = gather(write_run(tmp_path / "run", rows)).runs
    assert configs_of(runs) == ["Toy", "Toy, batch 3"]
    assert [setting.batch for setting in settings(places(runs))] == [1, 3]


def test_the_slope_is_over_cases_with_as_many_layers() -> None:
    rows = [
        make_timed("torch-naive", [ns] * 6, **changes)
        for changes, ns in (({}, 1000), (SMALL, 3000), (DEEP, 5000), (SMALL_DEEP, 50_000))
    ]
    one, both = (scaling.rows(make_run(some)) for some in (rows[:2], rows))
    assert both.filter(layers=1)["slope"].to_list() == one["slope"].to_list()
    deep = both.filter(layers=4)
    assert deep["case"].to_list() == [NAME, "Small, 4 layers"]
    # A tenth of the slope would be that of all four
    assert deep["slope"][0] == pytest.approx(one["slope"][0] * 2.096, rel=1e-3)
    assert deep["n_sizes"].to_list() == [2, 2]
    assert set(both["series"]) == set(one["series"])


def test_a_summary_tells_layers() -> None:
    frame = summarize([make_run([make_row(), make_row(**DEEP)])])
    assert frame["config"].to_list() == ["Toy", "Toy"]
    assert frame["layers"].to_list() == [1, 4]


def test_a_finding_about_a_config_takes_no_layers_for_it() -> None:
    rows = ladder_rows(*LADDER, **DEEP)
    assert dispatch_overhead.evaluate(make_run(rows)).verdict == "not measured"
    assert dispatch_overhead.evaluate(make_run(ladder_rows(*LADDER))).verdict != "not measured"


def test_the_share_of_the_feed_forward_is_that_of_all_layers() -> None:
    def op(name: str, ns: float) -> dict[str, Any]:
        kernel = "matmul_blas_parallel"
        told = {"op": "matmul", "category": "linear", "kernel": kernel, "median_ns": ns}
        return {"name": name, **told}

    ops = [op("0.up.matmul", 200), op("0.query.matmul", 50), op("1.down.matmul", 115)]
    share = feed_forward_dominates.share_of(make_row(**DEEP, ops=ops))
    assert share is not None
    assert share.feed_forward == pytest.approx(315 / 1050)


def make_inputs(folder: Path) -> Inputs:
    """A run of single blocks, and a newer one of layers that resolves more."""
    write(folder / "single", [*league_rows(2500), *league_rows(2000, **SMALL)], day=1)
    deep = [*league_rows(1100, **DEEP), *league_rows(1200, **SMALL_DEEP)]
    more = [
        row | {"variant": "torch-naive", "printed_name": "torch-naive"}
        for row in (deep[0], deep[len(deep) // 2])
    ]
    write(folder / "deep", [*deep, *more], day=2)
    return Inputs(gather(folder))


def test_layers_are_a_setting_of_their_own(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    found = settings(places(inputs.recorded(BLOCK)))
    assert sorted((s.layers, len(s.places)) for s in found) == [(1, 2), (4, 2)]
    matrix, *tables = page_tables(league_block(inputs))
    # One machine and number of threads: one column
    assert matrix.titles == ["Size", "Test CPU, 2 cores, 2 threads"]
    assert [line[0] for line in matrix.lines] == ["Toy", "Small", NAME, "Small, 4 layers"]
    five = [[line[0] for line in table.lines] for table in tables if table.titles[0] == "Case"]
    assert five == [["Toy", "Small"], [NAME, "Small, 4 layers"]]


def test_the_first_screen_and_the_main_run_are_of_single_blocks(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    assert list(rows_of(sizes(inputs))) == ["Toy", "Small"]
    assert "4 layers" not in sizes(inputs)
    main = main_run(inputs.recorded(BLOCK))
    assert main is not None and main.name == "single"
    deep = [run for run in inputs.recorded(BLOCK) if run.name == "deep"]
    assert main_run(deep) is None


def test_a_config_with_layers_has_a_page_of_its_own(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path)
    assert inputs.configs == {
        "Toy": "configs/toy.md",
        "Small": "configs/small.md",
        NAME: "configs/toy-4-layers.md",
        "Small, 4 layers": "configs/small-4-layers.md",
    }
    page, single = config_page(inputs, NAME), config_page(inputs, "Toy")
    assert "batch 1, 4 layers with weights of their own: 0.0136 GFLOP a call." in page
    assert "runs/deep.md" in page and "runs/single.md" not in page
    assert "runs/deep.md" not in single and "4 layers" not in single


def test_the_order_of_single_blocks_is_kept_beside_layers() -> None:
    def run_of(*cases: dict[str, Any]) -> Run:
        return make_run([make_row(**case) for case in cases])

    # By the run that has all, although Small has more operations
    runs = [run_of(SMALL, {}), run_of(SMALL_DEEP), run_of(DEEP)]
    assert configs_of(runs) == ["Small", "Toy", NAME, "Small, 4 layers"]


def test_a_mean_over_rungs_is_of_as_many_layers(tmp_path: Path) -> None:
    write(tmp_path / "single", packed_rows(400, 500))
    write(tmp_path / "deep", packed_rows(700, 900, **DEEP))
    block = rungs_beyond_block(Inputs(gather(tmp_path)))
    assert "0.50x (1)" in block and "0.90x (1)" in block
    assert "(2)" not in block


def test_what_a_single_block_overstates(tmp_path: Path) -> None:
    write(tmp_path / "single", packed_rows(400, 500), day=1)
    assert cold_weights_block(Inputs(gather(tmp_path))) == NO_RUN + "\n"
    weights = {"memory": make_row()["memory"] | {"weights": 4 * 199936}}
    write(tmp_path / "deep", packed_rows(4 * 700, 900, **DEEP, **weights), day=2)
    write(tmp_path / "lonely", packed_rows(400, 500, **SMALL_DEEP), day=3)
    block = cold_weights_block(Inputs(gather(tmp_path)))
    rows = rows_of(block)
    assert list(rows) == ["Toy", NAME]
    assert rows["Toy"][1:5] == ["0.191 MiB", "0.4 µs", "0.20x", "0.50x"]
    assert rows[NAME][1:5] == ["0.763 MiB", "0.7 µs", "1.40x", "0.90x"]
    assert "2 threads, avx2, 4 layers**; largest cache 0.0312 MiB" in block
    assert cold_weights_block(Inputs(Gathered(()))) == NO_RUN + "\n"


def test_another_machine_is_no_single_block_of_this_one(tmp_path: Path) -> None:
    machine = make_header()["machine"] | {"cores": 4}
    write(tmp_path / "single", packed_rows(400, 500), machine=machine)
    write(tmp_path / "deep", packed_rows(700, 900, **DEEP))
    assert cold_weights_block(Inputs(gather(tmp_path))) == NO_RUN + "\n"


def test_every_page_is_written_of_a_run_of_layers(tmp_path: Path) -> None:
    rows = [row | {"run_id": "deep"} for row in packed_rows(700, 900, **DEEP)]
    write_run(tmp_path / "runs/deep", rows, make_header(rows, run_id="deep", build_info=WHOLE))
    inputs = Inputs(gather(tmp_path / "runs", ROOT / "data/published"))
    pages = pages_of(write_pages(inputs, ROOT / "docs", tmp_path / "pages", ROOT))
    assert "configs/toy-4-layers.md" in pages
    # What was published is of a single block
    page = (tmp_path / "pages/configs/toy-4-layers.md").read_text("utf-8")
    assert "<summary>Published" not in page
    run = (tmp_path / "pages/runs/deep.md").read_text("utf-8")
    assert "<summary>Time over size</summary>" in run
