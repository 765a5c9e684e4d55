"""The matmul kernels that pack: blocks of k, copies of rows, and constants packed by a program."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import Float32, assert_within, guarded, normal

import ablation_kernels

KERNELS = [
    info.name
    for info in ablation_kernels.op_table()
    if info.op == "matmul" and info.gemm == "packed"
]
each_kernel = pytest.mark.parametrize("kernel", KERNELS)

#: Depths around one block of k for first-level caches of 32 to 64 KiB, and widths of rows that
#: collide in them.
DEEP = [(13, 1023, 33), (13, 1024, 65), (25, 1025, 7), (150, 2048, 40), (27, 4096, 31)]


def run_program(
    kernel: str,
    a: Float32,
    b: Float32,
    bias: Float32 | None = None,
    addend: Float32 | None = None,
    **attributes: Any,
) -> tuple[ablation_kernels.Program, Float32]:
    """One matmul with b as a constant, and its output."""
    n = b.shape[-2 if attributes.get("transpose_b") else -1]
    shape = (*a.shape[:-1], n)
    shapes = [x if x is None else x.shape for x in (a, b, bias, addend)]
    scratch = ablation_kernels.scratch_bytes(
        kernel, shapes, attributes, ablation_kernels.get_num_threads(), constants=["b"]
    )
    values: list[tuple[Any, ...]] = [("input", a.shape), ("constant", b), ("output", shape)]
    slots: list[int | None] = [0, 1, None, None]
    for slot, array in ((2, bias), (3, addend)):
        if array is not None:
            slots[slot] = len(values)
            values.append(("constant", array))
    program = ablation_kernels.Program(
        values, [(kernel, slots, 2, attributes, 0, "product")], scratch
    )
    return program, program.run([a])[0]


@each_kernel
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("m,k,n", DEEP)
def test_deep_products(
    kernel: str, m: int, k: int, n: int, threads: int, random: np.random.Generator
) -> None:
    """Sums that go on over several blocks of k, with what enters first and what comes last."""
    ablation_kernels.set_num_threads(threads)
    a, b = normal(random, m, k), normal(random, k, n)
    keywords = {"bias": normal(random, n), "addend": normal(random, m, n), "activation": "gelu"}
    expected = reference.matmul(a, b, alpha=0.1, **keywords)  # type: ignore[arg-type]
    actual = guarded("matmul", (m, n), a, b, alpha=0.1, kernel=kernel, **keywords)
    allowed = tolerance.product(kernel, a, b, expected.magnitude, alpha=0.1)
    assert_within(actual, expected.value, allowed)


@each_kernel
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("m,k,n", [(1, 5, 3), (19, 35, 67), (40, 2100, 130), (130, 64, 513)])
def test_constant_gives_what_packing_in_the_call_gives(
    kernel: str, m: int, k: int, n: int, transpose_b: bool, random: np.random.Generator
) -> None:
    a = normal(random, 2, m, k)
    b = normal(random, n, k) if transpose_b else normal(random, k, n)
    bias, addend = normal(random, n), normal(random, 2, m, n)
    attributes: dict[str, Any] = {"transpose_b": transpose_b, "alpha": 0.5, "activation": "relu"}
    program, actual = run_program(kernel, a, b, bias, addend, **attributes)
    expected = ablation_kernels.matmul(a, b, bias=bias, addend=addend, kernel=kernel, **attributes)
    np.testing.assert_array_equal(actual, expected)
    # Strassen's: as many sums of blocks as there are products, in panels of 64 columns at most
    levels = 0 if "strassen" not in kernel else 2 if "twice" in kernel else 1
    block_k, block_n = -(-k // 2**levels), -(-n // 2**levels)
    assert program.packed_bytes >= 4 * 7**levels * block_k * block_n
    assert program.packed_bytes <= 4 * 7**levels * block_k * (block_n + 64)


@each_kernel
def test_other_threads_give_the_same_bits(kernel: str, random: np.random.Generator) -> None:
    a, b = normal(random, 300, 1500), normal(random, 1500, 200)
    ablation_kernels.set_num_threads(1)
    expected = ablation_kernels.matmul(a, b, kernel=kernel)
    for threads in (2, 3, 5):
        ablation_kernels.set_num_threads(threads)
        np.testing.assert_array_equal(ablation_kernels.matmul(a, b, kernel=kernel), expected)


@each_kernel
def test_packed_constant_is_not_kept_alive(kernel: str, random: np.random.Generator) -> None:
    a, b = normal(random, 4, 30), normal(random, 30, 20)
    expected = ablation_kernels.matmul(a, b, kernel=kernel)
    program, _ = run_program(kernel, a, b)
    assert program.released_constants == (1,)
    alive = weakref.ref(b)
    del b
    gc.collect()
    assert alive() is None
    np.testing.assert_array_equal(program.run([a])[0], expected)


@each_kernel
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("k,n", [(1, 1), (35, 67), (64, 64), (5, 129)])
def test_a_packed_constant_comes_back_bit_by_bit(
    kernel: str, k: int, n: int, transpose_b: bool, random: np.random.Generator
) -> None:
    a = normal(random, 3, k)
    b = normal(random, n, k) if transpose_b else normal(random, k, n)
    b.reshape(-1)[:: max(1, k * n // 3)] = -0.0
    b[-1, -1] = np.nan
    program, _ = run_program(kernel, a, b, transpose_b=transpose_b)
    if "strassen" in kernel:
        with pytest.raises(ValueError, match=r"Program.unpacked: argument 'value' is 1; accepted"):
            program.unpacked(1)
        return
    assert program.unpacked(1).shape == b.shape
    assert program.unpacked(1).tobytes() == b.tobytes()
    for value in (-1, 0, 2, 99):
        with pytest.raises(ValueError, match=r"'value' is .*; accepted: the id of a constant"):
            program.unpacked(value)
    with pytest.raises(TypeError, match="'value'"):
        program.unpacked("1")  # type: ignore[arg-type]


def test_constant_of_another_kernel_is_kept(random: np.random.Generator) -> None:
    a, b = normal(random, 4, 30), normal(random, 30, 20)
    expected = a @ b
    program, _ = run_program("matmul_blas", a, b)
    assert program.packed_bytes == 0
    assert program.released_constants == ()
    assert program.copied_bytes == b.nbytes
    del b
    gc.collect()
    np.testing.assert_allclose(program.run([a])[0], expected, rtol=1e-4, atol=1e-4)


@each_kernel
def test_a_constant_of_several_calls_is_packed_once(
    kernel: str, random: np.random.Generator
) -> None:
    """One copy for each direction in which it is read, whatever alpha and activation are."""
    a, b = normal(random, 9, 40), normal(random, 40, 40)
    attributes: list[dict[str, Any]] = [
        {},
        {"alpha": 0.5},
        {"activation": "relu"},
        {"transpose_b": True},
        {"transpose_b": True, "alpha": 0.5},
    ]
    values: list[tuple[Any, ...]] = [("input", a.shape), ("constant", b), ("constant", b)]
    values += [("output", a.shape)] * len(attributes)
    calls = [
        (kernel, [0, 1 + index % 2], 3 + index, given, 0, str(index))
        for index, given in enumerate(attributes)
    ]
    scratch = ablation_kernels.scratch_bytes(
        kernel,
        [a.shape, b.shape, None, None],
        {},
        ablation_kernels.get_num_threads(),
        constants=["b"],
    )
    program = ablation_kernels.Program(values, calls, scratch)
    single, _ = run_program(kernel, a, b)
    assert program.packed_bytes == 2 * single.packed_bytes
    assert program.released_constants == (1, 2)
    for given, actual in zip(attributes, program.run([a]), strict=True):
        np.testing.assert_array_equal(actual, ablation_kernels.matmul(a, b, kernel=kernel, **given))


@pytest.mark.parametrize("kernel", ["matmul_blas", *KERNELS])
def test_a_program_owns_its_constants(kernel: str, random: np.random.Generator) -> None:
    """What is written to the arrays afterwards changes nothing: not packed b, not bias."""
    a, b, bias = normal(random, 4, 30), normal(random, 30, 20), normal(random, 20)
    view = bias.view()
    view.flags.writeable = False
    program, expected = run_program(kernel, a, b, view)
    b[:], bias[:] = 0, 0
    np.testing.assert_array_equal(program.run([a])[0], expected)
    b.flags.writeable = bias.flags.writeable = False
    kept, _ = run_program(kernel, a, b, bias[:])
    assert kept.copied_bytes == 0, "nobody can write to them: they are read in place"
    borrowed = normal(random, 20).view()
    borrowed.flags.writeable = False
    copied, _ = run_program(kernel, a, b, borrowed)
    assert copied.copied_bytes == bias.nbytes


@each_kernel
def test_a_constant_takes_no_scratch(kernel: str) -> None:
    shapes = [(8, 96), (96, 640), None, None]
    without = ablation_kernels.scratch_bytes(kernel, shapes, {}, 2, constants=["b"])
    assert ablation_kernels.scratch_bytes(kernel, shapes, {}, 2) >= without + 4 * 96 * 640


def test_unknown_constant_slot() -> None:
    with pytest.raises(ValueError, match=r"constants.*'weight'.*a b bias"):
        ablation_kernels.scratch_bytes(
            KERNELS[0], [(8, 96), (96, 64), None, None], {}, 2, constants=["weight"]
        )
