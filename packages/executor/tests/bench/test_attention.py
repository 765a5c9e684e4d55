"""Attention alone: what a case costs, what is refused, and rows from workers right and wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from ablation_executor.bench.attention import schedule
from ablation_executor.bench.attention.__main__ import main, make_cases, make_parser
from ablation_executor.bench.attention.cases import Array, Case, make_inputs
from ablation_executor.bench.attention.implementations import (
    KERNELS_MATERIALIZED,
    TORCH_MATERIALIZED,
    Implementation,
    MaterializedKernels,
    implementations,
    memory,
    runner_maker,
)
from ablation_executor.bench.attention.record import ROW_KEYS, row_problem
from ablation_executor.bench.attention.reference import attention_reference, sampled_rows
from ablation_executor.bench.attention.schedule import CaseRun, Settings, affordable_rounds
from ablation_executor.bench.attention.team import Failed, Team
from ablation_executor.bench.attention.worker import AttentionWorker
from ablation_executor.bench.protocol import WORKER_VARIABLE, Message
from ablation_executor.bench.record import Row

WAYS = implementations()
KERNEL_WAYS = [way for way in WAYS if not way.is_torch]


def settings(**changes: Any) -> Settings:
    values: dict[str, Any] = {
        "seed": 0,
        "rounds": 3,
        "min_rounds": 3,
        "budget_s": 5.0,
        "memory_limit_bytes": None,
    }
    return Settings(**{**values, **changes})


class WrongRunner:
    """Attention in NumPy with one defect."""

    def __init__(self, defect: str, case: Case, inputs: tuple[Array, Array, Array]) -> None:
        self._defect, self._case, self._inputs = defect, case, inputs

    def __call__(self) -> Array:
        """One call."""
        q, k, v = self._inputs
        if self._defect == "head_index":
            k = np.roll(k, 1, axis=1)
        scores = q @ k.swapaxes(-1, -2) * np.float32(self._case.head_dim**-0.5)
        if self._case.causal and self._defect != "causal_ignored":
            scores[..., np.triu(np.ones(scores.shape[-2:], bool), 1)] = -np.inf
        if self._defect == "last_key_dropped":
            scores[..., 1:, -1] = -np.inf
        if self._defect != "no_maximum":
            scores = scores - scores.max(axis=-1, keepdims=True)
        with np.errstate(all="ignore"):
            weights = np.exp(scores)
            return np.asarray(weights @ v / weights.sum(axis=-1, keepdims=True))

    def output(self, result: Any) -> Array:
        """Already NumPy."""
        return np.asarray(result)


class NearTeam:
    """Workers in this process; `defects` names those that compute wrongly."""

    def __init__(self, defects: dict[str, str]) -> None:
        self._defects = defects
        self._workers: dict[str, AttentionWorker] = {}
        self.turns: list[str] = []

    def _make(self, name: str) -> AttentionWorker:
        defect = self._defects.get(name)
        if defect is None:
            return AttentionWorker(runner_maker(name, 1), None)
        return AttentionWorker(lambda case, inputs: WrongRunner(defect, case, inputs), None)

    def ask(self, name: str, message: Message, timeout_s: float) -> Message:
        """As `Team.ask`."""
        if message["request"] == "turn":
            self.turns.append(name)
        worker = self._workers.setdefault(name, self._make(name))
        reply = worker.handle(message)
        if "failed" in reply:
            raise Failed(reply["failed"], reply["reason"])
        return reply

    def calibrate(self, name: str) -> list[int] | None:
        """Not measured."""
        return None


Measure = Callable[..., tuple[dict[str, Row], NearTeam]]


@pytest.fixture
def measure(tmp_path: Path) -> Measure:
    """Measure a case with our kernels in this process; gives rows by implementation, and turns."""

    def run(
        case: Case, defects: dict[str, str] | None = None, **changes: Any
    ) -> tuple[dict[str, Row], NearTeam]:
        team = NearTeam(defects or {})
        rows = CaseRun(case, KERNEL_WAYS, team, settings(**changes), tmp_path).run("test")  # type: ignore[arg-type]
        assert [row_problem(row) for row in rows] == [None] * len(KERNEL_WAYS)
        return {row["impl"]: row for row in rows}, team

    return run


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("seq_len", [1, 2, 37])
def test_useful_flops_count_the_pairs_that_are_seen(seq_len: int, causal: bool) -> None:
    seen = sum(not causal or j <= i for i in range(seq_len) for j in range(seq_len))
    case = Case(seq_len, 3, 16, causal, 1)
    assert case.pairs == seen
    assert case.flops_useful == 2 * 2 * 3 * 16 * seen


def test_the_reference_at_sampled_rows_of_a_long_sequence() -> None:
    case = Case(500, 2, 8, True, 1)
    rows = sampled_rows(case, 0)
    assert (rows[0], rows[-1], len(rows)) == (0, 499, 64)
    assert len(set(np.diff(rows).tolist())) > 1
    q, k, v = (array.astype(np.float64) for array in make_inputs(case, 0))
    reference = attention_reference(case, 0)
    for place, row in enumerate(rows):
        for head in range(2):
            weights = np.exp(k[0, head, : row + 1] @ q[0, head, row] * 8**-0.5)
            expected = weights @ v[0, head, : row + 1] / weights.sum()
            found = reference.expected[place, 8 * head : 8 * head + 8]
            np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_kernels_of_the_table_are_measured_by_name() -> None:
    names = [way.name for way in WAYS]
    assert names[:3] == ["torch-sdpa", "torch-materialized", "kernels-materialized"]
    assert {"attention_fused_simd_parallel", "attention_flash_simd_parallel"} <= set(names)
    assert "attention_fused_scalar" not in names
    with pytest.raises(ValueError, match="'attention_none'; accepted: torch-sdpa"):
        runner_maker("attention_none", 1)


def test_a_small_budget_drops_rounds_but_not_below_the_least() -> None:
    second = 1_000_000_000
    ten = settings(rounds=10, min_rounds=5)
    assert affordable_rounds(100.0, [second, second], ten) == 10
    assert affordable_rounds(12.5, [second, second], ten) == 6
    assert affordable_rounds(1.0, [second, second], ten) == 5
    assert affordable_rounds(1.0, [second], settings(rounds=3, min_rounds=5)) == 3


def test_rows_of_our_kernels(measure: Measure) -> None:
    rows, team = measure(Case(300, 2, 16, True, 1))
    for name, row in rows.items():
        assert tuple(row) == ROW_KEYS
        assert (row["status"], row["reason"]) == ("ok", None)
        assert row["worst_ratio"] <= 1
        assert set(row["sample_rounds"]) == {0, 1, 2}
        assert len(row["samples_ns"]) == len(row["sample_rounds"])
        assert team.turns.count(name) == 3
    # A round is over before the next begins
    size = len(KERNEL_WAYS)
    assert [set(team.turns[i : i + size]) for i in range(0, 3 * size, size)] == [set(rows)] * 3
    ops = [kernel.split("_")[0] for kernel in rows[KERNELS_MATERIALIZED]["kernels"]]
    assert ops == ["matmul", "add", "softmax", "matmul"]


@pytest.mark.parametrize(
    "defect", ["head_index", "causal_ignored", "last_key_dropped", "no_maximum"]
)
def test_a_wrong_kernel_is_incorrect_and_has_no_time(measure: Measure, defect: str) -> None:
    wrong = "attention_flash_simd_parallel"
    rows, team = measure(Case(40, 2, 16, True, 1), {wrong: defect})
    row = rows.pop(wrong)
    assert row["status"] == "incorrect"
    assert row["samples_ns"] is None
    assert row["reason"].startswith("probe ")
    assert wrong not in team.turns
    assert {other["status"] for other in rows.values()} == {"ok"}


def test_the_stand_in_for_wrong_kernels_is_right_without_a_defect(measure: Measure) -> None:
    name = "attention_flash_simd_parallel"
    rows, _ = measure(Case(40, 2, 16, True, 1), {name: "none"})
    assert rows[name]["status"] == "ok"


def test_whole_scores_that_do_not_fit_are_refused_unstarted(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(1024, 2, 16, False, 1)
    limit = case.scores_bytes
    monkeypatch.setattr(schedule, "available_bytes", lambda given: given)
    monkeypatch.setattr(MaterializedKernels, "__init__", None)
    rows, _ = measure(case, memory_limit_bytes=limit)
    for row in rows.values():
        is_refused = row["form"] == "materialized"
        assert row["status"] == ("oom" if is_refused else "ok")
        assert row["memory_available_bytes"] == limit
        if is_refused:
            assert "MiB beside the inputs" in row["reason"]
            assert row["memory_predicted_bytes"] >= limit + 4 * case.array_bytes


def test_what_fits_only_by_turns_keeps_nothing(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(512, 1, 16, False, 1)
    kept = sum(memory(way, case).resident_bytes for way in KERNEL_WAYS)
    materialized = sum(way.product is not None for way in KERNEL_WAYS)
    largest = max(memory(other, case).transient_bytes for other in KERNEL_WAYS)
    inputs = 3 * case.array_bytes * len(KERNEL_WAYS)
    monkeypatch.setattr(schedule, "available_bytes", lambda given: given)
    built: list[int] = []
    right = MaterializedKernels.__init__

    def count(self: Any, product: str, case: Case, given: Any) -> None:
        built.append(case.seq_len)
        right(self, product, case, given)

    monkeypatch.setattr(MaterializedKernels, "__init__", count)
    measure(case, memory_limit_bytes=inputs + kept + largest)
    assert built.count(512) == materialized
    built.clear()
    rows, _ = measure(case, memory_limit_bytes=inputs + kept + largest - 1)
    assert {row["status"] for row in rows.values()} == {"ok"}
    # Once to check and warm up, then anew in each of three rounds
    assert built.count(512) == materialized * (1 + 3)


def test_torch_keeps_the_scores_and_their_softmax() -> None:
    case = Case(256, 2, 16, False, 1)
    needs = memory(Implementation(TORCH_MATERIALIZED, "materialized"), case)
    assert needs.transient_bytes == 2 * case.scores_bytes + 2 * case.array_bytes


def test_a_worker_that_dies_fails_its_own_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import sys\nsys.exit('no such thing')\n")
    monkeypatch.setenv(WORKER_VARIABLE, str(broken))
    team = Team(["torch-sdpa"], 1, tmp_path)
    try:
        for _ in range(2):
            with pytest.raises(Failed, match="ended with status 1: no such thing") as failed:
                team.ask("torch-sdpa", {"request": "drop"}, 30.0)
            assert failed.value.status == "error"
        assert team.calibrate("torch-sdpa") is None
    finally:
        team.close()


def test_the_default_grid_and_a_chosen_one() -> None:
    parse = make_parser().parse_args
    cases = make_cases(parse(["--threads", "1"]))
    assert len(cases) == len(set(cases)) == 7 * 3 * 2
    chosen = make_cases(parse(["--causal", "--heads", "2,2", "--seq-lens", "9", "--threads", "1"]))
    assert chosen == [Case(9, 2, 64, True, 1)]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--seq-lens", "128,0"], "0 is out of range; accepted: a whole number from 1 to 131072"),
        (["--heads", "x"], "'x' is not a number; accepted: a whole number from 1 to 1024"),
        (["--threads", "100000"], "accepted: a whole number from 1 to"),
        (["--rounds", "2"], "accepted: a whole number from 3 to 10000"),
        (["--budget", "0.1"], "accepted: seconds from 1 to"),
    ],
)
def test_options_that_are_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


def test_a_tiny_run_through_real_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = ["--seq-lens", "32", "--heads", "2", "--threads", "1", "--rounds", "3"]
    assert main([*arguments, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in (out / "attention.jsonl").read_text().splitlines()]
    info = json.loads((out / "run.json").read_text())
    assert [(row["causal"], row["impl"]) for row in rows] == [
        (causal, way.name) for causal in (False, True) for way in WAYS
    ]
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["run_id"] for row in rows} == {info["run_id"]}
    assert info["finished_utc"] is not None
    assert rows[0]["calibration_before_ns"] and rows[0]["calibration_after_ns"]
    assert main([*arguments, "--out", str(out)]) == 2
    assert "already holds a run" in capsys.readouterr().err
