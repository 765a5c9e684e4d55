"""DLPack capsules made by hand, right and wrong in every field."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from harness import Float32

from fuzz.case import Chance

_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.restype, _rename.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)

Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
NAMES = (b"dltensor", b"dltensor_versioned")
READ_ONLY, IS_COPIED = 1, 2


class Tensor(ctypes.Structure):
    """DLTensor; device and dtype by their fields."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("byte_offset", ctypes.c_uint64),
    )


class Managed(ctypes.Structure):
    """DLManagedTensor."""

    _fields_ = (("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class ManagedVersioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", Tensor),
    )


class Handmade:
    """An object that exports one capsule; its memory goes when the deleter is called.

    An importer that calls the deleter too early therefore reads what is freed. `view` is the memory
    as an array, for outputs; it keeps the memory.
    """

    def __init__(
        self, x: Float32, is_versioned: bool, byte_offset: int = 0, has_view: bool = False
    ) -> None:
        self.owned: Any = np.empty(byte_offset + x.nbytes, np.uint8)
        view = self.owned[byte_offset:].view(np.float32).reshape(x.shape)
        view[...] = x
        self.view = view if has_view else None
        self.exports = self.deletions = 0
        self._shape = (ctypes.c_int64 * max(x.ndim, 1))(*x.shape)
        self._strides = (ctypes.c_int64 * max(x.ndim, 1))(*(s // 4 for s in x.strides))
        self.managed: Any = ManagedVersioned() if is_versioned else Managed()
        if is_versioned:
            self.managed.major, self.managed.minor = 1, 1
        tensor = self.managed.tensor
        tensor.data, tensor.byte_offset = self.owned.ctypes.data, byte_offset
        tensor.device_type, tensor.ndim = 1, x.ndim
        tensor.code, tensor.bits, tensor.lanes = 2, 32, 1
        tensor.shape = ctypes.addressof(self._shape)
        tensor.strides = ctypes.addressof(self._strides)
        self.name = NAMES[is_versioned]
        self._deleter = Deleter(self._delete)
        self.managed.deleter = ctypes.cast(self._deleter, ctypes.c_void_p).value

    def _delete(self, _: int) -> None:
        self.deletions += 1
        self.owned = None

    def capsule(self) -> Any:
        """A new capsule; its name must outlive it, as a literal's does."""
        self.exports += 1
        return _new(ctypes.addressof(self.managed), self.name, None)

    def __dlpack__(self, **_: Any) -> Any:
        return self.capsule()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def handmade(chance: Chance, x: Float32, has_view: bool = False) -> Handmade:
    """A right capsule."""
    made = Handmade(x, chance.is_one_of(2), chance.choice((0, 0, 4, 64)), has_view)
    tensor = made.managed.tensor
    if chance.is_one_of(3):
        tensor.strides = None
    if x.ndim == 0 and chance.is_one_of(2):
        tensor.shape = tensor.strides = None
    if chance.is_one_of(8):
        made.managed.deleter = None
    return made


def _set(field: str, *values: Any) -> Callable[[Chance, Handmade], None]:
    def change(chance: Chance, made: Handmade) -> None:
        setattr(made.managed.tensor, field, chance.choice(values))

    return change


def _size(value: int) -> Callable[[Chance, Handmade], None]:
    def change(chance: Chance, made: Handmade) -> None:
        if made.managed.tensor.ndim:
            made._shape[chance.randrange(made.managed.tensor.ndim)] = value
        else:
            made.managed.tensor.data = None

    return change


def _name(name: bytes) -> Callable[[Chance, Handmade], None]:
    def change(chance: Chance, made: Handmade) -> None:
        made.name = name

    return change


def _stride(chance: Chance, made: Handmade) -> None:
    tensor = made.managed.tensor
    long = [axis for axis in range(tensor.ndim) if made._shape[axis] > 1]
    if long:
        made._strides[chance.choice(long)] = chance.choice((0, -1, 7919, 2**62, -(2**63)))
        tensor.strides = ctypes.addressof(made._strides)
    else:
        tensor.data = None


def _no_shape(_: Chance, made: Handmade) -> None:
    if made.managed.tensor.ndim:
        made.managed.tensor.shape = None
    else:
        made.managed.tensor.data = None


def _version(chance: Chance, made: Handmade) -> None:
    if isinstance(made.managed, ManagedVersioned):
        made.managed.major = chance.choice((0, 2, 2**32 - 1))
    else:
        made.managed.tensor.lanes = 4


#: Each makes a right capsule wrong.
DEFECTS: tuple[Callable[[Chance, Handmade], None], ...] = (
    _set("data", None),
    _set("device_type", 0, 2, 3, 10, -1, 2**31 - 1),
    _set("ndim", -1, 9, 64, 2**31 - 1, -(2**31)),
    _set("code", 0, 1, 3, 4, 5, 6, 7, 17, 255),
    _set("bits", 0, 8, 16, 64, 255),
    _set("lanes", 0, 2, 4, 65535),
    _set("byte_offset", 1, 2, 3, 2**64 - 4, 2**64 - 1),
    _size(0),
    _size(-1),
    _size(-(2**63)),
    _size(2**47),
    _size(2**63 - 1),
    _name(b"used_dltensor"),
    _name(b"used_dltensor_versioned"),
    _name(b"arrow_schema"),
    _name(b""),
    _stride,
    _no_shape,
    _version,
)


def defective(chance: Chance, x: Float32) -> Handmade:
    """A capsule with one wrong field, to be refused."""
    made = handmade(chance, x)
    chance.choice(DEFECTS)(chance, made)
    return made


def used(x: Float32) -> Any:
    """A capsule that another importer took."""
    capsule: Any = x.__dlpack__()
    _rename(capsule, b"used_dltensor")
    return capsule


def flagged(x: Float32, flag: int) -> Handmade:
    """A versioned capsule with a flag: read-only or copied."""
    made = Handmade(x, True)
    made.managed.flags = flag
    return made
