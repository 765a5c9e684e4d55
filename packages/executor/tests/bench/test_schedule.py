"""A config is measured in rounds; whatever a worker does, every cell ends as one row."""

from __future__ import annotations

import errno
import json
import os
import signal
from typing import Any

import pytest

from ablation_executor.bench import children
from ablation_executor.bench.cells import Cell
from ablation_executor.bench.interrupt import Interrupted
from ablation_executor.bench.record import PARTS, PROFILE_KEYS, SCHEMA
from ablation_executor.bench.rounds import profile_share, wanted_profiles
from ablation_executor.bench.run_reading import Row
from ablation_executor.bench.schedule import place_cells
from ablation_executor.variants import BY_NAME

from .conftest import Measure, SilentProgress, measure_into

ONE, TWO, OTHER = "passes-none", "passes-fold", "torch-naive"


def test_rows_are_whole_and_rounds_are_interleaved(measure: Measure) -> None:
    rows, progress = measure([OTHER, ONE, TWO], {}, samples=6)
    for row in rows.values():
        assert SCHEMA.row_problem(json.loads(json.dumps(row))) is None
        assert row["status"] == "ok"
        assert set(row["sample_rounds"]) == set(range(6))
        assert len(row["samples_ns"]) == len(row["sample_rounds"])
        assert len(row["profile_total_ns"]) == 10
        assert row["calibration_before_ns"] == row["calibration_after_ns"] == [1000] * 10
    order = [[name for index, name in progress.turns if index == i] for i in range(6)]
    assert all(sorted(names) == sorted([OTHER, ONE, TWO]) for names in order)
    assert len({tuple(names) for names in order}) > 1


def test_the_six_parts_sum_to_the_total(measure: Measure) -> None:
    rows, _ = measure([ONE], {})
    row = rows[ONE]
    lists = [row[f"profile_{part}_ns"] for part in PARTS]
    assert [sum(parts) for parts in zip(*lists, strict=True)] == row["profile_total_ns"]


def test_the_order_comes_from_the_seed(measure: Measure) -> None:
    names = ["passes-none", "passes-fold", "passes-absorb", "layernorm-simd"]
    first = measure(names, {}, seed=5)[1].turns
    assert measure(names, {}, seed=5)[1].turns == first
    assert measure(names, {}, seed=6)[1].turns != first


@pytest.mark.parametrize(("name", "number"), [("SIGKILL", 9), ("SIGSEGV", 11)])
def test_a_worker_that_dies_takes_only_its_cell(measure: Measure, name: str, number: int) -> None:
    rows, _ = measure([OTHER, ONE, TWO], {ONE: name})
    assert rows[ONE]["status"] in ("error", "oom")
    assert rows[ONE]["signal"] == number
    assert name in rows[ONE]["reason"]
    assert rows[ONE]["samples_ns"] is None
    assert rows[TWO]["status"] == rows[OTHER]["status"] == "ok"
    assert set(rows[TWO]["sample_rounds"]) == {0, 1, 2}


def test_memory_error_is_oom(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {ONE: "memory"})
    assert (rows[ONE]["status"], rows[TWO]["status"]) == ("oom", "ok")
    assert "no memory left" in rows[ONE]["reason"]


def test_a_cell_that_cannot_fit_is_not_started(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {ONE: "hungry"})
    row = rows[ONE]
    assert row["status"] == "oom"
    assert row["first_call_ns"] is None
    assert row["memory_predicted_bytes"] > row["memory_available_bytes"] > 0
    assert str(row["memory_available_bytes"]) in row["reason"]
    assert rows[TWO]["status"] == "ok"


def test_cells_that_fit_only_alone_take_turns(measure: Measure) -> None:
    # Two workers' processes need 800 MiB; each of the two big cells has 300.
    limit = 1200 << 20
    rows, _ = measure([OTHER, ONE, TWO], {ONE: "big", TWO: "big"}, memory_limit_bytes=limit)
    for row in rows.values():
        assert row["status"] == "ok"
        assert set(row["sample_rounds"]) == {0, 1, 2}


def placed(sizes: list[tuple[int, int]], room: int) -> list[str]:
    """What becomes of cells of given resident and transient bytes."""
    cells = [
        Cell(BY_NAME[ONE], facts={"resident_bytes": resident, "transient_bytes": transient})
        for resident, transient in sizes
    ]
    refused = [cell for cell, needed in place_cells(cells, room) if needed is not None]
    return [
        "refused"
        if any(cell is other for other in refused)
        else "evicted"
        if cell.is_evicted
        else "stays"
        for cell in cells
    ]


@pytest.mark.parametrize(
    ("sizes", "room", "expected"),
    [
        ([(4, 1), (3, 1), (2, 1)], 10, ["stays", "stays", "stays"]),
        ([(4, 1), (3, 1), (2, 1)], 9, ["evicted", "evicted", "stays"]),
        ([(0, 8), (8, 1), (1, 1)], 10, ["stays", "evicted", "stays"]),
        ([(9, 1), (9, 1), (1, 9)], 10, ["evicted", "evicted", "evicted"]),
        ([(9, 2), (5, 1), (0, 12)], 10, ["refused", "stays", "refused"]),
        ([(9, 2)], 10, ["refused"]),
    ],
)
def test_placing(sizes: list[tuple[int, int]], room: int, expected: list[str]) -> None:
    assert placed(sizes, room) == expected


