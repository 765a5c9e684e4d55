"""Runs that are ended by signals at random moments, and gone on with: nothing lost, nothing twice.

ABLATION_MOMENTS sets how many moments of each kind of run are tried (4), ABLATION_MOMENTS_SEED
which.
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ablation_executor.bench.options import max_threads
from ablation_executor.bench.protocol import WORKER_VARIABLE

from .conftest import FAKE_WORKER, fake_bench_command, fake_environment
from .moments import Moment, Subject, play

MOMENTS = int(os.environ.get("ABLATION_MOMENTS", "4"))
SEED = int(os.environ.get("ABLATION_MOMENTS_SEED", str(int(time.time()) // 86_400)))
# Every fifth is gone on with by two at once
TWICE = 5

BLOCK = (
    *("--configs", "Toy,Small", "--variants", "torch-naive,passes-none,passes-fold"),
    *("--baselines", "none", "--samples", "3", "--quick", "--threads", "1"),
)
THREADS = ("1", "2")[: max_threads()]


def block(folder: Path) -> Subject:
    """Two configs with fake workers; the processes that measure the ceilings are ended too."""
    run = folder / "run"
    return Subject(
        fake_bench_command(*BLOCK, "--out", str(run)),
        fake_bench_command("--resume", str(run)),
        run,
        6,
        {**fake_environment({}), "ABLATION_FAKE_CEILINGS": "measured"},
    )


def suite(folder: Path) -> Subject:
    """A case for each number of threads, three rows each."""
    run = folder / "run"
    start = fake_bench_command("--suite", "fake")
    chosen = ["--quick", "--variants", "right,two_phases", "--threads", ",".join(THREADS)]
    return Subject(
        [*start, *chosen, "--out", str(run)],
        [*start, "--resume", str(run)],
        run,
        3 * len(THREADS),
        {**os.environ, WORKER_VARIABLE: str(FAKE_WORKER)},
    )


@pytest.mark.skipif(sys.platform != "linux", reason="environments of processes are read")
@pytest.mark.parametrize("make", [block, suite])
def test_a_run_that_is_ended_at_any_moment_is_gone_on_with(
    tmp_path: Path, make: Callable[[Path], Subject]
) -> None:
    subject = make(tmp_path)
    moment = Moment(subject, tmp_path)
    start = time.monotonic()
    moment.end(moment.start(subject.command), (0,))
    length_s = time.monotonic() - start
    moment.assert_nothing_is_left()
    draw = random.Random(SEED)
    for index in range(MOMENTS):
        print(f"seed {SEED}, moment {index}:", end=" ", flush=True)
        print(play(subject, tmp_path, draw, length_s, index % TWICE == 0), flush=True)
