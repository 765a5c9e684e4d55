"""Rows of timed kernels: what the command line prints, and what its file holds."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ablation_kernels.calls import Call, usual_calls
from ablation_kernels.machine import OtherLoad, describe_machine
from ablation_kernels.table import (
    Ceilings,
    build_info,
    get_num_threads,
    measure_ceilings,
    op_table,
    ops,
    set_num_threads,
)
from ablation_kernels.timing import LEAST_CALLS, time_call

SCHEMA = 1
# Of each kernel and call in a record of all; the whole takes about 3 minutes on two cores
_SECONDS = 0.25


@dataclass(frozen=True)
class KernelRow:
    """A kernel on a call.

    `shape` is what the command line takes. `threads` is 1 for a kernel that is not parallel.
    `flops` is None for an op without products. `bound` is what limits the call at this machine's
    ceilings with as many threads, "multiply-adds" or "memory", and `share_of_ceiling` the least
    time by that over the median: above 1 it is faster than the measured traffic, as from a cache,
    or Strassen's scheme leaves out products that `flops` counts.
    """

    op: str
    kernel: str
    shape: str
    dtype: str
    threads: int
    n_calls: int
    median_ns: float
    min_ns: int
    flops: int | None
    bytes: int
    bound: str
    share_of_ceiling: float

    @property
    def rate(self) -> float:
        """GFLOP/s of an op with products, GB/s of another, at the median time."""
        return (self.bytes if self.flops is None else self.flops) / self.median_ns


@dataclass
class Record:
    """The rows of a command, with the machine's ceilings by number of threads.

    `others_share` is the share of the processors that other programs used meanwhile.
    """

    ceilings: dict[int, Ceilings] = field(default_factory=dict)
    rows: list[KernelRow] = field(default_factory=list)
    others_share: float | None = None
    elapsed_s: float = 0.0


def measure_both_ceilings(before: dict[int, Ceilings] | None = None) -> dict[int, Ceilings]:
    """Measure with one thread and with get_num_threads(); of two measurements the higher rates
    stand, since a shared machine may meet one of them at a bad moment."""
    threads, found = get_num_threads(), dict(before or {})
    try:
        for count in sorted({1, threads}):
            set_num_threads(count)
            found[count] = _higher(found.get(count), measure_ceilings())
    finally:
        set_num_threads(threads)
    return found


def _higher(before: Ceilings | None, now: Ceilings) -> Ceilings:
    if before is None:
        return now
    return Ceilings(
        now.provider,
        now.threads,
        max(before.multiply_add_flops_per_s, now.multiply_add_flops_per_s),
        max(before.memory_bytes_per_s, now.memory_bytes_per_s),
        min(before.fork_join_ns, now.fork_join_ns),
    )


def measure(
    calls: Sequence[Call],
    *,
    rounds: int | None = None,
    seconds: float | None = None,
    tell: Callable[[int, Call], None] = lambda index, call: None,
) -> Record:
    """Time every kernel of the ops of some calls; see `time_call` for `rounds` and `seconds`.

    The ceilings are measured before and after. `tell` is called with each call before it is timed.
    """
    start, load = time.monotonic(), OtherLoad()
    record = Record(measure_both_ceilings())
    timed = []
    for index, call in enumerate(calls):
        tell(index, call)
        timed.append((call, time_call(call, rounds, seconds)))
    record.ceilings = measure_both_ceilings(record.ceilings)
    parallel = {kernel.name: kernel.parallel for kernel in op_table()}
    for call, times in timed:
        for taken in times:
            threads = get_num_threads() if parallel[taken.kernel] else 1
            bound, least_ns = call.roof(record.ceilings[threads])
            record.rows.append(
                KernelRow(
                    call.op,
                    taken.kernel,
                    call.text,
                    "float32",
                    threads,
                    len(taken.times_ns),
                    taken.median_ns,
                    taken.min_ns,
                    call.flops,
                    call.n_bytes,
                    bound,
                    least_ns / max(1.0, taken.median_ns),
                )
            )
    record.others_share = load.share()
    record.elapsed_s = time.monotonic() - start
    return record


def measure_all(tell: Callable[[int, Call], None]) -> Record:
    """Time every kernel of the table at the usual shapes of its op."""
    return measure(all_calls(), seconds=_SECONDS, tell=tell)


def all_calls() -> list[Call]:
    """Make the usual calls of every op, in the table's order."""
    return [call for op in ops() for call in usual_calls(op)]


def time_left_s(calls: Sequence[Call], index: int, elapsed_s: float) -> float:
    """Return about how many seconds the calls from `index` on still take.

    The first guess is made of the calls' work alone; what has passed corrects it.
    """
    costs = [_expected_of_all_s(call) for call in calls]
    spent, left = sum(costs[:index]), sum(costs[index:])
    # The guess counts as ten seconds of experience
    return left * (elapsed_s + 10) / (spent + 10)


def expected_s(call: Call, n_calls: int) -> float:
    """Guess the seconds of a call's arrays, at 25 ns an element, and of so many calls of the
    plainest kernel, at 1 GFLOP/s or 5 ns an element."""
    elements = call.n_bytes / 4
    plainest_ns = (call.flops or 0) if call.op == "matmul" else 5 * elements
    return (25 * elements + n_calls * plainest_ns) / 1e9


def _expected_of_all_s(call: Call) -> float:
    """Guess the seconds of a call in a record of all: 5 calls of the plainest kernel, and the time
    that each of the others is given."""
    n_kernels = sum(kernel.op == call.op for kernel in op_table())
    return expected_s(call, LEAST_CALLS) + _SECONDS * n_kernels


def file_text(record: Record, command: Iterable[str]) -> str:
    """Write a record as the JSON text of a file, one row a line."""
    header = {
        "schema": SCHEMA,
        "created_utc": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": ["python", "-m", "ablation_kernels", *command],
        "elapsed_s": round(record.elapsed_s, 1),
        "versions": {
            "ablation_kernels": version("ablation-kernels"),
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": describe_machine(),
        "build_info": build_info(),
        "threads": get_num_threads(),
        "ceilings": {count: asdict(found) for count, found in record.ceilings.items()},
        "others_share": record.others_share,
    }
    rows = ",\n".join(json.dumps(asdict(row)) for row in record.rows)
    return json.dumps(header)[:-1] + f', "rows": [\n{rows}\n]}}\n'


def write(record: Record, path: Path, command: Iterable[str]) -> None:
    """Write a record into a file."""
    path.write_text(file_text(record, command), encoding="utf-8")
