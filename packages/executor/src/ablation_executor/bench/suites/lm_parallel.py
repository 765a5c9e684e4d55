"""Data parallel training of the language model by PyTorch's DistributedDataParallel.

`python -m ablation_executor.bench.suites.lm_parallel --processes 2 --size tiny` measures a step of
all processes beside one of a single process, with the same batch and threads each. The processes
are on this machine, and no other machine can reach them. The suite starts the same module and asks
it step by step.

`torchrun [...] -m ablation_executor.bench.suites.lm_parallel --size tiny` does the same on several
machines, by torchrun's own options. Its processes take connections from every network that their
machine is in, without a password: use it only where all machines of these networks are trusted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from ..interrupt import EXIT_FAILED
from ..machine import cpu_model
from ..options import MAX_SEED, whole_number
from ..record import new_run_id
from ..run_reading import Row
from ..run_writing import append_rows
from ..stats import median
from .case import DEVICES, Case
from .language_model import make_batch, make_model, make_optimizer, next_token_loss
from .lm_processes import start, stop, wait
from .lm_program import GRADIENT_LIMIT, LOSS_LIMIT, PARTS, first_excess, norm_error, worst
from .lm_sizes import COURSE, TINY, model_flops, model_shape, tokens
from .lm_step import PARALLEL, SDPA, SUITE, make_cases, parallel_implementation
from .peaks import cuda_name
from .rows import check_row
from .suite import Flops, Verdict
from .trial import NO_DEVICE, Entrant, Settings, Trial, to_row

STOP, STEP, CHECK = range(3)
WARM_STEPS = 3


class Rank:
    """One of the processes: its replica, its part of the batch, and its optimizer.

    `group` are the processes that train together, None for all of them.
    """

    def __init__(self, case: Case, seed: int, group: Any = None) -> None:
        self._case, self._seed, self._group = case, seed, group
        self._shape = model_shape(case)
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self._device = device_of(case)
        model = make_model(self._shape, SDPA, seed, self._device)
        # Its buffers would be sent around in every forward, and are the same everywhere.
        for name, constant in list(model.rotary.named_buffers()):
            delattr(model.rotary, name)
            setattr(model.rotary, name, constant)
        self._replica = nn.parallel.DistributedDataParallel(model, process_group=group)
        self._optimizer = make_optimizer(self._replica)
        self._batch = self._part(seed)

    def _part(self, seed: int) -> tuple[Any, Any]:
        """This process's sequences of the joined batch."""
        joined = make_batch(self._shape, self.size * self._case.B, seed, self._device)
        mine = slice(self.rank * self._case.B, (self.rank + 1) * self._case.B)
        return joined[0][mine], joined[1][mine]

    def step(self) -> dict[str, int]:
        """One step in step with the others; the parts in ns by this process's clock."""
        marks = [self._now()]
        self._optimizer.zero_grad(set_to_none=True)
        marks.append(self._now())
        loss = next_token_loss(self._replica(self._batch[0]), self._batch[1])
        marks.append(self._now())
        # The gradients are averaged over the processes while the backward still runs.
        loss.backward()
        marks.append(self._now())
        self._optimizer.step()
        marks.append(self._now())
        dist.barrier(group=self._group)
        return {name: b - a for name, a, b in zip(PARTS, marks, marks[1:], strict=False)}

    def _now(self) -> int:
        if self._case.device == "cuda":
            torch.cuda.synchronize()
        return perf_counter_ns()

    def check(self, offset: int) -> Verdict:
        """Gradients of all processes against those of one with the joined batch, the mean of the
        losses too; and that all hold the same weights."""
        inputs, targets = self._part(self._seed + offset)
        self._optimizer.zero_grad(set_to_none=True)
        loss = next_token_loss(self._replica(inputs), targets)
        loss.backward()
        mean = loss.detach() / self.size
        dist.all_reduce(mean, group=self._group)
        apart = self._weights_apart()
        verdict = Verdict()
        if self.rank == 0:
            expected, gradient = self._joined(offset)
            error = abs(mean.item() - expected) / abs(expected)
            verdict.errors = {"loss": error, "grad": gradient, "weights": apart}
            verdict.limits = {"loss": LOSS_LIMIT, "grad": GRADIENT_LIMIT, "weights": 0.0}
            verdict.reason = first_excess(verdict)
        self._optimizer.zero_grad(set_to_none=True)
        dist.barrier(group=self._group)
        return verdict

    def _weights_apart(self) -> float:
        """The largest difference of the sums of a parameter between two processes."""
        sums = torch.stack([p.detach().double().sum() for p in self._replica.parameters()])
        low, high = sums.clone(), sums.clone()
        dist.all_reduce(low, op=dist.ReduceOp.MIN, group=self._group)
        dist.all_reduce(high, op=dist.ReduceOp.MAX, group=self._group)
        return float((high - low).max())

    def _joined(self, offset: int) -> tuple[float, float]:
        """Loss of one process with the joined batch, and the largest error of a gradient."""
        model = self._replica.module
        kept = [parameter.grad.clone() for parameter in model.parameters()]
        model.zero_grad()
        batch = self.size * self._case.B
        inputs, targets = make_batch(self._shape, batch, self._seed + offset, self._device)
        loss = next_token_loss(model(inputs), targets)
        loss.backward()
        pairs = zip(kept, model.parameters(), strict=True)
        return loss.item(), worst([norm_error(grad, parameter.grad) for grad, parameter in pairs])

    def timed_step(self) -> int:
        """Nanoseconds of a step that all begin together, until the slowest has ended it."""
        dist.barrier(group=self._group)
        start = self._now()
        self.step()
        return self._now() - start


