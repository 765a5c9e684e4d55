"""Fixtures: a bench whose workers are fakes, in-process or as a command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import ablation_kernels
from ablation_executor.bench.cells import RunIdentity, Settings
from ablation_executor.bench.configs import find_config
from ablation_executor.bench.interrupt import ENDING
from ablation_executor.bench.protocol import WORKER_VARIABLE
from ablation_executor.bench.run_reading import Row
from ablation_executor.bench.schedule import ConfigRun
from ablation_executor.variants import BY_NAME

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")


@pytest.fixture(scope="session", autouse=True)
def one_blas_core() -> None:
    """All processes multiply by the same kernels.

    On a busy machine two measurements may choose others, and these do not go on with a run.
    """
    core = ablation_kernels.build_info()["blas_core"]
    if core:
        os.environ.setdefault("OPENBLAS_CORETYPE", core)


@pytest.fixture(autouse=True)
def handlers_as_before() -> Iterator[None]:
    """A command that runs in this process leaves its signal handlers here no longer."""
    before = [(number, signal.getsignal(number)) for number in ENDING]
    yield
    for number, handler in before:
        signal.signal(number, handler)


class SilentProgress:
    """Keeps notes and the order of turns."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.turns: list[tuple[int, str]] = []

    def stage(self, config: str, what: str) -> None:
        """Not kept."""

    def turn(self, config: str, variant: str, index: int, rounds: int, left_s: float) -> None:
        """Keep the order."""
        self.turns.append((index, variant))

    def finished(self, row: Row) -> None:
        """Not kept."""

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)


def settings(**changes: Any) -> Settings:
    """Few rounds, one thread."""
    values: dict[str, Any] = {
        "threads": 1,
        "seed": 0,
        "samples": 3,
        "budget_s": 30.0,
        "warm_up": 2,
        "warm_up_long": 2,
        "can_extend": False,
        "memory_limit_bytes": None,
    }
    return Settings(**{**values, **changes})


def measure_into(
    rows: list[Row],
    monkeypatch: pytest.MonkeyPatch,
    variants: Sequence[str],
    behaviors: dict[str, str],
    progress: SilentProgress,
    **changes: Any,
) -> None:
    """Measure Toy with fake workers, row by row into `rows`."""
    monkeypatch.setenv(WORKER_VARIABLE, str(FAKE_WORKER))
    monkeypatch.setenv("ABLATION_FAKE", json.dumps(behaviors))
    chosen = [BY_NAME[name] for name in variants]
    identity = RunIdentity("test", 1, 1, 0)
    ConfigRun(
        find_config("Toy"), chosen, settings(**changes), identity, rows.extend, progress
    ).run()


Measure = Callable[..., tuple[dict[str, Row], SilentProgress]]


@pytest.fixture
def measure(monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Measure Toy with fake workers; gives the rows by variant and the progress."""

    def run(
        variants: Sequence[str], behaviors: dict[str, str], **changes: Any
    ) -> tuple[dict[str, Row], SilentProgress]:
        rows: list[Row] = []
        progress = SilentProgress()
        measure_into(rows, monkeypatch, variants, behaviors, progress, **changes)
        assert sorted(row["variant"] for row in rows) == sorted(variants)
        return {row["variant"]: row for row in rows}, progress

    return run


def bench_command(*arguments: str) -> list[str]:
    """The command line of the bench."""
    return [sys.executable, "-m", "ablation_executor.bench", *arguments]


def fake_environment(behaviors: dict[str, str]) -> dict[str, str]:
    """An environment in which the bench starts fake workers."""
    return {
        **os.environ,
        WORKER_VARIABLE: str(FAKE_WORKER),
        "ABLATION_FAKE": json.dumps(behaviors),
        "COLUMNS": "200",
    }


def run_bench(
    *arguments: str, folder: Path, behaviors: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command with fake workers to its end."""
    return subprocess.run(
        bench_command(*arguments),
        cwd=folder,
        env=fake_environment(behaviors or {}),
        capture_output=True,
        text=True,
        timeout=80,
        check=False,
    )
