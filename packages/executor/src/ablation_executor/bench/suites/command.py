"""`ablation-bench --suite`: one suite, case by case."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from ..conditions import Watch, busy_warning
from ..configs import UsageError
from ..interrupt import EXIT_FAILED, EXIT_USAGE, Interrupted, interrupt, shown
from ..machine import cpu_model, describe_machine, git_sha, versions
from ..progress import duration
from ..record import Row, new_run_id, utc_now
from ..run import PROVIDER_KEYS, kernels_info, refuse_other_machine
from ..stats import median
from .case import Case, parse_label
from .options import (
    PROGRAM,
    Request,
    chosen_implementations,
    chosen_suite,
    listing,
    make_parser,
    make_request,
    refuse_with_resume,
)
from .peaks import Peaks, cuda_name, measure_peaks
from .rows import SCHEMA_VERSION, SuiteFolder
from .schedule import CaseRun
from .suite import Implementation, Suite
from .table import tables
from .team import Team
from .trial import Settings


def make_info(request: Request) -> dict[str, Any]:
    """What run.json holds at the start."""
    build_info = kernels_info()
    return {
        "schema_version": SCHEMA_VERSION,
        "suite": request.suite.name,
        "run_id": new_run_id(),
        "created_utc": utc_now(),
        "finished_utc": None,
        "elapsed_s": None,
        "command": [PROGRAM, *sys.argv[1:]],
        "versions": versions(),
        "machine": describe_machine(),
        "providers": {key: build_info.get(key) for key in PROVIDER_KEYS},
        "build_info": build_info,
        "ceilings": None,
        "device": request.device,
        "tiers": request.tiers,
        "impls": [way.name for way in request.ways],
        "threads": request.threads,
        "seed": request.seed,
        "quick": request.is_quick,
        "budget_s": request.budget_s,
        "limits": {
            "memory_limit_bytes": request.memory_limit_bytes,
            "forces_attempt": request.forces_attempt,
        },
        "git_sha": git_sha(),
        "sessions": 1,
        "cases": [case.label for case in request.cases],
    }


def make_settings(info: dict[str, Any]) -> Settings:
    """The settings that run.json tells, with the device and the peaks of this machine."""
    name = cuda_name() if info["device"] == "cuda" else cpu_model()
    return Settings(
        info["seed"],
        info["quick"],
        info["budget_s"],
        **info["limits"],
        has_device=name is not None,
        device_name=name,
        peaks=Peaks(info["ceilings"]),
    )


def resume(path: Path, suite: Suite) -> SuiteFolder:
    """A run to go on with; UsageError for another suite, machine or set of packages."""
    folder, damaged = SuiteFolder.open(path)
    for told in damaged:
        print(f"{told}; moved aside, its cell will be measured again")
    if folder.info["suite"] != suite.name:
        raise UsageError(f"{path} holds a run of {folder.info['suite']}, not of {suite.name}")
    refuse_other_machine(folder.info)
    folder.info["sessions"] += 1
    folder.info["finished_utc"] = None
    return folder


def missing(
    folder: SuiteFolder, ways: Sequence[Implementation]
) -> list[tuple[Case, list[Implementation]]]:
    """The cases of a run with the implementations that lack a row of some phase."""
    done = folder.done()
    left = []
    for label in folder.info["cases"]:
        lacking = [
            way for way in ways if any((label, way.name, phase) not in done for phase in way.phases)
        ]
        if lacking:
            left.append((parse_label(label), lacking))
    return left


def summary(rows: Sequence[Row]) -> str:
    """A case in one line: the median of each row, or its status."""
    parts = []
    for row in rows:
        figure = f"{row['status']}/{row['reason']}"
        if row["status"] == "ok":
            figure = f"{median(row['samples_ns']) / 1e6:.3g} ms"
        phase = f" {row['phase']}" if row["phase"] != "fwd" else ""
        parts.append(f"{row['impl']}{phase} {figure}")
    return f"{rows[0]['case']}: {', '.join(parts)}"


def measure(folder: SuiteFolder, suite: Suite, ways: Sequence[Implementation]) -> None:
    """Measure what is missing and write its rows; run.json is brought up to date whatever
    happens."""
    start, info = time.monotonic(), folder.info
    before_s = float(info["elapsed_s"] or 0)
    done = folder.done()
    left = missing(folder, ways)
    watch = Watch(info["machine"], info["sessions"], max(info["threads"], default=1), print)
    try:
        if info["ceilings"] is None:
            info["ceilings"] = measure_peaks(info["threads"])
        folder.write_info()
        settings = make_settings(info)
        with tempfile.TemporaryDirectory(prefix="ablation-suite-") as temporary:
            scratch = Path(temporary)
            for threads in dict.fromkeys(case.threads for case, _ in left):
                warn_if_busy()
                team = Team(suite.name, threads, scratch, measures_memory=False)
                try:
                    for case, lacking in left:
                        if case.threads == threads:
                            run = CaseRun(suite, case, lacking, team, settings, scratch)
                            told = {"run_id": info["run_id"], "session": info["sessions"]}
                            try:
                                rows = run.run(told)
                            except Interrupted:
                                folder.append(new_rows(run.kept_rows(told), done))
                                raise
                            rows = new_rows(rows, done)
                            folder.append(rows)
                            elapsed = duration(time.monotonic() - start)
                            print(f"[{elapsed}] {summary(rows)}", flush=True)
                finally:
                    team.close()
        info["finished_utc"] = utc_now()
    finally:
        warnings = watch.end()
        info["elapsed_s"] = round(before_s + time.monotonic() - start, 3)
        folder.write_info()
        for warning in warnings:
            print(warning)


def key_of(row: Row) -> tuple[str, str, str]:
    """(case, impl, phase) of a row."""
    return (row["case"], row["impl"], row["phase"])


def new_rows(rows: Sequence[Row], done: Container[tuple[str, str, str]]) -> list[Row]:
    """Those that the run does not have yet."""
    return [row for row in rows if key_of(row) not in done]


def warn_if_busy() -> None:
    """Say when other programs are at work."""
    if (busy := busy_warning()) is not None:
        print(busy)


def begin(options: argparse.Namespace) -> tuple[SuiteFolder, Suite, list[Implementation]]:
    """The folder of a new run or of one to go on with, its suite and implementations."""
    if options.resume is not None:
        refuse_with_resume(options)
        suite = chosen_suite(options.suite)
        folder = resume(options.resume, suite)
        names = ",".join(folder.info["impls"])
        return folder, suite, chosen_implementations(suite, names, folder.info["device"])
    request = make_request(options)
    info = make_info(request)
    path = options.out or Path("data") / "runs" / info["run_id"]
    return SuiteFolder.create(path, info), request.suite, request.ways


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status, with the meanings of `ablation-bench`."""
    options = make_parser().parse_args(arguments)
    folder: SuiteFolder | None = None
    try:
        if options.list:
            print(listing(options))
            return 0
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, interrupt)
        folder, suite, ways = begin(options)
        print(f"{suite.name}: {len(folder.info['cases'])} cases of {len(ways)} implementations")
        measure(folder, suite, ways)
    except (UsageError, OSError) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED
    except Interrupted as interrupted:
        if folder is not None:
            path = shlex.quote(shown(folder.path))
            suite_name = folder.info["suite"]
            print(f"interrupted; go on with: {PROGRAM} --suite {suite_name} --resume {path}")
        return 128 + interrupted.number
    print(tables(folder.rows, suite.baseline))
    print(f"rows: {shown(folder.rows_path)}")
    wrong = any(row["status"] in ("incorrect", "error") for row in folder.rows)
    return EXIT_FAILED if wrong else 0
