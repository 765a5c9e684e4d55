"""Program: calls over one arena, run and run_timed, and everything that it must refuse."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import reference
import tolerance
from harness import GUARD, Float32, assert_within, normal

import ablation_kernels
from ablation_kernels import Program

ROWS, DEPTH, LENGTH = 37, 24, 41

Values = list[tuple[Any, ...]]
Calls = list[tuple[Any, ...]]


def aligned(size: int) -> int:
    return (size + 63) // 64 * 64


class Chain:
    """softmax(relu(x @ w + bias)) transposed: constants, arena, alias, in place, output."""

    def __init__(self, random: np.random.Generator) -> None:
        self.weight, self.bias = normal(random, DEPTH, LENGTH), normal(random, LENGTH)
        self.values: Values = [
            ("input", (ROWS, DEPTH)),
            ("constant", self.weight),
            ("constant", self.bias),
            ("arena", (ROWS, LENGTH), 64),
            ("alias", (1, ROWS, LENGTH), 3),
            ("arena", (1, ROWS, LENGTH), 64 + aligned(ROWS * LENGTH * 4)),
            ("output", (LENGTH, 1, ROWS)),
        ]
        self.calls: Calls = [
            ("matmul_blas_parallel", [0, 1, None, None], 3, {"alpha": 0.5}, 0, "product"),
            ("bias_relu_simd", [3, 2], 3, {}, 0, "in_place"),
            ("softmax_simd_parallel", [4], 5, {}, 0, "softmax"),
            ("permute_parallel", [5], 6, {"perm": (2, 0, 1)}, 0, "transposed"),
        ]
        self.arena_bytes = 64 + 2 * aligned(ROWS * LENGTH * 4)

    def program(self) -> Program:
        return Program(self.values, self.calls, self.arena_bytes)

    def expected(self, x: Float32) -> reference.Array:
        product = reference.matmul(x, self.weight, alpha=0.5).value
        weights = reference.softmax(reference.bias_relu(product, self.bias))
        return weights.T.reshape(LENGTH, 1, ROWS)


@pytest.fixture
def chain(random: np.random.Generator) -> Chain:
    return Chain(random)


def check_chain(chain: Chain, x: Float32, actual: Float32) -> None:
    expected = chain.expected(x)
    allowed = tolerance.matmul(DEPTH, 40 * np.abs(expected))  # the softmax multiplies errors of x
    assert_within(actual, expected, allowed)


def test_run(chain: Chain, random: np.random.Generator) -> None:
    program = chain.program()
    for _ in range(3):
        x = normal(random, ROWS, DEPTH)
        (y,) = program.run([x])
        check_chain(chain, x, y)
    assert program.n_calls == 4
    assert tuple(program.call_names) == ("product", "in_place", "softmax", "transposed")
    assert program.arena_bytes == chain.arena_bytes


def test_run_timed_gives_the_same(chain: Chain, random: np.random.Generator) -> None:
    program, x = chain.program(), normal(random, ROWS, DEPTH)
    (plain,) = program.run([x])
    (timed,), times, total = program.run_timed([x])
    np.testing.assert_array_equal(timed, plain)
    assert times.dtype == np.int64 and times.shape == (4,)
    assert np.all(times >= 0)
    assert 0 < times.sum() <= total
    again, _, _ = program.run_timed([x], [plain])
    assert again[0] is plain


def test_outputs_are_written_and_nothing_else(chain: Chain, random: np.random.Generator) -> None:
    size = LENGTH * ROWS
    buffer = np.full(size + 2 * GUARD, 7, np.float32)
    out = buffer[GUARD:-GUARD].reshape(LENGTH, 1, ROWS)
    x = normal(random, ROWS, DEPTH)
    before = [array.copy() for array in (x, chain.weight, chain.bias)]
    (y,) = chain.program().run([x], [out])
    assert y is out
    check_chain(chain, x, out)
    assert np.all(buffer[:GUARD] == 7) and np.all(buffer[-GUARD:] == 7)
    for array, copy in zip((x, chain.weight, chain.bias), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_results_do_not_share_memory(chain: Chain, random: np.random.Generator) -> None:
    program = chain.program()
    x, other = normal(random, ROWS, DEPTH), normal(random, ROWS, DEPTH)
    (first,) = program.run([x])
    copy = first.copy()
    (second,) = program.run([other])
    assert not np.shares_memory(first, second)
    np.testing.assert_array_equal(first, copy)


def test_constants_are_kept_alive(random: np.random.Generator) -> None:
    x, kept = normal(random, 1000), normal(random, 1000)
    given = kept + 0
    given.flags.writeable = False
    values = [("input", (1000,)), ("constant", given), ("output", (1000,))]
    del given
    program = Program(values, [("add_simd", [0, 1], 2, {}, 0, "sum")], 0)
    del values
    rubbish = [normal(random, 1000) for _ in range(50)]
    np.testing.assert_array_equal(program.run([x])[0], x + kept)
    assert len(rubbish) == 50


def test_several_inputs_and_outputs_in_their_order(random: np.random.Generator) -> None:
    values = [
        ("output", (3,)),
        ("input", (3,)),
        ("constant", np.array([1, 2, 3], np.float32)),
        ("output", (1, 3)),
        ("input", (1,)),
        ("alias", (3,), 3),
    ]
    calls: Calls = [
        ("sub_scalar", [1, 4], 5, {}, 0, "difference"),  # writes the second output by its alias
        ("mul_scalar", [5, 2], 0, {}, 0, "product"),
    ]
    program = Program(values, calls, 0)
    first, second = program.run([np.array([5, 6, 7], np.float32), np.array([1], np.float32)])
    np.testing.assert_array_equal(first, [4, 10, 18])
    np.testing.assert_array_equal(second, [[4, 5, 6]])


@pytest.mark.parametrize(
    "form",
    ["fused_scalar", "fused_simd_parallel", "flash_simd_parallel", "flash_packed_simd_parallel"],
)
def test_attention_with_scratch_in_the_arena(form: str, random: np.random.Generator) -> None:
    kernel = f"attention_{form}"
    shape, mask_shape = (2, 3, 33, 16), (33, 33)
    attributes = {"scale": 0.25, "causal": True, "tile_q": 8, "tile_k": 8}
    threads = ablation_kernels.get_num_threads()
    shapes = [shape, shape, shape, mask_shape]
    scratch = ablation_kernels.scratch_bytes(kernel, shapes, attributes, threads)
    assert scratch > 0
    size = aligned(int(np.prod(shape)) * 4)
    q, k, v, mask = (normal(random, *s) for s in shapes)
    values: Values = [("input", shape)] * 3 + [
        ("constant", mask), ("arena", shape, 0), ("output", shape)
    ]  # fmt: skip
    calls: Calls = [
        (kernel, [0, 1, 2, 3], 4, attributes, size, "attention"),
        ("relu_scalar", [4], 5, {}, 0, "relu"),
    ]
    program = Program(values, calls, scratch + size)
    expected = reference.attention(q, k, v, mask=mask, causal=True, scale=0.25)
    allowed = tolerance.attention(expected, v, 16)
    for _ in range(2):
        assert_within(program.run([q, k, v])[0], reference.relu(expected.value), allowed)
    with pytest.raises(ValueError, match=r"'attention'.*scratch"):
        Program(values, calls, size + scratch - 64)
    for offset in (size + 64, size + 32, -64, 2**63 - 64, 0, size - 64):
        calls[0] = (*calls[0][:4], offset, "attention")
        with pytest.raises(ValueError, match=r"'attention'.*scratch"):
            Program(values, calls, size + scratch)


def test_concurrent_runs(random: np.random.Generator) -> None:
    """Three threads, one program and one arena: they take turns. Runs are long enough to meet."""
    shape = (257, 1021)
    values: Values = [("input", shape), ("arena", shape, 0), ("output", shape)]
    calls: Calls = [
        ("softmax_simd", [0], 1, {}, 0, "first"),
        ("softmax_simd", [1], 1, {}, 0, "second"),
        ("softmax_simd", [1], 2, {}, 0, "third"),
    ]
    program = Program(values, calls, aligned(257 * 1021 * 4))
    inputs = [normal(random, *shape, spread=3) for _ in range(3)]
    expected = [program.run([x])[0] for x in inputs]
    wrong: list[int] = []

    def work(index: int) -> None:
        out = np.empty(shape, np.float32)
        for _ in range(30):
            program.run([inputs[index]], [out])
            if not np.array_equal(out, expected[index]):
                wrong.append(index)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_two_programs_at_once(random: np.random.Generator) -> None:
    chains = [Chain(random), Chain(random)]
    programs = [chain.program() for chain in chains]
    x = normal(random, ROWS, DEPTH)
    expected = [program.run([x])[0] for program in programs]
    results: list[list[Float32]] = [[], []]

    def work(index: int) -> None:
        results[index] = [programs[index].run([x])[0] for _ in range(100)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(2):
        assert len(results[index]) == 100
        assert all(np.allclose(y, expected[index], rtol=1e-5) for y in results[index])


def test_more_threads_than_it_was_built_for(chain: Chain, random: np.random.Generator) -> None:
    """Scratch was sized for fewer: an error, never a write beyond it."""
    program, x = chain.program(), normal(random, ROWS, DEPTH)
    (expected,) = program.run([x])
    ablation_kernels.set_num_threads(ablation_kernels.get_num_threads() + 2)
    with pytest.raises(ValueError, match="threads"):
        program.run([x])
    with pytest.raises(ValueError, match="threads"):
        program.run_timed([x])
    ablation_kernels.set_num_threads(1)
    np.testing.assert_allclose(program.run([x])[0], expected, rtol=1e-4)


def test_empty_arena_is_lazy() -> None:
    """A terabyte of addresses, or an honest refusal; never a crash."""
    values = [("input", (3,)), ("arena", (3,), 2**40 - 64), ("output", (3,))]
    calls: Calls = [("relu_scalar", [0], 1, {}, 0, "a"), ("relu_scalar", [1], 2, {}, 0, "b")]
    try:
        program = Program(values, calls, 2**40)
    except MemoryError:
        return
    np.testing.assert_array_equal(program.run([np.array([-1, 0, 1], np.float32)])[0], [0, 0, 1])


NO_ALLOCATION = """
import ctypes, sys, threading
import numpy as np, psutil
sys.path.insert(0, sys.argv[1])
import ablation_kernels
from test_program import Chain, DEPTH, LENGTH, ROWS

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd",
        "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Info
