"""No process that a bench starts takes connections from another machine, or from another user."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from ablation_executor.bench.case import make_case
from ablation_executor.bench.suites.lm_step.parallel.program import ParallelProgram
from ablation_executor.bench.suites.lm_step.warm_up import FreshProgram

from .sockets import listening, watched

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
SMALL = {"size": "test", "d_ff": 48, "layers": 1, "vocab": 61, "autocast": "none"}


def test_a_socket_is_found_by_where_it_listens() -> None:
    with socket.socket() as near, socket.socket() as far:
        near.bind(("127.0.0.1", 0))
        far.bind(("0.0.0.0", 0))
        near.listen()
        far.listen()
        ports = [each.getsockname()[1] for each in (near, far)]
        inside, outside = listening(os.getpid())
    assert f"tcp 127.0.0.1 {ports[0]}" in inside
    assert f"tcp 0.0.0.0 {ports[1]}" in outside


def test_a_name_without_a_file_is_open_to_every_user() -> None:
    with socket.socket(socket.AF_UNIX) as named:
        named.bind("\0ablation-test")
        named.listen()
        assert "unix @ablation-test" in listening(os.getpid())[1]


def test_processes_that_train_together_listen_on_the_loopback_alone() -> None:
    case = make_case("lm-step", "parallel", (2, 2, 16, 16, 16), causal=True, **SMALL)
    with watched() as (inside, outside):
        program = ParallelProgram(2, case, 0)
        assert program.probe().reason is None
        program.call("step", None)
    # Until here its processes lived, for the last look at them
    del program
    assert outside == set()
    # They do talk to each other
    assert inside


def test_processes_of_the_study_of_warm_up_take_no_connection() -> None:
    case = make_case("lm-step", "warm-up", (2, 2, 16, 16, 16), causal=True, study_warmup=1, **SMALL)
    with watched() as (inside, outside):
        program = FreshProgram("sdpa", case, 0)
        program.call("step", program.prepare("step"))
        program.prepare("step").send(None)
    assert (inside, outside) == (set(), set())


@pytest.mark.parametrize(
    "arguments",
    [
        ["--configs", "Toy", "--quick", "--variants", "passes-none", "--baselines", "none"],
        ["--suite", "attention-sweep", "--quick", "--tiers", "cpu", "--cases", "causal Q512"],
    ],
    ids=("block", "suite"),
)
def test_a_run_takes_no_connection(arguments: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ablation_executor.bench", *arguments]
    with watched() as (inside, outside):
        done = subprocess.run(
            [*command, "--out", str(tmp_path / "run")], capture_output=True, text=True, check=False
        )
    assert done.returncode in (0, 1), done.stderr
    assert (inside, outside) == (set(), set())
    assert json.loads((tmp_path / "run" / "run.json").read_text())
