"""A run that is ended by a signal at a random moment, and what has to be there afterwards."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from ablation_report.reading import read_run
from ablation_report.rows import DAMAGED_NAME, HEADER_NAME, ROWS_NAME

MARK = "ABLATION_MOMENT"
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# Python starts, and knows nothing of the bench yet
START_S = 0.15
LIMIT_S = 180.0
GONE_S = 10.0


@dataclass(frozen=True)
class Subject:
    """What is run: a command and its folder, the words that go on with it, and the number of rows
    that it ends with."""

    command: Sequence[str]
    go_on: Sequence[str]
    run: Path
    n_rows: int
    environment: dict[str, str]

    def lines(self) -> list[bytes]:
        """The whole lines of the file of rows."""
        file = self.run / ROWS_NAME
        data = file.read_bytes() if file.exists() else b""
        return data.split(b"\n")[:-1]


class Moment:
    """Processes with folders of their own for what they leave behind."""

    def __init__(self, subject: Subject, folder: Path) -> None:
        self._subject = subject
        self._mark = uuid.uuid4().hex
        self._temporary = folder / self._mark
        self._temporary.mkdir()
        self._shared = self._shared_memory()

    def start(self, command: Sequence[str]) -> subprocess.Popen[str]:
        """Start a command in the background."""
        given = {MARK: self._mark, "TMPDIR": str(self._temporary)}
        return subprocess.Popen(
            command,
            env={**self._subject.environment, **given},
            cwd=self._temporary.parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # As from a terminal, also where the tests run in the background
            preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in SIGNALS[1:]],
        )

    def end(self, process: subprocess.Popen[str], wanted: Sequence[int]) -> None:
        """Wait for the end; its status and what it said have to be right, and nothing left."""
        out, errors = process.communicate(timeout=LIMIT_S)
        assert process.returncode in wanted, (process.returncode, out, errors)
        assert "Traceback" not in out + errors, errors

    def assert_nothing_is_left(self) -> None:
        """Neither processes nor files of the marked command."""
        deadline = time.monotonic() + GONE_S
        left = self._left()
        while left and time.monotonic() < deadline:
            time.sleep(0.05)
            left = self._left()
        assert not left
        self._temporary.rmdir()

    def _left(self) -> list[str]:
        found = [f"file {path}" for path in self._temporary.iterdir()]
        if shared := self._shared_memory() - self._shared:
            found += [f"shared memory {name}" for name in shared - self._of_others()]
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self._mark:
                    found.append(f"process {process.cmdline()}")
            except psutil.Error:
                continue
        return found

    def _of_others(self) -> set[str]:
        """The shared memory of other tests, which run at the same time: processes without the mark
        have it."""
        found = set()
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) != self._mark:
                    maps = Path(f"/proc/{process.pid}/maps").read_text()
                    found |= set(re.findall(r"/dev/shm/(\S+)", maps))
            except (psutil.Error, OSError):
                continue
        return found

    @staticmethod
    def _shared_memory() -> set[str]:
        folder = Path("/dev/shm")
        mine = os.getuid()
        if not folder.is_dir():
            return set()
        return {p.name for p in folder.iterdir() if p.exists() and p.stat().st_uid == mine}


def play(subject: Subject, folder: Path, draw: random.Random, length_s: float, twice: bool) -> str:
    """End a new run at a random moment, go on with it to its end, and look at both."""
    shutil.rmtree(subject.run, ignore_errors=True)
    moment = Moment(subject, folder)
    number = draw.choice(SIGNALS)
    delay_s = START_S + draw.random() * length_s
    process = moment.start(subject.command)
    time.sleep(delay_s)
    process.send_signal(number)
    if number == signal.SIGINT and draw.random() < 0.5:
        # An impatient user
        time.sleep(0.05)
        process.send_signal(number)
    moment.end(process, (0, -number, 128 + number))
    moment.assert_nothing_is_left()
    before = subject.lines()

    there = (subject.run / HEADER_NAME).exists()
    command = [*subject.go_on] if there else [*subject.command]
    moment = Moment(subject, folder)
    processes = [moment.start(command) for _ in range(2 if twice else 1)]
    for process in processes:
        moment.end(process, (0, 2))
    assert 0 in [process.returncode for process in processes]
    moment.assert_nothing_is_left()

    after = subject.lines()
    assert after[: len(before)] == before
    header, rows = read_run(subject.run)
    assert len(rows) == subject.n_rows
    assert header["finished_utc"] is not None
    names = {path.name for path in subject.run.iterdir()}
    assert names <= {HEADER_NAME, ROWS_NAME, DAMAGED_NAME}
    return f"{number.name} at {delay_s:.2f} s, {len(before)} rows then"
