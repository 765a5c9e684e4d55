"""Data parallel training: gradients of two processes on the loopback, and what its check finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch.distributed as dist

from ablation_executor.bench.case import Case, make_case
from ablation_executor.bench.suite import Verdict
from ablation_executor.bench.suites.lm_step.parallel import __main__ as command
from ablation_executor.bench.suites.lm_step.parallel.__main__ import (
    chosen_case,
    main,
    make_parser,
    summary,
)
from ablation_executor.bench.suites.lm_step.parallel.program import ParallelProgram
from ablation_executor.bench.suites.lm_step.parallel.rank import Rank
from ablation_executor.bench.suites.lm_step.sizes import model_shape
from ablation_report.rows import row_faults


def small_case() -> Case:
    """A model of 13 000 parameters, two sequences in each process."""
    parameters = {"size": "test", "d_ff": 48, "layers": 1, "vocab": 61, "autocast": "none"}
    return make_case("lm-step", "parallel", (2, 2, 16, 16, 16), causal=True, **parameters)


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """This process as the only one of a group."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_two_processes_have_the_gradients_of_one_with_the_joined_batch() -> None:
    program = ParallelProgram(2, small_case(), 0)
    for verdict in (program.probe(), program.check(["step"], None)):
        assert verdict.reason is None
        assert set(verdict.errors) == {"loss", "grad", "weights"}
    program.start_timing("step")
    for _ in range(3):
        program.call("step", None)
    # Still the same weights in both, and still right, after steps
    assert program.check(["step"], None).reason is None
    details = program.facts("step")["details"]
    assert [len(times) for times in details["parts_ns"].values()] == [3, 3, 3, 3]
    assert (details["world_size"], details["tokens"]) == (2, 64)
    assert details["n_params"] == model_shape(small_case()).n_params


@pytest.mark.usefixtures("alone")
def test_gradients_of_another_batch_are_found() -> None:
    rank = Rank(small_case(), 0)
    assert rank.check(0).reason is None
    right = rank._part
    rank._part = lambda seed: tuple(reversed(right(seed)))  # type: ignore[method-assign]
    verdict = rank.check(0)
    assert verdict.reason is not None
    assert verdict.errors["grad"] > 0.01


@pytest.mark.usefixtures("alone")
def test_rows_of_the_command_are_those_of_the_suite() -> None:
    rows = command.measure(small_case(), 0, 3)
    assert [row["variant"] for row in rows] == ["data_parallel_1", "data_parallel_1"]
    for row in rows:
        assert row_faults(row) == {}
        assert (row["status"], row["phase"], len(row["samples_ns"])) == ("ok", "step", 3)
        assert row["details"]["tokens"] == 32
    assert "scaling efficiency: " in summary(rows)


def test_a_wrong_row_has_no_time() -> None:
    verdict = Verdict({"grad": 1.0}, {"grad": 0.1}, "error of grad is 1, allowed 0.1")
    row = command.make_row(small_case(), 0, 2, verdict, [5, 6, 7])
    assert (row["status"], row["samples_ns"]) == ("incorrect", None)
    text = summary([row])
    assert "incorrect" in text and "efficiency" not in text


def test_the_command_starts_the_processes_by_itself(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("RANK", raising=False)
    rows = tmp_path / "rows.jsonl"
    arguments = ["--size", "tiny", "--batch", "1", "--context", "16", "--vocab", "64"]
    assert main([*arguments, "--steps", "3", "--rows", str(rows)]) == 0
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [row["variant"] for row in found] == ["data_parallel_1", "data_parallel_2"]
    assert [row["status"] for row in found] == ["ok", "ok"]


def test_a_process_that_fails_ends_the_others(capfd: pytest.CaptureFixture[str]) -> None:
    # No process of this machine has such a device
    assert main(["--device", "cuda", "--steps", "3", "--processes", "2"]) == 1
    capfd.readouterr()


@pytest.mark.parametrize(
    ("arguments", "named"), [(["--size", "huge"], "huge"), (["--batch", "0"], "0")]
)
def test_arguments_that_are_refused(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        make_parser().parse_args(arguments)
    assert ended.value.code == 2
    assert named in capsys.readouterr().err


def test_the_case_of_a_command_line() -> None:
    options: Any = make_parser().parse_args(["--size", "small", "--threads", "2", "--vocab", "77"])
    case = chosen_case(options)
    assert (case.threads, case.get("vocab"), case.H, case.Nq) == (2, 77, 12, 128)
    assert case.get("autocast") == "none"
