"""Figures of the further suites: times, rates, ratios, growth, means, and the tables of them."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pytest
from rows import make_timed_cell, write_run
from suite_samples import (
    BACKWARD,
    PARTS,
    STEP,
    make_failed_suite_row,
    make_suite_header,
    make_suite_row,
    suite_source,
    write_suite,
)

from ablation_report.__main__ import main
from ablation_report.suite_detail_tables import detail_tables
from ablation_report.suite_series import mean_ratios, series_of, short_case
from ablation_report.suite_sources import percentile, said_of, timing_of
from ablation_report.suite_tables import growth_table, mean_table, suite_tables

SAMPLES = [1010, 990, 1000, 1500, 980, 1020, 1005]
STEP_PARAMETERS = {"size": "tiny", "layers": 4, "d_ff": 1024, "vocab": 2000, "autocast": "none"}


def test_a_timing_is_what_statistics_says() -> None:
    timing = timing_of(SAMPLES)
    assert timing.time_ns == statistics.median(SAMPLES)
    assert timing.mean_ns == pytest.approx(statistics.mean(SAMPLES))
    assert timing.std_ns == pytest.approx(statistics.stdev(SAMPLES))
    assert (timing.min_ns, timing.n) == (980, 7)
    assert timing.cv == pytest.approx(statistics.stdev(SAMPLES) / statistics.mean(SAMPLES))
    assert timing.is_noisy is True
    assert timing_of([1000, 1001, 1002]).is_noisy is False


@pytest.mark.parametrize(
    ("share", "value"), [(0.0, 10.0), (0.05, 11.5), (0.5, 25.0), (0.95, 38.5), (1.0, 40.0)]
)
def test_percentiles_lie_linearly_between_neighbors(share: float, value: float) -> None:
    assert percentile([40, 10, 30, 20], share) == pytest.approx(value)


def test_rates_and_shares(tmp_path: Path) -> None:
    row = make_suite_row(samples=[1000] * 6, flops_useful=25_000_000, flops_fa=50_000_000)
    (measure,) = suite_source(tmp_path / "run", row).measures
    assert measure.gflops == pytest.approx(25_000)
    assert measure.gflops_fa == pytest.approx(50_000)
    assert measure.of_ceiling == pytest.approx(0.25)
    assert measure.of_sgemm == pytest.approx(0.5)


@pytest.mark.parametrize(
    "changes", [{"dtype": "bfloat16"}, {"parameters": {"autocast": "bfloat16"}}]
)
def test_no_share_where_the_ceiling_is_of_another_type(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    (measure,) = suite_source(tmp_path / "run", make_suite_row(**changes)).measures
    assert measure.gflops is not None and measure.of_ceiling is None


def test_ratios_are_paired_by_round(tmp_path: Path) -> None:
    # Each round is twice as slow as the one before: only pairs see that the ratio never changes
    base = [100 * 2**i for i in range(6)]
    rows = [
        make_suite_row(samples=base),
        make_suite_row("mine", [3 * ns for ns in base]),
        make_suite_row("alone", [3 * ns for ns in base], interleaved=False),
        make_failed_suite_row("naive"),
    ]
    source = suite_source(tmp_path / "run", *rows)
    sdpa, mine, alone, naive = source.measures
    ratio = source.against(mine)
    assert ratio and (ratio.median, ratio.low, ratio.high, ratio.n) == (3, 3, 3, 6)
    assert said_of(ratio) == "slower"
    unpaired = source.against(alone)
    assert unpaired and unpaired.n == 1 and said_of(unpaired) == "not resolved"
    assert source.against(sdpa) is None and source.against(naive) is None


def test_no_ratio_between_cases_phases_or_sessions(tmp_path: Path) -> None:
    rows = [
        make_suite_row(),
        make_suite_row("mine", n=2048),
        make_suite_row("mine", phase="bwd"),
        make_suite_row("mine", session=2),
    ]
    source = suite_source(tmp_path / "run", *rows)
    ratios = [source.against(measure) for measure in source.measures[1:]]
    assert ratios[:2] == [None, None]
    assert ratios[2] is not None and ratios[2].n == 1


def test_growth_is_fitted_from_1024_on(tmp_path: Path) -> None:
    rows = [
        make_suite_row(
            samples=[n**2 // 4] * 3,
            n=n,
            mem_method="hwm",
            mem_op_peak_bytes=n * 1000,
            mem_disagree=False,
        )
        for n in (1024, 2048, 4096)
    ]
    # Start-up alone: would bend the line
    rows.append(make_suite_row(samples=[10**6] * 3, n=256))
    rows.append(make_failed_suite_row("torch_sdpa_flash", n=8192))
    (series,) = series_of(suite_source(tmp_path / "run", *rows))
    assert series.exponent(lambda m: m.time_ns) == pytest.approx(2)
    assert series.exponent(lambda m: m["mem_op_peak_bytes"]) == pytest.approx(1)
    assert series.exponent(lambda m: m["mem_saved_bytes"]) is None
    assert series.first_oom and series.first_oom["Nk"] == 8192
    (line,) = growth_table(suite_source(tmp_path / "run", *rows)).rows
    assert line[3:] == ["2.00", "1.00", "-", "8192 (predicted)"]


def test_series_do_not_mix_what_differs_besides_the_length(tmp_path: Path) -> None:
    others: list[dict[str, Any]] = [
        {},
        {"causal": True},
        {"d": 32},
        {"H": 3},
        {"B": 2},
        {"threads": 2},
        {"dtype": "bfloat16"},
        {"tier": "paper"},
        {"phase": "bwd"},
        {"parameters": {"block_q": 32, "block_k": 64}},
        {"parameters": {"scale": 1}},
    ]
    rows = [make_suite_row(n=n, **changes) for changes in others for n in (1024, 2048)]
    found = series_of(suite_source(tmp_path / "run", *rows))
    assert len(found) == len(others)
    assert all([m["Nk"] for m in series.measures] == [1024, 2048] for series in found)


def test_means_are_geometric_and_name_what_is_missing(tmp_path: Path) -> None:
    rows = [
        *(make_suite_row(n=n) for n in (1024, 2048, 4096)),
        make_suite_row("mine", [500] * 6, n=1024),
        make_suite_row("mine", [2000] * 6, n=2048),
        make_failed_suite_row("mine", n=4096),
    ]
    source = suite_source(tmp_path / "run", *rows)
    mean = mean_ratios(source, source.measures)["mine", "fwd"]
    assert mean.value == pytest.approx(1) and mean.n == 2
    assert mean.missing == ("full, N 4096, B1 H2 d64 (oom)",)
    (line,) = mean_table(source).rows
    assert line[2:5] == ["1.00x", "2", "1"]


def test_a_table_has_each_row_with_its_status_and_baseline(tmp_path: Path) -> None:
    rows = [
        make_suite_row(samples=[2_000_000] * 6, flops_useful=2_000_000_000),
        make_suite_row("mine", [1_000_000] * 6, published_name="theirs"),
        make_suite_row("short", [1_000_000] * 3),
        make_failed_suite_row("naive"),
        make_failed_suite_row("wrong", "incorrect", "check", errors={"o": 0.5}, check="fail"),
    ]
    table, *_ = suite_tables(suite_source(tmp_path / "run", *rows))
    assert table.title == "attention-sweep/cpu, 1 thread"
    assert "over torch_sdpa_flash" in table.header
    ((case, lines),) = table.groups
    assert case == "full, N 1024, B1 H2 d64"
    by_name = {line[0]: line for line in lines}
    assert by_name["torch_sdpa_flash"][8] == "1000.0"
    assert by_name["mine"][1:4] == ["theirs", "fwd", "1.00 ms"]
    assert by_name["mine"][12:14] == ["0.50x", "0.50-0.50"]
    assert by_name["short"][12] == "0.50x~"
    assert set(by_name["naive"][3:16]) == {"-"} and by_name["naive"][16] == "oom (predicted)"
    assert by_name["wrong"][15:] == ["5.0e-01", "incorrect (check)"]
    assert "naive: oom, oom of naive" in table.notes


def test_a_table_says_what_a_compiler_did(tmp_path: Path) -> None:
    rows = [
        make_suite_row("torch_unfused_lse_compiled", lowered_to_sdpa=1, graph_breaks=0),
        make_suite_row("torch_flex_compiled", graph_breaks=2, recompiles_timed=1),
    ]
    table, *_ = suite_tables(suite_source(tmp_path / "run", *rows))
    assert [line[-1] for line in table.rows] == [
        "ok, lowered to SDPA",
        "ok, 2 graph breaks, 1 recompilations while timed",
    ]


def test_what_is_usual_is_not_repeated_in_the_name_of_a_case(tmp_path: Path) -> None:
    parameters = {"scale": 1, "block_q": 32, "block_k": 64, "softmax": "safe", "inputs": "ramp"}
    rows = [
        make_suite_row(suite=PARTS, parameters=parameters),
        make_suite_row(suite=STEP, parameters=STEP_PARAMETERS | {"autocast": "bfloat16"}),
    ]
    names = [
        short_case(suite_source(tmp_path / str(i), row).measures[0]) for i, row in enumerate(rows)
    ]
    assert names == [
        "full, N 1024, B1 H2 d64, tile 32x64, inputs ramp",
        "full, N 1024, B1 H2 d64, tiny, autocast bfloat16",
    ]


def test_the_tables_of_a_step(tmp_path: Path) -> None:
    details = {
        "n_params": 5_220_608,
        "tokens": 512,
        "model_flops": 2_000_000_000,
        "parts_ns": {"fwd": [300, 310, 290], "bwd": [600] * 3, "opt": [100] * 3},
    }
    common: dict[str, Any] = {"suite": STEP, "phase": "step", "parameters": STEP_PARAMETERS}
    rows = [
        make_suite_row("sdpa", details=details, **common),
        make_suite_row("data_parallel_1", [1000] * 6, **common),
        make_suite_row("data_parallel_2", [1250] * 6, **common),
        make_suite_row(
            "sdpa", suite=STEP, phase="fwd", parameters=STEP_PARAMETERS | {"study_warmup": 2}
        ),
    ]
    tables = {table.title: table for table in detail_tables(suite_source(tmp_path / "r", *rows))}
    (model,) = tables["Rates and memory of the model"].rows
    assert model[3:6] == ["5,220,608", "512,000,000", "2000000.0"]
    (step,) = tables["Parts of a step"].rows
    assert step[2:] == ["0.3 µs", "0.6 µs", "0.1 µs", "1.0 µs", "100%"]
    parallel = tables["Data parallel training, a batch for each process"].rows
    assert [line[3:] for line in parallel] == [["1.00x", "100%"], ["1.60x", "80%"]]
    (warm,) = tables["Warm-up, each sample in a new process"].rows
    assert warm[2:4] == ["2", "1.0 µs"]


def test_the_tables_of_memory_and_scratch(tmp_path: Path) -> None:
    scores = 4 * 2 * 1024**2
    kept = make_suite_row(
        "torch_unfused_course",
        suite=BACKWARD,
        mem_method="hwm",
        mem_disagree=False,
        mem_saved_bytes=2 * scores,
        details={"mem_published_style_bytes": 6 * scores, "mem_saved_predicted_bytes": 2 * scores},
    )
    (table,) = detail_tables(suite_source(tmp_path / "backward", kept))
    assert table.rows[0][2:4] == ["16.00", "2.00"] and table.rows[0][-1] == "3.00x"
    line = {
        "name": "qk",
        "self_cpu_share": 0.5,
        "self_cpu_ns": 500,
        "cpu_total_share": 1.0,
        "cpu_total_ns": 1000,
        "cpu_avg_ns": 250,
        "cpu_mem_bytes": 524288,
        "self_cpu_mem_bytes": None,
        "calls": 4,
    }
    part = make_suite_row(
        "ablation_flash_course",
        suite=PARTS,
        tier="course",
        mem_scratch_bytes=695_296,
        details={
            "scratch_formula_bytes": 695_296,
            "published_style_ns": 4000,
            "published_style_mem_bytes": 524_288,
            "op_table": [line],
            "op_table_with_ns": 1100.0,
            "op_table_without_ns": 1000.0,
        },
    )
    scratch, ops = detail_tables(suite_source(tmp_path / "parts", part))
    assert scratch.rows[0][5:] == ["695,296", "695,296", "4.0 µs", "524,288"]
    assert ops.groups[0][0] == "ablation_flash_course, 1 threads, 1.10x observed"
    assert ops.rows[0] == [
        *("qk", "50.0%", "0.5 µs", "100.0%", "1.0 µs", "0.2 µs", "524,288", "-", "4"),
    ]


@pytest.mark.parametrize("layout", ["text", "md"])
def test_show_prints_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    rows = [make_suite_row(), make_failed_suite_row("naive")]
    header = make_suite_header(rows, limits={"memory_limit_bytes": 2**30})
    folder = write_suite(tmp_path / "run", rows, header)
    assert main(["show", str(folder), "--format", layout]) == 0
    text = capsys.readouterr().out
    for told in (
        "2.0 minutes",
        "100000 GFLOP/s, 50000 by PyTorch's product on 1 thread",
        "1.0 GiB of memory for an implementation",
        "1 of 2 timed, 1 cases",
        "oom (predicted)",
    ):
        assert told in text


def test_show_refuses_a_damaged_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_suite(tmp_path / "run", [make_suite_row() | {"check": "fail"}])
    assert main(["show", str(folder)]) == 1
    assert "rows.jsonl:1: column check" in capsys.readouterr().err


def test_export_has_the_rows_of_suites_beside_the_cells(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "block", [make_timed_cell("torch-naive", [1000] * 6)])
    assert main(["export", str(tmp_path)]) == 0
    alone = capsys.readouterr().out.splitlines()
    assert len(alone) == 2 and "suite" not in alone[0]
    rows = [make_suite_row(), make_suite_row("mine", [500] * 6), make_failed_suite_row("naive")]
    write_suite(tmp_path / "suite", rows)
    assert main(["export", str(tmp_path)]) == 0
    header, *lines = (line.split(",") for line in capsys.readouterr().out.splitlines())
    assert len(lines) == 4
    told = [dict(zip(header, line, strict=True)) for line in lines]
    assert told[0]["suite"] == "" and told[0]["median_ns"] == "1000.0"
    mine = next(line for line in told if line["variant"] == "mine")
    assert mine["vs_baseline"] == "0.5" and mine["phase"] == "fwd" and mine["p95_ns"] == "500.0"
    naive = next(line for line in told if line["variant"] == "naive")
    assert naive["median_ns"] == "" and naive["reason"] == "predicted"
