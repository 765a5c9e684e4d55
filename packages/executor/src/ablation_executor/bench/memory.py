"""Memory of one call, on a CPU from sources that are blind in different places.

- `hwm`: the resident size of this process. It sees every page that the call touches, whoever asked
  for it, and nothing that stays untouched.
- `c10_trace`: PyTorch's own allocator, exact to the byte. It sees nothing that malloc gave out.
- `arena`: scratch that our kernels count themselves.

A reading names its sources, and says where two of them disagree. Tools that answer another question
are left out: tracemalloc does not see PyTorch, ru_maxrss is inherited from the parent process, and
the profiler's tables hold what a call leaves behind, not its peak.

The process has to be started with `environment()`: malloc reads these variables once.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Prepare = Callable[[], Any]
# Takes what `prepare` made for it.
Call = Callable[[Any], Any]

HWM, C10_TRACE, ARENA, CUDA_ALLOCATOR = "hwm", "c10_trace", "arena", "cuda_allocator"
KIB, MIB = 1 << 10, 1 << 20
TOLERANCE_BYTES, TOLERANCE_SHARE = 256 * KIB, 0.02

_MALLOC = {
    # Each allocation above 64 KiB has pages of its own, which go back when it is freed.
    "MALLOC_MMAP_THRESHOLD_": str(64 * KIB),
    # Threads share one heap, so that one trim empties all of them.
    "MALLOC_ARENA_MAX": "1",
}
_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"
_PR_SET_THP_DISABLE = 41
_MARK = "ablation_measured_call"


class Unavailable(Exception):
    """This machine or process cannot give a figure; the message says why."""


@dataclass(frozen=True)
class MemoryReading:
    """Bytes of one call; None where nothing was measured.

    The peaks are above what was there before the call and include its result. `disagree` is True
    where process and allocator tell different stories, None where only one was heard, and
    `hwm_reason` says why that was. `saved_bytes` is what autograd keeps, `before_bwd_bytes` what is
    alive after the call, its result included.
    """

    method: str
    op_peak_bytes: int
    out_bytes: int
    tracked_peak_bytes: int
    hwm_peak_bytes: int | None = None
    hwm_reason: str | None = None
    disagree: bool | None = None
    saved_bytes: int | None = None
    before_bwd_bytes: int | None = None

    @property
    def scratch_bytes(self) -> int:
        """The peak without the result; pages of the heap that were there before may hold it all."""
        return max(0, self.op_peak_bytes - self.out_bytes)

    def columns(self) -> dict[str, Any]:
        """As entries of a row's `memory`, and under "details" what else was found."""
        return {
            "method": self.method,
            "peak": self.op_peak_bytes,
            "out": self.out_bytes,
            "scratch": self.scratch_bytes,
            "saved": self.saved_bytes,
            "before_bwd": self.before_bwd_bytes,
            "tracked_peak": self.tracked_peak_bytes,
            "disagree": self.disagree,
            "details": {
                "mem_hwm_peak_bytes": self.hwm_peak_bytes,
                "mem_hwm_reason": self.hwm_reason,
            },
        }


@dataclass(frozen=True)
class Usage:
    """Bytes above the level before a call: at most during it, and at its end with its result."""

    peak_bytes: int
    live_bytes: int


def environment() -> dict[str, str]:
    """The environment variables with which a process that measures `hwm` is started."""
    return dict(_MALLOC)


def nothing() -> None:
    """What a call needs that needs nothing prepared."""


