"""A case is measured in rounds; whatever a worker does, every phase ends as one row."""

from __future__ import annotations

import dataclasses
import errno
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from ablation_executor.bench import children, schedule
from ablation_executor.bench import rounds as rounds_module
from ablation_executor.bench.interrupt import Interrupted
from ablation_executor.bench.measurement import Measurement, Timing
from ablation_executor.bench.memory_room import Room
from ablation_executor.bench.rounds import (
    MAX_EXTENSION,
    USUAL_ROUNDS,
    make_plan,
    profile_share,
    wanted_profiles,
)
from ablation_executor.bench.schedule import CEILINGS_AGAIN, place
from ablation_executor.bench.suite import Flops, Needs, Variant
from ablation_report.rows import MEMORY_KNOWN_BEFORE, PARTS, TIME_COLUMNS, Row

from . import fake_suite
from .conftest import Ceilings, Measure, MeasureFake, SilentProgress, measure_into, settings
from .fake_suite import HUNGRY_BYTES

ONE, TWO, OTHER = "passes-none", "passes-fold", "torch-naive"


def timing(estimate_ns: int, **changes: Any) -> Timing:
    """A phase whose calls seem to take as long."""
    return Timing("fwd", Needs(0, 0), Flops(None), estimate_ns=estimate_ns, **changes)


def measurement(name: str, *timings: Timing) -> Measurement:
    """A variant of those phases."""
    return Measurement(Variant(name, "torch"), list(timings))


def assert_without_times(row: Row) -> None:
    """A row that is not ok has nothing measured."""
    assert row["status"] != "ok"
    assert all(row[name] is None for name in TIME_COLUMNS)
    unknown = row["memory"].keys() - {*MEMORY_KNOWN_BEFORE, "process_peak"}
    assert all(row["memory"][name] is None for name in unknown)
    assert row["reason"] and row["reason_text"]


def test_rows_are_whole_and_rounds_are_interleaved(measure: Measure) -> None:
    rows, progress = measure([OTHER, ONE, TWO], {}, samples=6)
    for row in rows.values():
        assert row["status"] == "ok"
        assert row["interleaved"] is True
        assert set(row["sample_rounds"]) == set(range(6))
        assert len(row["samples_ns"]) == len(row["sample_rounds"]) == len(row["cpu_ns"])
        assert len(row["profile"]["total"]) == 10
        assert row["calibration_before_ns"] == row["calibration_after_ns"] == [1000] * 10
    order = [[name for index, name in progress.turns if index == i] for i in range(6)]
    assert all(sorted(names) == sorted([OTHER, ONE, TWO]) for names in order)
    assert len({tuple(names) for names in order}) > 1


def test_the_six_parts_sum_to_the_total(measure: Measure) -> None:
    profile = measure([ONE], {})[0][ONE]["profile"]
    lists = [profile[part] for part in PARTS]
    assert [sum(parts) for parts in zip(*lists, strict=True)] == profile["total"]


def test_the_order_comes_from_the_seed(measure: Measure) -> None:
    names = ["passes-none", "passes-fold", "passes-absorb", "layernorm-simd"]
    first = measure(names, {}, seed=5)[1].turns
    assert measure(names, {}, seed=5)[1].turns == first
    assert measure(names, {}, seed=6)[1].turns != first


@pytest.mark.parametrize(("name", "number"), [("SIGKILL", 9), ("SIGSEGV", 11)])
def test_a_worker_that_dies_takes_only_its_row(measure: Measure, name: str, number: int) -> None:
    rows, _ = measure([OTHER, ONE, TWO], {ONE: name})
    assert rows[ONE]["status"] in ("error", "oom")
    assert rows[ONE]["signal"] == number
    assert name in rows[ONE]["reason_text"]
    assert_without_times(rows[ONE])
    assert rows[TWO]["status"] == rows[OTHER]["status"] == "ok"
    assert set(rows[TWO]["sample_rounds"]) == {0, 1, 2}


