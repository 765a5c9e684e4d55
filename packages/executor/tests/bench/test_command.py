"""The command line: refusals, a whole run, interruption and resume, of the block and of suites."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from ablation_executor.bench import run
from ablation_executor.bench.command import main
from ablation_executor.bench.interrupt import UsageError
from ablation_executor.bench.machine import describe_machine, kernels_info, versions
from ablation_executor.bench.options import (
    Request,
    find_named_suite,
    make_parser,
    make_request,
    max_threads,
    names_all,
)
from ablation_executor.bench.run_folder import RunFolder
from ablation_executor.bench.suites import SUITES
from ablation_executor.bench.suites.block.ladder import LARGE_VARIANTS, LEAGUE, VARIANTS
from ablation_kernels.limits import affinity_processors
from ablation_report.reading import read_lines, read_run
from ablation_report.rows import TIME_COLUMNS

from .conftest import (
    COMMAND_S,
    bench_command,
    fake_bench_command,
    fake_environment,
    run_bench,
)
from .system_files import replace_files

FEW = "torch-naive,passes-none,passes-fold"
OLD_MACHINE = ("cpu_model", "cores", "arch", "os", "memory_bytes", "caches")
SWEEP = ("--suite", "attention-sweep")
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
        (["--time", "0"], ["accepted: seconds from 1 to 86400"]),
        (["--seed", "-1"], ["accepted: a whole number from 0 to"]),
        (["--mem-limit", "8 apples"], ["is not a size", "8GiB"]),
        (["--mem-limit", "0"], ["out of range"]),
        (["--configs", "7B-4K", "--skip-large"], ["--skip-large leaves out all"]),
        (["--variants", "torch-sdpa", "--all-variants"], ["give one of them"]),
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
    done = run_bench("--configs", "Toyy", folder=tmp_path, command=bench_command)
    assert done.returncode == 2
    assert "did you mean 'Toy'?" in done.stderr
    assert "Traceback" not in done.stderr


def test_list(tmp_path: Path) -> None:
    done = run_bench("--list", folder=tmp_path, command=bench_command)
    assert done.returncode == 0
    for name in ("Toy", "7B-4K", *(variant.name for variant in (*VARIANTS, *LEAGUE))):
        assert name in done.stdout


@pytest.mark.parametrize("name", SUITES)
@pytest.mark.parametrize("option", ["--help", "--list"])
def test_help_and_list_fit_the_terminal(
    name: str, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.suppress(SystemExit):
        main(["--suite", name, option])
    told = capsys.readouterr().out
    assert max(map(len, told.splitlines())) <= 80
    assert all(f" {suite}" in told for suite in SUITES)


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"ablation-bench {version('ablation-executor')}\n"


def test_the_end_of_a_run_says_what_to_type_next(tmp_path: Path) -> None:
    """Another run of the same cases is the one to compare with; the site where it can be built. At
    80 columns no line is longer."""
    words = (
        *("--configs", "Toy", "--variants", "torch-naive,passes-none", "--samples", "3"),
        *("--threads", "1", "--no-color", "--quick", "--out"),
    )
    first = run_bench(*words, "data/runs/first", folder=tmp_path)
    assert first.stdout.splitlines()[-2:] == ["next:", "  ablation-report show data/runs/first"]
    (tmp_path / "noxfile.py").touch()
    second = subprocess.run(
        fake_bench_command(*words, "data/runs/second"),
        cwd=tmp_path,
        env={**fake_environment({}), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    tables = [line for line in second.stdout.splitlines() if not line.startswith("[")]
    assert max(map(len, tables)) <= 80
    assert second.stdout.splitlines()[-4:] == [
        "next:",
        "  ablation-report show data/runs/second",
        "  ablation-report compare data/runs/first data/runs/second",
        "  nox -s docs -- --mine data/runs/second",
    ]


def test_names_are_case_insensitive_and_a_run_is_whole(tmp_path: Path) -> None:
    done = run_bench(
        *("--configs", "toy,SMALL", "--samples", "3", "--threads", "1", "--no-color", "--quick"),
        folder=tmp_path,
        behaviors={"passes-fold": "memory"},
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "data" / "runs").iterdir()
    info, rows = read_run(run)
    assert len(rows) == 2 * (len(VARIANTS) + len(LEAGUE))
    # A baseline that is not installed has a row, too
    asked = {row["variant"] for row in rows if row["status"] == "unsupported"}
    assert asked <= {variant.name for variant in LEAGUE}
    # No product of these sizes gains by another arithmetic
    skipped = {row["variant"] for row in rows if row["status"] == "skipped"}
    assert skipped == {"other-strassen"}
    assert {r["status"] for r in rows if r["variant"] not in {"passes-fold", *asked, *skipped}} == {
        "ok"
    }
    labels = {row["sizes"]["config"]: row["case"] for row in rows}
    assert info["cases"] == [labels["Toy"], labels["Small"]]
    assert info["finished_utc"] is not None
    out = done.stdout
    for text in ("SUMMARY", "PT naive", "+ BLAS absorb", "oom: MemoryError", "A/A floor"):
        assert text in out
    assert str(run.relative_to(tmp_path)) in out
    assert "\x1b" not in out


def test_a_wrong_row_gives_status_1(tmp_path: Path) -> None:
    done = run_bench(*BASE, folder=tmp_path, behaviors={"passes-none": "head_index"})
    assert done.returncode == 1
    assert "incorrect" in done.stdout


def request_of(*words: str) -> Request:
    """The request that a command makes."""
    suite = find_named_suite(words)
    return make_request(suite, make_parser(suite).parse_args(words), names_all(words))


def test_large_sizes_have_fewer_variants_unless_all_are_named() -> None:
    ladder = [variant.name for variant in VARIANTS]
    assert request_of("--configs", "7B", "--baselines", "none").variants == list(LARGE_VARIANTS)
    every = request_of("--configs", "7B", "--baselines", "none", "--all-variants")
    assert every.variants == ladder
    assert request_of("--configs", "Toy,7B", "--baselines", "none").variants == ladder
    assert request_of("--variants", "passes-fold,torch-sdpa").variants[:2] == [
        "torch-sdpa",
        "passes-fold",
    ]


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is whole."""
    folder = tmp_path_factory.mktemp("finished")
    assert run_bench(*BASE, "--out", "run", folder=folder).returncode == 0
    return folder / "run"


