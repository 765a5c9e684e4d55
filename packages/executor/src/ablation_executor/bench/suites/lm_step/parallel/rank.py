"""One of the processes that train together, and what it does when it is asked."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from ....case import Case
from ....suite import Verdict
from ..checks import GRADIENT_LIMIT, LOSS_LIMIT, first_excess, norm_error, worst
from ..model import make_batch, make_model, make_optimizer, next_token_loss
from ..program import PARTS
from ..sizes import model_flops, model_shape, tokens
from ..variants import SDPA

STOP, STEP, CHECK = range(3)


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
    request = torch.tensor([command, argument], device=device_of(case))
    dist.broadcast(request, src=0)
    command, argument = request.tolist()
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


def details_of(case: Case, world_size: int) -> dict[str, Any]:
    """Return what a row says of a step over so many processes, besides its times."""
    return {
        "world_size": world_size,
        "n_params": model_shape(case).n_params,
        "tokens": world_size * tokens(case),
        "model_flops": world_size * model_flops(case, "step"),
    }
