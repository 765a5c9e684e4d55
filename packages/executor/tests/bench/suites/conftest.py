"""Fixtures: cases of the fake suite measured by workers in this process or by real ones."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ablation_executor.bench.protocol import WORKER_VARIABLE, Message
from ablation_executor.bench.run_reading import Row
from ablation_executor.bench.suites import schedule, worker
from ablation_executor.bench.suites import suite as registry
from ablation_executor.bench.suites.case import Case
from ablation_executor.bench.suites.rows import check_row
from ablation_executor.bench.suites.schedule import CaseRun
from ablation_executor.bench.suites.suite import Suite
from ablation_executor.bench.suites.team import Failed, Team, reason_of
from ablation_executor.bench.suites.trial import Settings
from ablation_executor.bench.suites.worker import SuiteWorker

from . import fake_suite

FAKE_WORKER = Path(__file__).with_name("fake_worker.py")


def settings(**changes: Any) -> Settings:
    """A quick run with a small budget."""
    values: dict[str, Any] = {"seed": 0, "is_quick": True, "budget_s": 5.0}
    return Settings(**{**values, **changes})


class NearTeam(Team):
    """Workers in this process, under no limit of memory; keeps the order of the turns."""

    def __init__(self, suite: Suite) -> None:
        self._near = suite
        self._hired: dict[str, SuiteWorker] = {}
        self.turns: list[str] = []

    def hire(self, names: Any) -> None:
        """Make the workers that are not there yet."""
        for name in names:
            self._hired.setdefault(name, SuiteWorker(self._near, name, None))

    def generation(self, name: str) -> int:
        """The first, once there is one."""
        return int(name in self._hired)

    def ask(self, name: str, message: Message, timeout_s: float) -> Message:
        """As `Team.ask`."""
        self.hire([name])
        if message["request"] == "turn":
            self.turns.append(name)
        if message["request"] == "load":
            message = {**message, "limit_bytes": None}
        reply = self._hired[name].handle(message)
        if "failed" in reply:
            status, text = reply["failed"], reply["reason"]
            raise Failed(status, reason_of(status, text), text)
        return reply

    def calibrate(self, name: str) -> list[int] | None:
        """Not measured."""
        return None


Measure = Callable[..., tuple[list[Row], Any]]


def run_case(
    suite: Suite, case: Case, names: Sequence[str], team: Team, folder: Path, **changes: Any
) -> list[Row]:
    """The checked rows of some implementations in a case."""
    ways = [way for way in suite.implementations(case.device) if way.name in names]
    run = CaseRun(suite, case, ways, team, settings(**changes), folder)
    rows = run.run({"run_id": "test", "session": 1})
    for row in rows:
        check_row(row)
    return rows


@pytest.fixture
def near(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Measure the small fake case in this process, with less to wait for."""
    monkeypatch.setattr(schedule, "WARM_NS", 1_000_000)
    monkeypatch.setattr(worker, "SETTLE_CALLS_NS", 1_000_000)

    def run(names: Sequence[str], tier: str = "small", **changes: Any) -> tuple[list[Row], Any]:
        team = NearTeam(fake_suite.SUITE)
        (case,) = fake_suite.SUITE.cases(tier, [1], "cpu")
        return run_case(fake_suite.SUITE, case, names, team, tmp_path, **changes), team

    return run


@pytest.fixture
def fake_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command and its workers know the fake suite."""
    monkeypatch.setitem(registry.SUITES, "fake", "fake")
    monkeypatch.setitem(sys.modules, f"{registry.__package__}.fake", fake_suite)
    monkeypatch.setenv(WORKER_VARIABLE, str(FAKE_WORKER))


@pytest.fixture
def far(tmp_path: Path, fake_registered: None) -> Iterator[Measure]:
    """Measure a fake case by processes."""
    teams: list[Team] = []

    def run(names: Sequence[str], tier: str = "small", **changes: Any) -> tuple[list[Row], Any]:
        team = Team("fake", 1, tmp_path, measures_memory=False)
        teams.append(team)
        (case,) = fake_suite.SUITE.cases(tier, [1], "cpu")
        return run_case(fake_suite.SUITE, case, names, team, tmp_path, **changes), team

    yield run
    for team in teams:
        team.close()
