"""Memory of a call: known sizes are found, what one source cannot see the other does, and what
cannot be measured is told."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from ablation_executor.bench.memory import (
    KIB,
    MIB,
    c10_trace,
    disagrees,
    environment,
    measure,
    published_style,
    read_trace,
    saved_tensors,
    storage_bytes,
)

CHILD = Path(__file__).with_name("memory_child.py")
DROP_CHILD = CHILD.with_name("drop_child.py")
CLEAR_REFS = Path("/proc/self/clear_refs")
SIZE = 16 * MIB
needs_hwm = pytest.mark.skipif(
    not os.access(CLEAR_REFS, os.W_OK), reason=f"{CLEAR_REFS} is not writable here"
)


@pytest.fixture(scope="module")
def readings() -> Any:
    """The readings of memory_child.py."""
    ended = subprocess.run(
        [sys.executable, str(CHILD)],
        env={**os.environ, **environment()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def nearly(found: int, expected: int) -> bool:
    return abs(found - expected) <= max(256 * KIB, 0.02 * expected)


@needs_hwm
@pytest.mark.parametrize(("name", "out_bytes"), [("square", SIZE), ("dropped_square", 4)])
def test_a_tensor_of_known_size_is_found(readings: Any, name: str, out_bytes: int) -> None:
    reading = readings[name]
    assert reading["method"] == "hwm+c10_trace"
    assert nearly(reading["hwm_peak_bytes"], SIZE)
    assert nearly(reading["tracked_peak_bytes"], SIZE)
    assert reading["tracked_peak_bytes"] >= SIZE
    assert reading["op_peak_bytes"] == reading["hwm_peak_bytes"]
    assert reading["out_bytes"] == out_bytes
    assert reading["disagree"] is False


@needs_hwm
def test_what_malloc_gives_out_is_seen_by_the_process_alone(readings: Any) -> None:
    reading = readings["touched"]
    assert nearly(reading["hwm_peak_bytes"], 64 * MIB)
    assert reading["tracked_peak_bytes"] < KIB
    assert reading["disagree"] is True


@needs_hwm
def test_memory_that_is_never_written_does_not_count(readings: Any) -> None:
    assert readings["untouched"]["hwm_peak_bytes"] < MIB


@needs_hwm
def test_scratch_that_kernels_count_agrees_with_the_process(readings: Any) -> None:
    reading = readings["own_kernel"]
    assert reading["method"] == "hwm+arena"
    assert reading["tracked_peak_bytes"] == 48 * MIB
    assert nearly(reading["hwm_peak_bytes"], 48 * MIB)
    assert reading["disagree"] is False


def test_a_graph_keeps_what_its_backward_needs(readings: Any) -> None:
    # exp keeps its result, twice; the second result is the output too.
    reading = readings["with_graph"]
    assert reading["saved_bytes"] == 2 * SIZE
    assert reading["before_bwd_bytes"] == 2 * SIZE


def test_a_peak_that_cannot_be_reset_is_told(readings: Any) -> None:
    reading = readings["without_clear_refs"]
    assert reading["hwm_peak_bytes"] is None
    assert "/proc/self cannot be written" in reading["hwm_reason"]
    assert reading["method"] == "c10_trace"
    assert reading["op_peak_bytes"] == reading["tracked_peak_bytes"] >= SIZE
    assert reading["disagree"] is None


def test_a_process_without_the_variables_measures_no_hwm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    reading = measure(lambda _: torch.ones(SIZE // 4))
    assert reading.hwm_peak_bytes is None
    assert reading.hwm_reason is not None and "MALLOC_" in reading.hwm_reason
    columns = reading.columns()
    assert columns["method"] == "c10_trace"
    assert columns["peak"] == columns["out"] == SIZE
    assert columns["scratch"] == 0
    assert columns["disagree"] is columns["saved"] is None


@pytest.mark.parametrize(
    ("hwm", "tracked", "expected"),
    [
        (4 * MIB + 256 * KIB, 4 * MIB, False),
        (4 * MIB + 257 * KIB, 4 * MIB, True),
        (4 * MIB, 4 * MIB + 257 * KIB, True),
        (102 * MIB, 100 * MIB, False),
        (103 * MIB, 100 * MIB, True),
        (MIB, 0, False),
        (MIB + KIB, 0, True),
    ],
)
def test_agreement(hwm: int, tracked: int, expected: bool) -> None:
    assert disagrees(hwm, tracked) is expected


def test_a_trace_counts_what_a_backward_frees() -> None:
    x = torch.ones(SIZE // 4, requires_grad=True)
    gradient = torch.ones_like(x)
    trace = c10_trace(
        lambda output: torch.autograd.grad(output, x, gradient), lambda: torch.exp(torch.exp(x))
    )
    # Two gradients come one after the other, and the inner exponential goes in exchange.
    assert trace.peak_bytes == 2 * SIZE
    assert trace.live_bytes == 0


def memory_event(ts: float, total: int, change: int, device: int = 0) -> dict[str, Any]:
    arguments = {"Total Allocated": total, "Bytes": change, "Device Type": device}
    return {"name": "[memory]", "ts": ts, "args": arguments}


def test_only_the_marked_call_counts() -> None:
    mark = {"name": "ablation_measured_call", "ts": 10.0, "dur": 10.0}
    events = [
        memory_event(25.0, 900, 800),
        memory_event(12.0, 150, 50),
        mark,
        memory_event(5.0, 100, 60),
        memory_event(14.0, 130, -20),
        memory_event(13.0, 7000, 7000, device=1),
    ]
    trace = read_trace(events)
    assert (trace.peak_bytes, trace.live_bytes) == (50, 30)


def test_a_trace_that_begins_inside_the_call_has_the_level_before_it() -> None:
    mark = {"name": "ablation_measured_call", "ts": 10.0, "dur": 10.0}
    trace = read_trace([mark, memory_event(12.0, 150, 50), memory_event(14.0, 90, -60)])
    assert (trace.peak_bytes, trace.live_bytes) == (50, -10)


def test_saved_tensors_count_each_storage_once_and_no_input() -> None:
    x = torch.ones(1024, requires_grad=True)

    def call(_: Any) -> Any:
        y = torch.exp(x * x)
        return y * y.view(32, 32).view(1024) + x

    assert saved_tensors(call, lambda: None, [x]) == 4096
    assert saved_tensors(call, lambda: None, []) == 2 * 4096


def test_the_published_loop_holds_two_graphs() -> None:
    x = torch.ones(SIZE // 4, requires_grad=True)
    assert published_style(lambda: torch.exp(torch.exp(x))) == 4 * SIZE
    assert c10_trace(lambda _: torch.exp(torch.exp(x))).peak_bytes == 2 * SIZE


def test_bytes_of_a_result() -> None:
    tensor, array = torch.ones(10), np.ones(5, np.float32)
    assert storage_bytes((tensor, [array, None], tensor)) == 60
    assert storage_bytes(None) == 0


@pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library has no malloc_trim"
)
def test_a_dropped_case_gives_its_memory_back() -> None:
    ended = subprocess.run(
        [sys.executable, str(DROP_CHILD)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    reading = json.loads(ended.stdout)
    assert nearly(reading["given_back_bytes"], reading["held_bytes"])
