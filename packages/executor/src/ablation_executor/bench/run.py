"""A whole run: a new folder or one to continue, case by case."""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ablation_kernels.machine import cpu_model
from ablation_report.rows import DAMAGED_NAME, HEADER_NAME, SCHEMA_VERSION, Header, Row, parse_label
from ablation_report.rows import PROVIDERS as PROVIDER_KEYS
from ablation_report.stats import row_time

from .case import Case, case_of
from .ceilings import measure_ceilings
from .children import scratch_folder
from .conditions import Watch
from .crew import Crew
from .interrupt import UsageError, signals_held
from .machine import cuda_name, describe_machine, git_sha, kernels_info, versions
from .measurement import NO_DEVICE, Settings
from .options import PROGRAM, Request, names_all, variants_of
from .progress import Progress
from .run_folder import DamagedLine, RunFolder
from .run_writing import new_run_id, utc_now
from .schedule import CaseRun, Surroundings
from .suite import Suite, Variant
from .suites import SUITES, find_suite
from .terminal import printable
from .time_left import TimeLeft, expected_s

# Facts of the machine that a resumed run must share with the run so far.
SAME_MACHINE = ("cpu_model", "cores", "arch", "os", "isa_flags", "processor_quota")
SAME_BUILD = ("compiler", "flags", "sanitizer", "isa_used", "blas_library")
# The ceilings are measured again after a case that took longer: the machine may have been busy.
CEILINGS_AGAIN_S = 30.0
# Rows of a case that its line lists one by one.
MOST_LISTED = 50


class Run:
    """A run in its folder, new or resumed."""

    def __init__(self, folder: RunFolder, suite: Suite) -> None:
        self.folder = folder
        self._suite = suite
        self._info: Header = folder.info
        self._elapsed_before = float(folder.info["elapsed_s"] or 0)
        self._start = time.monotonic()
        self.missing = missing_rows(folder, suite)

    def measure(self, progress: Progress) -> None:
        """Measure every missing row; run.json is brought up to date whatever happens."""
        info = self._info
        if not self.missing:
            if info["finished_utc"] is None:
                # Ended between its last row and its last word
                info["finished_utc"] = utc_now()
                self.folder.write_info()
            return
        threads = max(info["threads"], default=1)
        watch = Watch(info["machine"], info["sessions"], threads, progress.note)
        try:
            settings = make_settings(info)
            left = TimeLeft(self._expected(settings))
            progress.plan(left)
            if info["ceilings"] is None:
                self._measure_ceilings(info["threads"])
                left.expect(self._expected(settings))
            self.folder.write_info()
            with tempfile.TemporaryDirectory(prefix="run-", dir=scratch_folder()) as scratch:
                self._measure_cases(settings, progress, left, watch, Path(scratch))
            info["finished_utc"] = utc_now()
        finally:
            warnings = watch.end()
            info["elapsed_s"] = round(self._elapsed_before + time.monotonic() - self._start, 3)
            self.folder.write_info()
            for warning in warnings:
                progress.note(warning)

    def _expected(self, settings: Settings) -> list[float]:
        """Return about the seconds of each case that lacks rows."""
        return [
            expected_s(self._suite, case, variants, settings, self._info["ceilings"])
            for case, variants in self.missing
        ]

    def _measure_cases(
        self, settings: Settings, progress: Progress, left: TimeLeft, watch: Watch, scratch: Path
    ) -> None:
        crew: Crew | None = None
        threads = 0
        try:
            for case, variants in self.missing:
                watch.begin_case(case.name)
                if crew is None or case.threads != threads or not self._suite.keeps_workers:
                    if crew is not None:
                        crew.close()
                    threads = case.threads
                    crew = Crew(self._suite.name, threads, scratch)
                self._measure_case(case, variants, settings, crew, scratch, progress)
                left.end()
        finally:
            if crew is not None:
                crew.close()

    def _measure_case(
        self,
        case: Case,
        variants: Sequence[Variant],
        settings: Settings,
        crew: Crew,
        scratch: Path,
        progress: Progress,
    ) -> None:
        info, start = self._info, time.monotonic()
        done = self.folder.done()

        def write(rows: Sequence[Row]) -> None:
            keys = [(row["case"], row["variant"], row["phase"]) for row in rows]
            self.folder.append([r for r, key in zip(rows, keys, strict=True) if key not in done])

        around = Surroundings(
            progress,
            write,
            {"run_id": info["run_id"], "session": info["sessions"]},
            lambda: info["ceilings"],
            lambda threads: self._measure_ceilings([threads]),
        )
        CaseRun(self._suite, case, variants, settings, crew, scratch, around).run()
        rows = [row for row in self.folder.rows if row["case"] == case.label]
        progress.case_done(case.name, summary(rows))
        if time.monotonic() - start > CEILINGS_AGAIN_S and case.device == "cpu":
            self._measure_ceilings([case.threads])

    def _measure_ceilings(self, threads: Sequence[int]) -> None:
        """Measure, and write before rows that they judge."""
        self._info["ceilings"] = measure_ceilings(threads, self._info["ceilings"])
        with signals_held():
            self.folder.write_info()


