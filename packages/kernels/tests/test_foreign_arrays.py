"""Arrays from elsewhere: taken with their values, or refused with the reason, never misread."""

from __future__ import annotations

import array
import ctypes
import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fuzz import capsules
from fuzz.case import Chance
from fuzz.hostile import OnlyDlpack, Subclass
from harness import Float32

import ablation_kernels
from ablation_kernels import teaching

X = np.array([-2.0, 0.5, 3.0], np.float32)
RELU = [0.0, 0.5, 3.0]


def relu_of(x: Any) -> list[float]:
    found: list[float] = ablation_kernels.relu(x).tolist()
    return found


def refusal(x: Any, **keywords: Any) -> str:
    """The message, which names the argument and what is accepted."""
    with pytest.raises((TypeError, ValueError)) as caught:
        ablation_kernels.relu(x, **keywords)
    text = str(caught.value)
    assert text.startswith(f"relu: argument '{'out' if keywords else 'x'}' "), text
    assert "; accepted: " in text
    return text


SOURCES: dict[str, Callable[[], Any]] = {
    "ctypes": lambda: (ctypes.c_float * 3)(*X),
    "shared memory": lambda: multiprocessing.RawArray("f", X.tolist()),
    "array": lambda: array.array("f", X),
    "cast memoryview": lambda: memoryview(bytearray(X.tobytes())).cast("f"),
    "subclass": lambda: X.view(Subclass),
    "dlpack": lambda: OnlyDlpack(X),
    "capsule": X.__dlpack__,
    "own capsule": lambda: capsules.Handmade(X, False),
    "versioned capsule": lambda: capsules.Handmade(X, True, byte_offset=64),
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources(name: str) -> None:
    assert relu_of(SOURCES[name]()) == RELU


def test_nested_ctypes_arrays_keep_their_shape() -> None:
    x = ((ctypes.c_float * 2) * 3).from_buffer_copy(
        np.array([-1, 2, 3, -4, 5, 6], np.float32).tobytes()
    )
    np.testing.assert_array_equal(ablation_kernels.relu(x), [[0, 2], [3, 0], [5, 6]])
    scalar = ablation_kernels.relu(ctypes.c_float(-1))
    assert scalar.shape == () and scalar == 0


@pytest.mark.parametrize("name", ["ctypes", "array", "cast memoryview"])
def test_sources_as_outputs(name: str) -> None:
    out = SOURCES[name]()
    assert ablation_kernels.relu(X, out=out) is out
    assert list(out) == RELU


@pytest.mark.parametrize("is_versioned", [False, True])
def test_a_capsule_without_strides_is_contiguous(is_versioned: bool) -> None:
    made = capsules.Handmade(X, is_versioned)
    made.managed.tensor.strides = None
    assert relu_of(made) == RELU


@pytest.mark.parametrize("index", range(len(capsules.DEFECTS)))
def test_defective_capsules_are_refused_and_given_back(index: int) -> None:
    for is_versioned in (False, True):
        made = capsules.Handmade(X, is_versioned)
        capsules.DEFECTS[index](Chance(index), made)
        refusal(made)
        # Each capsule that was taken over goes back to its owner, once
        is_ours = made.name in capsules.NAMES
        assert made.deletions == (made.exports if is_ours else 0)


def test_memory_is_held_until_the_call_ends() -> None:
    made = capsules.Handmade(X, True)
    assert relu_of(made) == RELU
    assert (made.exports, made.deletions) == (1, 1)
    assert made.owned is None


def test_a_capsule_is_taken_once() -> None:
    capsule = X.__dlpack__()
    assert relu_of(capsule) == RELU
    assert "'used_dltensor'" in refusal(capsule)


@pytest.mark.parametrize("flag,word", [(1, "read-only"), (2, "copied")])
def test_capsules_that_cannot_be_written(flag: int, word: str) -> None:
    assert relu_of(capsules.flagged(X, flag)) == RELU
    assert word in refusal(X, out=capsules.flagged(X, flag))


class UserError(Exception):
    """An error of an object's own code."""


@pytest.mark.parametrize("error", [BufferError("not now"), TypeError("t"), RuntimeError("r")])
def test_an_exporter_that_refuses_is_the_cause(error: Exception) -> None:
    with pytest.raises(TypeError, match=rf"'x' is OnlyDlpack.*{error}") as caught:
        ablation_kernels.relu(OnlyDlpack(error))
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", [UserError(), KeyboardInterrupt(), MemoryError()])
def test_other_errors_come_through(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        ablation_kernels.relu(OnlyDlpack(error))
    assert caught.value is error


@pytest.mark.parametrize("exported", [None, 5, "text", [1.0]])
def test_an_export_that_is_no_capsule(exported: Any) -> None:
    assert f"returned {type(exported).__name__}" in refusal(OnlyDlpack(exported))


def released() -> Any:
    view = memoryview(bytearray(12)).cast("f")
    view.release()
    return view


@pytest.mark.parametrize(
    "x,words",
    [
        ((ctypes.c_float.__ctype_be__ * 3)(), "format '>f'"),
        ((ctypes.c_double * 3)(), "format '<d'"),
        (X.astype(">f4"), "dtype >f4"),
        (np.array([None]), "dtype object"),
        (np.zeros(3, [("a", "f4")]), "dtype [('a', '<f4')]"),
        (np.zeros(3, "M8[s]"), "dtype datetime64[s]"),
        (np.float64(3), "dtype float64"),
        (np.int32(3), "dtype int32"),
        (bytearray(12), "format 'B'"),
        (memoryview(array.array("f", range(6)))[::2], "stride of axis 0 is 8 bytes"),
        (released(), "released memoryview"),
        (np.ma.masked_array(X, X > 0), "mask would be lost"),
        (np.ma.masked_array(X), "mask would be lost"),
    ],
)
def test_what_is_wrong_is_named(x: Any, words: str) -> None:
    assert words in refusal(x)


@pytest.mark.parametrize(
    "out",
    [
        memoryview(X.tobytes()).cast("f"),
        np.broadcast_to(np.float32(1), 3),
        np.frombuffer(X.tobytes(), np.float32),
    ],
)
def test_read_only_outputs(out: Any) -> None:
    assert "read-only" in refusal(X, out=out)


def test_a_masked_output() -> None:
    assert "mask would be lost" in refusal(X, out=np.ma.masked_array(X.copy()))


class Frees:
    """Frees another array while its own is taken."""

    def __init__(self, other: Float32) -> None:
        self.other = other

    def _free(self) -> None:
        self.other.resize(0, refcheck=False)

    def __dlpack__(self, **keywords: Any) -> Any:
        self._free()
        return np.ones(5000, np.float32).__dlpack__(**keywords)

    def __float__(self) -> float:
        self._free()
        return 1.0


def test_memory_that_is_freed_while_arguments_are_read() -> None:
    """The size is known only after all code of others has run."""
    calls: list[Callable[[Any], Any]] = [
        lambda x: ablation_kernels.add(x, Frees(x)),
        lambda x: ablation_kernels.add(Frees(x), np.ones(5000, np.float32), out=x),
        lambda x: ablation_kernels.rms_norm(x, np.ones(5000, np.float32), eps=Frees(x)),  # type: ignore[arg-type]
        lambda x: teaching.attention(x.reshape(1, 1, 1, 5000), x, Frees(x), "naive"),
    ]
    for call in calls:
        with pytest.raises(ValueError):
            call(np.ones(5000, np.float32))


def test_memory_of_a_program_that_is_freed_while_arguments_are_read() -> None:
    size = (5000,)
    values: list[Any] = [("input", size), ("input", size), ("output", size)]
    program = ablation_kernels.Program(values, [("add_simd", [0, 1], 2, {}, 0, "sum")], 0)
    x = np.ones(5000, np.float32)
    with pytest.raises(ValueError, match=r"'inputs' \[0\]"):
        program.run([x, Frees(x)])
    out = np.ones(5000, np.float32)
    with pytest.raises(ValueError, match=r"'outputs' \[0\]"):
        program.run([Frees(out), np.ones(5000, np.float32)], [out])


@pytest.mark.parametrize("maker", [OnlyDlpack, memoryview])
def test_results_in_parts_of_foreign_memory(maker: Callable[[Float32], Any]) -> None:
    q = np.ones((1, 1, 3, 4), np.float32)
    flat = np.empty(15, np.float32)
    output, lse = ablation_kernels.attention_lse(maker(q), q, q, out=maker(flat))
    np.testing.assert_allclose(output, 1.0)
    assert lse.shape == (1, 1, 3) and np.shares_memory(output, flat)


def test_a_capsule_cannot_hold_results_in_parts() -> None:
    q = np.ones((1, 1, 3, 4), np.float32)
    with pytest.raises(TypeError, match="'out' is a capsule"):
        ablation_kernels.attention_lse(q, q, q, out=np.empty(15, np.float32).__dlpack__())