@pytest.fixture
def finished(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of it, the test's own."""
    return shutil.copytree(finished_run, tmp_path / "run")


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path, finished: Path) -> None:
    again = run_bench(*BASE, "--out", "run", folder=tmp_path)
    assert again.returncode == 2
    assert "--resume run" in again.stderr


def wait_for_rows(path: Path, process: subprocess.Popen[str], count: int) -> None:
    """Wait until the run has written some rows and is at work on more."""
    deadline = time.monotonic() + COMMAND_S
    while time.monotonic() < deadline:
        if len(list(read_lines(path / "rows.jsonl", None))) >= count:
            time.sleep(0.3)
            assert process.poll() is None, "the run ended before it was interrupted"
            return
        time.sleep(0.02)
    raise AssertionError(f"no rows in {COMMAND_S} s")


def start_slow_bench(folder: Path) -> subprocess.Popen[str]:
    """A run of two configs of which the second takes long."""
    naps = {"passes-none": "nap_small"}
    return subprocess.Popen(
        fake_bench_command("--configs", "Toy,Small", *BASE[2:], "--out", "run"),
        cwd=folder,
        env=fake_environment(naps),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def assert_complete(folder: Path, sessions: int) -> None:
    """Every row once."""
    info, rows = read_run(folder / "run")
    found = sorted((row["sizes"]["config"], row["variant"]) for row in rows)
    assert found == sorted((c, v) for c in ("Toy", "Small") for v in FEW.split(","))
    assert info["sessions"] == sessions
    assert info["finished_utc"] is not None


def test_killed_in_the_middle_and_resumed(tmp_path: Path) -> None:
    process = start_slow_bench(tmp_path)
    wait_for_rows(tmp_path / "run", process, 3)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    cells = tmp_path / "run" / "rows.jsonl"
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


def test_a_resumed_run_multiplies_by_the_kernels_of_the_run(tmp_path: Path) -> None:
    core = kernels_info().get("blas_core")
    other = {"Haswell": "Sandybridge"}.get(str(core), "Haswell")
    if platform.machine() != "x86_64" or not core:
        pytest.skip("takes a processor with a choice of matrix products")
    command = fake_bench_command(*BASE, "--out", "run")
    environment = {**fake_environment({}), "OPENBLAS_CORETYPE": other}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    (tmp_path / "run" / "rows.jsonl").write_text("")
    del environment["OPENBLAS_CORETYPE"]
    # Two kinds as fast as each other would be a choice by chance
    command = fake_bench_command("--resume", "run")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "run" / "run.json").read_text())["sessions"] == 2


