"""A whole run: a new folder or one to go on with, config by config."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

from ..variants import BY_NAME
from .cells import RunIdentity, Settings
from .children import told_by
from .conditions import Watch, busy_warning
from .configs import UsageError, find_config
from .machine import describe_machine, git_sha, versions
from .options import Request, make_settings, variants_of
from .progress import Progress
from .record import SCHEMA_VERSION, RunFolder, new_run_id, utc_now
from .run_folder import Folder
from .run_reading import DamagedLine
from .schedule import ConfigRun
from .terminal import printable

# Facts of the machine that a resumed run must share with the run so far.
SAME_MACHINE = ("cpu_model", "cores", "arch", "os", "isa_flags", "processor_quota")
SAME_BUILD = ("compiler", "flags", "sanitizer", "isa_used", "blas_library")
CEILING_RATES = ("multiply_add_flops_per_s", "memory_bytes_per_s")
PROVIDER_KEYS = ("simd", "parallel", "blas", "blas_core", "clock")


def kernels_info() -> dict[str, Any]:
    """build_info() of the kernels; empty when the wheel is not installed."""
    try:
        import ablation_kernels
    except ImportError:
        return {}
    return dict(ablation_kernels.build_info())


_CEILINGS_PROGRAM = """
import dataclasses, json, sys, ablation_kernels
ablation_kernels.set_num_threads(int(sys.argv[1]))
print(json.dumps(dataclasses.asdict(ablation_kernels.measure_ceilings())))
"""


def measure_ceilings(threads: int, before: dict[str, Any] | None) -> dict[str, Any] | None:
    """ablation_kernels.measure_ceilings() in a process of its own, or `before` where that fails.

    The highest rates of both stand: on a shared machine a measurement can meet two cores that
    share one, and a ceiling below what runs under it is none.
    """
    found: dict[str, Any] | None = told_by(_CEILINGS_PROGRAM, str(threads))
    if found is None:
        return before
    if before is not None:
        found.update({rate: max(found[rate], before[rate]) for rate in CEILING_RATES})
        found["fork_join_ns"] = min(found["fork_join_ns"], before.get("fork_join_ns", math.inf))
    return found


class Run:
    """A run in its folder, new or resumed."""

    def __init__(self, folder: RunFolder, settings: Settings, missing: list[tuple[str, list[str]]]):
        self.folder = folder
        self.missing = missing
        self._settings = settings
        self._elapsed_before = float(folder.info["elapsed_s"] or 0)
        self._start = time.monotonic()

    def measure(self, progress: Progress) -> None:
        """Measure every missing cell; run.json is brought up to date whatever happens."""
        info = self.folder.info
        if not self.missing:
            if info["finished_utc"] is None:
                # Ended between its last row and its last word
                info["finished_utc"] = utc_now()
                self.folder.write_info()
            return
        threads = self._settings.threads
        watch = Watch(info["machine"], info["sessions"], threads, progress.note)
        self._measure_ceilings()
        identity = RunIdentity(
            info["run_id"], info["sessions"], self._settings.threads, self._settings.seed
        )
        try:
            for name, names in self.missing:
                variants = [BY_NAME[variant] for variant in names]
                config = find_config(name)
                if (busy := busy_warning()) is not None:
                    progress.note(f"{name}: {busy}")
                write = self.folder.append
                ConfigRun(config, variants, self._settings, identity, write, progress).run()
                self._measure_ceilings()
            info["finished_utc"] = utc_now()
        finally:
            warnings = watch.end()
            info["elapsed_s"] = round(self._elapsed_before + time.monotonic() - self._start, 3)
            self.folder.write_info()
            for warning in warnings:
                progress.note(warning)

    def _measure_ceilings(self) -> None:
        """Before the first config and after each."""
        info = self.folder.info
        info["ceilings"] = measure_ceilings(self._settings.threads, info["ceilings"])
        self.folder.write_info()


def new_run(request: Request, out: Path | None) -> Run:
    """A new run in a new folder; UsageError if the folder cannot be used."""
    run_id = new_run_id()
    settings = request.settings
    build_info = kernels_info()
    info: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "created_utc": utc_now(),
        "finished_utc": None,
        "elapsed_s": None,
        "command": ["ablation-bench", *sys.argv[1:]],
        "versions": versions(),
        "machine": describe_machine(),
        "providers": {key: build_info.get(key) for key in PROVIDER_KEYS},
        "build_info": build_info,
        "ceilings": None,
        "threads": settings.threads,
        "seed": settings.seed,
        "samples": settings.samples,
        "budget_s": settings.budget_s,
        "configs": request.configs,
        "variants": request.variants,
        "baselines": request.baselines,
        "git_sha": git_sha(),
        "sessions": 1,
    }
    folder = RunFolder.create(out or Path("data") / "runs" / run_id, info)
    return Run(folder, settings, missing_cells(folder))


def missing_cells(folder: RunFolder) -> list[tuple[str, list[str]]]:
    """The cells of a run without a row: config and its variants, configs without any left out."""
    done, info = folder.done(), folder.info
    missing = []
    for name in info["configs"]:
        names = [
            variant
            for variant in (*variants_of(find_config(name), info["variants"]), *info["baselines"])
            if (name, variant) not in done
        ]
        if names:
            missing.append((name, names))
    return missing


def resume_run(path: Path, memory_limit_bytes: int | None, progress: Progress) -> Run:
    """Go on with a run under its own settings.

    Damaged lines are told and set aside. Raises UsageError for a folder without a run, one that
    another bench is at work on, a damaged header, another schema version, another machine or other
    versions than those the run began with.
    """
    folder, damaged = RunFolder.open(path)
    try:
        info = folder.info
        for line in damaged:
            progress.note(moved_aside(folder, line))
        refuse_other_machine(info)
        settings = make_settings(
            info["threads"],
            info["seed"],
            info["samples"],
            info["budget_s"],
            "--quick" in info["command"],
            memory_limit_bytes,
        )
        missing = missing_cells(folder)
        if missing:
            info["sessions"] += 1
            info["finished_utc"] = None
            folder.write_info()
    except BaseException:
        folder.close()
        raise
    return Run(folder, settings, missing)


def moved_aside(folder: Folder, line: DamagedLine) -> str:
    """What is told of a line that is no row of the run."""
    name = folder.schema.damaged_name
    return printable(
        f"{folder.rows_path} line {line.number}: {line.reason}; moved to {name}, "
        "what it is of will be measured again unless another line has it"
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
                "times of both would not compare"
            )
