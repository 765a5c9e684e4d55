"""The tables of suites: rows by tier, growth, means, and what a suite records of its own."""

from __future__ import annotations

import statistics
from typing import Any

import pytest
from samples import make_attention_row, make_run, make_untimed

from ablation_report.run import Run
from ablation_report.tables import Table, legend, run_tables, show
from ablation_report.tables.details import detail_tables
from ablation_report.tables.suite import growth_table, mean_std, mean_table, tier_tables

BASE = "torch_sdpa_flash"
SAMPLES = [1010, 990, 1000, 1500, 980, 1020, 1005]
STEP = {"B": 1, "H": 2, "Nq": 128, "Nk": 128, "d": 64, "causal": True, "size": "tiny", "layers": 4}


def suite_run(*rows: dict[str, Any], **changes: Any) -> Run:
    """A run of a suite whose baseline is SDPA; no program of it ran twice."""
    known = {"baseline": BASE, "twins": [], "assumed_floor": 0.05}
    return make_run(list(rows), **{**known, **changes})


def row_of(variant: str = BASE, time: int = 1000, **changes: Any) -> dict[str, Any]:
    """A row with the same time in six rounds."""
    return make_attention_row(variant, [time] * 6, **changes)


def with_memory(row: dict[str, Any], **memory: Any) -> dict[str, Any]:
    return row | {"memory": row["memory"] | memory}


def by_name(table: Table) -> dict[str, dict[str, str]]:
    """The figures of each line by the head of their column."""
    return {row[0]: dict(zip(table.header, row, strict=True)) for row in table.rows}


def test_a_mean_is_what_statistics_says() -> None:
    mean, std = mean_std(SAMPLES)
    assert mean == pytest.approx(statistics.mean(SAMPLES))
    assert std == pytest.approx(statistics.stdev(SAMPLES))
    assert mean_std([7]) == (7, None)


def test_a_table_has_each_row_with_its_status_and_baseline() -> None:
    wrong = make_untimed(row_of("wrong"), "incorrect", "check") | {"errors": {"o": 0.5}}
    run = suite_run(
        row_of(time=2_000_000, flops=2_000_000_000),
        row_of("mine", 1_000_000, published_name="theirs"),
        make_attention_row("short", [1_000_000] * 3),
        make_untimed(row_of("naive")),
        wrong,
    )
    (table,) = tier_tables(run)
    assert table.title == "attention-sweep/cpu, 1 thread"
    assert [group for group, _ in table.groups] == ["full, N 1024, B1 H2 d64"]
    lines = by_name(table)
    assert lines[BASE]["GFLOP/s"] == "1000.0" and lines[BASE][f"over {BASE}"] == "-"
    mine = lines["mine"]
    assert (mine["Published name"], mine["Phase"], mine["Time"]) == ("theirs", "fwd", "1.00 ms")
    assert (mine[f"over {BASE}"], mine["95%"]) == ("0.50x", "0.50-0.50")
    assert lines["short"][f"over {BASE}"] == "0.50x ~"
    assert set(list(lines["naive"].values())[3:-1]) == {"-"}
    assert lines["naive"]["Status"] == "oom (predicted)"
    assert (lines["wrong"]["Error"], lines["wrong"]["Status"]) == ("5.0e-01", "incorrect (check)")
    assert "naive: oom, predicted in words" in table.notes


def test_a_time_is_the_first_quartile_over_rounds() -> None:
    row = make_attention_row("mine", [10_000, 20_000, 90_000, 30_000], sample_rounds=[0, 0, 0, 1])
    (table,) = tier_tables(suite_run(row))
    line = by_name(table)["mine"]
    # Of 10 and 30; the medians of the rounds are 20 and 30
    assert (line["Time"], line["Median"]) == ("15.0 µs", "25.0 µs")
    assert (line["p05"], line["p95"]) == ("11.5 µs", "81.0 µs")
    assert (line["Min"], line["Status"]) == ("10.0 µs", "noisy")
    assert line["Mean ± std"].startswith("37.5 µs ± ")


def test_shares_are_of_what_as_many_threads_reach() -> None:
    rates = {"multiply_add_flops_per_s": 1e14, "sgemm_1024_flops_per_s": 5e13}
    half = row_of("half", flops=25_000_000, dtype="bfloat16")
    autocast = {"B": 1, "H": 2, "Nq": 8, "Nk": 8, "d": 64, "autocast": "bfloat16"}
    cast = row_of("cast", flops=25_000_000, sizes=autocast)
    run = suite_run(row_of(flops=25_000_000), half, cast, ceilings={"1": rates})
    lines = by_name(tier_tables(run)[0])
    assert (lines[BASE]["of ceiling"], lines[BASE]["of sgemm"]) == ("25%", "50%")
    for name in ("half", "cast"):
        assert lines[name]["GFLOP/s"] != "-"
        assert (lines[name]["of ceiling"], lines[name]["of sgemm"]) == ("-", "-")