def summary(rows: Sequence[Row]) -> str:
    """Return the rows of a case in a line: the time of each, or its status; of very many how many
    have which."""
    if len(rows) > MOST_LISTED:
        counts = Counter(row["status"] for row in rows)
        told = ", ".join(f"{count} {status}" for status, count in counts.most_common())
        return f"{len(rows)} rows: {told}"
    parts = []
    for row in rows:
        figure = f"{row['status']}/{row['reason']}"
        if row["status"] == "ok":
            figure = f"{row_time(row['samples_ns'], row['sample_rounds']) / 1e6:.3g} ms"
        phase = f" {row['phase']}" if row["phase"] != "fwd" else ""
        parts.append(f"{row['variant']}{phase} {figure}")
    return ", ".join(parts)


def make_header(request: Request) -> Header:
    """Return what run.json holds at the start."""
    build_info = kernels_info()
    suite = request.suite
    variants = {variant.name: variant for variant in suite.variants(request.device)}
    phases = [phase for name in request.variants for phase in variants[name].phases]
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": new_run_id(),
        "suite": suite.name,
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
        "cases": [case.label for case in request.cases],
        "variants": request.variants,
        "phases": list(dict.fromkeys(phases)),
        "baseline": suite.baseline,
        "twins": [list(pair) for pair in suite.twins],
        "threads": request.threads,
        "seed": request.seed,
        "quick": request.is_quick,
        "samples": request.samples,
        "budget_s": request.budget_s,
        "time_s": request.time_s,
        "limits": {
            "memory_limit_bytes": request.memory_limit_bytes,
            "forces_attempt": request.forces_attempt,
        },
        "git_sha": git_sha(),
        "sessions": 1,
        **suite.header(),
    }


def make_settings(info: Header) -> Settings:
    """Return the settings in run.json, with the device of this machine."""
    name = cuda_name() if info["device"] == "cuda" else cpu_model()
    return Settings(
        info["seed"],
        info["quick"],
        info["samples"],
        info["budget_s"],
        info["time_s"],
        info["limits"]["memory_limit_bytes"],
        info["limits"]["forces_attempt"],
        has_device=name is not None,
        device_name=name or NO_DEVICE,
    )


def new_run(request: Request, out: Path | None) -> Run:
    """Begin a run in a new folder; UsageError if the folder cannot be used."""
    info = make_header(request)
    path = out or Path("data") / "runs" / info["run_id"]
    return Run(RunFolder.create(path, info), request.suite)


