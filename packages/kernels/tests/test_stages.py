"""Stages of a program: calls that share one fork-join, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, normal

import ablation_kernels

ROWS, WIDTH = 37, 24
BLOCK = 4096  # bytes between arena values, more than any of them takes


def chain(random: np.random.Generator) -> tuple[list[Any], list[Any], Float32]:
    """layer_norm, matmul with relu, matmul with the input added; and the result in float64."""
    x = normal(random, ROWS, WIDTH)
    weight, bias = normal(random, WIDTH), normal(random, WIDTH)
    up, down = normal(random, WIDTH, 16), normal(random, 16, WIDTH)
    values = [
        ("input", x.shape),
        ("constant", weight),
        ("constant", bias),
        ("constant", up),
        ("constant", down),
        ("arena", (ROWS, WIDTH), 0),
        ("arena", (ROWS, 16), BLOCK),
        ("output", (ROWS, WIDTH)),
    ]
    kernel = "matmul_packed_simd_parallel"
    calls: list[Any] = [
        ("layer_norm_simd_parallel", [0, 1, 2], 5, {}, 0, "norm"),
        (kernel, [5, 3], 6, {"activation": "relu"}, 0, "up"),
        (kernel, [6, 4, None, 0], 7, {}, 0, "down"),
    ]
    return values, calls, x


def run(
    values: list[Any], calls: list[Any], x: Float32, stages: list[tuple[int, int]]
) -> tuple[Float32, Any]:
    program = ablation_kernels.Program(values, calls, 4 * BLOCK, stages)
    (out,) = program.run([x])
    (timed,), times, total = program.run_timed([x])
    np.testing.assert_array_equal(out, timed)
    assert times.min() >= 0
    assert times.sum() <= total
    return out, program


@pytest.mark.parametrize("threads", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("stages", [[(0, 3)], [(0, 2)], [(1, 2)], [(0, 1), (1, 2)]])
def test_stages_give_the_same_bits(
    threads: int, stages: list[tuple[int, int]], random: np.random.Generator
) -> None:
    ablation_kernels.set_num_threads(threads)
    values, calls, x = chain(random)
    expected, _ = run(values, calls, x, [])
    actual, _ = run(values, calls, x, stages)
    np.testing.assert_array_equal(actual, expected)


def test_stage_against_float64(random: np.random.Generator) -> None:
    ablation_kernels.set_num_threads(3)
    values, calls, x = chain(random)
    actual, _ = run(values, calls, x, [(0, 3)])
    norm = reference.layer_norm(x, values[1][1], values[2][1])
    hidden = np.maximum(norm @ reference.float64(values[3][1]), 0)
    expected = reference.matmul(hidden.astype(np.float32), values[4][1], addend=x)
    allowed = 64 * tolerance.matmul(WIDTH, expected.magnitude)
    assert_within(actual, hidden @ reference.float64(values[4][1]) + x, allowed)


def test_batches_are_rows(random: np.random.Generator) -> None:
    """Leading axes fold into rows; a vector is read by all of them."""
    ablation_kernels.set_num_threads(4)
    x, shift = normal(random, 2, 3, 7, 5), normal(random, 5)
    values = [
        ("input", x.shape),
        ("constant", shift),
        ("arena", x.shape, 0),
        ("output", x.shape),
    ]
    calls: list[Any] = [
        ("add_simd", [0, 1], 2, {}, 0, "add"),
        ("mul_simd", [2, 0], 3, {}, 0, "mul"),
    ]
    (out,) = ablation_kernels.Program(values, calls, BLOCK, [(0, 2)]).run([x])
    np.testing.assert_array_equal(out, (x + shift) * x)


def test_rows_that_depend_on_one_another_are_refused(random: np.random.Generator) -> None:
    x = normal(random, 8, 6)
    values = [("input", x.shape), ("arena", (6, 8), 0), ("output", (6, 8))]
    calls: list[Any] = [
        ("permute_parallel", [0], 1, {"perm": (1, 0)}, 0, "turn"),
        ("relu_simd", [1], 2, {}, 0, "relu"),
    ]
    with pytest.raises(ValueError, match=r"'turn'.*in a stage.*depend on one another"):
        ablation_kernels.Program(values, calls, BLOCK, [(0, 2)])


def test_products_of_a_batch_are_refused(random: np.random.Generator) -> None:
    b = normal(random, 2, 4, 4)
    values = [("input", (2, 3, 4)), ("constant", b), ("output", (2, 3, 4))]
    calls: list[Any] = [("matmul_blas", [0, 1], 2, {}, 0, "product")]
    with pytest.raises(ValueError, match=r"'product'.*depend on one another"):
        ablation_kernels.Program(values, calls, BLOCK, [(0, 1)])


def test_other_rows_are_refused(random: np.random.Generator) -> None:
    values = [("input", (8, 6)), ("input", (4, 6)), ("output", (8, 6)), ("output", (4, 6))]
    calls: list[Any] = [("relu_simd", [0], 2, {}, 0, "one"), ("relu_simd", [1], 3, {}, 0, "two")]
    with pytest.raises(ValueError, match=r"'two'.*writes shape \(4, 6\); accepted: 8 rows"):
        ablation_kernels.Program(values, calls, BLOCK, [(0, 2)])


def test_memory_that_another_thread_still_reads_is_refused(random: np.random.Generator) -> None:
    """The second product writes over the first one's input: right in order, wrong in rows."""
    ablation_kernels.set_num_threads(2)
    values, calls, _ = chain(random)
    values[6] = ("arena", (ROWS, 16), 0)
    values[5] = ("arena", (ROWS, WIDTH), BLOCK)
    values.append(("arena", (ROWS, WIDTH), 0))
    calls[0] = ("relu_simd", [0], 8, {}, 0, "first")
    calls.insert(1, ("layer_norm_simd", [8, 1, 2], 5, {}, 0, "norm"))
    ablation_kernels.Program(values, calls, 4 * BLOCK, [(2, 2)])
    with pytest.raises(ValueError, match=r"in a stage.*works; accepted: rows of its own"):
        ablation_kernels.Program(values, calls, 4 * BLOCK, [(0, 4)])


