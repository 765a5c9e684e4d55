"""torch.compile(backend="ablation") in several threads and in a child of fork."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from compiled_models import (
    WIDTH,
    blocks,
    check_same,
    compiled,
    counted,
    layers,
    mixed,
    small_parts_run_here,
    x_of,
)

import ablation_kernels
from ablation_executor.torch_backend.thread_count import THREADS

__all__ = ["small_parts_run_here"]


def test_two_threads() -> None:
    modules = [layers(), mixed()]
    calls = [compiled(module) for module in modules]
    xs = [x_of(seed=seed) for seed in range(4)]
    with torch.no_grad():
        wanted = [[module(x) for x in xs] for module in modules]
    errors: list[BaseException] = []

    def work(first: int) -> None:
        try:
            with torch.no_grad():
                for turn in range(12):
                    which, seed = (first + turn) % 2, (first + turn) % 4
                    check_same(calls[which](xs[seed]), wanted[which][seed])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors


@pytest.mark.parametrize("seed", range(3))
def test_first_calls_of_several_threads_at_once(seed: int) -> None:
    """torch.export replaces Module.__call__ while it captures, and torch.compile reads its flags:
    each thread's module runs here whole, as if it was alone."""
    modules = [blocks(), layers(), layers()]
    x = x_of(seed=seed)
    with torch.no_grad():
        wanted = [module(x) for module in modules]
    barrier = threading.Barrier(len(modules))
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            call = compiled(modules[number])
            barrier.wait()
            with torch.no_grad():
                check_same(call(x), wanted[number])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(len(modules))]
    with counted() as change:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not errors
    assert change.calls_here == len(modules) and change.ops == change.ops_here > 0
    assert not change.calls_eager and not change.parts_eager


FIRST_OF_A_PROCESS = """
import threading
import torch

model, x = torch.nn.Linear(8, 8).eval(), torch.ones(2, 8)
barrier, errors = threading.Barrier(3), []

def work():
    barrier.wait()
    try:
        with torch.no_grad():
            torch.testing.assert_close(torch.compile(model, backend="ablation")(x), model(x))
    except BaseException as error:
        errors.append(error)

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not errors, errors
"""


def test_threads_ask_for_the_backend_first_in_a_process() -> None:
    """PyTorch loads and registers a backend without a lock."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", FIRST_OF_A_PROCESS], check=True)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_kernels_use_as_many_threads_as_pytorch(n_threads: int) -> None:
    """And the count of the process is what it was after a call.

    PyTorch compiles anew where its own count has changed: a program is built, and runs.
    """
    torch_before, before = torch.get_num_threads(), ablation_kernels.get_num_threads()
    seen = []
    module = layers()
    call = compiled(module)
    at_most = THREADS._enter
    try:
        ablation_kernels.set_num_threads(2)
        torch.set_num_threads(n_threads)
        with pytest.MonkeyPatch.context() as patch, torch.no_grad():

            def enter(threads: int) -> None:
                at_most(threads)
                seen.append(ablation_kernels.get_num_threads())

            patch.setattr(THREADS, "_enter", enter)
            check_same(call(x_of()), module(x_of()))
            torch.set_num_threads(1)
            check_same(call(x_of()), module(x_of()))
        assert ablation_kernels.get_num_threads() == 2
        assert seen == [n_threads, n_threads, *([1] if n_threads == 1 else [1, 1])]
    finally:
        torch.set_num_threads(torch_before)
        ablation_kernels.set_num_threads(before)


@pytest.fixture
def one_torch_thread() -> Iterator[None]:
    """PyTorch without its pool of OpenMP threads, which a child of fork waits for in vain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_of_fork_goes_on(one_torch_thread: None) -> None:
    module = layers()
    call = compiled(module)
    with torch.no_grad():
        want = call(x_of())
        child = os.fork()
        if child == 0:
            code = 1
            try:
                same = torch.allclose(call(x_of()), want, rtol=1e-4, atol=1e-5)
                with torch.inference_mode():
                    code = 0 if same and call(x_of(1, 8, WIDTH)).shape == (1, 8, WIDTH) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
