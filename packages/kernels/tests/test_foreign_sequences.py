"""Sequences and numbers of any class: read once, counted, and converted before memory is taken."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from fuzz.hostile import Number, Sequence, Shrinking

import ablation_kernels

X = np.array([1.0, 2.0], np.float32)
ONES = np.ones((1, 1, 2, 4), np.float32)

#: Past its types: what is given here is what they rule out.
kernels: Any = ablation_kernels
Program: Any = ablation_kernels.Program


class UserError(Exception):
    """An error of an object's own code."""


def sum_program() -> Any:
    values: list[Any] = [("input", (2,)), ("input", (2,)), ("output", (2,))]
    return Program(values, [("add_scalar", [0, 1], 2, {}, 0, "sum")], 0)


#: Sequences of two items, as their items and what is wrong.
LIES: dict[str, Callable[[Callable[[int], Any]], Any]] = {
    "more items than its length": lambda item: Sequence(
        2, lambda index: item(index % 2) if index < 1000 else [][0]
    ),
    "items without end": lambda item: Sequence(2, lambda index: item(index % 2)),
    "fewer items than its length": lambda item: Sequence(
        2, lambda index: item(index) if index < 1 else [][0]
    ),
    "no items": lambda item: Sequence(2, lambda index: [][0]),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("method", ["run", "run_timed"])
def test_programs_count_what_they_get(lie: str, method: str) -> None:
    run = getattr(sum_program(), method)
    with pytest.raises(ValueError, match=r"'inputs' yields (more|fewer) items than its length 2"):
        run(LIES[lie](lambda index: X))
    with pytest.raises(ValueError, match=r"'outputs' "):
        run([X, X], LIES[lie](lambda index: X))


@pytest.mark.parametrize("lie", LIES)
def test_shapes_and_attributes_count_what_they_get(lie: str) -> None:
    given = LIES[lie](lambda index: 1 - index)
    with pytest.raises(ValueError, match="'perm' yields"):
        kernels.permute(np.zeros((2, 3), np.float32), given)
    with pytest.raises(ValueError, match="'shapes' yields"):
        kernels.infer_shape("relu", [given])
    with pytest.raises(ValueError, match="'shapes' yields"):
        kernels.best_kernel("add", LIES[lie](lambda index: (2,)))
    with pytest.raises(ValueError, match="'constants' yields"):
        kernels.scratch_bytes(
            "matmul_scalar", [(2, 3), (3, 4)], constants=LIES[lie](lambda index: "b")
        )


@pytest.mark.parametrize("lie", LIES)
def test_descriptions_count_what_they_get(lie: str) -> None:
    value: Any = ("input", (2,))
    call: Any = ("relu_scalar", [0], 1, {}, 0, "x")
    descriptions: list[Any] = [
        (LIES[lie](lambda index: value), []),
        ([value, ("output", (2,))], LIES[lie](lambda index: call)),
        ([LIES[lie](value.__getitem__), ("output", (2,))], [call]),
        ([value, ("output", (2,))], [(call[0], LIES[lie](lambda index: 0), *call[2:])]),
        ([("input", LIES[lie](lambda index: 2)), ("output", (2,))], [call]),
    ]
    for arguments in descriptions:
        with pytest.raises(ValueError, match="yields"):
            Program(*arguments, 0)
    with pytest.raises(ValueError, match="'stages' yields"):
        Program([value, ("output", (2,))], [call], 0, LIES[lie](lambda index: (0, 1)))


def test_sequences_of_other_classes_are_taken() -> None:
    program = sum_program()
    for make in (tuple, Shrinking, lambda items: Sequence(len(items), items.__getitem__)):
        out = np.zeros(2, np.float32)
        result = program.run(make([X, X]), make([out]))
        assert result[0] is out and out.tolist() == [2, 4]
        assert kernels.permute(np.zeros((2, 3)).astype("f4"), make([1, 0])).shape == (3, 2)
        assert kernels.infer_shape("relu", make([make([2, 3])])) == (2, 3)


class Empties:
    """Empties the list in which it lies when its memory is asked for."""

    def __init__(self) -> None:
        self.items: list[Any] = [self, np.array([5.0, 6.0], np.float32)]

    def __dlpack__(self, **keywords: Any) -> Any:
        self.items.clear()
        return X.__dlpack__(**keywords)


@pytest.mark.parametrize("method", ["run", "run_timed"])
def test_a_list_that_changes_while_it_is_read(method: str) -> None:
    result = getattr(sum_program(), method)(Empties().items)
    outputs = result[0] if method == "run_timed" else result
    assert outputs[0].tolist() == [6, 8]


def test_attributes_that_change_while_they_are_read() -> None:
    attributes: dict[str, Any] = {}
    attributes |= {"eps": Number(1e-5, attributes.clear), "unknown": object()}
    with pytest.raises(ValueError, match="no attribute 'unknown'"):
        kernels.infer_shape("rms_norm", [(3,), (3,)], attributes)


@pytest.mark.parametrize("given", [7, None, "ab", b"ab", {0: X, 1: X}, {1.0}, iter([X, X])])
def test_what_is_no_sequence(given: Any) -> None:
    kind = type(given).__name__
    with pytest.raises(TypeError, match=rf"Program.run: argument 'inputs' is {kind}; accepted"):
        sum_program().run(given)
    with pytest.raises(TypeError, match=rf"Program: argument 'values' is {kind}; accepted"):
        Program(given, [], 0)
    if given is not None:
        with pytest.raises(TypeError, match=rf"Program.run: argument 'outputs' is {kind}"):
            sum_program().run([X, X], given)


def raises_own(call: Callable[[Any], Any], make: Callable[[Exception], Any]) -> None:
    error = UserError("of the user")
    with pytest.raises(UserError) as caught:
        call(make(error))
    assert caught.value is error


def test_errors_of_sequences_and_numbers_come_through() -> None:
    def item(error: Exception) -> Callable[[int], Any]:
        def get(index: int) -> Any:
            raise error

        return get

    calls: list[Callable[[Any], Any]] = [
        sum_program().run,
        lambda given: sum_program().run([X, X], given),
        lambda given: Program(given, [], 0),
        lambda given: kernels.permute(ONES, given),
        lambda given: kernels.infer_shape("relu", [given]),
    ]
    for call in calls:
        raises_own(call, lambda error: Sequence(error, lambda index: X))
        raises_own(call, lambda error: Sequence(2, item(error)))
    numbers: list[Callable[[Any], Any]] = [
        lambda given: kernels.rms_norm(X, X, eps=given),
        lambda given: kernels.slice(X, given, 0, 1),
        lambda given: kernels.permute(X, [given]),
        lambda given: kernels.infer_shape("relu", [(given,)]),
        lambda given: kernels.scratch_bytes("relu_simd", [(3,)], threads=given),
        lambda given: Program([("arena", (2,), given)], [], 0),
        lambda given: Program([], [], given),
        kernels.set_num_threads,
    ]
    for call in numbers:
        raises_own(call, Number)


def test_numbers_of_numpy_are_numbers() -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    expected = kernels.rms_norm(x, x[0], eps=0.5)
    for eps in (np.float32(0.5), np.float64(0.5), np.float16(0.5), Decimal("0.5"), np.array(0.5)):
        np.testing.assert_array_equal(kernels.rms_norm(x, x[0], eps=eps), expected)
    part = kernels.slice(x, np.int64(-1), np.uint8(1), np.int16(3))
    np.testing.assert_array_equal(part, x[:, 1:3])
    np.testing.assert_array_equal(kernels.permute(x, np.array([1, 0])), x.T)
    causal = kernels.attention(ONES, ONES, ONES, causal=np.True_)
    np.testing.assert_array_equal(causal, kernels.attention(*[ONES] * 3, causal=True))
    bits = np.full((1, 1, 2, 4), 0x3F80, np.uint16)
    assert kernels.attention_bf16(bits, bits, bits, causal=np.False_).shape == bits.shape
    assert kernels.teaching.attention(ONES, ONES, ONES, "naive", spans=np.True_).spans is not None
    before = kernels.get_num_threads()
    kernels.set_num_threads(np.int64(before))


@pytest.mark.parametrize(
    "eps,kind,words",
    [
        (np.True_, TypeError, "'eps' is bool"),
        (1j, TypeError, "'eps' is complex"),
        (np.ones(2, np.float32), TypeError, "'eps' is ndarray"),
        (1e39, ValueError, r"'eps' is 1e\+39; accepted: a number that float32 can hold"),
        (10**400, ValueError, "'eps' is 10+"),
        # More digits than Python prints
        (10**5000, ValueError, "'eps' is of type int"),
    ],
    ids=["bool", "complex", "array", "1e39", "400 digits", "5000 digits"],
)
def test_numbers_that_are_none(eps: Any, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=f"rms_norm: argument {words}"):
        kernels.rms_norm(X, X, eps=eps)


def test_scales_beyond_float32() -> None:
    bits = np.full((1, 1, 2, 4), 0x3F80, np.uint16)
    for scale in (1e39, 10**400):
        with pytest.raises(ValueError, match=r"'scale' is .*accepted"):
            kernels.attention(ONES, ONES, ONES, scale=scale)
        with pytest.raises(ValueError, match=r"'scale' is .*accepted"):
            kernels.attention_bf16(bits, bits, bits, scale=scale)
        with pytest.raises(ValueError, match=r"'scale' is .*accepted"):
            kernels.teaching.attention(ONES, ONES, ONES, "naive", scale=scale)


def test_names_are_whole_strings() -> None:
    with pytest.raises(ValueError, match="unknown op"):
        kernels.infer_shape("relu\0", [(2,)])
    with pytest.raises(ValueError, match="constants"):
        kernels.scratch_bytes("matmul_scalar", [(2, 3), (3, 4)], constants=[""])
    with pytest.raises(TypeError, match="'constants' is str"):
        kernels.scratch_bytes("matmul_scalar", [(2, 3), (3, 4)], constants="b")
    values: list[Any] = [("input", (2,)), ("output", (2,))]
    program = Program(values, [("relu_scalar", [0], 1, {}, 0, "a\0b")], 0)
    assert program.call_names == ("a\0b",)


def test_rounds_and_shapes_of_time_kernels() -> None:
    with pytest.raises(ValueError, match="'rounds' is 0"):
        kernels.time_kernels("relu", (3,), 0)
    with pytest.raises(TypeError, match="'shape' is str"):
        kernels.time_kernels("relu", "ab")
