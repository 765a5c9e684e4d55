"""The bench where a user may start it: other encodings, closed streams, files of the user's own,
few descriptors, variables that change Python."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from ablation_report.reading import read_run
from ablation_report.rows import Row

from .conftest import COMMAND_S, bench_command, fake_environment

SMALL = (
    *("--configs", "Toy", "--variants", "torch-naive,passes-none", "--baselines", "none"),
    *("--samples", "3", "--quick", "--threads", "1"),
)


def call(
    folder: Path,
    command: Sequence[str],
    variables: Mapping[str, str] = MappingProxyType({}),
    before: Callable[[], None] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a folder with fake workers to its end."""
    environment = {**fake_environment({}), **variables}
    return subprocess.run(
        command,
        cwd=folder,
        env={name: value for name, value in environment.items() if value != "unset"},
        preexec_fn=before,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_S,
        check=False,
    )


def rows_of(run: Path) -> list[Row]:
    """The rows of a run, all sound."""
    return read_run(run)[1]


def assert_whole(done: subprocess.CompletedProcess[bytes], run: Path) -> None:
    """The command ended well, and every cell is ok."""
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    reasons = [row["reason"] for row in rows_of(run)]
    assert reasons == [None, None]


HARD = "[red]\x1b[2J µ\n日 "


def test_ascii_alone_and_a_folder_with_a_hard_name(tmp_path: Path) -> None:
    plain = {
        "PYTHONIOENCODING": "ascii",
        "PYTHONUTF8": "0",
        "LC_ALL": "C",
        "TERM": "dumb",
        "COLUMNS": "1",
        "NO_COLOR": "1",
    }
    out = tmp_path / HARD
    done = call(tmp_path, bench_command(*SMALL, "--out", HARD), plain)
    assert_whole(done, out)
    printed = done.stdout.decode("ascii")
    assert " us" in printed
    assert "\x1b" not in printed
    assert "rows: [red]\\x1b[2J u\\n\\u65e5 /rows.jsonl" in printed
    again = call(tmp_path, bench_command(*SMALL, "--out", HARD), plain)
    assert again.returncode == 2
    assert b"already holds a run; continue it with --resume $'[red]\\033[2J" in again.stderr


@pytest.mark.parametrize("how", [">&- 2>&- <&-", "| true", "2>&1 | head -c 1 >/dev/null"])
def test_a_run_ends_well_whoever_listens(tmp_path: Path, how: str) -> None:
    command = ["bash", "-o", "pipefail", "-c", f'"$0" "$@" {how}']
    done = call(tmp_path, [*command, *bench_command(*SMALL, "--out", "run")])
    assert_whole(done, tmp_path / "run")


USERS = ("random.py", "statistics.py", "json.py", "numpy.py", "torch.py", "typing.py", "signal.py")


@pytest.mark.parametrize("way", ["command", "module"])
def test_files_of_the_user_are_no_libraries(tmp_path: Path, way: str) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in USERS:
        (folder / name).write_text("raise SystemExit('the wrong module')\n")
    (folder / "sitecustomize.py").write_text("answer = 42\n")
    script = shutil.which("ablation-bench", path=sysconfig.get_path("scripts"))
    if way == "command" and script is None:
        pytest.skip("the command is not installed")
    start = [script] if way == "command" and script else bench_command()
    done = call(folder, [*start, *SMALL, "--out", "run"])
    assert_whole(done, folder / "run")


def few_files() -> None:
    """As many descriptors as some systems give."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONWARNINGS": "error", "PYTHONOPTIMIZE": "2", "PYTHONUNBUFFERED": "1"},
        {"HOME": "/nowhere", "TMPDIR": "/nowhere", "USER": "unset", "LOGNAME": "unset"},
    ],
)
def test_variables_that_change_python(tmp_path: Path, variables: dict[str, str]) -> None:
    done = call(tmp_path, bench_command(*SMALL, "--out", "run"), variables, few_files)
    assert_whole(done, tmp_path / "run")


def test_a_worker_that_cannot_be_started_fails_alone(tmp_path: Path) -> None:
    def one_descriptor_more() -> None:
        # Enough for the bench and one worker, whose pipes are two
        resource.setrlimit(resource.RLIMIT_NOFILE, (11, 11))

    done = call(tmp_path, bench_command(*SMALL, "--out", "run"), before=one_descriptor_more)
    assert b"Traceback" not in done.stderr
    assert done.returncode == 1
    rows = rows_of(tmp_path / "run") if (tmp_path / "run" / "rows.jsonl").exists() else []
    told = done.stderr.decode() + " ".join(str(row["reason_text"]) for row in rows)
    assert "Too many open files" in told


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))

    done = call(tmp_path, bench_command(*SMALL, "--out", "run"), before=small_files)
    assert_whole(done, tmp_path / "run")

    def tiny_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 10, 1 << 10))

    done = call(tmp_path, bench_command(*SMALL, "--out", "other"), before=tiny_files)
    assert done.returncode == 2
    assert b"cannot write to other: File too large" in done.stderr


def test_a_folder_that_is_removed_while_it_is_measured_into(tmp_path: Path) -> None:
    remover = tmp_path / "remover.py"
    # A worker that takes the run's folder away and then works as the fake one
    remover.write_text(
        "import runpy, shutil, sys, os\n"
        f"shutil.rmtree({str(tmp_path / 'run')!r}, ignore_errors=True)\n"
        f"runpy.run_path({fake_environment({})['ABLATION_BENCH_WORKER']!r}, run_name='__main__')\n"
    )
    kept = tmp_path / "temporary"
    kept.mkdir()
    done = call(
        tmp_path,
        bench_command(*SMALL, "--out", "run"),
        {"ABLATION_BENCH_WORKER": str(remover), "TMPDIR": str(kept)},
    )
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    (file,) = kept.glob("ablation-rows-*.jsonl")
    assert str(file) in done.stderr.decode()
    assert {row["status"] for row in rows_of_file(file)} == {"ok"}


def rows_of_file(file: Path) -> list[dict[str, Any]]:
    """The rows of a file of any name."""
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def test_what_is_only_imported_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("answer = 42\n")
    program = (
        "import signal, sys\n"
        "before = [*sys.path]\n"
        "import ablation_executor.bench\n"
        "import mine\n"
        "assert sys.path == before\n"
        "assert signal.getsignal(signal.SIGINT) is signal.default_int_handler\n"
    )
    (tmp_path / "user.py").write_text(program)
    for words in (["-c", program], ["user.py"], ["-m", "user"]):
        command = [sys.executable, *words]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=lambda: __import__("signal").signal(2, __import__("signal").SIG_DFL),
        )
        assert done.returncode == 0, done.stderr
