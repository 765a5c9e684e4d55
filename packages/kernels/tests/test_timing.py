"""The side-by-side timing and its command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ablation_kernels as kernels
from ablation_kernels.timing import input_shapes

TIMED = [op for op in kernels.ops() if op not in ("permute", "slice", "take", "concat")]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ablation_kernels", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("op", TIMED)
def test_every_kernel_of_an_op_is_timed_once_a_round(op: str) -> None:
    has_heads = op.startswith("attention") or op == "rotary"
    shape = (1, 2, 5, 8) if has_heads else (5, 8)
    times = kernels.time_kernels(op, shape, rounds=3)
    assert [time.kernel for time in times] == [k.name for k in kernels.op_table() if k.op == op]
    assert all(len(time.times_ns) == 3 for time in times)
    assert all(time.min_ns <= time.median_ns for time in times)


def test_shapes_follow_from_the_first_input() -> None:
    assert input_shapes("layer_norm", (3, 7)) == [(3, 7), (7,), (7,)]
    assert input_shapes("rotary", (1, 2, 3, 8)) == [(1, 2, 3, 8), (3, 4), (3, 4)]
    assert input_shapes("matmul", (3, 7)) == [(3, 7), (7, 7), None, None]
    assert input_shapes("attention", (1, 2, 3, 4)) == [(1, 2, 3, 4)] * 3 + [None]
    whole, rows = (1, 2, 3, 4), (1, 2, 3)
    assert input_shapes("attention_backward", whole) == [*[whole] * 4, rows, whole]


def test_command_prints_each_kernel() -> None:
    done = run("softmax", "4x9", "--threads", "1", "--rounds", "2")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [
        "softmax_scalar",
        "softmax_simd",
        "softmax_simd_parallel",
    ]


def test_command_without_op_prints_table_and_ceilings() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    assert all(kernel.name in done.stdout for kernel in kernels.op_table())
    assert "GFLOP/s multiply-add" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("softmaxx", "4x9"), "argument 'op' is 'softmaxx'; accepted: matmul"),
        (("attention", "4x9"), "accepted: 4 axes"),
        (("softmax",), "required: shape"),
        (("softmax", "4y9"), "invalid shape_of value: '4y9'"),
        (("softmax", "4x9", "--threads", "0"), "accepted: 1 to 1024"),
        (("softmax", "4x9", "--rounds", "0"), "accepted: 1 or more"),
    ],
)
def test_bad_arguments_exit_with_2_and_say_why(arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