def test_memory_error_is_oom(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {ONE: "memory"})
    assert (rows[ONE]["status"], rows[ONE]["reason"]) == ("oom", "alloc_failed")
    assert rows[TWO]["status"] == "ok"
    assert "no memory left" in rows[ONE]["reason_text"]


def test_a_program_that_cannot_fit_is_not_started(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {ONE: "hungry"})
    row = rows[ONE]
    assert (row["status"], row["reason"]) == ("oom", "predicted")
    assert row["memory"]["predicted"] > row["memory"]["available"] > 0
    assert str(row["memory"]["available"]) in row["reason_text"]
    assert rows[TWO]["status"] == "ok"


def test_programs_that_fit_only_alone_take_turns(measure: Measure) -> None:
    # Two workers' processes need 800 MiB; each of the two big programs has 300.
    limit = 1200 << 20
    rows, _ = measure([OTHER, ONE, TWO], {ONE: "big", TWO: "big"}, memory_limit_bytes=limit)
    for row in rows.values():
        assert row["status"] == "ok"
        assert set(row["sample_rounds"]) == {0, 1, 2}


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
    placed = [measurement(ONE) for _ in sizes]
    for each, (resident, transient) in zip(placed, sizes, strict=True):
        each.built_needs = Needs(resident, transient)
    refused = [id(each) for each, needed in place(placed, room) if needed is not None]
    found = [
        "refused" if id(each) in refused else "evicted" if each.is_evicted else "stays"
        for each in placed
    ]
    assert found == expected


def test_a_memory_limit_stops_everything_before_it_starts(measure: Measure) -> None:
    rows, _ = measure([ONE, OTHER], {}, memory_limit_bytes=1 << 20)
    assert {row["status"] for row in rows.values()} == {"oom"}
    assert all(row["memory"]["available"] <= 1 << 20 for row in rows.values())
    assert all("limit: --mem-limit: 1.0 MiB)" in row["reason_text"] for row in rows.values())


def test_a_first_call_longer_than_the_budget_takes_only_its_row(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {ONE: "slow_first"}, budget_s=1.0)
    assert (rows[ONE]["status"], rows[ONE]["reason"]) == ("timeout", "first_call")
    assert rows[TWO]["status"] == "ok"


def test_fewer_than_three_rounds_in_the_budget_is_a_timeout(measure: Measure) -> None:
    # A call naps for 0.6 s
    rows, _ = measure([ONE, TWO], {ONE: "nap"}, budget_s=1.5)
    assert (rows[ONE]["status"], rows[ONE]["reason"]) == ("timeout", "budget")
    assert "of at least 3 rounds in the 1.5 s budget" in rows[ONE]["reason_text"]
    assert_without_times(rows[ONE])
    assert rows[TWO]["status"] == "ok"


def test_a_result_that_changes_from_call_to_call_is_incorrect(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {ONE: "stale"})
    assert (rows[ONE]["status"], rows[ONE]["reason"]) == ("incorrect", "probe")
    assert "second call" in rows[ONE]["reason_text"]
    assert rows[TWO]["status"] == "ok"


@pytest.mark.parametrize(
    ("estimate_ns", "is_cold", "expected"),
    [(1_000, False, 1), (50_000_000, False, 1), (2_000_000_000, False, 0),
     (2_000_000_000, True, 1)],
)  # fmt: skip
def test_the_first_call_of_a_turn_counts_only_where_caches_do_not(
    estimate_ns: int, is_cold: bool, expected: int
) -> None:
    full = settings(is_quick=False)
    assert timing(estimate_ns, is_cold=is_cold).discards(full) == expected


def test_samples_stand_from_the_third_round_on() -> None:
    found = timing(1, samples_ns=[5] * 10, sample_rounds=[0] * 5 + [1] * 5)
    assert not found.has_enough
    found.samples_ns.append(5)
    found.sample_rounds.append(2)
    assert found.has_enough