def test_peak_memory_and_what_a_compiler_did() -> None:
    made = {"lowered_to_sdpa": 1, "graph_breaks": 2, "recompiles_timed": 1}
    compiled = with_memory(row_of("compiled", details=made), peak=3 * 2**20, disagree=True)
    line = by_name(tier_tables(suite_run(compiled))[0])["compiled"]
    assert line["Peak MiB"] == "3.00*"
    told = "ok, lowered to SDPA, 2 graph breaks, 1 recompilations while timed"
    assert line["Status"] == told


def test_columns_that_no_row_fills_are_left_out() -> None:
    (plain,) = tier_tables(suite_run(row_of()))
    assert not {"Published name", "of ceiling", "Peak MiB", "95%"} & set(plain.header)
    assert (plain.header[0], plain.header[-1]) == ("Variant", "Status")
    (full,) = tier_tables(suite_run(row_of(), row_of("mine", published_name="theirs")))
    assert {"Published name", "95%"} <= set(full.header)
    (failed,) = tier_tables(suite_run(make_untimed(row_of())))
    assert failed.header == ["Variant", "Phase", "Status"]


def test_a_table_for_each_tier_and_number_of_threads() -> None:
    rows = [row_of(tier=tier, threads=n) for tier in ("cpu", "paper") for n in (1, 2)]
    assert [table.title for table in tier_tables(suite_run(*rows))] == [
        f"attention-sweep/{tier}, {threads}"
        for tier in ("cpu", "paper")
        for threads in ("1 thread", "2 threads")
    ]


def test_a_measured_floor_stands_with_its_case_and_an_assumed_one_below() -> None:
    (assumed,) = tier_tables(suite_run(row_of()))
    assert "Noise floor 5.0% assumed" in assumed.notes
    twins = {"twins": [["first", "second"]], "assumed_floor": None}
    rows = [row_of(), row_of("first", 1030), row_of("second"), row_of(n=2048)]
    (measured,) = tier_tables(suite_run(*rows, **twins))
    names = [group for group, _ in measured.groups]
    assert names == ["full, N 1024, B1 H2 d64; floor 3.0%", "full, N 2048, B1 H2 d64"]
    assert not measured.warnings and not any("floor" in note for note in measured.notes)
    (noisy,) = tier_tables(suite_run(row_of("first", 1300), row_of("second"), **twins))
    told = "Too noisy to compare: full, N 1024, B1 H2 d64: noise floor 30.0%, above 10%"
    assert list(noisy.warnings) == [told]