def measure(
    call: Call,
    prepare: Prepare = nothing,
    *,
    is_traced: bool = True,
    arena: Callable[[], int] | None = None,
    inputs: Sequence[Any] | None = None,
) -> MemoryReading:
    """Measure a call by the process and by those who allocate.

    `prepare` runs before each call and outside the measurement. `is_traced`: the result comes from
    PyTorch's allocator; otherwise it counts as it is. `arena` tells the bytes of scratch that our
    kernels took in the last call, arrays that PyTorch did not allocate included. `inputs`: the
    tensors that are there before, where it matters what a backward pass needs besides.
    """
    out_bytes = 0

    def sized_call(prepared: Any) -> Any:
        nonlocal out_bytes
        result = call(prepared)
        out_bytes = storage_bytes(result)
        return result

    process: Usage | None = None
    reason: str | None = None
    try:
        process = hwm_usage(sized_call, prepare)
    except Unavailable as error:
        reason = str(error)
        sized_call(prepare())
    trace = c10_trace(call, prepare) if is_traced else Usage(out_bytes, out_bytes)
    tracked = trace.peak_bytes + (arena() if arena else 0)
    hwm = process.peak_bytes if process else None
    # Our kernels tell their peak and not what of it stays.
    after = process if arena else trace
    sources = ((HWM, process is not None), (C10_TRACE, is_traced), (ARENA, arena is not None))
    return MemoryReading(
        method="+".join(name for name, is_used in sources if is_used),
        op_peak_bytes=tracked if hwm is None else hwm,
        out_bytes=out_bytes,
        tracked_peak_bytes=tracked,
        hwm_peak_bytes=hwm,
        hwm_reason=reason,
        disagree=None if hwm is None else disagrees(hwm, tracked),
        saved_bytes=None if inputs is None else saved_tensors(call, prepare, inputs),
        before_bwd_bytes=after.live_bytes if after and inputs is not None else None,
    )


def disagrees(hwm_bytes: int, tracked_bytes: int) -> bool:
    """True when two peaks differ by more than 256 KiB and 2%.

    A call that allocates less than 1 MiB moves fewer pages than the interpreter around it does: a
    difference counts there from 1 MiB on.
    """
    tolerance: float = MIB
    if tracked_bytes >= MIB:
        tolerance = max(TOLERANCE_BYTES, TOLERANCE_SHARE * tracked_bytes)
    return abs(hwm_bytes - tracked_bytes) > tolerance


def give_back() -> None:
    """Return freed memory to the system: the C library keeps what lies between blocks in use, and
    a program that was dropped would go on taking room from those of other processes."""
    gc.collect()
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def hwm_usage(call: Call, prepare: Prepare = nothing) -> Usage:
    """Resident bytes of this process in a second call.

    The first call fills the caches of libraries, which are no part of the second. Raises
    Unavailable where the kernel, the C library or the environment does not allow it.
    """
    for name, value in _MALLOC.items():
        if os.environ.get(name) != value:
            raise Unavailable(f"the process was started without {name}={value}")
    library = ctypes.CDLL(None, use_errno=True)
    if not hasattr(library, "malloc_trim"):
        raise Unavailable("the C library has no malloc_trim")
    if not _STATUS.exists():
        raise Unavailable(f"no {_STATUS}")
    # A huge page counts as a whole from its first byte on.
    if library.prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0:
        raise Unavailable(f"prctl(PR_SET_THP_DISABLE): {os.strerror(ctypes.get_errno())}")
    call(prepare())
    prepared = prepare()
    give_back()
    try:
        _CLEAR_REFS.write_text(_RESET_PEAK)
    except OSError as error:
        raise Unavailable(f"{_CLEAR_REFS} cannot be written: {error.strerror}") from None
    base = _status_bytes("VmRSS")
    result = call(prepared)
    usage = Usage(_status_bytes("VmHWM") - base, _status_bytes("VmRSS") - base)
    del result
    return usage


def _status_bytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * KIB
    raise Unavailable(f"no {field} in {_STATUS}")


