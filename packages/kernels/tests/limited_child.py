"""Runs calls where memory is short, each in a fork of this process; prints what became of them.

Arguments: name of the call, name of the limit. One JSON object: MiB left and threads -> outcome.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import ablation_kernels as kernels

MEBIBYTES_LEFT = (0, 1, 8, 64, 1024)
OUTCOMES = {10: "result", 11: "MemoryError", 12: "wrong result"}

generator = np.random.default_rng(0)
Q = generator.standard_normal((2, 4, 48, 64), dtype=np.float32)
A = generator.standard_normal((200, 200), dtype=np.float32)


def program(values: list[Any], kernel: str) -> kernels.Program:
    return kernels.Program(values, [(kernel, [0, 1], 2, {}, 0, "product")], 0)


kernels.set_num_threads(4)  # the most that a case sets: a program is built for so many
BUILT = program([("input", A.shape), ("constant", A), ("output", A.shape)], "matmul_blas_parallel")


def backward() -> Any:
    output, lse = kernels.attention_lse(Q, Q, Q)
    return kernels.attention_backward(Q, Q, Q, output, lse, Q)


def more_threads() -> Any:
    kernels.matmul(A, A, kernel="blas")
    kernels.set_num_threads(8)
    return kernels.matmul(A, A, kernel="blas_parallel")


CALLS: dict[str, Callable[[], Any]] = {
    "matmul_blas": lambda: kernels.matmul(A, A, kernel="blas"),
    "matmul_blas_parallel": lambda: kernels.matmul(A, A, kernel="blas_parallel"),
    "attention_fused": lambda: kernels.attention(Q, Q, Q, kernel="fused_simd_parallel"),
    "attention_flash": lambda: kernels.attention(Q, Q, Q, kernel="flash_simd_parallel"),
    "attention_lse": lambda: kernels.attention_lse(Q, Q, Q),
    "attention_backward": backward,
    "attention_bf16": lambda: kernels.attention_bf16(*[Q.view(np.uint16)[..., 1::2].copy()] * 3),
    "teaching": lambda: kernels.teaching.attention(Q, Q, Q, form="flash"),
    "time_kernels": lambda: kernels.time_kernels("matmul", (64, 64), 1),
    "program": lambda: BUILT.run([A])[0],
    "more_threads": more_threads,
}


def status_bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def limited(call: str, limit: str, left: int, threads: int) -> int:
    """Exit code in a child: see OUTCOMES."""
    kernels.set_num_threads(threads)
    # The threads of the pool start before the limit: a failure meets them at work.
    kernels.softmax(np.zeros((2000, 256), np.float32))
    field = "VmSize" if limit == "RLIMIT_AS" else "VmData"
    bytes_left = status_bytes(field) + (left << 20)
    resource.setrlimit(getattr(resource, limit), (bytes_left, -1))
    try:
        result = CALLS[call]()
    except MemoryError:
        return 11
    if call in ("matmul_blas", "matmul_blas_parallel", "program", "more_threads"):
        resource.setrlimit(getattr(resource, limit), (-1, -1))
        return 10 if np.allclose(result, A.astype(np.float64) @ A, atol=1e-3) else 12
    return 10


def main() -> None:
    call, limit = sys.argv[1:]
    outcomes = {}
    for threads in (1, 4):
        for left in MEBIBYTES_LEFT:
            child = os.fork()
            if child == 0:
                signal.alarm(60)
                code = 13
                try:
                    code = limited(call, limit, left, threads)
                finally:
                    os._exit(code)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            outcomes[f"{left} MiB, {threads} threads"] = OUTCOMES.get(code, f"exit {code}")
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main()
