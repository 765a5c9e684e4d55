"""Fixtures: a bench whose workers are fakes, in this process or as a command."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import ablation_kernels
from ablation_executor.bench import rounds, suites, timing
from ablation_executor.bench.case import Case
from ablation_executor.bench.crew import Crew, Failed, reason_of
from ablation_executor.bench.interrupt import ENDING
from ablation_executor.bench.measurement import Settings
from ablation_executor.bench.protocol import WORKER_VARIABLE, Message
from ablation_executor.bench.schedule import CaseRun, Surroundings
from ablation_executor.bench.suite import Suite
from ablation_executor.bench.suites.block.configs import find_config
from ablation_executor.bench.time_left import TimeLeft
from ablation_executor.bench.worker import Worker
from ablation_report.rows import Row, row_faults

from . import fake_suite

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")
FAKE_BENCH = Path(__file__).with_name("fake_bench.py")
#: No command of a test takes as long, however busy the machine.
COMMAND_S = 600


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

    def plan(self, left: TimeLeft) -> None:
        """Not kept."""

    def stage(self, case: str, what: str) -> None:
        """Not kept."""

    def turn(self, case: str, variant: str, index: int, rounds: int, left_s: float) -> None:
        """Keep the order."""
        self.turns.append((index, variant))

    def finished(self, row: Row) -> None:
        """Not kept."""

    def case_done(self, case: str, summary: str) -> None:
        """Not kept."""

    def note(self, text: str) -> None:
        """Keep it."""
        self.notes.append(text)


def settings(**changes: Any) -> Settings:
    """Few rounds, no extension."""
    values: dict[str, Any] = {
        "seed": 0,
        "is_quick": True,
        "samples": 3,
        "budget_s": 30.0,
        "time_s": 60.0,
        "device_name": "a processor",
    }
    return Settings(**{**values, **changes})


class Ceilings:
    """The ceilings of a run; a second measurement finds those of `again`."""

    def __init__(self, found: dict[str, Any], again: Sequence[dict[str, Any]] = ()) -> None:
        self.found = found
        self._again = list(again)

    def get(self) -> dict[str, Any]:
        """What is known."""
        return self.found

    def measure_again(self, threads: int) -> None:
        """Take the next."""
        self.found = self._again.pop(0) if self._again else self.found


def measure_case(
    suite: Suite,
    case: Case,
    names: Sequence[str],
    crew: Crew,
    folder: Path,
    rows: list[Row],
    progress: SilentProgress,
    ceilings: Ceilings | None = None,
    **changes: Any,
) -> None:
    """Measure variants of a case, row by row into `rows`; each of them has to be sound."""
    found = ceilings or Ceilings({})

    def write(finished: Sequence[Row]) -> None:
        for row in finished:
            assert row_faults(json.loads(json.dumps(row))) == {}
        rows.extend(finished)

    run = {"run_id": "test", "session": 1}
    around = Surroundings(progress, write, run, found.get, found.measure_again)
    variants = [variant for variant in suite.variants(case.device) if variant.name in names]
    CaseRun(suite, case, variants, settings(**changes), crew, folder, around).run()


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
    monkeypatch.setattr(rounds, "WARM_NS", 1_000_000)
    suite, case = suites.find_suite("block"), find_config("Toy").case(1)
    with tempfile.TemporaryDirectory() as folder:
        crew = Crew("block", 1, Path(folder))
        try:
            measure_case(suite, case, variants, crew, Path(folder), rows, progress, **changes)
        finally:
            crew.close()


Measure = Callable[..., tuple[dict[str, Row], SilentProgress]]
MeasureFake = Callable[..., tuple[list[Row], SilentProgress]]


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


class NearCrew(Crew):
    """Workers in this process, under no limit of memory."""

    def __init__(self, suite: Suite, folder: Path) -> None:
        super().__init__(suite.name, 1, folder)
        self._near = suite
        self._hired_near: dict[str, Worker] = {}

    def _send_load(self, name: str) -> None:
        self._hired_near.setdefault(name, Worker(self._near, name))
        self._generations[name] = self._generations.get(name, -1) + 1
        self._loaded.add(name)
        self._answer(name, {**self._load, "limit_bytes": None})

    def load(self, name: str) -> None:
        """Load in this process."""
        if name not in self._loaded:
            self._send_load(name)

    def ask(self, name: str, message: Message, timeout_s: float) -> Message:
        """As `Crew.ask`."""
        self.load(name)
        return self._answer(name, message)

    def ask_at_once(
        self, messages: Mapping[str, Sequence[Message]], timeout_s: float
    ) -> dict[str, list[Message]]:
        """As `Crew.ask_at_once`, one after another."""
        replies: dict[str, list[Message]] = {name: [] for name in messages}
        for name, own in messages.items():
            with contextlib.suppress(Failed):
                for message in own:
                    replies[name].append(self._answer(name, message))
        return replies

    def drop_all(self) -> None:
        """Drop what is loaded."""
        for name in self._loaded:
            self._answer(name, {"request": "drop"})
        self._loaded.clear()

    def _answer(self, name: str, message: Message) -> Message:
        reply = self._hired_near[name].handle(message)
        if "failed" in reply:
            status, text = reply["failed"], reply["reason"]
            raise Failed(status, reason_of(status, text), text)
        return reply


@pytest.fixture
def near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MeasureFake:
    """Measure the small fake case in this process, with less to wait for."""
    monkeypatch.setattr(rounds, "WARM_NS", 1_000_000)
    monkeypatch.setattr(timing, "SETTLE_CALLS_NS", 1_000_000)

    def run(
        names: Sequence[str], tier: str = "small", **changes: Any
    ) -> tuple[list[Row], SilentProgress]:
        rows: list[Row] = []
        progress = changes.pop("progress", None) or SilentProgress()
        (case,) = [changes.pop("case", None) or fake_suite.SUITE.cases(tier, [1], "cpu")[0]]
        crew = NearCrew(fake_suite.SUITE, tmp_path)
        changes = {"samples": None, **changes}
        measure_case(fake_suite.SUITE, case, names, crew, tmp_path, rows, progress, **changes)
        return in_order(rows), progress

    return run


def in_order(rows: list[Row]) -> list[Row]:
    """Rows in the order of the table."""
    order = [variant.name for variant in fake_suite.SUITE.variants("cpu")]
    return sorted(rows, key=lambda row: order.index(row["variant"]))


@pytest.fixture
def fake_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command and its workers know the fake suite."""
    monkeypatch.setitem(suites.SUITES, "fake", "fake")
    monkeypatch.setitem(sys.modules, f"{suites.__name__}.fake", fake_suite)
    monkeypatch.setenv(WORKER_VARIABLE, str(FAKE_WORKER))