ablation_kernels.set_num_threads(3)
random = np.random.default_rng(1)
program = Chain(random).program()
x, out = np.ones((ROWS, DEPTH), np.float32), np.empty((LENGTH, 1, ROWS), np.float32)
inputs, outputs = [x], [out]
def many():
    for _ in range(500):
        program.run(inputs, outputs)
many()
info = mallinfo2()
before = (info.uordblks, info.hblkhd)
resident = psutil.Process().memory_info().rss
threads = threading.active_count()
many()
info = mallinfo2()
grown = (info.uordblks - before[0], info.hblkhd - before[1])
assert abs(grown[0]) < 4096 and grown[1] == 0, grown
assert psutil.Process().memory_info().rss - resident < 2**20
print("stable")
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or ablation_kernels.build_info()["sanitizer"] != "none",
    reason="mallinfo2 belongs to glibc's own allocator",
)
def test_runs_leave_no_allocation_behind() -> None:
    pytest.importorskip("psutil", reason="psutil is not installed")
    folder = __file__.rsplit("/", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", NO_ALLOCATION, folder], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "stable"


def test_bad_inputs_of_run(chain: Chain, random: np.random.Generator) -> None:
    program, x = chain.program(), normal(random, ROWS, DEPTH)
    out = np.zeros((LENGTH, 1, ROWS), np.float32)
    read_only = out.copy()
    read_only.flags.writeable = False
    overlapping = np.zeros(ROWS * (DEPTH + LENGTH), np.float32)
    cases: list[tuple[type[Exception], str, tuple[Any, ...]]] = [
        (ValueError, "inputs", ([],)),
        (ValueError, "inputs", ([x, x],)),
        (ValueError, "inputs", ([x.T.copy()],)),
        (ValueError, "inputs", ([x[:, ::2]],)),
        (TypeError, "inputs", ([x.astype(np.float64)],)),
        (TypeError, "inputs", ([None],)),
        (ValueError, "outputs", ([x], [])),
        (ValueError, "outputs", ([x], [out, out])),
        (ValueError, "outputs", ([x], [out.reshape(ROWS, LENGTH)])),
        (ValueError, "outputs", ([x], [read_only])),
        (TypeError, "outputs", ([x], [out.astype(np.float64)])),
        (ValueError, "outputs", (
            [overlapping[: ROWS * DEPTH].reshape(ROWS, DEPTH)],
            [overlapping[5 : 5 + ROWS * LENGTH].reshape(LENGTH, 1, ROWS)],
        )),
    ]  # fmt: skip
    for kind, argument, args in cases:
        for call in (program.run, program.run_timed):
            with pytest.raises(kind, match=argument):
                call(*args)
    with pytest.raises(TypeError):
        program.run(3)  # type: ignore[arg-type]
    check_chain(chain, x, program.run([x])[0])


def test_output_over_a_constant(random: np.random.Generator) -> None:
    """What was copied is an array like any other; what is read in place is refused."""
    constant, x = normal(random, 5), normal(random, 5)
    expected = x + constant
    values = [("input", (5,)), ("constant", constant), ("output", (5,))]
    calls: Calls = [("add_simd", [0, 1], 2, {}, 0, "sum")]
    program = Program(values, calls, 0)
    for _ in range(2):
        np.testing.assert_array_equal(program.run([x], [constant])[0], expected)
    constant.flags.writeable = False
    program = Program(values, calls, 0)
    constant.flags.writeable = True
    with pytest.raises(ValueError, match="outputs"):
        program.run([x], [constant])


def change_value(index: int, *value: Any) -> Callable[[Chain], None]:
    def change(chain: Chain) -> None:
        chain.values[index] = value

    return change


def change_call(index: int, field: int, value: Any) -> Callable[[Chain], None]:
    def change(chain: Chain) -> None:
        call = list(chain.calls[index])
        call[field] = value
        chain.calls[index] = tuple(call)

    return change


def drop_call(index: int) -> Callable[[Chain], None]:
    def change(chain: Chain) -> None:
        del chain.calls[index]

    return change


def shrink_arena(chain: Chain) -> None:
    chain.arena_bytes -= 64


def negative_arena(chain: Chain) -> None:
    chain.arena_bytes = -64


def extra_call(value: tuple[Any, ...], call: tuple[Any, ...]) -> Callable[[Chain], None]:
    """One more value, number 7, and one more call at the end."""

    def change(chain: Chain) -> None:
        chain.values.append(value)
        chain.calls.append(call)

    return change


def broadcast_in_place(chain: Chain) -> None:
    """The row at the start of the matrix is read again after it was overwritten."""
    chain.values.append(("arena", (LENGTH,), 64))
    chain.calls.append(("relu_simd", [2], 7, {}, 0, "row"))
    chain.calls.append(("add_simd", [7, 5], 4, {}, 0, "added"))


#: (what is wrong, a pattern in the error, the change to a program that works)
DEFECTS: list[tuple[str, str, Callable[[Chain], None]]] = [
    ("unknown kernel", "'softmax' .*softmax_simd", change_call(2, 0, "softmax_smid_parallel")),
    ("unknown attribute", "'product' .*beta", change_call(0, 3, {"beta": 1.0})),
    ("bad attribute", "'product' .*activation", change_call(0, 3, {"activation": "swish"})),
    ("missing input", "product", change_call(0, 1, [0, None, None, None])),
    ("too few inputs", "product", change_call(0, 1, [0])),
    ("too many inputs", "in_place", change_call(1, 1, [3, 2, 2])),
    ("input that does not exist", "softmax", change_call(2, 1, [99])),
    ("negative input", "softmax", change_call(2, 1, [-7])),
    ("output that does not exist", "softmax", change_call(2, 2, 99)),
    ("negative output", "softmax", change_call(2, 2, -1)),
    ("output of another shape", "softmax", change_call(2, 2, 3)),
    ("writes an input", "in_place", change_call(1, 2, 0)),
    ("writes a constant", "in_place", change_call(1, 2, 1)),
    ("shapes that do not fit", "product", change_call(0, 1, [3, 1, None, None])),
    ("read before written", "in_place", drop_call(0)),
    ("output never written", "6", drop_call(3)),
    ("bad permutation", "'transposed' .*perm", change_call(3, 3, {"perm": (0, 0, 1)})),
    ("misaligned offset", "3", change_value(3, "arena", (ROWS, LENGTH), 4)),
    ("negative offset", "3", change_value(3, "arena", (ROWS, LENGTH), -64)),
    ("offset beyond the arena", "5", change_value(5, "arena", (1, ROWS, LENGTH), 2**40)),
    ("offset that overflows", "5", change_value(5, "arena", (1, ROWS, LENGTH), 2**63 - 64)),
    ("arena too small", "5", shrink_arena),
    ("negative arena", "arena_bytes", negative_arena),
    ("alias of another size", "4", change_value(4, "alias", (1, ROWS, LENGTH + 1), 3)),
    ("alias of a later value", "4", change_value(4, "alias", (1, ROWS, LENGTH), 5)),
    ("alias of itself", "4", change_value(4, "alias", (1, ROWS, LENGTH), 4)),
    ("alias of nothing", "4", change_value(4, "alias", (1, ROWS, LENGTH), -1)),
    ("zero size", "accepted", change_value(0, "input", (0, DEPTH))),
    ("negative size", "sizes from 0", change_value(0, "input", (-1, DEPTH))),
    ("size that overflows", "accepted", change_value(5, "arena", (2**62, 4), 0)),
    ("unknown kind", r"\[3\].*accepted", change_value(3, "stack", (ROWS, LENGTH), 0)),
    ("output over part of an input", "'softmax' .*overlaps argument 'x'",
        change_value(5, "arena", (1, ROWS, LENGTH), 128)),
    ("output over an input of a slot that is not in place", "'overlaid' .*overlaps argument 'x'",
        extra_call(("arena", (LENGTH, ROWS), 64),
                   ("permute_parallel", [3], 7, {"perm": (1, 0)}, 0, "overlaid"))),
    ("output over a smaller input that broadcasts", "'added' .*overlaps argument 'a'",
        broadcast_in_place),
    ("output value read in a slot that is not in place", "'again' .*overlaps argument 'x'",
        extra_call(("alias", (1, ROWS, LENGTH), 6),
                   ("permute_parallel", [6], 7, {"perm": (1, 2, 0)}, 0, "again"))),
]  # fmt: skip


@pytest.mark.parametrize("what,word,change", DEFECTS, ids=[defect[0] for defect in DEFECTS])
def test_defective_programs(
    what: str, word: str, change: Callable[[Chain], None], chain: Chain
) -> None:
    chain.program()
    change(chain)
    with pytest.raises(ValueError, match=word):
        chain.program()


@pytest.mark.parametrize(
    "change",
    [
        change_value(1, "constant", [1.0, 2.0]),
        change_value(1, "constant", np.zeros((DEPTH, LENGTH))),
        change_value(0, "input", "shape"),
        change_value(0, "input", 5),
        change_value(0, "input"),
        change_value(0),
        change_value(3, "arena", (ROWS, LENGTH)),
        change_value(3, "arena", (ROWS, LENGTH), "0"),
        change_value(4, "alias", (ROWS, LENGTH), None),
        change_value(0, 7, (ROWS, DEPTH)),
        change_call(0, 0, 5),
        change_call(0, 1, 5),
        change_call(0, 1, ["x"]),
        change_call(0, 2, None),
        change_call(0, 3, []),
        change_call(0, 3, {3: 1.0}),
        change_call(0, 4, "0"),
        change_call(0, 5, None),
        change_call(0, 2, 2**70),
        lambda chain: chain.calls.append(()),
        lambda chain: chain.calls.append(("relu_simd", [0])),
    ],
)
def test_malformed_programs(change: Callable[[Chain], None], chain: Chain) -> None:
    """Tuples of the wrong make-up: the description is refused, nothing crashes."""
    change(chain)
    with pytest.raises((TypeError, ValueError), match="accepted"):
        chain.program()


def test_attribute_of_another_type_names_the_call(chain: Chain) -> None:
    change_call(3, 3, {"perm": ("a", 0, 1)})(chain)
    with pytest.raises(TypeError, match=r"'transposed' .*perm"):
        chain.program()


def test_in_place_under_another_shape(random: np.random.Generator) -> None:
    """As many elements from the same start on: an axis of size 1 in front changes nothing."""
    values: Values = [
        ("input", (3, 4)),
        ("input", (1, 3, 4)),
        ("arena", (3, 4), 0),
        ("arena", (1, 3, 4), 0),
        ("output", (1, 3, 4)),
    ]
    calls: Calls = [
        ("relu_simd", [0], 2, {}, 0, "relu"),
        ("add_simd_parallel", [2, 1], 3, {}, 0, "sum"),
        ("mul_simd", [3, 1], 4, {}, 0, "product"),
        ("sub_simd", [4, 1], 4, {}, 0, "output_in_place"),
    ]
    x, y = normal(random, 3, 4), normal(random, 1, 3, 4)
    (out,) = Program(values, calls, 64).run([x, y])
    np.testing.assert_array_equal(out, (np.maximum(x, 0) + y) * y - y)


def test_constants_that_are_not_contiguous(chain: Chain) -> None:
    chain.values[1] = ("constant", np.zeros((LENGTH, DEPTH), np.float32).T)
    with pytest.raises(ValueError, match="contiguous"):
        chain.program()