class Interrupting(SilentProgress):
    """Presses Ctrl-C as round `at` begins, counted from 0."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self._at = at

    def turn(self, case: str, variant: str, index: int, rounds: int, left_s: float) -> None:
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
        assert set(row["sample_rounds"]) == set(range(at))
        assert row["ops"] is None
        assert row["calibration_after_ns"] is None
        assert row["memory"]["arena"] == 1000


@pytest.mark.parametrize(("at", "timed"), [(1, False), (4, True)])
def test_an_interruption_keeps_what_is_decided(near: MeasureFake, at: int, timed: bool) -> None:
    rows: list[Row] = []
    progress = Interrupting(at)
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.setattr(progress, "finished", rows.append)
        with pytest.raises(Interrupted):
            near(["right", "refused", "two_phases", "zeros"], progress=progress)
    ended = {("zeros", "fwd"): "incorrect", ("refused", "fwd"): "unsupported"}
    kept = {("right", "fwd"): "ok", ("two_phases", "fwd"): "ok", ("two_phases", "bwd"): "ok"}
    expected = {**ended, **kept} if timed else ended
    assert {(row["variant"], row["phase"]): row["status"] for row in rows} == expected


def test_a_worker_that_dies_loading_ends_all_its_rows(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {"": "dies_loading"})
    for row in rows.values():
        assert row["status"] == "error"
        assert "ended with status 3: the last words" in row["reason_text"]


def test_build_failures(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO, OTHER], {ONE: "build_fails", TWO: "unsupported"})
    assert [rows[name]["status"] for name in (ONE, TWO, OTHER)] == ["error", "unsupported", "ok"]
    assert rows[ONE]["reason"] == "ValueError"
    assert "cannot build this" in rows[ONE]["reason_text"]


def test_no_times_without_ok(measure: Measure) -> None:
    rows, _ = measure([ONE, TWO], {ONE: "head_index", TWO: "memory"})
    for row in rows.values():
        assert_without_times(row)


@pytest.mark.parametrize("rounds", [3, 10, 17])
@pytest.mark.parametrize("wanted", [1, 2, 3, 10])
def test_profiled_calls_are_spread(rounds: int, wanted: int) -> None:
    shares = [profile_share(index, rounds, wanted) for index in range(2 * rounds)]
    assert sum(shares) == wanted
    assert shares[0] >= 1
    assert max(shares) - min(shares[:rounds]) <= 1
    assert not any(shares[rounds:])


def test_long_calls_are_profiled_less() -> None:
    assert [wanted_profiles(ns) for ns in (10**6, 10**9, 10**10)] == [10, 3, 1]


def test_a_worker_that_cannot_be_started_fails_its_own_rows(
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
    assert rows["passes-none"]["reason_text"] == told


# How many rounds.


def planned(
    calls_ns: dict[str, int], first: set[str], **changes: Any
) -> tuple[dict[str, int], str]:
    """The rounds of each variant, and the plan in words."""
    pairs = [(m := measurement(name, timing(ns)), m.timings[0]) for name, ns in calls_ns.items()]
    plan = make_plan(pairs, first, settings(**{"samples": None, **changes}))
    return {m.name: found.wanted for m, found in pairs}, str(plan)


def test_time_buys_rounds() -> None:
    full: dict[str, Any] = {"is_quick": False, "time_s": 900.0}
    quick = {"one": 10_000, "two": 20_000}
    assert planned(quick, {"one"}, **full) == (
        {"one": USUAL_ROUNDS, "two": USUAL_ROUNDS},
        f"{USUAL_ROUNDS} rounds of 2 rows",
    )
    slow = {"one": 20 * 10**9, "two": 80 * 10**9}
    assert planned(slow, {"one"}, **full)[0] == {"one": 7, "two": 7}
    slower = {"one": 100 * 10**9, "two": 300 * 10**9}
    told = "6 rounds of 1 rows and 3 of the other 1"
    assert planned(slower, {"one"}, **full) == ({"one": 6, "two": 3}, told)
    assert planned(slower, {"one"}, **full, samples=12)[0] == {"one": 12, "two": 12}


def test_a_quick_run_takes_fewer_rounds_of_slow_calls() -> None:
    calls = {"one": 1000, "two": 150_000_000, "three": 1_000_000_000}
    assert planned(calls, set(calls))[0] == {"one": USUAL_ROUNDS, "two": 6, "three": 6}
    assert planned({"one": 60 * 10**9}, set())[0] == {"one": 3}


def test_the_best_of_ours_has_as_many_rounds_as_what_is_asked_most(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds_module, "NEARLY_BEST", 1000.0)
    names = [ONE, TWO, "percall-numpy", "torch-sdpa"]
    rows, progress = measure(names, {}, samples=None, time_s=0.001)
    counts = {name: len(set(row["sample_rounds"])) for name, row in rows.items()}
    assert counts == {ONE: 6, TWO: 6, "percall-numpy": 3, "torch-sdpa": 6}
    order = [[name for index, name in progress.turns if index == i] for i in range(6)]
    assert [len(names) for names in order] == [4, 4, 4, 3, 3, 3]


def test_every_phase_has_a_turn_in_every_round(near: MeasureFake) -> None:
    rows, progress = near(["right", "two_phases"])
    assert [(row["variant"], row["phase"]) for row in rows] == [
        ("right", "fwd"),
        ("two_phases", "fwd"),
        ("two_phases", "bwd"),
    ]
    for row in rows:
        assert row["status"] == "ok"
        assert row["interleaved"] is True
        assert set(row["sample_rounds"]) == set(range(USUAL_ROUNDS))
        assert len(row["cpu_ns"]) == len(row["samples_ns"])
        assert row["n_warmup"] >= 3
        assert row["details"]["calls"] > 10
    assert rows[1]["published_name"] == "published_two"
    names = [name for _, name in progress.turns]
    rounds = [names[i : i + 3] for i in range(0, len(names), 3)]
    assert all(sorted(one) == ["right", "two_phases", "two_phases"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_a_wide_row_has_more_rounds_unless_the_run_is_quick(
    near: MeasureFake, monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_wide, rounds in ((True, MAX_EXTENSION * USUAL_ROUNDS), (False, USUAL_ROUNDS)):
        monkeypatch.setattr(Timing, "is_wide", lambda timing, wide=is_wide: wide)
        (row,), _ = near(["right"], is_quick=False)
        assert set(row["sample_rounds"]) == set(range(rounds))
    monkeypatch.setattr(Timing, "is_wide", lambda timing: True)
    (row,), _ = near(["right"])
    assert set(row["sample_rounds"]) == set(range(USUAL_ROUNDS))


def test_what_cannot_be_loaded_fails_alone(near: MeasureFake) -> None:
    rows, _ = near(["right", "raises", "unsupported", "refused"])
    found = {row["variant"]: (row["status"], row["reason"], row["attempted"]) for row in rows}
    assert found == {
        "right": ("ok", None, True),
        "raises": ("error", "ValueError", True),
        "unsupported": ("unsupported", "isa", True),
        "refused": ("unsupported", "shape", False),
    }


@pytest.fixture
def all_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory limit that is given is all the room there is."""
    monkeypatch.setattr(schedule, "memory_room", lambda limit: Room(limit, "of a group"))