@pytest.mark.parametrize(
    "stages", [[(0, 4)], [(1, 2), (0, 1)], [(0, 2), (1, 2)], [(3, 1)], [(0, 0)]]
)
def test_stages_that_do_not_fit_the_calls(
    stages: list[tuple[int, int]], random: np.random.Generator
) -> None:
    values, calls, _ = chain(random)
    with pytest.raises(ValueError, match=r"stage of .* from call"):
        ablation_kernels.Program(values, calls, 4 * BLOCK, stages)


def test_stages_of_another_form(random: np.random.Generator) -> None:
    values, calls, _ = chain(random)
    with pytest.raises(TypeError, match=r"stages' \[0\].*first call, number of calls"):
        ablation_kernels.Program(values, calls, 4 * BLOCK, ["ab"])  # type: ignore[list-item]


def test_the_table_names_the_slots_of_rows() -> None:
    ops = ablation_kernels.ops()
    assert ops["matmul"].rows == {"a", "addend"}
    assert ops["layer_norm"].rows == {"x"}
    assert not ops["attention"].rows
    assert not ops["permute"].rows
    assert ops["sum"].rows == {"x"} and ops["maximum"].rows == {"a", "b"}
    assert not ops["take"].rows and not ops["concat"].rows


@pytest.mark.parametrize("kernel", ["matmul_strassen_simd", "matmul_strassen_twice_simd"])
def test_each_thread_has_the_scratch_of_its_rows(kernel: str, random: np.random.Generator) -> None:
    """By itself such a call takes scratch for one thread; in a stage each has that of its rows."""
    ablation_kernels.set_num_threads(3)
    values, calls, x = chain(random)
    (expected,) = ablation_kernels.Program(values, calls, 4 * BLOCK).run([x])
    needs = [
        sum(
            ablation_kernels.scratch_bytes(kernel, [(rows, *a), b], constants=["b"])
            for rows in (12, 12, 13)
        )
        for a, b in (([WIDTH], (WIDTH, 16)), ([16], (16, WIDTH)))
    ]
    up, down = 2 * BLOCK, 2 * BLOCK + needs[0]
    arena = down + needs[1]
    calls[1:] = [(kernel, *calls[1][1:4], up, "up"), (kernel, *calls[2][1:4], down, "down")]
    (out,) = ablation_kernels.Program(values, calls, arena, [(0, 3)]).run([x])
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match=r"'down'.*: needs \d+ bytes of scratch at"):
        ablation_kernels.Program(values, calls, arena - 64, [(0, 3)])
    calls[2] = (kernel, *calls[2][1:4], up + 64, "down")
    with pytest.raises(ValueError, match=r"in a stage: writes where call '.*works"):
        ablation_kernels.Program(values, calls, arena, [(0, 3)])
