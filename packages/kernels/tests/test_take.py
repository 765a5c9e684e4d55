"""take: rows by their numbers, copied bit for bit, and IndexError for a number of no row."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from harness import Float32, guarded, kernels_of, normal

import ablation_kernels

KERNELS = kernels_of("take")
each_kernel = pytest.mark.parametrize("kernel", KERNELS)
#: No whole number in [0, 7), and how the error prints it.
WRONG = (
    (7, "7"),
    (-1, "-1"),
    (2.5, "2.5"),
    (-0.5, "-0.5"),
    (np.nan, "nan"),
    (np.inf, "inf"),
    (-np.inf, "-inf"),
    (3e38, "3.00000001e+38"),
    (2**31, "2.14748365e+09"),
    (2**46, "7.03687442e+13"),
)


def check(kernel: str, x: Float32, ids: Float32, axis: int) -> None:
    expected = np.take(x, ids.astype(np.int64), axis)
    actual = guarded("take", expected.shape, x, ids, axis, kernel=kernel)
    np.testing.assert_array_equal(actual, expected)


@each_kernel
@pytest.mark.parametrize("ids_shape", [(), (1,), (9,), (2, 3), (2, 1, 5)])
@pytest.mark.parametrize("shape", [(1,), (17,), (5, 33), (7, 2, 9), (3, 8, 1), (1, 1, 40)])
def test_every_axis(
    kernel: str, shape: tuple[int, ...], ids_shape: tuple[int, ...], random: np.random.Generator
) -> None:
    x = normal(random, *shape)
    for axis in range(-len(shape), len(shape)):
        ids = random.integers(0, shape[axis], ids_shape).astype(np.float32)
        check(kernel, x, ids, axis)


@each_kernel
@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 31, 255, 256, 257, 1031])
def test_lengths_of_a_row(kernel: str, length: int, random: np.random.Generator) -> None:
    ids = random.integers(0, 53, 301).astype(np.float32)
    check(kernel, normal(random, 53, length), ids, 0)
    check(kernel, normal(random, 3, 53, length), ids, 1)


@each_kernel
def test_an_axis_of_one_is_repeated(kernel: str, random: np.random.Generator) -> None:
    """expand, flip and roll are lists of numbers."""
    x = normal(random, 3, 1, 65)
    check(kernel, x, np.zeros(7, np.float32), 1)
    whole = normal(random, 3, 65)
    for ids in (np.arange(65)[::-1], np.roll(np.arange(65), 7), np.repeat(np.arange(65), 3)):
        check(kernel, whole, ids.astype(np.float32), 1)
    np.testing.assert_array_equal(
        ablation_kernels.take(whole, np.array([-0.0], np.float32), 0, kernel=kernel), whole[:1]
    )


@each_kernel
def test_the_largest_number_that_float32_counts_to(kernel: str) -> None:
    x = np.zeros(2**24 + 3, np.float32)
    x[[0, 2**24 - 1, 2**24, 2**24 + 2]] = 1, 2, 3, 4
    ids = np.array([0, 2**24 - 1, 2**24, 2**24 + 2], np.float32)
    assert ablation_kernels.take(x, ids, 0, kernel=kernel).tolist() == [1, 2, 3, 4]
    # 2^24 + 4 is the next float32, and no row
    with pytest.raises(IndexError, match="16777220"):
        ablation_kernels.take(x, np.array([2**24 + 4], np.float32), 0, kernel=kernel)


@each_kernel
def test_bits_survive(kernel: str) -> None:
    bits = np.arange(8 * 12, dtype=np.uint32).reshape(8, 12) + np.uint32(0x7F800001)
    rows = ablation_kernels.take(
        bits.view(np.float32), np.array([5, 0], np.float32), 0, kernel=kernel
    )
    np.testing.assert_array_equal(np.asarray(rows).view(np.uint32), bits[[5, 0]])


@each_kernel
@pytest.mark.parametrize("value,text", WRONG, ids=[text for _, text in WRONG])
def test_an_id_of_no_row(kernel: str, value: float, text: str) -> None:
    """Whichever thread meets it, the caller gets the IndexError, and the next call works."""
    x = np.ones((7, 40), np.float32)
    for place in (0, 1000, 2999):
        ids = np.zeros(3000, np.float32)
        ids[place] = value
        with pytest.raises(IndexError) as caught:
            ablation_kernels.take(x, ids, 0, kernel=kernel)
        message = str(caught.value)
        assert message.startswith(f"take: argument 'ids' has the element {text} at place {place};")
        assert "accepted: whole numbers in [0, 7)" in message
    assert ablation_kernels.take(x, np.zeros(3000, np.float32), 0, kernel=kernel).all()


@each_kernel
def test_a_program_names_the_call(kernel: str, random: np.random.Generator) -> None:
    table = normal(random, 7, 40)
    program = ablation_kernels.Program(
        [("constant", table), ("input", (3000,)), ("arena", (3000, 40), 0), ("output", (3000, 40))],
        [
            (kernel, [0, 1], 2, {"axis": 0}, 0, "embedding"),
            ("relu_simd_parallel", [2], 3, {}, 0, "relu"),
        ],
        3000 * 40 * 4,
    )
    ids = random.integers(0, 7, 3000).astype(np.float32)
    expected = np.maximum(table[ids.astype(int)], 0)
    np.testing.assert_array_equal(program.run([ids])[0], expected)
    wrong = ids.copy()
    wrong[1700] = 7
    for run in (program.run, program.run_timed):
        with pytest.raises(IndexError, match=r"^Program: call 'embedding': take: .* element 7 at"):
            run([wrong])
    np.testing.assert_array_equal(program.run([ids])[0], expected)


@each_kernel
def test_ids_that_change_meanwhile(kernel: str) -> None:
    """Another thread writes to ids: rows that exist or IndexError, never memory outside x."""
    x, ids = np.ones((2, 1), np.float32), np.zeros(20000, np.float32)
    done = threading.Event()

    def change() -> None:
        while not done.is_set():
            ids[::7] = 2**40
            ids[::7] = 1

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(50):
            try:
                assert np.all(ablation_kernels.take(x, ids, 0, kernel=kernel) == 1)
            except IndexError as error:
                assert "1.09951163e+12" in str(error)
    finally:
        done.set()
        changer.join()