@pytest.fixture
def far(tmp_path: Path, fake_registered: None) -> Iterator[MeasureFake]:
    """Measure a fake case by processes."""
    crews: list[Crew] = []

    def run(
        names: Sequence[str], tier: str = "small", **changes: Any
    ) -> tuple[list[Row], SilentProgress]:
        crew = Crew("fake", 1, tmp_path)
        crews.append(crew)
        rows: list[Row] = []
        progress = SilentProgress()
        (case,) = fake_suite.SUITE.cases(tier, [1], "cpu")
        changes = {"budget_s": 5.0, **changes}
        measure_case(fake_suite.SUITE, case, names, crew, tmp_path, rows, progress, **changes)
        return in_order(rows), progress

    yield run
    for crew in crews:
        crew.close()


def bench_command(*arguments: str) -> list[str]:
    """The command line of the bench."""
    return [sys.executable, "-m", "ablation_executor.bench", *arguments]


def fake_bench_command(*arguments: str) -> list[str]:
    """The command line of a bench that knows the fake suite and has no ceilings."""
    return [sys.executable, str(FAKE_BENCH), *arguments]


def fake_environment(behaviors: dict[str, str]) -> dict[str, str]:
    """An environment in which the bench starts fake workers."""
    return {
        **os.environ,
        WORKER_VARIABLE: str(FAKE_WORKER),
        "ABLATION_FAKE": json.dumps(behaviors),
        "COLUMNS": "200",
    }


def run_bench(
    *arguments: str,
    folder: Path,
    behaviors: dict[str, str] | None = None,
    command: Callable[..., list[str]] = fake_bench_command,
) -> subprocess.CompletedProcess[str]:
    """Run the command with fake workers to its end."""
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=fake_environment(behaviors or {}),
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
