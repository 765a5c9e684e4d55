"""The script for a machine with a GPU: its steps name what there is, and their order and end hold.

What needs no GPU is tried here; `.ci/gpu_check.sh --cpu OUT` makes the calls themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
SCRIPT = ROOT / ".ci" / "gpu_check.sh"
STEPS = ["right", "sweep", "backward", "lm-step", "compiled"]
# Notes the folder of each run, and ends with the status of the first step's
FAKE = """#!/bin/sh
for last; do :; done
echo "${last##*/}" >> "$LOG"
[ "${last##*/}" != right ] || exit "$STATUS"
"""

pytestmark = pytest.mark.skipif(
    not SCRIPT.is_file() or sys.platform != "linux", reason="needs the repository, and Linux"
)


def ended(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return subprocess.run(
        [str(SCRIPT), *words], capture_output=True, text=True, env=environment, check=False
    )


def test_every_step_names_suites_tiers_and_variants_that_there_are() -> None:
    listed = ended("--list")
    assert listed.returncode == 0, listed.stderr
    told = [line.removeprefix("== ") for line in listed.stdout.splitlines() if line[:2] == "=="]
    assert told == STEPS
    assert "attention-sweep/paper causal B4 H12 Q16384" in listed.stdout
    assert all(line.endswith("cuda") for line in listed.stdout.splitlines() if "/paper" in line)


@pytest.mark.parametrize(
    ("status", "limit_s", "run", "code"),
    [
        ("0", "480", STEPS, 0),
        ("130", "480", STEPS, 0),
        ("1", "480", ["right"], 1),
        ("0", "0", [], 0),
    ],
)
def test_order_and_end(
    tmp_path: Path, status: str, limit_s: str, run: list[str], code: int
) -> None:
    fake, log = tmp_path / "python", tmp_path / "log"
    fake.write_text(FAKE)
    fake.chmod(0o755)
    log.touch()
    variables = {"PYTHON": str(fake), "LOG": str(log), "STATUS": status, "LIMIT_S": limit_s}
    done = ended("--cpu", str(tmp_path / "rows"), **variables)
    assert (log.read_text().split(), done.returncode) == (run, code)
    assert ("left out" in done.stdout) == (limit_s == "0")


def test_without_words_it_says_how_it_is_called() -> None:
    done = ended()
    assert done.returncode == 2 and ".ci/gpu_check.sh --collect WHEELS" in done.stdout
