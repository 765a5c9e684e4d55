"""The command line with fake workers: refusals, a whole run, interruption and resume."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from ablation_executor.bench import run
from ablation_executor.bench.__main__ import main
from ablation_executor.bench.configs import UsageError
from ablation_executor.bench.machine import describe_machine, versions
from ablation_executor.bench.options import make_parser, make_request, max_threads
from ablation_executor.bench.record import SCHEMA
from ablation_executor.bench.run_reading import read_rows
from ablation_executor.bench.suites.options import chosen_threads
from ablation_executor.bench.table import WIDTH
from ablation_executor.variants import LEAGUE, VARIANTS
from ablation_kernels.limits import affinity_processors

from .conftest import bench_command, fake_environment, run_bench
from .system_files import replace_files

FEW = "torch-naive,passes-none,passes-fold"
OLD_MACHINE = ("cpu_model", "cores", "arch", "os", "memory_bytes", "caches")
BASE = (
    *("--configs", "Toy", "--variants", FEW, "--baselines", "none"),
    *("--samples", "3", "--threads", "1"),
)


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (["--configs", "Toyy"], ["unknown config 'Toyy'", "did you mean 'Toy'?", "1B-8K"]),
        (["--configs", ","], ["no config named", "GPT-2"]),
        (["--variants", "flash"], ["unknown variant 'flash'", "flash-layernorm", "torch-sdpa"]),
        (["--baselines", "openvin"], ["unknown baseline 'openvin'", "did you mean 'openvino'?"]),
        (["--threads", "0"], ["--threads", "accepted: a whole number from 1 to"]),
        (["--threads", "100000"], ["out of range", "from 1 to"]),
        (["--threads", "two"], ["is not a number"]),
        (["--samples", "0"], ["accepted: a whole number from 3 to 10000"]),
        (["--samples", "-5"], ["accepted: a whole number from 3 to 10000"]),
        (["--budget", "0"], ["accepted: seconds from 1 to 86400"]),
        (["--budget", "1e9"], ["accepted: seconds from 1 to 86400"]),
        (["--budget", "nan"], ["accepted: seconds from 1 to 86400"]),
        (["--seed", "-1"], ["accepted: a whole number from 0 to"]),
        (["--mem-limit", "8 apples"], ["is not a size", "8GiB"]),
        (["--mem-limit", "0"], ["out of range"]),
        (["--configs", "7B-4K", "--skip-large"], ["--skip-large leaves none"]),
        (["--variants", "torch-sdpa", "--all-variants"], ["exclude each other"]),
        (["--resume", "nowhere"], ["holds no run"]),
        (["--resume", "nowhere", "--threads", "1"], ["leave out --threads"]),
        (["--resume", "nowhere", "--baselines", "none"], ["leave out --baselines"]),
        (["--out", "file/run"], ["cannot write to"]),
    ],
)
def test_refused_with_status_2(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    texts: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / "file").write_text("")
    try:
        status: int | str | None = main(arguments)
    except SystemExit as ended:
        status = ended.code
    errors = capsys.readouterr().err
    assert status == 2, errors
    for text in texts:
        assert text in errors
    assert not (tmp_path / "data").exists()


def test_refusal_from_the_shell(tmp_path: Path) -> None:
    done = run_bench("--configs", "Toyy", folder=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'Toy'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_list(tmp_path: Path) -> None:
    done = run_bench("--list", folder=tmp_path)
    assert done.returncode == 0
    for name in ("Toy", "7B-4K", *(variant.name for variant in (*VARIANTS, *LEAGUE))):
        assert name in done.stdout


def test_names_are_case_insensitive_and_a_run_is_whole(tmp_path: Path) -> None:
    done = run_bench(
        *("--configs", "toy,SMALL", "--samples", "3", "--threads", "1", "--no-color", "--quick"),
        folder=tmp_path,
        behaviors={"passes-fold": "memory"},
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "data" / "runs").iterdir()
    rows, damaged = read_rows(run / "cells.jsonl", SCHEMA)
    assert not damaged
    assert len(rows) == 2 * (len(VARIANTS) + len(LEAGUE))
    # A baseline that is not installed has a row, too
    asked = {row["variant"] for row in rows if row["status"] == "unsupported"}
    assert asked <= {variant.name for variant in LEAGUE}
    assert {r["status"] for r in rows if r["variant"] not in {"passes-fold", *asked}} == {"ok"}
    info = json.loads((run / "run.json").read_text())
    assert info["configs"] == ["Toy", "Small"]
    assert info["finished_utc"] is not None
    out = done.stdout
    for text in ("SUMMARY", "PT naive", "+ BLAS absorb", "oom: MemoryError", "A/A floor"):
        assert text in out
    table = out[out.index("Toy  d_model") :].splitlines()
    assert max(len(line) for line in table) <= WIDTH
    assert str(run.relative_to(tmp_path)) in out
    assert "\x1b" not in out


def test_a_wrong_cell_gives_status_1(tmp_path: Path) -> None:
    done = run_bench(*BASE, folder=tmp_path, behaviors={"passes-none": "head_index"})
    assert done.returncode == 1
    assert "incorrect" in done.stdout


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    assert run_bench(*BASE, "--out", "run", folder=tmp_path).returncode == 0
    again = run_bench(*BASE, "--out", "run", folder=tmp_path)
    assert again.returncode == 2
    assert "--resume run" in again.stderr


def wait_for_rows(path: Path, process: subprocess.Popen[str], count: int) -> None:
    """Wait until the run has written some rows and is at work on more."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if len(read_rows(path / "cells.jsonl", SCHEMA)[0]) >= count:
            time.sleep(0.3)
            assert process.poll() is None, "the run ended before it was interrupted"
            return
        time.sleep(0.02)
    raise AssertionError("no rows in a minute")


