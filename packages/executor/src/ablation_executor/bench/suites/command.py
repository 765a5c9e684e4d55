"""`ablation-bench --suite`: one suite, case by case."""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..children import scratch_folder
from ..conditions import Watch, busy_warning
from ..configs import UsageError
from ..interrupt import EXIT_USAGE, Interrupted, signals_held
from ..machine import cpu_model, describe_machine, git_sha, versions
from ..progress import duration
from ..record import names_fault, new_run_id, utc_now
from ..run import PROVIDER_KEYS, kernels_info, moved_aside, refuse_other_machine
from ..run_reading import HEADER_NAME, Row
from ..session import Session, carry_out, tell_error
from ..stats import median
from ..terminal import printable, printable_lines
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
from .trial import NO_DEVICE, Settings


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
        device_name=name or NO_DEVICE,
        peaks=Peaks(info["ceilings"]),
    )


def resume(path: Path, suite: Suite) -> SuiteFolder:
    """A run to go on with; UsageError for another suite, machine or set of packages, for a run
    that another bench is at work on, and for a damaged one."""
    folder, damaged = SuiteFolder.open(path)
    try:
        for line in damaged:
            print(moved_aside(folder, line))
        if folder.info["suite"] != suite.name:
            raise UsageError(f"{path} holds a run of {folder.info['suite']}, not of {suite.name}")
        refuse_other_machine(folder.info)
        names = [way.name for way in suite.implementations(folder.info["device"])]
        fault = names_fault("impls", folder.info["impls"], names)
        if fault is not None:
            raise UsageError(f"{path / HEADER_NAME} is damaged: {fault}")
    except BaseException:
        folder.close()
        raise
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
    left = missing(folder, ways)
    if not left:
        if info["finished_utc"] is None:
            # Ended between its last row and its last word
            info["finished_utc"] = utc_now()
            folder.write_info()
        return
    watch = Watch(info["machine"], info["sessions"], max(info["threads"], default=1), print)
    try:
        if info["ceilings"] is None:
            info["ceilings"] = measure_peaks(info["threads"])
        folder.write_info()
        settings = make_settings(info)
        with tempfile.TemporaryDirectory(prefix="suite-", dir=scratch_folder()) as temporary:
            scratch = Path(temporary)
            for threads in dict.fromkeys(case.threads for case, _ in left):
                warn_if_busy()
                team = Team(suite.name, threads, scratch, measures_memory=False)
                try:
                    for case, lacking in left:
                        if case.threads == threads:
                            run = CaseRun(suite, case, lacking, team, settings, scratch)
                            rows = measure_case(folder, run)
                            elapsed = duration(time.monotonic() - start)
                            print(printable(f"[{elapsed}] {summary(rows)}"), flush=True)
                finally:
                    team.close()
        info["finished_utc"] = utc_now()
    finally:
        warnings = watch.end()
        info["elapsed_s"] = round(before_s + time.monotonic() - start, 3)
        folder.write_info()
        for warning in warnings:
            print(warning)


def measure_case(folder: SuiteFolder, run: CaseRun) -> list[Row]:
    """Measure a case and write its rows, or those that can stand if that is cut short; give those
    that the run did not have yet."""
    before = folder.done()
    told = {"run_id": folder.info["run_id"], "session": folder.info["sessions"]}
    ceilings = copy.deepcopy(folder.info["ceilings"])
    rows: list[Row] | None = None
    try:
        rows = run.run(told)
        write(folder, rows, ceilings)
    except BaseException as error:
        # Not again what could not be written
        if rows is None or isinstance(error, Interrupted):
            write(folder, run.kept_rows(told), ceilings)
        raise
    return [row for row in rows if key_of(row) not in before]


def write(folder: SuiteFolder, rows: Sequence[Row], ceilings: dict[str, Any]) -> None:
    """Write the rows that the run does not have yet; first run.json, if the ceilings that they are
    judged by have changed."""
    with signals_held():
        if folder.info["ceilings"] != ceilings:
            folder.write_info()
        done = folder.done()
        folder.append([row for row in rows if key_of(row) not in done])


def key_of(row: Row) -> tuple[str, str, str]:
    """(case, impl, phase) of a row."""
    return (row["case"], row["impl"], row["phase"])


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
        ways = chosen_implementations(suite, names, folder.info["device"])
        if missing(folder, ways):
            folder.info["sessions"] += 1
            folder.info["finished_utc"] = None
        return folder, suite, ways
    request = make_request(options)
    info = make_info(request)
    path = options.out or Path("data") / "runs" / info["run_id"]
    return SuiteFolder.create(path, info), request.suite, request.ways


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return its exit status; see `session.carry_out`."""
    options = make_parser().parse_args(arguments)
    if options.list:
        try:
            print(listing(options))
        except UsageError as error:
            tell_error(str(error))
            return EXIT_USAGE
        return 0

    def start() -> Session:
        folder, suite, ways = begin(options)
        print(f"{suite.name}: {len(folder.info['cases'])} cases of {len(ways)} implementations")
        return Session(
            folder,
            lambda: measure(folder, suite, ways),
            lambda: print(printable_lines(tables(folder.rows, suite.baseline))),
            f"--suite {suite.name} --resume",
        )

    return carry_out(start, lambda: None)