def test_ended_between_the_last_row_and_the_last_word(tmp_path: Path, finished: Path) -> None:
    file = finished / "run.json"
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
    out, errors = process.communicate(timeout=COMMAND_S)
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
    tmp_path: Path, finished: Path, key: str, value: dict[str, str], text: str
) -> None:
    file = finished / "run.json"
    info = json.loads(file.read_text())
    info[key].update(value)
    file.write_text(json.dumps(info))
    done = run_bench("--resume", "run", folder=tmp_path)
    assert done.returncode == 2
    assert text in done.stderr


def test_each_session_records_its_conditions(tmp_path: Path, finished: Path) -> None:
    file, cells = finished / "run.json", finished / "rows.jsonl"
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
    info = {"machine": dict(here), "build_info": kernels_info(), "versions": versions()}
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
        fake_bench_command(*BASE, "--threads", "2", "--out", "run"),
        cwd=tmp_path,
        env=environment,
        preexec_fn=lambda: os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]),
        capture_output=True,
        text=True,
        check=True,
    )
    told = "2 threads on 1 processors of this process: threads will wait"
    assert told in done.stdout
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told in info["machine"]["conditions"][0]["warnings"]


def test_default_threads_are_those_of_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(16), raising=False)
    files = {"/proc/self/cgroup": "0::/a/b\n", "/sys/fs/cgroup/a/cpu.max": "350000 100000\n"}
    replace_files(monkeypatch, files)
    assert request_of().threads == [3]
    monkeypatch.setattr(os, "cpu_count", lambda: 4096)
    assert max_threads() == 1024