def missing_rows(folder: RunFolder, suite: Suite) -> list[tuple[Case, list[Variant]]]:
    """Return the cases of a run with the variants that lack a row of some phase, cases with the
    same number of threads together."""
    done, info = folder.done(), folder.info
    variants = {variant.name: variant for variant in suite.variants(info["device"])}
    is_all = names_all(info["command"])
    missing = []
    for label in info["cases"]:
        case = case_of(label)
        lacking = [
            variants[name]
            for name in variants_of(suite, case, info["variants"], is_all)
            if any((label, name, phase) not in done for phase in variants[name].phases)
        ]
        if lacking:
            missing.append((case, lacking))
    order = list(dict.fromkeys(case.threads for case, _ in missing))
    return sorted(missing, key=lambda part: order.index(part[0].threads))


def resume_run(
    path: Path, suite: Suite | None, memory_limit_bytes: int | None, progress: Progress
) -> Run:
    """Go on with a run under its own settings.

    Damaged lines are named and set aside. Raises UsageError for a folder without a run, one that
    another bench is at work on, a damaged header, another schema version, another suite, another
    machine or other versions than those the run began with.
    """
    folder, damaged = RunFolder.open(path)
    try:
        info = folder.info
        for line in damaged:
            progress.note(moved_aside(folder, line))
        found = _suite_of(path, info, suite)
        refuse_other_machine(info)
        if memory_limit_bytes is not None:
            info["limits"]["memory_limit_bytes"] = memory_limit_bytes
        run = Run(folder, found)
        if run.missing:
            info["sessions"] += 1
            info["finished_utc"] = None
            folder.write_info()
    except BaseException:
        folder.close()
        raise
    return run


def _suite_of(path: Path, info: Header, named: Suite | None) -> Suite:
    """Return the suite of a run; UsageError for another one, and for a header that names what its
    suite does not have."""
    if named is not None and info["suite"] != named.name:
        raise UsageError(f"{path} holds a run of {info['suite']}, not of {named.name}")
    if info["suite"] not in SUITES:
        raise UsageError(
            f"{path} holds a run of {info['suite']!r}; valid suites: {', '.join(SUITES)}"
        )
    suite = find_suite(info["suite"])
    suite.resume(info)
    known = {variant.name for variant in suite.variants(info["device"])}
    damaged = f"{path / HEADER_NAME} is damaged: column"
    for name in info["variants"]:
        if name not in known:
            raise UsageError(f"{damaged} variants: unknown {name!r}")
    for label in info["cases"]:
        told = parse_label(label)
        if (told["suite"], told["device"]) != (info["suite"], info["device"]):
            raise UsageError(f"{damaged} cases: {label!r} is no case of {suite.name} on its device")
    for name in ("budget_s", "time_s"):
        if not info[name]:
            raise UsageError(f"{damaged} {name}: {info[name]}, expected a number above 0")
    for name in ("samples", "sessions"):
        if info[name] is not None and info[name] < 1:
            raise UsageError(f"{damaged} {name}: {info[name]}, expected 1 or more")
    return suite


def moved_aside(folder: RunFolder, line: DamagedLine) -> str:
    """Say that a line is no row of the run, and where it is now."""
    return printable(
        f"{folder.rows_path} line {line.number}: {line.reason}; moved to {DAMAGED_NAME}, "
        "its row is measured again unless another line has it"
    )


def refuse_other_machine(info: dict[str, Any]) -> None:
    """UsageError unless this machine and these packages are those of the run."""
    here: dict[str, Any] = describe_machine()
    there = info["machine"]
    # A run from before there was a fact does not have it
    pairs = [(f"machine {key}", there.get(key, here[key]), here[key]) for key in SAME_MACHINE]
    build = kernels_info()
    pairs += [
        (f"kernels' {key}", info["build_info"].get(key), build.get(key)) for key in SAME_BUILD
    ]
    packages = versions()
    pairs += [(f"version of {key}", info["versions"].get(key), packages[key]) for key in packages]
    for what, recorded, found in pairs:
        if recorded != found:
            raise UsageError(
                f"cannot resume: {what} was {recorded!r} and is {found!r}; "
                "their times cannot be compared"
            )
