"""The suite attribution: its lattice, the programs of a case, counters, and whole runs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import ablation_kernels
from ablation_executor import passes
from ablation_executor.bench import run as bench_run
from ablation_executor.bench.case import Case
from ablation_executor.bench.command import main
from ablation_executor.bench.interrupt import UsageError
from ablation_executor.bench.run import summary
from ablation_executor.bench.runtimes import make_adapter
from ablation_executor.bench.suites.attribution import SUITE, planning
from ablation_executor.bench.suites.attribution.factors import (
    FACTORS,
    NAMES,
    complete,
    is_feasible,
    settings_of,
)
from ablation_executor.bench.suites.attribution.lattice import BASE, SIZE, TOP, Lattice, digits_of
from ablation_executor.bench.suites.attribution.programs import AttributionLoaded
from ablation_executor.bench.suites.block.configs import find_config
from ablation_executor.ir import Graph
from ablation_executor.rewrite import RewriteLog
from ablation_report.attribution.points import LEAST_ORDERS
from ablation_report.reading import read_run


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = ablation_kernels.get_num_threads()
    yield
    ablation_kernels.set_num_threads(before)


def toy(factors: str | None = None, threads: int = 2) -> Case:
    case = SUITE.quick_cases([threads], "cpu")[0]
    return case if factors is None else case.with_sizes(**{SIZE: factors})


@pytest.fixture(scope="module")
def plan() -> planning.CasePlan:
    return planning.plan_case(toy(), 10_000, 0)


def test_feasible_points_are_closed_under_meet_and_join() -> None:
    """So every step has one earliest and one latest place."""
    points = set(Lattice.of(toy()).points(("rms_norm", "rotary", "silu_mul")))
    for first, second in itertools.islice(itertools.product(points, points), 0, None, 997):
        assert tuple(map(min, first, second)) in points
        assert tuple(map(max, first, second)) in points


def test_names_of_points_come_back() -> None:
    lattice = Lattice.of(toy())
    names = {lattice.name(point): point for point in lattice.points()}
    assert len(names) == len(lattice.points())
    assert all(lattice.point(name) == point for name, point in names.items())
    with pytest.raises(ValueError, match="no program"):
        lattice.point("folding+unknown")


def test_orders_of_more_than_ten_factors_come_back() -> None:
    lattice = Lattice.of(toy())
    assert len(lattice.factors) > 10
    points, at = set(lattice.points()), lattice.base
    order: list[int] = []
    while at != lattice.top:
        raised = [(*at[:i], at[i] + 1, *at[i + 1 :]) for i in range(len(at))]
        # The last factors first, whose digits are letters
        step = max(i for i, point in enumerate(raised) if point in points)
        order, at = [*order, step], raised[step]
    path = lattice.order(digits_of(order))
    assert path[0] == lattice.base and path[-1] == lattice.top
    assert set(path) <= points and len(path) == len(order) + 1


def test_every_point_names_kernels_that_there_are() -> None:
    known = {info.name for info in ablation_kernels.op_table()}
    for point in Lattice.of(toy()).points():
        program = settings_of(point)
        assert set(program.kernels.values()) <= known
        assert set(program.kernels) >= set(ablation_kernels.ops()) - {
            *("attention_lse", "attention_backward"),
        }
        assert list(program.passes) == list(dict.fromkeys(program.passes))
        assert set(program.passes) <= set(passes.PASSES)


def test_every_pass_belongs_to_one_factor() -> None:
    of = [name for factor in FACTORS for level in factor.levels for name in level.passes]
    assert sorted(of) == sorted(passes.PASSES)


@pytest.mark.parametrize("name", NAMES)
def test_factors_that_do_not_vary_are_as_high_as_they_can_be(name: str) -> None:
    lattice = Lattice.of(toy(name))
    assert lattice.names == (name,)
    for point in lattice.points():
        whole = lattice.complete(point)
        assert whole is not None and is_feasible(whole)
        for index, factor in enumerate(FACTORS):
            if factor.name != name and whole[index] < len(factor.levels) - 1:
                raised = (*whole[:index], whole[index] + 1, *whole[index + 1 :])
                assert not is_feasible(raised)


def test_a_level_without_what_it_needs_is_no_point() -> None:
    assert complete({"packed_weights": 1, "folding": 0}) is None
    assert complete({"attention": 2, "simd": 0}) is None
    assert complete({"native_loop": 0, "shared_joins": 1}) is None


def test_programs_of_a_case_are_distinct_and_cover_its_points(plan: planning.CasePlan) -> None:
    hashes = [program.program_hash for program in plan.programs]
    points = [point for program in plan.programs for point in program.points]
    assert len(set(hashes)) == len(hashes) == plan.n_programs > 300
    assert len(set(points)) == len(points)
    silent = ("rms_norm", "rotary", "silu_mul")
    assert sorted(points) == sorted(map(digits_of, Lattice.of(toy()).points(silent)))


def test_very_many_rows_are_counted() -> None:
    rows = [{"status": "ok"}] * 60 + [{"status": "skipped"}]
    assert summary(rows) == "61 rows: 60 ok, 1 skipped"


def test_a_factor_without_effect_is_at_no_point() -> None:
    """On one thread, threads and shared fork-joins change nothing."""
    found = planning.plan_case(toy(threads=1), 10_000, 0)
    off = [NAMES.index(name) for name in ("threads", "shared_joins", "rotary")]
    points = [point for program in found.programs for point in program.points]
    assert all(point[index] == "0" for point in points for index in off)


def test_counters_are_those_of_the_built_programs() -> None:
    case = toy("folding,adds,packed_weights")
    found = planning.plan_case(case, 10_000, 0)
    loaded = AttributionLoaded(make_adapter("kernels", 2), case, 0)  # type: ignore[arg-type]
    for planned in found.programs:
        lattice = Lattice.of(case)
        program = loaded.build(lattice.name(tuple(map(int, planned.points[0]))))
        facts = program.built_facts()
        assert facts["program_hash"] == planned.program_hash
        assert facts["memory"]["packed"] == planned.counters["packed_bytes"]
        assert facts["n_calls"] >= planned.counters["launches"]


def test_what_a_pass_saves_is_counted(plan: planning.CasePlan) -> None:
    counters = {point: p.counters for p in plan.programs for point in p.points}
    base = counters["0" * len(NAMES)]
    index = NAMES.index("folding")
    folded = counters["0" * index + "1" + "0" * (len(NAMES) - index - 1)]
    config = find_config("Toy")
    # Six transposes of weights read and write them all.
    moved = 4 * 12 * config.d_model**2
    assert base["bytes_written"] - folded["bytes_written"] >= moved
    assert folded["launches"] < base["launches"]
    assert base["flops"] - folded["flops"] < 0.05 * base["flops"]


def test_orders_are_drawn_above_the_limit() -> None:
    found = planning.plan_case(toy(), 60, 0)
    assert found.orders is not None and len(found.orders) >= LEAST_ORDERS
    assert len(found.programs) <= 60 < found.n_programs
    lattice = Lattice.of(toy())
    points = {point for program in found.programs for point in program.points}
    for order in found.orders:
        assert {digits_of(point) for point in lattice.order(order)} <= points
    assert found == planning.plan_case(toy(), 60, 0) != planning.plan_case(toy(), 60, 1)


def test_a_low_limit_leaves_the_orders_that_a_worth_needs() -> None:
    found = planning.plan_case(toy(), 2, 0)
    assert found.orders is not None and len(found.orders) >= LEAST_ORDERS


def run(tmp_path: Path, *words: str) -> tuple[int, Path]:
    out = tmp_path / "run"
    given = ["--suite", "attribution", "--configs", "Toy", "--out", str(out), *words]
    return main(given), out


def test_a_run_has_a_row_for_each_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A busy machine measures ceilings that its own rows exceed
    monkeypatch.setattr(bench_run, "measure_ceilings", lambda threads, known: known or {})
    status, out = run(tmp_path, "--quick", "--factors", "attention,simd", "--threads", "1")
    assert status == 0
    header, rows = read_run(out)
    points = [point for row in rows for point in (row["details"] or {}).get("points", ())]
    assert sorted(points) == ["00", "01", "10", "11", "21", "31"]
    assert {row["status"] for row in rows} == {"ok"}
    names = [factor["name"] for factor in header["factors"]]
    assert names == ["attention", "simd"]
    assert {BASE, TOP, f"{BASE}_again", f"{TOP}_again"} <= {row["variant"] for row in rows}
    assert all(row["counters"] for row in rows if "points" in (row["details"] or {}))


def test_counters_alone_time_nothing(tmp_path: Path) -> None:
    status, out = run(tmp_path, "--counters-only", "--threads", "1", "--factors", "adds")
    assert status == 0
    rows = [json.loads(line) for line in (out / "rows.jsonl").read_text().splitlines()]
    assert {(row["status"], row["reason"]) for row in rows} == {("skipped", "selection")}
    own = [row for row in rows if row["details"]]
    assert len(own) == 3
    assert [row["counters"]["launches"] for row in own] == sorted(
        (row["counters"]["launches"] for row in own), reverse=True
    )


def test_a_run_is_gone_on_with(tmp_path: Path) -> None:
    _, out = run(tmp_path, "--counters-only", "--threads", "1", "--factors", "attention,adds")
    rows = out / "rows.jsonl"
    whole = rows.read_text().splitlines()
    rows.write_text("\n".join(whole[:3]) + "\n")
    assert main(["--resume", str(out)]) == 0
    resumed = [json.loads(line) for line in rows.read_text().splitlines()]
    kept = ("variant", "counters", "details", "factors")
    assert [[row[key] for key in kept] for row in resumed] == [
        [json.loads(line)[key] for key in kept] for line in whole
    ]


@pytest.mark.parametrize("words", [["--factors", "folds"], ["--limit", "1"], ["--variants", "x"]])
def test_bad_words_are_refused(words: list[str], tmp_path: Path, capsys: Any) -> None:
    try:
        status = run(tmp_path, *words)[0]
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    said = capsys.readouterr().err
    assert words[0] in said or "factor" in said
    assert not (tmp_path / "run").exists()


def test_a_pass_that_stops_firing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its factor has no effect any more."""
    monkeypatch.setitem(passes.PASSES, "merge_qkv", lambda graph, log: graph)
    found = planning.plan_case(toy("layout,adds"), 10_000, 0)
    points = {point: p.program_hash for p in found.programs for point in p.points}
    assert points["02"] == points["01"] and points["22"] == points["21"]


def test_a_program_that_computes_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the probe of every point that has the pass, and of no other."""
    right = passes.PASSES["fuse_matmul_add"]

    def wrong(graph: Graph, log: RewriteLog) -> Graph:
        graph = right(graph, log)
        for node in graph.nodes:
            if node.op == "matmul" and len(node.inputs) > 3:
                node.attributes = {**node.attributes, "alpha": 1.001}
        return graph

    monkeypatch.setitem(passes.PASSES, "fuse_matmul_add", wrong)
    case = toy("adds,packed_weights")
    loaded = AttributionLoaded(make_adapter("kernels", 2), case, 0)  # type: ignore[arg-type]
    found = {name: loaded.build(name).probe().reason for name in (BASE, "packed_weights", TOP)}
    assert found[BASE] is None and found["packed_weights"] is None
    assert "probe" in str(found[TOP])


def test_a_planning_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "__package__", "no.such.module")
    with pytest.raises(UsageError, match="cannot be planned"):
        planning.plans_of([toy()], 10, 0)