def test_growth_is_fitted_from_1024_on() -> None:
    rows = [
        with_memory(row_of(time=n**2 // 4, n=n), peak=n * 1000, method="hwm")
        for n in (1024, 2048, 4096)
    ]
    # Start-up alone: would bend the line
    rows += [row_of(time=10**6, n=256), make_untimed(row_of(n=8192))]
    (line,) = growth_table(suite_run(*rows)).rows
    assert line[3:] == ["2.00", "1.00", "-", "8192 (predicted)"]


def test_means_are_geometric_and_name_what_is_missing() -> None:
    run = suite_run(
        *(row_of(n=n) for n in (1024, 2048, 4096)),
        row_of("mine", 500, n=1024),
        row_of("mine", 2000, n=2048),
        make_untimed(row_of("mine", n=4096)),
    )
    (line,) = mean_table(run).rows
    assert line[2:] == ["1.00x", "2", "1", "full, N 4096, B1 H2 d64 (oom)"]


def test_the_tables_of_a_step() -> None:
    details = {
        "tokens": 128,
        "model_flops": 2_000_000,
        "n_params": 5000,
        "mem_weights_bytes": 2**20,
        "parts_ns": {"fwd": [400_000] * 3, "bwd": [500_000] * 3},
    }
    step = {"suite": "lm-step", "phase": "step", "sizes": STEP, "details": details}
    model, parts = detail_tables(suite_run(row_of("sdpa", 1_000_000, **step)))
    assert model.rows[0][2:6] == ["causal, N 128, B1 H2 d64, tiny", "5,000", "128,000", "2.0"]
    assert model.rows[0][7] == "1.00"
    assert parts.header[2:4] == ("fwd", "bwd")
    assert parts.rows[0][2:] == ["400.0 µs", "500.0 µs", "1.00 ms", "90%"]


def test_the_tables_of_studies_of_a_step() -> None:
    warm = row_of(sizes=STEP | {"study_warmup": 3}, suite="lm-step", phase="step")
    (table,) = detail_tables(suite_run(warm))
    assert table.rows == [[BASE, "step", "3", *["1.0 µs"] * 3, "0.0%"]]
    parallel = [
        row_of(f"data_parallel_{n}", time, suite="lm-step", phase="step")
        for n, time in ((1, 1000), (2, 1250))
    ]
    (table,) = detail_tables(suite_run(*parallel))
    assert table.rows[1][1:] == ["2", "1.2 µs", "1.60x", "80%"]


def test_the_table_of_a_backward_and_of_scratch() -> None:
    scores = 4 * 1 * 2 * 1024 * 1024
    saved = {"mem_published_style_bytes": 3 * scores, "mem_saved_predicted_bytes": scores}
    row = with_memory(row_of(details=saved), saved=2 * scores, before_bwd=scores)
    (table,) = detail_tables(suite_run(row))
    assert table.rows[0][3:] == ["2.00", "8.00", "8.00", "24.00", "1.50x"]
    details = {"scratch_formula_bytes": 695_296, "published_style_ns": 4000}
    part = with_memory(row_of("ablation_flash_course", details=details), scratch=695_296)
    (scratch,) = detail_tables(suite_run(part))
    assert scratch.rows[0][5:] == ["695,296", "695,296", "4.0 µs", "-"]


def test_the_table_of_operations() -> None:
    line = {
        "name": "qk",
        "self_cpu_share": 0.5,
        "self_cpu_ns": 500.0,
        "cpu_total_share": 1.0,
        "cpu_total_ns": 1000.0,
        "cpu_avg_ns": 250.0,
        "cpu_mem_bytes": 524_288,
        "self_cpu_mem_bytes": None,
        "calls": 4,
    }
    told = {"op_table": [line], "op_table_with_ns": 1100.0, "op_table_without_ns": 1000.0}
    (ops,) = detail_tables(suite_run(row_of(tier="course", details=told)))
    assert ops.groups[0][0] == f"{BASE}, 1 thread, 1.10x observed"
    assert ops.rows[0] == [
        *("qk", "50.0%", "0.5 µs", "100.0%", "1.0 µs", "0.2 µs", "524,288", "-", "4"),
    ]


def test_a_profile_without_a_ladder_has_a_table() -> None:
    parts = {"attention": 600, "layer_norm": 0, "linear": 300, "element_wise": 0, "movement": 0}
    profile = {"total": [1000], **{name: [ns] for name, ns in parts.items()}, "dispatch": [100]}
    (table,) = detail_tables(suite_run(row_of(profile=profile)))
    assert table.rows[0][3:6] == ["1.0 µs", "60.0%", "0.0%"] and table.rows[0][-1] == "10.0%"


def test_a_suite_that_nobody_knows_has_its_rows_and_its_figures() -> None:
    toy: dict[str, Any] = {"suite": "toy", "tier": "all", "sizes": {"n": 3}, "flops": None}
    run = suite_run(
        row_of(**toy, details={"toy_figure": 0.25, "toy_word": "blue"}),
        row_of("toy_variant", 900, **toy, printed_name="Toy variant"),
    )
    rows, means, other = run_tables(run)
    assert rows.title == "toy/all, 1 thread" and rows.groups[0][0] == "n 3"
    assert by_name(rows)["Toy variant"][f"over {BASE}"] == "0.90x"
    assert means.rows[0][:3] == ["Toy variant", "fwd", "0.90x"]
    assert other.header[3:] == ("toy figure", "toy word")
    assert other.rows == [[BASE, "fwd", "n 3", "0.25", "blue"]]
    assert show(run, "md").endswith("\n".join(legend(run)))


def test_a_run_without_rows_has_no_table() -> None:
    assert run_tables(make_run([])) == []


@pytest.mark.parametrize("layout", ["text", "md"])
def test_show_has_facts_tables_and_a_legend(layout: str) -> None:
    limits = {"memory_limit_bytes": 2**30, "forces_attempt": False}
    rates = {"multiply_add_flops_per_s": 1e14, "sgemm_1024_flops_per_s": 5e13}
    rows = [row_of(), make_untimed(row_of("naive"))]
    text = show(suite_run(*rows, limits=limits, ceilings={"1": rates}), layout)
    for told in (
        "2.0 minutes",
        "100000 GFLOP/s, 50000 by PyTorch's product on 1 thread",
        "1.0 GiB of memory for a worker",
        "1 of 2 timed, 1 cases",
        "oom (predicted)",
        "over BASELINE",
    ):
        assert told in text