def start_slow_bench(folder: Path) -> subprocess.Popen[str]:
    """A run of two configs of which the second takes long."""
    naps = {"passes-none": "nap_small"}
    return subprocess.Popen(
        bench_command("--configs", "Toy,Small", *BASE[2:], "--out", "run"),
        cwd=folder,
        env=fake_environment(naps),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_complete(folder: Path, sessions: int) -> None:
    """Every cell once."""
    rows, damaged = read_rows(folder / "run" / "cells.jsonl", SCHEMA)
    assert not damaged
    cells = sorted((row["config"], row["variant"]) for row in rows)
    assert cells == sorted((c, v) for c in ("Toy", "Small") for v in FEW.split(","))
    info = json.loads((folder / "run" / "run.json").read_text())
    assert info["sessions"] == sessions
    assert info["finished_utc"] is not None


def test_killed_in_the_middle_and_resumed(tmp_path: Path) -> None:
    process = start_slow_bench(tmp_path)
    wait_for_rows(tmp_path / "run", process, 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    cells = tmp_path / "run" / "cells.jsonl"
    before = cells.read_bytes()
    # What a kill in the middle of a write leaves.
    cells.write_bytes(before + before[:100])
    done = run_bench("--resume", "run", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "line 4" in done.stdout
    assert cells.read_bytes().startswith(before)
    assert_complete(tmp_path, 2)
    info = (tmp_path / "run" / "run.json").read_bytes()
    again = run_bench("--resume", "run", folder=tmp_path)
    assert again.returncode == 0
    assert "SUMMARY" in again.stdout
    assert_complete(tmp_path, 2)
    assert (tmp_path / "run" / "run.json").read_bytes() == info


def test_ended_between_the_last_row_and_the_last_word(tmp_path: Path) -> None:
    assert run_bench(*BASE, "--out", "run", folder=tmp_path).returncode == 0
    file = tmp_path / "run" / "run.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps({**whole, "finished_utc": None}))
    assert run_bench("--resume", "run", folder=tmp_path).returncode == 0
    again = json.loads(file.read_text())
    assert again["finished_utc"] is not None
    assert again["sessions"] == 1


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_interrupted_and_resumed(tmp_path: Path, number: int, status: int) -> None:
    process = start_slow_bench(tmp_path)
    wait_for_rows(tmp_path / "run", process, 3)
    os.kill(process.pid, number)
    out, errors = process.communicate(timeout=20)
    assert process.returncode == status, errors
    assert "ablation-bench --resume run" in out
    assert "SUMMARY" in out
    assert run_bench("--resume", "run", folder=tmp_path).returncode == 0
    assert_complete(tmp_path, 2)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("machine", {"cpu_model": "another"}, "machine cpu_model was 'another'"),
        ("machine", {"processor_quota": 1.5}, "machine processor_quota was 1.5"),
        ("versions", {"numpy": "0.1"}, "version of numpy was '0.1'"),
    ],
)
def test_another_machine_cannot_resume(
    tmp_path: Path, key: str, value: dict[str, str], text: str
) -> None:
    assert run_bench(*BASE, "--out", "run", folder=tmp_path).returncode == 0
    file = tmp_path / "run" / "run.json"
    info = json.loads(file.read_text())
    info[key].update(value)
    file.write_text(json.dumps(info))
    done = run_bench("--resume", "run", folder=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr


def test_each_session_records_its_conditions(tmp_path: Path) -> None:
    assert run_bench(*BASE, "--out", "run", folder=tmp_path).returncode == 0
    file, cells = tmp_path / "run" / "run.json", tmp_path / "run" / "cells.jsonl"
    info = json.loads(file.read_text())
    (entry,) = info["machine"]["conditions"]
    assert entry["session"] == 1
    assert entry["memory_free_bytes"] > 0
    assert {"steal_share", "throttled_groups", "governor", "warnings"} <= entry.keys()
    # A run from before there were conditions
    info["machine"] = {key: info["machine"][key] for key in OLD_MACHINE}
    info["machine"]["isa_flags"] = describe_machine()["isa_flags"]
    file.write_text(json.dumps(info))
    cells.write_bytes(b"".join(cells.read_bytes().splitlines(keepends=True)[:2]))
    assert run_bench("--resume", "run", folder=tmp_path).returncode == 0
    (entry,) = json.loads(file.read_text())["machine"]["conditions"]
    assert entry["session"] == 2


def test_a_run_from_before_there_were_quotas_goes_on_under_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = describe_machine() | {"processor_quota": 1.5}
    monkeypatch.setattr(run, "describe_machine", lambda: here)
    info = {"machine": dict(here), "build_info": run.kernels_info(), "versions": versions()}
    run.refuse_other_machine(info)
    del info["machine"]["processor_quota"]
    run.refuse_other_machine(info)
    info["machine"]["processor_quota"] = None
    with pytest.raises(UsageError, match="processor_quota was None and is"):
        run.refuse_other_machine(info)


def test_what_makes_times_untrustworthy_is_told(tmp_path: Path) -> None:
    others = affinity_processors()
    if others < 2 or not hasattr(os, "sched_setaffinity"):
        pytest.skip("takes a processor that can be left out")
    environment = fake_environment({})
    done = subprocess.run(
        bench_command(*BASE, "--threads", "2", "--out", "run"),
        cwd=tmp_path,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]),
        capture_output=True,
        text=True,
        check=True,
    )
    told = "2 threads on 1 processors that this process may use: they will wait"
    assert told in done.stdout
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told in info["machine"]["conditions"][0]["warnings"]


def test_default_threads_are_those_of_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
    files = {"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "350000 100000\n"}
    replace_files(monkeypatch, files)
    assert make_request(make_parser().parse_args([])).settings.threads == 3
    assert chosen_threads(None) == [3]
    monkeypatch.setattr(os, "cpu_count", lambda: 4096)
    assert max_threads() == 1024
