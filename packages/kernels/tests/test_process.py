"""Nothing in the wheel ends, aborts or hangs the process: short memory, exit, interrupts, forks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Float32, normal

import ablation_kernels

CALLS = [
    "matmul_blas",
    "matmul_blas_parallel",
    "attention_fused",
    "attention_flash",
    "attention_lse",
    "attention_backward",
    "attention_bf16",
    "teaching",
    "time_kernels",
    "program",
    "more_threads",
]

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc of Linux")
is_sanitized = ablation_kernels.build_info()["sanitizer"] != "none"


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120
    )


@needs_linux
@pytest.mark.skipif(is_sanitized, reason="a sanitizer maps terabytes and ends where it cannot")
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_DATA"])
@pytest.mark.parametrize("call", CALLS)
def test_short_memory_gives_a_result_or_a_memory_error(call: str, limit: str) -> None:
    """OpenBLAS by itself calls exit(1) where it cannot map a buffer."""
    script = Path(__file__).with_name("limited_child.py")
    done = subprocess.run(
        [sys.executable, str(script), call, limit], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    outcomes: dict[str, str] = json.loads(done.stdout)
    assert set(outcomes.values()) <= {"result", "MemoryError"}, (outcomes, done.stderr)
    assert {outcomes[key] for key in outcomes if key.startswith("1024 ")} == {"result"}
    if "blas" in call or call in ("program", "more_threads"):
        assert outcomes["0 MiB, 1 threads"] == "MemoryError"


NO_THREADS = """
import ablation_kernels, numpy as np, os, resource
a = np.random.default_rng(0).standard_normal((300, 300), dtype=np.float32)
expected = ablation_kernels.matmul(a, a, kernel="scalar")
if os.geteuid() == 0:
    os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
ablation_kernels.set_num_threads(4)
for kernel in ("blas_parallel", "packed_simd_parallel"):
    y = ablation_kernels.matmul(a, a, kernel=kernel)
    assert abs(y - expected).max() < 1e-3
"""


@pytest.mark.skipif(
    ablation_kernels.build_info()["parallel"] != "pool", reason="these threads are not the pool's"
)
def test_threads_that_cannot_start_leave_the_work_to_the_others() -> None:
    done = python(NO_THREADS)
    assert (done.returncode, done.stderr) == (0, "")


EXIT = """
import ablation_kernels as kernels, numpy as np, sys, threading, time
kernels.set_num_threads(2)
a = np.random.default_rng(0).standard_normal((256, 256), dtype=np.float32)
q = a.reshape(1, 4, 64, 256)[..., :64].copy()
values = [("input", a.shape), ("constant", a), ("output", a.shape)]
program = kernels.Program(values, [("matmul_blas_parallel", [0, 1], 2, {}, 0, "product")], 0)

class Lender:
    "An array behind Python code, as a tensor is."
    def __dlpack__(self, **options):
        sum(range(1000))
        return a.__dlpack__()
    def __dlpack_device__(self):
        return a.__dlpack_device__()

lender = Lender()
calls = {
    "matmul": lambda: kernels.matmul(a, a, kernel="blas_parallel"),
    "attention": lambda: kernels.attention(q, q, q, kernel="flash_simd_parallel"),
    "short": lambda: kernels.relu(q),
    "program": lambda: program.run([a]),
    "teaching": lambda: kernels.teaching.attention(q, q, q, form="flash"),
    "lender": lambda: kernels.relu(lender),
}
call = calls[sys.argv[1]]

def loop():
    while True:
        call()

for _ in range(3):
    threading.Thread(target=loop, daemon=True).start()
time.sleep(0.05)
sys.exit(7)
"""


@pytest.mark.parametrize("call", ["matmul", "attention", "short", "program", "teaching", "lender"])
def test_the_interpreter_ends_while_daemon_threads_compute(call: str) -> None:
    for _ in range(3):
        done = python(EXIT, call)
        assert (done.returncode, done.stderr) == (7, "")


# The handler runs after the wheel's own, which is registered later.
JOIN_AT_EXIT = """
import atexit, threading
stopped = threading.Event()
atexit.register(lambda: (stopped.set(), worker.join(), print("joined")))
import ablation_kernels, numpy as np
x = np.ones((300, 300), np.float32)

