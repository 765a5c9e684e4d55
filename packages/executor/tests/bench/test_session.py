"""How the command ends: statuses, what is told, signals, and rows that a fault of the bench
leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ablation_executor.bench.interrupt import (
    Interrupted,
    UsageError,
    end_at_once,
    raise_when_asked_to_end,
    signals_held,
)
from ablation_executor.bench.measurement import Timing
from ablation_executor.bench.rounds import Rounds
from ablation_executor.bench.run_folder import RunFolder
from ablation_executor.bench.run_lock import RunLock
from ablation_executor.bench.run_writing import RowsNotWritten
from ablation_executor.bench.session import Session, carry_out
from ablation_report.rows import Row

from .conftest import Measure, SilentProgress, measure_into
from .sound_files import failed_row, sound_info, sound_row


def nothing() -> None:
    """Do nothing."""


def raising(error: BaseException) -> Callable[[], NoReturn]:
    """What raises an error."""

    def raise_it() -> NoReturn:
        raise error

    return raise_it


def outcome(
    path: Path,
    measure: Callable[[], None] = nothing,
    tables: Callable[[], None] = nothing,
    row: Row | None = None,
    finished: str | None = "then",
) -> int:
    """The status of a command that measures and prints so."""

    def begin() -> Session:
        folder = RunFolder.create(path, sound_info(finished_utc=finished))
        folder.append([row or sound_row()])
        return Session(folder, measure, tables)

    return carry_out(begin, nothing)


@pytest.mark.parametrize(
    ("row", "status"),
    [
        (sound_row(), 0),
        (failed_row(), 0),
        (failed_row(status="error", reason="ValueError"), 1),
        (failed_row(status="incorrect", reason="check", check="fail"), 1),
    ],
)
def test_the_status_tells_of_wrong_rows(tmp_path: Path, row: Row, status: int) -> None:
    assert outcome(tmp_path / "run", row=row) == status
    RunLock(tmp_path / "run").release()


def test_a_fault_of_the_tables_costs_no_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert outcome(run, tables=raising(OverflowError("too large"))) == 1
    told = capsys.readouterr()
    assert "error: the tables cannot be printed: OverflowError: too large (" in told.err
    assert f"rows: {run / 'rows.jsonl'}" in told.out
    folder, damaged = RunFolder.open(run)
    folder.close()
    assert (len(folder.rows), damaged) == (1, [])


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (UsageError("not so\nvalid: \x1b"), 2, "error: not so\nvalid: \\x1b\n"),
        (OSError(28, "No space left on device"), 1, "error: [Errno 28] No space left on device\n"),
        (RowsNotWritten("the rows are in x"), 1, "error: the rows are in x\n"),
        (ZeroDivisionError("by zero"), 1, "error: ZeroDivisionError: by zero ("),
    ],
)
def test_what_cuts_a_run_short_is_told_in_a_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    status: int,
    told: str,
) -> None:
    run = tmp_path / "a run"
    assert outcome(run, raising(error), raising(AssertionError()), finished=None) == status
    errors = capsys.readouterr().err
    assert told in errors
    assert f"not finished; continue with: ablation-bench --resume '{run}'" in errors
    assert "Traceback" not in errors


def test_rows_that_were_kept_elsewhere_are_told_with_a_later_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure() -> None:
        try:
            raise RowsNotWritten("the rows are in x")
        except RowsNotWritten:
            raise OSError(5, "Input/output error") from None

    assert outcome(tmp_path / "run", measure) == 1
    errors = capsys.readouterr().err
    assert "Input/output error" in errors and "the rows are in x" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_measurement_with_its_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], number: signal.Signals
) -> None:
    def measure() -> None:
        os.kill(os.getpid(), number)

    def tables() -> None:
        # A second one cuts nothing
        os.kill(os.getpid(), number)
        print("the tables")

    signal.signal(signal.SIGHUP, lambda *_: None)
    assert outcome(tmp_path / "run", measure, tables) == 128 + number
    out = capsys.readouterr().out
    assert "the tables\n" in out
    assert "interrupted; continue with: ablation-bench --resume " in out


def test_a_run_under_nohup_outlives_its_terminal() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for handle in (end_at_once, raise_when_asked_to_end):
        handle()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_what_belongs_together_is_done_whole() -> None:
    raise_when_asked_to_end()
    done = []
    with pytest.raises(Interrupted), signals_held():
        with signals_held():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("inner")
        done.append("outer")
    assert done == ["inner", "outer"]
    # An error of the block comes first
    raise_when_asked_to_end()
    with pytest.raises(OSError, match="full"), signals_held():
        os.kill(os.getpid(), signal.SIGTERM)
        raise OSError("full")


def test_a_fault_of_the_statistics_costs_no_sample(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def is_wide(timing: Timing) -> bool:
        raise OverflowError("int too large to convert to float")

    monkeypatch.setattr(Timing, "is_wide", is_wide)
    rows: list[Row] = []
    names = ["torch-naive", "passes-none"]
    with pytest.raises(OverflowError):
        measure_into(rows, monkeypatch, names, {}, SilentProgress(), is_quick=False)
    assert sorted((row["variant"], row["status"]) for row in rows) == [
        ("passes-none", "ok"),
        ("torch-naive", "ok"),
    ]
    assert all(len(set(row["sample_rounds"])) == 3 for row in rows)


def test_a_clock_that_stands_still_is_an_error(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_time(rounds: Any) -> None:
        for _, timing in rounds.pairs():
            timing.samples_ns, timing.sample_rounds = [0, 0, 0], [0, 1, 2]

    monkeypatch.setattr(Rounds, "run", no_time)
    rows, _ = measure(["passes-none"], {})
    assert rows["passes-none"]["status"] == "error"
    assert "clock of this machine stands still" in rows["passes-none"]["reason_text"]