# The suites.


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--suite", "attention-swep"], "unknown suite 'attention-swep'; did you mean"),
        ([*SWEEP, "--tiers", "papers"], "unknown tier 'papers'; did you mean 'paper'"),
        ([*SWEEP, "--tiers", "12:x"], "tier '12:x' is not of that form; accepted: Q:K"),
        ([*SWEEP, "--tiers", "0:5"], "tier '0:5' is out of range; accepted: Q:K"),
        ([*SWEEP, "--impls", "flash"], "unknown variant 'flash'; did you mean"),
        ([*SWEEP, "--device", "gpu"], "unknown device 'gpu'"),
        ([*SWEEP, "--device", "cpu,cuda"], "--device takes one name, got 'cpu,cuda'"),
        ([*SWEEP, "--quick", "--tiers", "paper"], "--quick has no case of paper"),
        ([*SWEEP, "--tiers", "odd", "--cases", "Q1"], "no case has all of 'Q1'\nwords of"),
        ([*SWEEP, "--cases", " ,"], "--cases is empty"),
        ([*SWEEP, "--resume", "nowhere", "--cases", "Q1"], "leave out --cases"),
        ([*SWEEP, "--resume", "nowhere"], "nowhere holds no run"),
        ([*SWEEP, "--resume", "nowhere", "--quick"], "leave out --quick"),
    ],
)
def test_requests_of_suites_that_are_refused(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert told in capsys.readouterr().err


def test_sizes_are_refused_by_a_suite_without_them(
    fake_registered: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--suite", "fake", "--tiers", "5:5"]) == 2
    assert "fake takes no sizes, got '5:5'" in capsys.readouterr().err


def test_a_run_that_names_no_tier_takes_those_that_a_device_can_end() -> None:
    cpu, cuda = request_of(*SWEEP).tiers, request_of(*SWEEP, "--device", "cuda").tiers
    assert "cpu" in cpu and "paper" not in cpu and "crossover" not in cpu
    assert "paper" in cuda
    assert set(request_of(*SWEEP, "--tiers", "All").tiers) >= {*cpu, *cuda, "crossover"}
    assert request_of(*SWEEP, "--tiers", "odd").tiers == ["odd"]


def test_cases_are_chosen_by_the_words_of_their_labels(capsys: pytest.CaptureFixture[str]) -> None:
    given = [*SWEEP, "--tiers", "rect,cpu", "--cases", "q512 causal t1, Q256", "--threads", "1,2"]
    assert main([*given, "--list"]) == 0
    listed = capsys.readouterr().out.split("\n")[:-1]
    heads, _, tails = zip(*(label.partition(" B1 H12 ") for label in listed), strict=True)
    assert (heads[0], tails[0]) == ("attention-sweep/cpu causal", "Q512 K512 d64 float32 t1 cpu")
    assert sorted(zip(heads[1:], tails[1:], strict=True)) == [
        (f"attention-sweep/cpu {mask}", f"Q256 K256 d64 float32 t{threads} cpu")
        for mask in ("causal", "full")
        for threads in (1, 2)
    ]
    request = request_of(*given)
    assert [case.label for case in request.cases] == listed
    assert request.tiers == ["cpu"]


def test_the_list_names_tiers_and_variants(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SWEEP, "--list"]) == 0
    told = capsys.readouterr().out
    for name in ("paper", "crossover", "torch_sdpa_flash", "ablation_flash", "triton_flash"):
        assert name in told
    assert "* cpu " in told
    assert "  paper " in told
    assert "published as scaled_dot_prod_attention" in told


def test_a_published_name_is_taken() -> None:
    given = [*SWEEP, "--variants", "vectorized_torch,triton_flash", "--tiers", "odd"]
    assert request_of(*given).variants == ["torch_unfused_lse", "triton_flash"]


def test_a_run_of_a_suite_is_written_told_and_gone_on_with(
    fake_registered: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(run, "measure_ceilings", lambda threads, before: {})
    out = tmp_path / "run"
    names = "right,refused,two_phases,first_head"
    given = ["--suite", "fake", "--quick", "--threads", "1", "--impls", names, "--out", str(out)]
    # A wrong variant fails the command, not the run
    assert main(given) == 1
    told = capsys.readouterr().out
    assert "refused: unsupported: not this shape" in told
    assert "incorrect: probe: " in told
    info, rows = read_run(out)
    assert sorted(row["variant"] for row in rows) == sorted(
        ["right", "first_head", "refused", "two_phases", "two_phases"]
    )
    assert info["finished_utc"] is not None
    (entry,) = info["machine"]["conditions"]
    assert entry["session"] == 1
    assert main(given) == 2
    lines = (out / "rows.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["variant"] != "right"]
    (out / "rows.jsonl").write_text("".join(kept))
    assert main(["--suite", "fake", "--resume", str(out)]) == 1
    again, _ = RunFolder.open(out)
    # Meanwhile nobody else may go on with it
    assert main(["--resume", str(out)]) == 2
    assert "is in use by process" in capsys.readouterr().err
    again.close()
    assert (out / "rows.jsonl").read_text().startswith("".join(kept))
    assert (again.rows[-1]["variant"], again.rows[-1]["session"]) == ("right", 2)
    assert [entry["session"] for entry in again.info["machine"]["conditions"]] == [1, 2]
    capsys.readouterr()
    assert main([*SWEEP, "--resume", str(out)]) == 2
    assert "holds a run of fake" in capsys.readouterr().err


def test_a_run_of_an_older_version_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run.json").write_text('{"schema_version": 1}')
    assert main(["--resume", str(tmp_path)]) == 2
    assert "was recorded by an older version" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_tiny_sweep_through_real_workers(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    out = tmp_path / "run"
    names = "torch_unfused_lse,torch_sdpa_flash,triton_flash,ablation_flash,ablation_unfused"
    given = [*SWEEP, "--quick", "--tiers", "37:53:16:2", "--impls", names, "--threads", "1"]
    assert main([*given, "--out", str(out)]) == 0
    info, rows = read_run(out)
    assert len(rows) == 2 * 5
    for row in rows:
        if row["variant"] == "triton_flash":
            assert row["status"] == "unsupported"
            assert row["reason"] in ("no_triton", "no_triton_driver")
            assert all(row[name] is None for name in TIME_COLUMNS)
        else:
            assert (row["status"], row["check"]) == ("ok", "pass")
            assert row["errors"]["o"] <= 1e-5
    told = {row["variant"] for row in rows if "lse" in (row["errors"] or {})}
    assert told == {"torch_unfused_lse"}
    assert info["ceilings"]["1"]["multiply_add_flops_per_s"] > 0
    assert info["ceilings"]["1"]["sgemm_1024_flops_per_s"] > 0
