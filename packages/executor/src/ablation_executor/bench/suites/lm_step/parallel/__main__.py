"""The command: a step of all processes and one of a single process, in turns."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import torch.distributed as dist

from ablation_kernels.machine import cpu_model
from ablation_report.rows import DEVICES, Row, row_faults
from ablation_report.stats import row_time

from ....case import Case
from ....interrupt import EXIT_FAILED
from ....machine import cuda_name
from ....measurement import NO_DEVICE, Settings, make_measurement, to_row
from ....options import MAX_SEED, whole_number
from ....run_writing import append_rows, new_run_id
from ....suite import Verdict
from .. import SUITE
from ..cases import PARALLEL, make_cases
from ..sizes import COURSE, TINY
from ..variants import parallel_variant
from .processes import start, stop, wait
from .rank import Rank, details_of, device_of, serve

WARM_STEPS = 3


def measure(case: Case, seed: int, steps: int) -> list[Row]:
    """Rows of a step of the first process alone and of all together, in turns; none in the other
    processes."""
    alone = dist.new_group([0])
    ranks = [Rank(case, seed, alone)] if dist.get_rank() == 0 else []
    ranks.append(Rank(case, seed))
    verdicts = [rank.check(0) for rank in ranks]
    samples: list[list[int]] = [[] for _ in ranks]
    for index in range(WARM_STEPS + steps):
        for rank, taken in zip(ranks, samples, strict=True):
            elapsed = rank.timed_step()
            if index >= WARM_STEPS:
                taken.append(elapsed)
    if dist.get_rank() != 0:
        return []
    return [
        make_row(case, seed, rank.size, verdict, taken)
        for rank, verdict, taken in zip(ranks, verdicts, samples, strict=True)
    ]


def make_row(
    case: Case, seed: int, world_size: int, verdict: Verdict, samples_ns: list[int]
) -> Row:
    """Samples as the suite's row of this number of processes; without times if the check failed."""
    measurement = make_measurement(SUITE, parallel_variant(world_size), case)
    (timing,) = measurement.timings
    timing.was_attempted, timing.n_warmup = True, WARM_STEPS
    timing.samples_ns, timing.sample_rounds = samples_ns, list(range(len(samples_ns)))
    timing.facts = {"details": details_of(case, world_size)}
    measurement.verdict, measurement.check = asdict(verdict), "pass"
    if verdict.reason is not None:
        measurement.check = "fail"
        timing.fail("incorrect", "check", verdict.reason)
    timing.status = timing.status or "ok"
    name = cuda_name() if case.device == "cuda" else cpu_model()
    settings = Settings(seed, False, None, 0.0, 0.0, device_name=name or NO_DEVICE)
    run = {"run_id": new_run_id(), "session": 1}
    row = to_row(measurement, timing, case, settings, run, (None, None))
    if faults := row_faults(row):
        raise ValueError(f"a row that breaks the schema: {faults}")
    return row


def summary(rows: Sequence[Row]) -> str:
    """The rows in a line each, and the efficiency of the second."""
    lines, times = [], []
    for row in rows:
        name = row["variant"]
        if row["status"] != "ok":
            lines.append(f"{name}: {row['status']}, {row['reason_text']}")
            continue
        times.append(row_time(row["samples_ns"], row["sample_rounds"]))
        rate = row["details"]["tokens"] / (times[-1] / 1e9)
        lines.append(f"{name}: {times[-1] / 1e6:.2f} ms a step, {rate:.0f} tokens/s")
    if len(times) == len(rows):
        lines.append(f"scaling efficiency: {times[0] / times[1]:.1%}")
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    """The argument parser of the command and of each of its processes."""
    sizes_ = {**TINY, **COURSE}
    parser = argparse.ArgumentParser(
        prog="python -m ablation_executor.bench.suites.lm_step.parallel",
        allow_abbrev=False,
        description="Measure a data parallel step of the language model, and a step of one of "
        "its processes alone. Under torchrun the processes are those that it starts.",
    )
    add = parser.add_argument
    add(
        "--processes",
        type=whole_number(1, 1024),
        default=2,
        metavar="N",
        help="processes on this machine (2)",
    )
    add("--size", choices=list(sizes_), default="tiny", help="(tiny)")
    add(
        "--batch", type=whole_number(1, 4096), default=4, metavar="N", help="batch of a process (4)"
    )
    add("--context", type=whole_number(1, 1 << 20), default=128, metavar="N", help="(128)")
    add("--vocab", type=whole_number(2, 1 << 20), default=10_000, metavar="N", help="(10000)")
    add(
        "--threads",
        type=whole_number(1, 1024),
        default=1,
        metavar="N",
        help="threads of a process (1)",
    )
    add("--device", choices=DEVICES, default="cpu", help="(cpu)")
    add("--steps", type=whole_number(3, 10_000), default=10, metavar="N", help="timed steps (10)")
    add("--seed", type=whole_number(0, MAX_SEED), default=0, metavar="N", help="(0)")
    add("--rows", type=Path, metavar="FILE", help="append both rows to this file")
    # How the suite asks
    add("--case", type=json.loads, help=argparse.SUPPRESS)
    add("--control", type=Path, help=argparse.SUPPRESS)
    # Where the processes of one machine meet
    add("--store", type=Path, help=argparse.SUPPRESS)
    return parser


def chosen_case(options: argparse.Namespace) -> Case:
    """The case of a command line."""
    size = {**TINY, **COURSE}[options.size]
    shape = (options.batch, options.context, options.vocab)
    cases = make_cases(PARALLEL, options.size, size, shape, options.threads, options.device)
    return next(case for case in cases if case.get("autocast") == "none")


def start_here(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Start the processes on this machine and wait for them; return the status of the command."""
    with tempfile.TemporaryDirectory(prefix="ablation-") as folder:
        store = Path(folder) / "store"
        processes = start(options.processes, arguments, options.threads, store, None)
        try:
            return EXIT_FAILED if wait(processes) else 0
        finally:
            stop(processes)


def join_group(backend: str, store: Path | None) -> None:
    """Meet the other processes in a file of this machine, or without one as torchrun says."""
    if store is None:
        dist.init_process_group(backend)
        return
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    file = dist.FileStore(str(store), size)
    dist.init_process_group(backend, store=file, rank=rank, world_size=size)


def main(arguments: Sequence[str] | None = None) -> int:
    """One of the processes, of which the first one prints; or by itself, start them."""
    options = make_parser().parse_args(arguments)
    if "RANK" not in os.environ:
        return start_here(options, sys.argv[1:] if arguments is None else arguments)
    case = Case.from_dict(options.case) if options.case else chosen_case(options)
    torch.set_num_threads(case.threads)
    if case.device == "cuda":
        torch.cuda.set_device(device_of(case))
    join_group("nccl" if case.device == "cuda" else "gloo", options.store)
    try:
        if options.control:
            serve(case, options.seed, options.control)
            return 0
        rows = measure(case, options.seed, options.steps)
    finally:
        dist.destroy_process_group()
    if not rows:
        return 0
    print(summary(rows))
    if options.rows:
        append_rows(options.rows, rows)
    return 0 if all(row["status"] == "ok" for row in rows) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
