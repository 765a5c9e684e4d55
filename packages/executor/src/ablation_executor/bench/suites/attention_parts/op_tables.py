"""Where the time of a call goes, line by line, with the columns that PyTorch's profiler prints.

A line is an object: name, self_cpu_share, self_cpu_ns, cpu_total_share, cpu_total_ns, cpu_avg_ns,
cpu_mem_bytes, self_cpu_mem_bytes, calls. Shares are of the sum of all self times. Memory is what a
line leaves allocated, null where nobody counts it.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ablation_kernels.teaching import Spans

Line = dict[str, Any]
RANGE = "ablation_range"
# Calls with and without the clock reads, in turns.
REPEATS = 3


def _line(
    name: str,
    self_ns: int,
    total_ns: int,
    range_ns: int,
    calls: int,
    memory: tuple[int | None, int | None] = (None, None),
) -> Line:
    return {
        "name": name,
        "self_cpu_share": self_ns / range_ns,
        "self_cpu_ns": self_ns,
        "cpu_total_share": total_ns / range_ns,
        "cpu_total_ns": total_ns,
        "cpu_avg_ns": total_ns // calls,
        "cpu_mem_bytes": memory[0],
        "self_cpu_mem_bytes": memory[1],
        "calls": calls,
    }


def lines_of_spans(name: str, spans: Spans, out_bytes: int) -> list[Line]:
    """The spans of one call of our teaching kernels, below a line for the call itself.

    What the call leaves allocated is its output; spans are not counted one by one.
    """
    total = spans.total_ns
    lines = [
        _line(span, time.time_ns, time.time_ns, total, time.count)
        for span, time in spans.self_times.items()
        if span != "other" and time.count
    ]
    own_ns = total - sum(line["self_cpu_ns"] for line in lines)
    return [_line(name, own_ns, total, total, 1, (out_bytes, out_bytes)), *lines]


def profiled(call: Callable[[], Any]) -> tuple[list[Line], int]:
    """One call under PyTorch's profiler: its lines, and its wall time in ns as the caller sees it.

    The line RANGE is the call; times inside it are those of the thread that calls.
    """
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    with (
        torch.profiler.profile(activities=activities, profile_memory=True) as profiler,
        torch.profiler.record_function(RANGE),
    ):
        start = perf_counter_ns()
        result = call()
        elapsed_ns = perf_counter_ns() - start
    del result
    averages = profiler.key_averages()
    range_ns = sum(round(1e3 * average.self_cpu_time_total) for average in averages)
    lines = [
        _line(
            average.key,
            round(1e3 * average.self_cpu_time_total),
            round(1e3 * average.cpu_time_total),
            range_ns,
            average.count,
            (average.cpu_memory_usage, average.self_cpu_memory_usage),
        )
        for average in averages
    ]
    return sorted(lines, key=lambda line: -line["self_cpu_ns"]), elapsed_ns


def with_overhead(
    observed: Callable[[], tuple[list[Line], int]], call: Callable[[], Any]
) -> dict[str, Any]:
    """Lines of the last of a few observed calls, and the wall times of calls with and without
    being observed, medians in ns.

    A first observed call, which loads what observes, does not count.
    """
    observed()
    lines: list[Line] = []
    with_ns, without_ns = [], []
    for _ in range(REPEATS):
        start = perf_counter_ns()
        result = call()
        without_ns.append(perf_counter_ns() - start)
        del result
        lines, elapsed_ns = observed()
        with_ns.append(elapsed_ns)
    return {
        "op_table": lines,
        "op_table_with_ns": median(with_ns),
        "op_table_without_ns": median(without_ns),
    }