def c10_trace(call: Call, prepare: Prepare = nothing) -> Usage:
    """Follow PyTorch's CPU allocator through a call; what the call returns is alive at the end.

    `prepare` is recorded too and not counted: the allocator reports that memory is freed only where
    it saw it given out, and a backward pass frees what its forward pass saved.
    """
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, profile_memory=True) as profiler:
        prepared = prepare()
        with torch.profiler.record_function(_MARK):
            result = call(prepared)
        # Freed while it is watched, so that the next trace begins with a clean account.
        del prepared, result
    with tempfile.TemporaryDirectory(prefix="ablation-memory-") as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return read_trace(json.loads(path.read_text())["traceEvents"])


def read_trace(events: Sequence[dict[str, Any]]) -> Usage:
    """Peak and last level between the marks of the measured call, above the level before them."""
    (mark,) = (event for event in events if event.get("name") == _MARK and "dur" in event)
    start, end = float(mark["ts"]), float(mark["ts"]) + float(mark["dur"])
    changes = sorted(
        (event for event in events if event.get("name") == "[memory]" and _is_cpu(event)),
        key=lambda event: float(event["ts"]),
    )
    base = live = peak = 0
    if changes:
        first = changes[0]["args"]
        base = live = peak = first["Total Allocated"] - first["Bytes"]
    for change in changes:
        level = change["args"]["Total Allocated"]
        if float(change["ts"]) < start:
            base = live = peak = level
        elif float(change["ts"]) <= end:
            live, peak = level, max(peak, level)
    return Usage(peak - base, live - base)


def _is_cpu(event: dict[str, Any]) -> bool:
    return bool(event["args"]["Device Type"] == 0)


def published_style(call: Callable[[], Any], source: Callable[[Call], Usage] = c10_trace) -> int:
    """Peak of a loop that binds each call's output to one name, as the published harness does.

    The output of one call keeps its graph alive while the next one runs: the peak holds two.
    `source` is who tells: `c10_trace`, or `hwm_usage` where PyTorch does not allocate.
    """

    def loop(_: Any) -> Any:
        output = call()
        # The name lets go of the first output only when the second is there.
        output = call()
        return output

    return source(loop).peak_bytes


def measure_cuda(
    call: Call, prepare: Prepare = nothing, *, inputs: Sequence[Any] | None = None
) -> MemoryReading:
    """Measure a call on a CUDA device by the counters of PyTorch's allocator; `inputs` as above.

    The first call allocates the workspaces of libraries, which so count as there before.
    """
    import torch

    call(prepare())
    prepared = prepare()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    base = torch.cuda.memory_allocated()
    result = call(prepared)
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - base
    live = torch.cuda.memory_allocated() - base
    out_bytes = storage_bytes(result)
    del prepared, result
    return MemoryReading(
        method=CUDA_ALLOCATOR,
        op_peak_bytes=peak,
        out_bytes=out_bytes,
        tracked_peak_bytes=peak,
        hwm_reason="the tensors are not in the memory of the process",
        saved_bytes=None if inputs is None else saved_tensors(call, prepare, inputs),
        before_bwd_bytes=None if inputs is None else live,
    )


def saved_tensors(call: Call, prepare: Prepare, inputs: Iterable[Any]) -> int:
    """Bytes that autograd keeps for the backward pass of a call, each storage once, those of the
    tensors in `inputs` left out."""
    import torch

    prepared = prepare()
    given = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    saved: dict[int, Any] = {}

    def pack(tensor: Any) -> Any:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            # Held until the end, so that no address is given out twice.
            saved[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call(prepared)
    del result
    return sum(storage.nbytes() for storage in saved.values())


def storage_bytes(result: Any) -> int:
    """Bytes of the arrays or tensors in a result, which may be nested tuples, lists or None; an
    array that occurs twice counts once."""
    return sum({_address(array): int(array.nbytes) for array in _leaves(result)}.values())


def _leaves(result: Any) -> Iterator[Any]:
    if isinstance(result, list | tuple):
        for part in result:
            yield from _leaves(part)
    elif result is not None:
        yield result


def _address(array: Any) -> int:
    return int(array.data_ptr() if hasattr(array, "data_ptr") else array.ctypes.data)
