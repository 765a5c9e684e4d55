"""What a bench starts and makes does not outlive it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ablation_executor.bench import children

# A parent with a child, which has a child of its own; prints the numbers of both and the folder
PARENT = """
import subprocess, sys, time
from ablation_executor.bench import children
program = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True);"
program += "sys.stdin.read()"
child = children.start([sys.executable, "-c", program], stdin=-1, stdout=-1)
(children.scratch_folder() / "folder").mkdir()
print(child.pid, int(child.stdout.readline()), children.scratch_folder(), flush=True)
time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    """True for a process that runs, and not for one that waits to be reaped."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return found.stdout.strip()[:1] not in ("", "Z")


def test_sigkill_leaves_neither_processes_nor_files() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    first, second, name = parent.stdout.readline().split()
    assert is_alive(int(first)) and is_alive(int(second)) and Path(name).is_dir()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = [pid for pid in (first, second) if is_alive(int(pid))]
        if not left and not Path(name).exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"left: {left}, folder {Path(name).exists()}")


def test_the_end_of_a_child_ends_what_it_has_started() -> None:
    program = (
        "import subprocess; print(subprocess.Popen(['sleep', '60'], stdout=-3).pid);"
        "raise SystemExit(3)"
    )
    process = children.start([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert children.ended(process) == 3
    assert process.stdout is not None
    pid = int(process.stdout.read())
    process.stdout.close()
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_alive(pid)


def test_a_child_that_does_not_end_is_ended() -> None:
    process = children.start(["sleep", "60"])
    assert children.ended(process, 0.1) == -signal.SIGKILL


def test_what_a_program_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert children.told_by("import sys; print(sys.argv[1:])", "2") is None
    assert children.told_by("print([1])") == [1]
    assert children.told_by("print([1]); raise SystemExit(1)") is None
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    program = "import os, sys; print(int(sys.flags.safe_path), end=''); sys.warnoptions and print()"
    assert children.told_by(program) == 1


def test_the_environment_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/a/users/wish")
    monkeypatch.setenv("PYTHONINSPECT", "1")
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    given = children.environment({"OMP_NUM_THREADS": "2"})
    assert given["PYTHONPATH"] == "/a/users/wish"
    assert given["OMP_NUM_THREADS"] == "2"
    assert given["TMPDIR"] == str(children.scratch_folder())
    # What was compiled is for later runs, too
    assert not given["TORCHINDUCTOR_CACHE_DIR"].startswith(given["TMPDIR"])
    assert "PYTHONINSPECT" not in given
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/elsewhere")
    assert children.environment()["TORCHINDUCTOR_CACHE_DIR"] == "/elsewhere"
    assert given["PYTHONSAFEPATH"] == "1"