def work():
    while not stopped.is_set():
        ablation_kernels.matmul(x, x)

worker = threading.Thread(target=work, daemon=True)
worker.start()
"""


def test_a_handler_of_the_application_can_still_wait_for_its_thread() -> None:
    done = python(JOIN_AT_EXIT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "joined\n", "")


INTERRUPT = """
import ablation_kernels, numpy as np, signal, threading
# A shell starts what it runs in the background with this signal ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
a = np.ones((600, 600), np.float32)
where = {where!r}

def compute():
    while True:
        ablation_kernels.matmul(a, a, kernel="scalar")

if where == "exit":
    threading.Thread(target=compute, daemon=True).start()
print("started", flush=True)
if where == "main":
    compute()
"""


@pytest.mark.parametrize(("where", "accepted"), [("main", {-signal.SIGINT, 130}), ("exit", {0})])
def test_an_interrupt_ends_calls_and_the_wait_for_them(where: str, accepted: set[int]) -> None:
    """In the main thread it arrives when the call is over; at exit it may come at any time."""
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPT.format(where=where)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "started\n"
        time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=120)
    assert child.returncode in accepted | {-signal.SIGINT, 130}
    assert "terminate" not in errors and "Abort" not in errors


FORK_AND_EXIT = """
import ablation_kernels, numpy as np, os, sys, threading, time
a = np.ones((400, 400), np.float32)
def loop():
    while True:
        ablation_kernels.matmul(a, a, kernel="blas_parallel")
for _ in range(2):
    threading.Thread(target=loop, daemon=True).start()
time.sleep(0.05)
for _ in range(20):
    child = os.fork()
    if child == 0:
        ablation_kernels.matmul(a, a, kernel="blas_parallel")
        sys.exit(5)  # with the handlers of the interpreter's end
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.platform == "darwin", reason="Accelerate is not for children made by fork")
def test_a_child_made_while_others_multiply_multiplies_and_exits() -> None:
    done = python("import warnings; warnings.simplefilter('ignore')\n" + FORK_AND_EXIT)
    assert (done.returncode, done.stderr) == (0, "")


def product_program(a: Float32, kernel: str) -> Any:
    return ablation_kernels.Program(
        [("input", a.shape), ("constant", a), ("output", a.shape)],
        [(kernel, [0, 1], 2, {}, 0, "product")],
        0,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_program_that_runs_elsewhere_at_a_fork_runs_in_the_child(
    random: np.random.Generator,
) -> None:
    a = normal(random, 250, 250)
    program = product_program(a, "matmul_scalar")
    expected = program.run([a])[0]
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            program.run([a])

    worker = threading.Thread(target=load)
    worker.start()
    try:
        time.sleep(0.02)
        for _ in range(5):
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                code = 1
                try:
                    code = 0 if np.array_equal(program.run([a])[0], expected) else 2
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        done.set()
        worker.join()


def test_more_threads_than_the_library_has_buffers_for(random: np.random.Generator) -> None:
    """The first ones stay, the others come and go: 100 at once, 150 in turn."""
    a = normal(random, 120, 120)
    expected = ablation_kernels.matmul(a, a, kernel="blas")
    everyone = threading.Barrier(100)
    wrong: list[int] = []

    def work(is_one_of_many: bool) -> None:
        if is_one_of_many:
            everyone.wait()
        for _ in range(3):
            y = ablation_kernels.matmul(a, a, kernel="blas")
            if not np.array_equal(y, expected):
                wrong.append(1)

    threads = [threading.Thread(target=work, args=(True,)) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _ in range(150):
        thread = threading.Thread(target=work, args=(False,))
        thread.start()
        thread.join()
    assert not wrong