def test_what_does_not_fit_is_not_attempted(near: MeasureFake, all_room: None) -> None:
    rows, _ = near(["right", "hungry"], memory_limit_bytes=HUNGRY_BYTES // 2)
    hungry = rows[1]
    assert (hungry["status"], hungry["reason"]) == ("oom", "predicted")
    assert hungry["attempted"] is False
    assert hungry["memory"]["predicted"] == HUNGRY_BYTES + 1000
    assert hungry["memory"]["available"] == HUNGRY_BYTES // 2
    assert hungry["reason_text"].endswith(" bytes available; limit: of a group)")
    assert rows[0]["status"] == "ok"


def test_what_fits_only_alone_runs_alone(near: MeasureFake, all_room: None) -> None:
    rows, progress = near(["right", "two_phases"], memory_limit_bytes=2500)
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert {row["variant"]: row["interleaved"] for row in rows if not row["interleaved"]}
    # One after the other, not by turns
    names = [name for _, name in progress.turns]
    assert names == sorted(names, key=lambda name: name != names[0])


def test_a_rate_beyond_the_machine_is_an_error(near: MeasureFake) -> None:
    low, high = ({"1": {"multiply_add_flops_per_s": rate}} for rate in (2.0, 1e18))
    slow = Ceilings({"1": {"multiply_add_flops_per_s": 1.0}}, [low] * CEILINGS_AGAIN + [low, high])
    rows, _ = near(["right"], ceilings=slow)
    assert slow.found == low
    assert (rows[0]["status"], rows[0]["reason"]) == ("error", "impossible_rate")
    assert_without_times(rows[0])
    # What else ran may have held up the measurements of the machine
    assert near(["right"], ceilings=slow)[0][0]["status"] == "ok"
    assert slow.found == high


def test_rates_of_bfloat16_have_no_float32_bound(near: MeasureFake) -> None:
    (plain,) = fake_suite.SUITE.cases("small", [1], "cpu")
    for case, status in (
        (plain, "error"),
        (plain.with_sizes(autocast="none"), "error"),
        (plain.with_sizes(autocast="bfloat16"), "ok"),
        (dataclasses.replace(plain, dtype="bfloat16"), "ok"),
    ):
        slow = Ceilings({"1": {"multiply_add_flops_per_s": 1.0}})
        assert near(["right"], case=case, ceilings=slow)[0][0]["status"] == status


def test_without_the_device_nothing_is_started(near: MeasureFake) -> None:
    rows, progress = near(["right", "raises"], has_device=False)
    assert {(row["status"], row["reason"]) for row in rows} == {("unsupported", "no_cuda")}
    assert progress.turns == []


def test_processes_that_hang_or_die_cost_their_own_rows(far: MeasureFake) -> None:
    names = ["right", "sleeps", "aborts", "killed", "two_phases"]
    rows, _ = far(names, budget_s=3.0)
    found = {(row["variant"], row["phase"]): row for row in rows}
    assert found["right", "fwd"]["status"] == "ok"
    assert found["two_phases", "bwd"]["status"] == "ok"
    asleep = found["sleeps", "fwd"]
    assert (asleep["status"], asleep["reason"]) == ("timeout", "first_call")
    aborted = found["aborts", "fwd"]
    assert (aborted["status"], aborted["reason"], aborted["signal"]) == ("error", "SIGABRT", 6)
    killed = found["killed", "fwd"]
    assert (killed["status"], killed["reason"], killed["signal"]) == ("error", "SIGKILL", 9)
    for row in rows:
        if row["status"] != "ok":
            assert_without_times(row)


def test_an_allocation_beyond_the_limit_is_told(far: MeasureFake) -> None:
    rows, _ = far(["right", "hungry"], memory_limit_bytes=HUNGRY_BYTES // 2, forces_attempt=True)
    assert rows[0]["status"] == "ok"
    assert (rows[1]["status"], rows[1]["reason"]) == ("oom", "alloc_failed")
    assert rows[1]["attempted"] is True


def test_memory_is_measured_in_a_process_of_its_own(far: MeasureFake) -> None:
    rows, _ = far(["right"], tier="long")
    assert rows[0]["memory"]["out"] == 2 * 3 * 83 * 16 * 4


def test_memory_is_left_out_where_the_time_is_used_up(far: MeasureFake) -> None:
    rows, _ = far(["right"], tier="long", time_s=0.001)
    assert rows[0]["memory"]["out"] is None
    assert rows[0]["details"]["mem_failed"].startswith("left out: the case has used")


INHERITED = """
import resource
soft, hard = 3 << 30, resource.getrlimit(resource.RLIMIT_DATA)[1]
resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
from ablation_executor.bench.worker import limit_data
def now(extra):
    limit_data(extra)
    return resource.getrlimit(resource.RLIMIT_DATA)[0]
assert now(None) == soft
assert now(1 << 40) == soft
assert now(1 << 28) < soft
assert now(None) == soft
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the size of the data")
def test_a_worker_keeps_the_limit_that_it_was_started_with() -> None:
    subprocess.run([sys.executable, "-c", INHERITED], check=True)
