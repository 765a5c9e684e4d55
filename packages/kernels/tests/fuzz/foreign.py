"""Objects from elsewhere that hold an array, or only say so."""

from __future__ import annotations

import array
import ctypes
import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Float32

from fuzz import capsules, libraries
from fuzz.case import Chance, OwnError
from fuzz.hostile import OldDlpack, OnlyDlpack, Subclass

libraries.add_libraries()

Maker = Callable[[Chance, Float32], Any]
#: What to give as `out`, and its memory as an array.
Output = tuple[Any, Float32]


def _of_ctypes(_: Chance, x: Float32) -> Any:
    kind: Any = ctypes.c_float
    for size in reversed(x.shape):
        kind = kind * size
    return kind.from_buffer_copy(x.tobytes())


def _raw_array(_: Chance, x: Float32) -> Any:
    if x.ndim != 1:
        return x
    shared: Any = multiprocessing.RawArray("f", x.size)
    shared[:] = x.tolist()
    return shared


def _of_array(_: Chance, x: Float32) -> Any:
    return array.array("f", x.tobytes()) if x.ndim == 1 else x


def _memoryview(chance: Chance, x: Float32) -> Any:
    letter: Any = chance.choice(("f", "@f"))
    return memoryview(bytearray(x.tobytes())).cast(letter, list(x.shape))


def _read_only(_: Chance, x: Float32) -> Any:
    copy = np.array(x)
    copy.flags.writeable = False
    return copy


def _matrix(_: Chance, x: Float32) -> Any:
    return np.asmatrix(x) if x.ndim == 2 else x.view(Subclass)


def _odd_strides(_: Chance, x: Float32) -> Any:
    strides = [s if n != 1 else 12345 for n, s in zip(x.shape, x.strides, strict=True)]
    return np.lib.stride_tricks.as_strided(x, x.shape, strides)


#: Each holds the same numbers as the array it is given.
INPUTS: tuple[Maker, ...] = (
    _of_ctypes,
    _raw_array,
    _of_array,
    _memoryview,
    _read_only,
    _matrix,
    _odd_strides,
    lambda chance, x: x.view(Subclass),
    lambda chance, x: OnlyDlpack(x),
    lambda chance, x: OldDlpack(x),
    lambda chance, x: OnlyDlpack(np.array(x).__dlpack__()),
    capsules.handmade,
    lambda chance, x: capsules.flagged(x, capsules.READ_ONLY),
    lambda chance, x: np.array(x).__dlpack__(),
    *libraries.INPUTS,
)


def _strided(_: Chance, x: Float32) -> Any:
    return np.zeros((*x.shape, 2), np.float32)[..., 0] if x.size > 1 else x.astype(np.float64)


def _reversed(_: Chance, x: Float32) -> Any:
    return np.flip(x) if x.size > 1 else x.astype(">f4")


def _repeated(_: Chance, x: Float32) -> Any:
    return np.broadcast_to(np.float32(1), x.shape) if x.size > 1 else np.zeros(0, np.float32)


def _misaligned(_: Chance, x: Float32) -> Any:
    memory = np.zeros(x.nbytes + 8, np.uint8)
    return memory[1 + -memory.ctypes.data % 4 :][: x.nbytes].view(np.float32).reshape(x.shape)


def _released(_: Chance, x: Float32) -> Any:
    memory = memoryview(x.tobytes())
    memory.release()
    return memory


def _big_endian(_: Chance, x: Float32) -> Any:
    return (ctypes.c_float.__ctype_be__ * max(x.size, 1))()


def _of_dtype(chance: Chance, x: Float32) -> Any:
    kind = chance.choice(("f8", "f2", ">f4", "i4", "u1", "?", "c8", "O", "M8[s]", "U3", "V4", "u2"))
    return np.zeros(x.shape, kind)


def _structured(chance: Chance, x: Float32) -> Any:
    return np.zeros(x.shape, chance.choice(([("a", "f4")], [("a", "f4"), ("b", "i4")])))


def _junk(chance: Chance, _: Float32) -> Any:
    return chance.choice(
        ("text", b"bytes", 3.0, 7, 1j, True, [1.0, 2.0], {"a": 1}, {1.0}, object(), np.float64(2),
         np.int32(3), np.float32, range(3), ..., len, bytearray(16), array.array("d", [1.0]))
    )  # fmt: skip


#: Each has to be refused where an array is meant.
DEFECTS: tuple[Maker, ...] = (
    _strided,
    _reversed,
    _repeated,
    _misaligned,
    _released,
    _big_endian,
    _of_dtype,
    _structured,
    _junk,
    capsules.defective,
    lambda chance, x: capsules.used(np.array(x)),
    lambda chance, x: np.zeros((1,) * 9, np.float32),
    lambda chance, x: np.zeros((*x.shape, 0), np.float32),
    lambda chance, x: np.ma.masked_array(x.reshape(-1), np.zeros(x.size, bool)).reshape(x.shape),
    lambda chance, x: OnlyDlpack(
        chance.choice((None, 5, "x", x.tolist(), capsules.used(np.array(x))))
    ),
    lambda chance, x: OnlyDlpack(
        chance.choice((OwnError(), BufferError("no"), TypeError(), ValueError(), RuntimeError()))
    ),
    *libraries.DEFECTS,
)


def _guarded(chance: Chance, x: Float32) -> Output:
    memory = np.full(x.size + 32, -7e33, np.float32)
    view = memory[16 : 16 + x.size].reshape(x.shape)
    return view, view


def _through(maker: Maker) -> Callable[[Chance, Float32], Output]:
    def make(chance: Chance, x: Float32) -> Output:
        given = maker(chance, x)
        return given, np.asarray(given)

    return make


def _handmade(chance: Chance, x: Float32) -> Output:
    made = capsules.handmade(chance, x, has_view=True)
    assert made.view is not None
    return made, made.view


def _only_dlpack(chance: Chance, x: Float32) -> Output:
    copy = np.array(x)
    return OnlyDlpack(copy), copy


#: Writable ones.
OUTPUTS: tuple[Callable[[Chance, Float32], Output], ...] = (
    _guarded,
    _guarded,
    _guarded,
    _through(_of_ctypes),
    _through(_raw_array),
    _through(_of_array),
    _through(_memoryview),
    _handmade,
    _only_dlpack,
    *libraries.OUTPUTS,
)

#: Refused as outputs, and taken as inputs.
READ_ONLY: tuple[Maker, ...] = (
    _read_only,
    lambda chance, x: memoryview(x.tobytes()).cast("f", list(x.shape)),
    lambda chance, x: capsules.flagged(x, capsules.READ_ONLY),
    lambda chance, x: capsules.flagged(x, capsules.IS_COPIED),
    *libraries.READ_ONLY,
)
