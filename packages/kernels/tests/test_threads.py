"""The thread pool under the kernels: any number of threads, several callers, fork."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import reference
import tolerance
from harness import (
    EXAMPLES,
    Example,
    assert_within,
    example_of,
    function_of,
    joined,
    kernels_of,
    normal,
)
from shapes import LARGE_LENGTH, LARGE_ROWS

import ablation_kernels

PARALLEL = [info for info in ablation_kernels.op_table() if info.parallel]
each_parallel = pytest.mark.parametrize("info", PARALLEL, ids=[info.name for info in PARALLEL])


def run(kernel: str, op: str, example: Example) -> np.ndarray:
    return joined(function_of(op)(*example.args, **example.keywords, kernel=kernel))


@each_parallel
@pytest.mark.parametrize("threads", [2, 3, 5, 16])
def test_threaded_equals_serial(info: ablation_kernels.KernelInfo, threads: int) -> None:
    example = example_of(info.op)
    ablation_kernels.set_num_threads(1)
    serial = run(info.name, info.op, example)
    ablation_kernels.set_num_threads(threads)
    assert ablation_kernels.get_num_threads() == threads
    for _ in range(5):
        parallel = run(info.name, info.op, example)
        if info.op == "matmul":  # a library may sum in another order for another number of rows
            assert_within(parallel, example.expected, example.allowed)
        else:
            np.testing.assert_array_equal(parallel, serial)


@each_parallel
def test_several_callers(info: ablation_kernels.KernelInfo, random: np.random.Generator) -> None:
    """One caller has the pool, the others run serially; all get their own right result."""
    examples = [EXAMPLES[info.op](random) for _ in range(3)]
    wrong: list[str] = []

    def work(example: Example) -> None:
        for _ in range(10):
            try:
                actual = run(info.name, info.op, example)
                assert_within(actual, example.expected, example.allowed)
            except AssertionError as error:
                wrong.append(str(error))

    callers = [threading.Thread(target=work, args=(example,)) for example in examples]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


def test_threads_change_under_load(random: np.random.Generator) -> None:
    x = normal(random, LARGE_ROWS, LARGE_LENGTH)
    expected = ablation_kernels.softmax(x, kernel="simd")
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            for n in (1, 2, 4, 3):
                ablation_kernels.set_num_threads(n)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(200):
            y = ablation_kernels.softmax(x, kernel="simd_parallel")
            np.testing.assert_array_equal(y, expected)
    finally:
        done.set()
        changer.join()


@pytest.mark.parametrize("kernel", kernels_of("attention"))
def test_threads_change_between_scratch_and_kernel(
    kernel: str, random: np.random.Generator
) -> None:
    """Scratch is sized before the kernel looks how many threads there are."""
    q, k, v = (normal(random, 2, 8, 64, 32) for _ in range(3))
    expected = reference.attention(q, k, v)
    allowed = tolerance.attention(expected, v, 32)
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            ablation_kernels.set_num_threads(1)
            ablation_kernels.set_num_threads(16)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(300):
            actual = ablation_kernels.attention(q, k, v, kernel=kernel)
            assert_within(actual, expected.value, allowed)
    finally:
        done.set()
        changer.join()


def test_default_is_what_this_process_may_use() -> None:
    code = "import ablation_kernels; print(ablation_kernels.get_num_threads())"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    assert int(printed) == ablation_kernels.default_threads()


def wait_for(child: int) -> int:
    """Exit code of a child made by fork."""
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def fork() -> int:
    """os.fork; an alarm ends a child that waits for threads which it does not have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # fork of a process with threads
        child = os.fork()
    if child == 0:
        signal.alarm(30)
    return child


TASKS = Path("/proc/self/task")


@pytest.mark.skipif(
    ablation_kernels.build_info()["parallel"] != "pool" or not TASKS.exists(),
    reason="counts the threads that a pool made in a fresh child",
)
@each_parallel
def test_examples_are_large_enough_to_split(info: ablation_kernels.KernelInfo) -> None:
    """Without this the tests of parallel kernels could all run serially and say nothing."""
    example = example_of(info.op)
    child = fork()
    if child == 0:
        tasks = 0
        try:
            run(info.name, info.op, example)
            tasks = len(list(TASKS.iterdir()))
        finally:
            os._exit(tasks)
    assert 1 < wait_for(child) <= ablation_kernels.get_num_threads()


def _in_child(x: np.ndarray, expected: np.ndarray) -> int:
    for threads in (3, 2, 4):
        ablation_kernels.set_num_threads(threads)
        for _ in range(20):
            y = ablation_kernels.softmax(x, kernel="simd_parallel")
            if not np.array_equal(y, expected):
                return 1
    return 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("under_load", [False, True])
def test_fork(under_load: bool, random: np.random.Generator) -> None:
    """A child has none of the parent's threads and makes its own; the parent goes on as before."""
    x = normal(random, LARGE_ROWS, LARGE_LENGTH)
    expected = ablation_kernels.softmax(x, kernel="simd_parallel")
    done = threading.Event()

    large = normal(random, 2000, 1021)  # long enough that a fork meets it at work

    def load() -> None:
        while not done.is_set():
            ablation_kernels.softmax(large, kernel="simd_parallel", out=large)

    worker = threading.Thread(target=load)
    if under_load:
        worker.start()
    try:
        for _ in range(3):
            child = fork()
            if child == 0:
                status = 2
                try:
                    status = _in_child(x, expected)
                finally:
                    os._exit(status)
            assert wait_for(child) == 0
    finally:
        done.set()
        if under_load:
            worker.join()
    np.testing.assert_array_equal(ablation_kernels.softmax(x, kernel="simd_parallel"), expected)


def test_the_lock_of_python_is_released(random: np.random.Generator) -> None:
    """While a kernel runs, another Python thread gets on."""
    x = normal(random, 2048, 2048)
    out = np.empty_like(x)
    counted = 0
    done = threading.Event()

    def count() -> None:
        nonlocal counted
        while not done.is_set():
            counted += 1
            time.sleep(1e-5)

    counter = threading.Thread(target=count)
    before = sys.getswitchinterval()
    sys.setswitchinterval(5)  # longer than the kernel: only a release lets the counter run
    counter.start()
    progress = 0
    try:
        for _ in range(20):
            start = counted
            ablation_kernels.softmax(x, kernel="scalar", out=out)
            progress += counted - start
    finally:
        sys.setswitchinterval(before)
        done.set()
        counter.join()
    assert progress > 0
