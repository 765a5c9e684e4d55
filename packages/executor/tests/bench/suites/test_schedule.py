"""A case from admission to rows, whatever an implementation does."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ablation_executor.bench.interrupt import Interrupted
from ablation_executor.bench.memory_room import Room
from ablation_executor.bench.protocol import Message
from ablation_executor.bench.suites import peaks, schedule
from ablation_executor.bench.suites.peaks import Peaks
from ablation_executor.bench.suites.rows import MEASURED_KEYS, check_row
from ablation_executor.bench.suites.schedule import CaseRun
from ablation_executor.bench.suites.suite import Flops, Needs
from ablation_executor.bench.suites.trial import Trial

from . import fake_suite
from .conftest import Measure, NearTeam, settings
from .fake_suite import HUNGRY_BYTES


def trial(estimate_ns: int) -> Trial:
    return Trial("fwd", Needs(0, 0), Flops(None), estimate_ns=estimate_ns)


def test_rounds_fill_the_wanted_time_between_the_least_and_the_most() -> None:
    quick, full = settings(), settings(is_quick=False)
    assert trial(1000).wanted_rounds(quick) == 10
    assert trial(1000).wanted_rounds(full) == 20
    assert trial(150_000_000).wanted_rounds(quick) == 6
    assert trial(1_000_000_000).wanted_rounds(quick) == 6
    assert trial(6_000_000_000).wanted_rounds(quick) == 3


def test_slow_calls_are_not_repeated_for_being_wide() -> None:
    full = settings(is_quick=False)
    for estimate_ns, repeats in ((1000, True), (500_000_000, True), (500_000_001, False)):
        found = trial(estimate_ns)
        assert not found.may_repeat(full)
        found.sample_rounds = [0, 1, 2]
        assert found.may_repeat(full) == repeats
        found.is_spent = True
        assert not found.may_repeat(full)


def test_every_phase_has_a_turn_in_every_round(near: Measure) -> None:
    rows, team = near(["right", "two_phases"])
    assert [(row["impl"], row["phase"]) for row in rows] == [
        ("right", "fwd"),
        ("two_phases", "fwd"),
        ("two_phases", "bwd"),
    ]
    for row in rows:
        assert row["status"] == "ok"
        assert row["interleaved"] is True
        assert set(row["sample_rounds"]) == set(range(10))
        assert len(row["cpu_ns"]) == len(row["samples_ns"])
        assert row["n_warmup"] >= 4
        assert row["details"]["calls"] > 10
    assert rows[1]["published_name"] == "published_two"
    rounds = [team.turns[i : i + 3] for i in range(0, len(team.turns), 3)]
    assert all(sorted(one) == ["right", "two_phases", "two_phases"] for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_a_wide_row_has_more_rounds_unless_the_run_is_quick(
    near: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    for is_wide, rounds in ((True, 60), (False, 20)):
        monkeypatch.setattr(Trial, "is_wide", is_wide)
        (row,), _ = near(["right"], is_quick=False)
        assert set(row["sample_rounds"]) == set(range(rounds))
    monkeypatch.setattr(Trial, "is_wide", True)
    (row,), _ = near(["right"])
    assert set(row["sample_rounds"]) == set(range(10))


class Stopping(NearTeam):
    """Interrupted in the turn that follows as many."""

    turns_left = 0

    def ask(self, name: str, message: Message, timeout_s: float) -> Message:
        """As `Team.ask`."""
        if message["request"] == "turn" and len(self.turns) == self.turns_left:
            raise Interrupted(signal.SIGINT)
        return super().ask(name, message, timeout_s)


@pytest.mark.parametrize("rounds,timed", [(1, False), (4, True)])
def test_an_interrupted_case_keeps_what_has_samples_enough(
    near: Measure, tmp_path: Path, rounds: int, timed: bool
) -> None:
    team = Stopping(fake_suite.SUITE)
    team.turns_left = 3 * rounds
    (case,) = fake_suite.SUITE.cases("small", [1], "cpu")
    names = ("right", "refused", "two_phases", "zeros")
    ways = [way for way in fake_suite.SUITE.implementations("cpu") if way.name in names]
    run = CaseRun(fake_suite.SUITE, case, ways, team, settings(), tmp_path)
    told = {"run_id": "test", "session": 1}
    with pytest.raises(Interrupted):
        run.run(told)
    rows = run.kept_rows(told)
    for row in rows:
        check_row(row)
    ended = {("zeros", "fwd"): "incorrect", ("refused", "fwd"): "unsupported"}
    kept = {("right", "fwd"): "ok", ("two_phases", "fwd"): "ok", ("two_phases", "bwd"): "ok"}
    expected = {**ended, **kept} if timed else ended
    assert {(row["impl"], row["phase"]): row["status"] for row in rows} == expected


def test_what_cannot_be_loaded_fails_alone(near: Measure) -> None:
    rows, _ = near(["right", "raises", "unsupported", "refused"])
    found = {row["impl"]: (row["status"], row["reason"], row["attempted"]) for row in rows}
    assert found == {
        "right": ("ok", None, True),
        "raises": ("error", "ValueError", True),
        "unsupported": ("unsupported", "isa", True),
        "refused": ("unsupported", "shape", False),
    }


def test_what_does_not_fit_is_not_attempted(near: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "memory_room", lambda limit: Room(limit, "of a group"))
    rows, _ = near(["right", "hungry"], memory_limit_bytes=HUNGRY_BYTES // 2)
    hungry = rows[1]
    assert (hungry["status"], hungry["reason"]) == ("oom", "predicted")
    assert hungry["attempted"] is False
    assert hungry["mem_predicted_bytes"] == HUNGRY_BYTES + 1000
    assert hungry["mem_available_bytes"] == HUNGRY_BYTES // 2
    assert hungry["reason_text"].endswith(" bytes available; limit: of a group)")
    assert rows[0]["status"] == "ok"


def test_what_fits_only_alone_runs_alone(near: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "memory_room", lambda limit: Room(limit, "of a group"))
    rows, team = near(["right", "two_phases"], memory_limit_bytes=2500)
    assert [row["status"] for row in rows] == ["ok"] * 3
    assert [row["interleaved"] for row in rows] == [False] * 3
    # One after the other, not by turns
    first = team.turns[0]
    assert team.turns == sorted(team.turns, key=lambda name: name != first)


def test_a_rate_beyond_the_machine_is_an_error(
    near: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = [{"multiply_add_flops_per_s": 2.0}, {"multiply_add_flops_per_s": 1e18}]
    monkeypatch.setattr(peaks, "_measure_peak", lambda threads: again.pop(0))
    slow = {"1": {"multiply_add_flops_per_s": 1.0}}
    rows, _ = near(["right"], peaks=Peaks(slow))
    assert slow["1"]["multiply_add_flops_per_s"] == 2.0
    assert (rows[0]["status"], rows[0]["reason"]) == ("error", "impossible_rate")
    assert all(rows[0][key] is None for key in MEASURED_KEYS)
    # The first measurement of the machine may have been the one that was wrong
    assert near(["right"], peaks=Peaks(slow))[0][0]["status"] == "ok"
    assert again == []


def test_rates_of_bfloat16_have_no_float32_bound(
    near: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peaks, "_measure_peak", lambda threads: {"multiply_add_flops_per_s": 1.0})
    (plain,) = fake_suite.SUITE.cases("small", [1], "cpu")
    for case, status in (
        (plain, "error"),
        (plain.with_parameters(autocast="none"), "error"),
        (plain.with_parameters(autocast="bfloat16"), "ok"),
        (dataclasses.replace(plain, dtype="bfloat16"), "ok"),
    ):
        monkeypatch.setattr(fake_suite.SUITE, "cases", lambda *_, case=case: [case])
        rows, _ = near(["right"], peaks=Peaks({"1": {"multiply_add_flops_per_s": 1.0}}))
        assert rows[0]["status"] == status


def test_threads_bound_each_other() -> None:
    rates = {"1": 10.0, "2": 15.0, "4": 50.0}
    bound = Peaks({n: {"multiply_add_flops_per_s": rate} for n, rate in rates.items()})
    assert [bound.flops_per_s(n) for n in (1, 2, 3, 4)] == [10.0, 20.0, 30.0, 50.0]
    assert Peaks({"1": {}}).flops_per_s(1) is None


def test_without_the_device_nothing_is_started(near: Measure) -> None:
    rows, team = near(["right", "raises"], has_device=False)
    assert {(row["status"], row["reason"]) for row in rows} == {("unsupported", "no_cuda")}
    assert team.turns == []


def test_processes_that_hang_or_die_cost_their_own_rows(far: Measure) -> None:
    names = ["right", "sleeps", "aborts", "killed", "two_phases"]
    rows, _ = far(names, budget_s=3.0)
    found = {(row["impl"], row["phase"]): row for row in rows}
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
            assert all(row[key] is None for key in MEASURED_KEYS)
            assert row["reason_text"]


def test_an_allocation_beyond_the_limit_is_told(far: Measure) -> None:
    rows, _ = far(["right", "hungry"], memory_limit_bytes=HUNGRY_BYTES // 2, forces_attempt=True)
    assert rows[0]["status"] == "ok"
    assert (rows[1]["status"], rows[1]["reason"]) == ("oom", "alloc_failed")
    assert rows[1]["attempted"] is True


def test_the_budget_of_a_row_ends_it(far: Measure) -> None:
    rows, _ = far(["slow"], budget_s=2.5)
    row = rows[0]
    # Enough samples stand; too few are a timeout
    if row["status"] == "ok":
        assert 3 <= len(row["samples_ns"]) < 10
    else:
        assert (row["status"], row["reason"]) == ("timeout", "budget")


def test_memory_is_measured_in_a_process_of_its_own(far: Measure) -> None:
    rows, _ = far(["right"], tier="long")
    assert rows[0]["mem_out_bytes"] == 2 * 3 * 83 * 16 * 4


INHERITED = """
import resource
soft, hard = 3 << 30, resource.getrlimit(resource.RLIMIT_DATA)[1]
resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
from ablation_executor.bench.suites.worker import limit_data
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