def test_a_memory_limit_stops_everything_before_it_starts(measure: Measure) -> None:
    rows, _ = measure([ONE, OTHER], {}, memory_limit_bytes=1 << 20)
    assert {row["status"] for row in rows.values()} == {"oom"}
    assert all(row["memory_available_bytes"] <= 1 << 20 for row in rows.values())
    assert all("limit: --mem-limit: 1.0 MiB)" in row["reason"] for row in rows.values())


def test_a_first_call_longer_than_the_budget_is_a_timeout(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {ONE: "slow_first"}, budget_s=1.0)
    assert rows[ONE]["status"] == "timeout"
    assert "first" in rows[ONE]["reason"]
    assert rows[TWO]["status"] == "ok"


def test_fewer_than_three_samples_in_the_budget_is_a_timeout(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {ONE: "nap"}, budget_s=1.5)
    assert rows[ONE]["status"] == "timeout"
    assert rows[ONE]["samples_ns"] is None
    assert rows[TWO]["status"] == "ok"


def test_a_first_call_that_alone_is_right_is_wrong(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {ONE: "stale"})
    assert rows[ONE]["status"] == "incorrect"
    assert "second call" in rows[ONE]["reason"]
    assert rows[TWO]["status"] == "ok"


@pytest.mark.parametrize(
    ("estimate_ns", "is_cold", "expected"),
    [(1_000, False, True), (50_000_000, False, True), (2_000_000_000, False, False),
     (2_000_000_000, True, True)],
)  # fmt: skip
def test_the_first_call_of_a_turn_counts_only_where_caches_do_not(
    estimate_ns: int, is_cold: bool, expected: bool
) -> None:
    cell = Cell(BY_NAME[ONE], estimate_ns=estimate_ns, is_cold=is_cold)
    assert cell.needs_discard is expected


def test_samples_stand_from_the_third_round_on() -> None:
    cell = Cell(BY_NAME[ONE], samples_ns=[5] * 10, sample_rounds=[0] * 5 + [1] * 5)
    assert not cell.has_enough_rounds
    cell.samples_ns.append(5)
    cell.sample_rounds.append(2)
    assert cell.has_enough_rounds


class Interrupting(SilentProgress):
    """Presses Ctrl-C as round `at` begins, counted from 0."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at

    def turn(self, config: str, variant: str, index: int, rounds: int, left_s: float) -> None:
        """The first turn of that round does not take place."""
        if index == self._at:
            raise Interrupted(signal.SIGINT)


@pytest.mark.parametrize(("at", "kept"), [(2, []), (4, [ONE, TWO])])
def test_an_interruption_keeps_what_can_stand(
    monkeypatch: pytest.MonkeyPatch, at: int, kept: list[str]
) -> None:
    rows: list[Row] = []
    with pytest.raises(Interrupted):
        measure_into(rows, monkeypatch, [ONE, TWO], {}, Interrupting(at), samples=6)
    assert sorted(row["variant"] for row in rows) == sorted(kept)
    for row in rows:
        assert SCHEMA.row_problem(json.loads(json.dumps(row))) is None
        assert set(row["sample_rounds"]) == set(range(at))
        assert row["ops"] is None
        assert row["calibration_after_ns"] is None


def test_a_worker_that_dies_loading_ends_all_its_cells(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {"": "dies_loading"})
    for row in rows.values():
        assert row["status"] == "error"
        assert "ended with status 3: the last words" in row["reason"]


def test_build_failures(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO, OTHER], {ONE: "build_fails", TWO: "unsupported"})
    assert [rows[name]["status"] for name in (ONE, TWO, OTHER)] == ["error", "unsupported", "ok"]
    assert "cannot build this" in rows[ONE]["reason"]


def test_no_times_without_ok(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {ONE: "head_index", TWO: "memory"})
    for row in rows.values():
        assert row["status"] != "ok"
        assert all(row[key] is None for key in ("samples_ns", *PROFILE_KEYS))


@pytest.mark.parametrize("rounds", [3, 10, 17])
@pytest.mark.parametrize("wanted", [2, 3, 10])
def test_profiled_calls_are_spread(rounds: int, wanted: int) -> None:
    shares = [profile_share(index, rounds, wanted) for index in range(2 * rounds)]
    assert sum(shares) == wanted
    assert shares[0] >= 1
    assert max(shares) - min(shares[:rounds]) <= 1
    assert not any(shares[rounds:])


def test_long_calls_are_profiled_less() -> None:
    assert [wanted_profiles(ns) for ns in (10**6, 10**9, 10**10)] == [10, 3, 2]


def test_a_worker_that_cannot_be_started_fails_its_own_cells(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = children.start

    def refusing(command: list[str], *given: Any, **pipes: Any) -> Any:
        if "kernels" in command:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return start(command, *given, **pipes)

    monkeypatch.setattr(children, "start", refusing)
    rows, _ = measure(["torch-naive", "passes-none"], {})
    assert rows["torch-naive"]["status"] == "ok"
    assert rows["passes-none"]["status"] == "error"
    told = "the kernels worker could not be started: Too many open files"
    assert rows["passes-none"]["reason"] == told