def device_of(case: Case) -> str:
    """The device of this process."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if case.device == "cuda" else case.device


def agree(case: Case, command: int, argument: int) -> tuple[int, int]:
    """What the first process says, in all of them."""
    told = torch.tensor([command, argument], device=device_of(case))
    dist.broadcast(told, src=0)
    command, argument = told.tolist()
    return command, argument


def serve(case: Case, seed: int, control: Path) -> None:
    """Do what the suite asks of the first process, until it hangs up."""
    rank = Rank(case, seed)
    with contextlib.ExitStack() as stack:
        lines: Iterator[str] = iter(())
        if rank.rank == 0:
            channel = stack.enter_context(socket.socket(socket.AF_UNIX))
            channel.connect(str(control))
            replies = stack.enter_context(channel.makefile("w"))
            lines = iter(stack.enter_context(channel.makefile("r")))
        while True:
            line = next(lines, None)
            command, argument = agree(case, *(json.loads(line) if line else (STOP, 0)))
            if command == STOP:
                return
            reply = rank.step() if command == STEP else asdict(rank.check(argument))
            if rank.rank == 0:
                replies.write(json.dumps(reply) + "\n")
                replies.flush()


def sizes(case: Case, world_size: int) -> dict[str, Any]:
    """What a row tells of a step over so many processes, beside its times."""
    return {
        "world_size": world_size,
        "n_params": model_shape(case).n_params,
        "tokens": world_size * tokens(case),
        "model_flops": world_size * model_flops(case, "step"),
    }


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
    way = parallel_implementation(world_size)
    trial = Trial("step", SUITE.needs(way, case, "step"), Flops(model_flops(case, "step")))
    trial.was_attempted, trial.n_warmup = True, WARM_STEPS
    trial.samples_ns, trial.sample_rounds = samples_ns, list(range(len(samples_ns)))
    trial.facts = {"details": sizes(case, world_size)}
    check = "pass" if verdict.reason is None else "fail"
    if verdict.reason is not None:
        trial.fail("incorrect", "check", verdict.reason)
    name = cuda_name() if case.device == "cuda" else cpu_model()
    settings = Settings(seed, is_quick=False, budget_s=0.0, device_name=name or NO_DEVICE)
    trial.finish(case, settings)
    entrant = Entrant(way, [trial], verdict=asdict(verdict), check=check)
    run = {"run_id": new_run_id(), "session": 1}
    row = to_row(entrant, trial, case, settings, run, (None, None))
    check_row(row)
    return row


def told(rows: Sequence[Row]) -> str:
    """The rows in a line each, and the efficiency of the second."""
    lines, medians = [], []
    for row in rows:
        details = row["details"] or {}
        if row["status"] != "ok":
            lines.append(f"{row['impl']}: {row['status']}, {row['reason_text']}")
            continue
        medians.append(median(row["samples_ns"]))
        rate = details["tokens"] / (medians[-1] / 1e9)
        lines.append(f"{row['impl']}: {medians[-1] / 1e6:.2f} ms a step, {rate:.0f} tokens/s")
    if len(medians) == len(rows):
        lines.append(f"scaling efficiency: {medians[0] / medians[1]:.1%}")
    return "\n".join(lines)


def make_parser() -> argparse.ArgumentParser:
    """The argument parser of the command and of each of its processes."""
    sizes_ = {**TINY, **COURSE}
    parser = argparse.ArgumentParser(
        prog="python -m ablation_executor.bench.suites.lm_parallel",
        allow_abbrev=False,
        description="Measure a data parallel step of the language model, beside a step of one of "
        "its processes alone. Under torchrun the processes are those that it starts.",
    )
    add = parser.add_argument
    add(
        "--processes",
        type=whole_number(1, 1024),
        default=2,
        metavar="N",
        help="how many, on this machine (2)",
    )
    add("--size", choices=list(sizes_), default="tiny", help="(tiny)")
    add("--batch", type=whole_number(1, 4096), default=4, metavar="N", help="of a process (4)")
    add("--context", type=whole_number(1, 1 << 20), default=128, metavar="N", help="(128)")
    add("--vocab", type=whole_number(2, 1 << 20), default=10_000, metavar="N", help="(10000)")
    add("--threads", type=whole_number(1, 1024), default=1, metavar="N", help="of a process (1)")
    add("--device", choices=DEVICES, default="cpu", help="(cpu)")
    add("--steps", type=whole_number(3, 10_000), default=10, metavar="N", help="timed steps (10)")
    add("--seed", type=whole_number(0, MAX_SEED), default=0, metavar="N", help="(0)")
    add("--rows", type=Path, metavar="FILE", help="append a row of each of the two to this file")
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
    print(told(rows))
    if options.rows:
        append_rows(options.rows, rows)
    return 0 if all(row["status"] == "ok" for row in rows) else EXIT_FAILED


if __name__ == "__main__":
    sys.exit(main())
