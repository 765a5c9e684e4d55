"""What the call of a part and an op of PyTorch take besides computing, measured on this machine.

Measured once in a process, before the first graph is divided, by a part of one product of 8 x 8 and
by PyTorch's own product and ReLU of that size, in turns. A few milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from time import perf_counter_ns
from typing import Any

import torch

from .cost import Costs
from .options import Options
from .part import Part

SIZE = 8
# Calls that are timed, behind some that are not. The first quartile is what others seldom disturb.
CALLS = 24
WARM_UP = 4


@cache
def costs() -> Costs:
    """The costs of this process's machine, in nanoseconds."""
    x, weight = torch.ones(SIZE, SIZE), torch.ones(SIZE, SIZE)
    with torch.inference_mode(False), torch.no_grad():
        part = _part(x, weight)
        part.prepare([weight])
        calls: tuple[Callable[[], Any], ...] = (
            lambda: part(x, weight),
            lambda: torch.nn.functional.linear(x, weight),
            lambda: torch.relu(x),
        )
        times: list[list[int]] = [[] for _ in calls]
        for _ in range(WARM_UP + CALLS):
            for call, taken in zip(calls, times, strict=True):
                start = perf_counter_ns()
                call()
                taken.append(perf_counter_ns() - start)
    entry, product, function = (sorted(taken[WARM_UP:])[CALLS // 4] for taken in times)
    return Costs(float(entry), (product + function) / 2)


def _part(x: torch.Tensor, weight: torch.Tensor) -> Part:
    graph = torch.fx.Graph()
    nodes = [graph.placeholder(name) for name in ("x", "weight")]
    product = graph.call_function(torch.ops.aten.linear.default, tuple(nodes))
    for node, tensor in zip((*nodes, product), (x, weight, x), strict=True):
        node.meta["val"] = tensor
    graph.output((product,))
    module = torch.fx.GraphModule({}, graph)
    return Part(module, 1, {}, [None], Options(), None)
