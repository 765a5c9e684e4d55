"""Bad calls: a TypeError or ValueError with the argument, what was given, what is accepted."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from harness import EXAMPLES, FUNCTIONS, Float32, example_of, function_of, kernels_of

import ablation_kernels

OPS = sorted(EXAMPLES)
ARRAYS = {
    "matmul": ("a", "b", "bias"),
    "permute": ("x",),
    "slice": ("x",),
    "take": ("x", "ids"),
    "concat": ("a", "b", "c"),
    "add": ("a", "b"),
    "sub": ("a", "b"),
    "mul": ("a", "b"),
    "div": ("a", "b"),
    **dict.fromkeys(("maximum", "minimum", "pow", "equal", "less", "less_equal"), ("a", "b")),
    "where": ("condition", "x", "y"),
    "relu": ("x",),
    "gelu": ("x",),
    "silu": ("x",),
    "silu_mul": ("a", "b"),
    "rsqrt": ("x",),
    **dict.fromkeys(FUNCTIONS, ("x",)),
    "bias_relu": ("x", "bias"),
    **dict.fromkeys(("sum", "amax", "cumsum"), ("x",)),
    "softmax": ("x",),
    "layer_norm": ("x", "weight", "bias"),
    "rms_norm": ("x", "weight"),
    "rotary": ("x", "cos", "sin"),
    "attention": ("q", "k", "v", "mask"),
    "attention_lse": ("q", "k", "v"),
    "attention_backward": ("q", "k", "v", "output", "lse", "grad_output"),
}
OPTIONAL = {
    ("matmul", "bias"),
    ("concat", "c"),
    *(("attention", name) for name in ("k", "v", "mask")),
}
each_array = pytest.mark.parametrize(
    "op,argument", [(op, argument) for op in OPS for argument in ARRAYS[op]]
)


def zeros(*shape: int) -> Float32:
    return np.zeros(shape, np.float32)


def refused(
    kind: type[Exception] | tuple[type[Exception], ...],
    op: str,
    argument: str,
    *args: Any,
    **keywords: Any,
) -> str:
    """Call, expect the error, check that it names the op, the argument and what is accepted."""
    with pytest.raises(kind) as caught:
        function_of(op)(*args, **keywords)
    text = str(caught.value)
    assert f"'{argument}'" in text, text
    assert "accepted" in text, text
    assert len(text.split("accepted", 1)[1]) > 5, text
    return text


def replaced(op: str, argument: str, value: Any) -> tuple[list[Any], dict[str, Any]]:
    """A good call with one array argument replaced."""
    example = example_of(op)
    args, keywords = list(example.args), dict(example.keywords)
    if argument in keywords:
        keywords[argument] = value
    else:
        args[ARRAYS[op].index(argument)] = value
    return args, keywords


def current(op: str, argument: str) -> Float32:
    example = example_of(op)
    if argument in example.keywords:
        found: Float32 = example.keywords[argument]
        return found
    given: Float32 = example.args[ARRAYS[op].index(argument)]
    return given


@each_array
@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "int32", "int64", "uint8", "bool", "complex64", ">f4"]
)
def test_dtype(op: str, argument: str, dtype: str) -> None:
    args, keywords = replaced(op, argument, current(op, argument).astype(dtype))
    text = refused(TypeError, op, argument, *args, **keywords)
    if dtype != ">f4":
        assert dtype in text
    assert "float32" in text


@each_array
@pytest.mark.parametrize(
    "value", [[1.0, 2.0], 3.0, "text", object(), {"a": 1}, np.array(["x"]), np.array([None])],
    ids=["list", "float", "str", "object", "dict", "str_array", "object_array"],
)  # fmt: skip
def test_not_an_array(op: str, argument: str, value: Any) -> None:
    args, keywords = replaced(op, argument, value)
    refused(TypeError, op, argument, *args, **keywords)


@pytest.mark.parametrize(
    "op,argument",
    [(op, name) for op in OPS for name in ARRAYS[op] if (op, name) not in OPTIONAL],
)
def test_none_where_an_array_is_needed(op: str, argument: str) -> None:
    args, keywords = replaced(op, argument, None)
    with pytest.raises(TypeError):
        function_of(op)(*args, **keywords)


@each_array
def test_layout(op: str, argument: str) -> None:
    good = current(op, argument)
    wide = np.zeros((*good.shape, 2), np.float32)[..., 0]
    if good.size > 1:
        args, keywords = replaced(op, argument, wide)
        assert "contiguous" in refused(ValueError, op, argument, *args, **keywords)
        args, keywords = replaced(op, argument, np.broadcast_to(np.float32(1), good.shape))
        refused(ValueError, op, argument, *args, **keywords)
        args, keywords = replaced(
            op, argument, good[::-1] if good.shape[0] > 1 else good[..., ::-1]
        )
        refused(ValueError, op, argument, *args, **keywords)


@each_array
def test_alignment(op: str, argument: str) -> None:
    good = current(op, argument)
    memory = np.zeros(good.nbytes + 4, np.uint8)
    start = 1 if memory.ctypes.data % 4 == 0 else 0
    odd = memory[start : start + good.nbytes].view(np.float32).reshape(good.shape)
    args, keywords = replaced(op, argument, odd)
    refused((ValueError, TypeError), op, argument, *args, **keywords)


@each_array
def test_zero_sizes(op: str, argument: str) -> None:
    good = current(op, argument)
    for axis in range(good.ndim):
        shape = list(good.shape)
        shape[axis] = 0
        args, keywords = replaced(op, argument, zeros(*shape))
        assert "0" in refused(ValueError, op, argument, *args, **keywords)


@each_array
def test_too_many_axes(op: str, argument: str) -> None:
    args, keywords = replaced(op, argument, zeros(*(1,) * 9))
    refused(ValueError, op, argument, *args, **keywords)


class _Device(ctypes.Structure):
    _fields_ = (("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32))


class _DType(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _ManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _Tensor), ("manager", ctypes.c_void_p), ("deleter", ctypes.c_void_p))


class OnAnotherDevice:
    """An array that says it lies on a CUDA device; its address must never be read."""

    def __init__(self, *shape: int) -> None:
        self._shape = (ctypes.c_int64 * len(shape))(*shape)
        self._managed = _ManagedTensor()
        tensor = self._managed.tensor
        tensor.data, tensor.device, tensor.ndim = 64, _Device(2, 0), len(shape)
        tensor.dtype, tensor.shape = _DType(2, 32, 1), self._shape

    def __dlpack__(self, **keywords: Any) -> Any:
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = (
            ctypes.py_object,
            (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        )
        return new(ctypes.addressof(self._managed), b"dltensor", None)

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


@each_array
def test_device(op: str, argument: str) -> None:
    args, keywords = replaced(op, argument, OnAnotherDevice(*current(op, argument).shape))
    assert "CPU" in refused(TypeError, op, argument, *args, **keywords)


def test_output_on_another_device() -> None:
    refused(TypeError, "relu", "out", zeros(3), out=OnAnotherDevice(3))


def test_torch_tensors_without_cpu_memory() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    for tensor in (
        torch.empty(3, 5, device="meta"),
        torch.zeros(3, 5).to_sparse(),
        torch.zeros(3, 5, dtype=torch.bfloat16),
        torch.zeros(3, 5, dtype=torch.float64),
    ):
        refused(TypeError, "softmax", "x", tensor)
    refused(ValueError, "softmax", "x", torch.zeros(5, 3).t())


def backward_shapes(
    argument: str, wrong: tuple[int, ...]
) -> tuple[str, str, list[tuple[int, ...] | None]]:
    """Shapes of attention_backward that fit but for one."""
    query, key = (1, 2, 3, 4), (1, 2, 5, 4)
    shapes: dict[str, tuple[int, ...] | None] = dict(
        zip(ARRAYS["attention_backward"], (query, key, key, query, (1, 2, 3), query), strict=True)
    )
    return "attention_backward", argument, list({**shapes, argument: wrong}.values())


SHAPES: list[tuple[str, str, list[tuple[int, ...] | None]]] = [
    ("matmul", "b", [(3, 4), (5, 6)]),
    ("matmul", "b", [(3, 4), (4,)]),
    ("matmul", "a", [(4,), (4, 6)]),
    ("matmul", "a", [(), (4, 6)]),
    ("matmul", "b", [(2, 3, 4), (3, 4, 6)]),
    ("matmul", "b", [(2, 3, 4), (2, 2, 4, 6)]),
    ("matmul", "bias", [(3, 4), (4, 6), (3,)]),
    ("matmul", "bias", [(3, 4), (4, 6), (1, 6)]),
    ("matmul", "addend", [(3, 4), (4, 6), None, (6,)]),
    ("matmul", "addend", [(3, 4), (4, 6), None, (6, 3)]),
    ("add", "b", [(3, 4), (3,)]),
    ("mul", "b", [(2, 3), (3, 2)]),
    ("maximum", "b", [(3, 4), (3,)]),
    ("pow", "b", [(2, 3), (3, 2)]),
    ("less_equal", "b", [(2, 3), (4,)]),
    ("where", "y", [(3,), (3,), (4,)]),
    ("bias_relu", "bias", [(3, 4), (3,)]),
    ("bias_relu", "bias", [(3, 4), ()]),
    ("bias_relu", "x", [(), (4,)]),
    ("softmax", "x", [()]),
    ("sum", "x", [()]),
    ("amax", "x", [()]),
    ("cumsum", "x", [()]),
    ("layer_norm", "x", [(), (3,), (3,)]),
    ("layer_norm", "weight", [(3, 4), (3,), (4,)]),
    ("layer_norm", "bias", [(3, 4), (4,), (5,)]),
    ("layer_norm", "bias", [(3, 4), (4,), (1, 4)]),
    ("silu_mul", "b", [(3, 4), (4,)]),
    ("silu_mul", "b", [(3, 4), (3, 1)]),
    ("rms_norm", "x", [(), (3,)]),
    ("rms_norm", "weight", [(3, 4), (3,)]),
    ("rms_norm", "weight", [(2, 3, 4), (4, 4)]),
    ("rms_norm", "weight", [(2, 3, 4), (2, 3)]),
    ("rms_norm", "weight", [(2, 3, 4), (1, 3, 4)]),
    ("rms_norm", "weight", [(4,), (1, 4)]),
    ("rms_norm", "addend", [(3, 4), (4,), (4,)]),
    ("rms_norm", "addend", [(3, 4), (4,), (4, 3)]),
    ("rotary", "x", [(2, 3, 4), (3, 2), (3, 2)]),
    ("rotary", "x", [(1, 2, 3, 1), (3, 1), (3, 1)]),
    ("rotary", "cos", [(1, 2, 3, 4), (2, 2), (3, 2)]),
    ("rotary", "cos", [(1, 2, 3, 5), (3, 3), (3, 3)]),
    ("rotary", "cos", [(1, 2, 3, 4), (2,), (2,)]),
    ("rotary", "sin", [(1, 2, 3, 4), (3, 2), (3, 1)]),
    ("rotary", "sin", [(1, 2, 3, 4), (3, 2), (3, 4)]),
    ("attention", "q", [(2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)]),
    ("attention", "k", [(1, 2, 3, 4), (1, 2, 3), (1, 2, 3, 4)]),
    ("attention", "k", [(1, 2, 3, 4), (1, 3, 3, 4), (1, 2, 3, 4)]),
    ("attention", "k", [(1, 2, 3, 4), (2, 2, 3, 4), (1, 2, 3, 4)]),
    ("attention", "k", [(1, 2, 3, 4), (1, 2, 3, 5), (1, 2, 3, 4)]),
    ("attention", "v", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 6, 4)]),
    ("attention", "k", [(1, 4, 3, 4), (1, 3, 5, 4), (1, 3, 5, 4)]),
    ("attention", "k", [(1, 2, 3, 4), (1, 4, 5, 4), (1, 4, 5, 4)]),
    ("attention", "v", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 1, 5, 4)]),
    ("attention", "v", [(1, 2, 3, 4), (1, 1, 5, 4), (1, 2, 5, 4)]),
    ("attention", "v", [(2, 2, 3, 4), (2, 2, 5, 4), (1, 2, 5, 6)]),
    ("attention", "mask", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), (3, 4)]),
    ("attention", "mask", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), (3, 3, 5)]),
    ("attention", "mask", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4), (1, 1, 2, 3, 5)]),
    ("attention_lse", "q", [(2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4)]),
    ("attention_lse", "k", [(1, 2, 3, 4), (1, 2, 3), (1, 2, 3)]),
    ("attention_lse", "k", [(1, 2, 3, 4), (1, 1, 3, 4), (1, 1, 3, 4)]),
    ("attention_lse", "v", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 6)]),
    backward_shapes("q", (2, 3, 4)),
    backward_shapes("k", (1, 2, 5, 3)),
    backward_shapes("k", (1, 3, 5, 4)),
    backward_shapes("v", (1, 2, 4, 4)),
    backward_shapes("output", (1, 2, 5, 4)),
    backward_shapes("output", (2, 3, 4)),
    backward_shapes("lse", (1, 2, 5)),
    backward_shapes("lse", (1, 2, 3, 1)),
    backward_shapes("grad_output", (1, 2, 3, 5)),
]  # fmt: skip


@pytest.mark.parametrize("op,argument,shapes", SHAPES)
def test_shapes(op: str, argument: str, shapes: list[tuple[int, ...] | None]) -> None:
    arrays = [None if shape is None else zeros(*shape) for shape in shapes]
    count = 3 if op in ("attention", "where", "layer_norm", "rotary") else min(len(arrays), 2)
    if op.startswith("attention_"):
        count = len(arrays)
    keyword_slots = {"matmul": ("bias", "addend"), "attention": ("mask",), "rms_norm": ("addend",)}
    names = keyword_slots.get(op, ())
    keywords = dict(zip(names, arrays[count:], strict=False))
    text = refused(ValueError, op, argument, *arrays[:count], **keywords)
    given = shapes[["a", "b", "bias", "addend"].index(argument)] if op == "matmul" else None
    if given is not None:
        assert str(given) in text
    with pytest.raises(ValueError):  # the same rule serves who only asks
        ablation_kernels.best_kernel(op, shapes)


VALUES: list[tuple[str, str, tuple[Any, ...], dict[str, Any], Any]] = [
    ("matmul", "activation", (zeros(3, 4), zeros(4, 5)), {"activation": "tanh"}, ValueError),
    ("matmul", "activation", (zeros(3, 4), zeros(4, 5)), {"activation": 1}, ValueError),
    ("matmul", "alpha", (zeros(3, 4), zeros(4, 5)), {"alpha": "1"}, TypeError),
    ("matmul", "transpose_b", (zeros(3, 4), zeros(4, 5)), {"transpose_b": "yes"}, TypeError),
    ("matmul", "b", (zeros(3, 4), zeros(4, 5)), {"transpose_b": True}, ValueError),
    ("permute", "perm", (zeros(3, 4), (0, 0)), {}, ValueError),
    ("permute", "perm", (zeros(3, 4), (0, 2)), {}, ValueError),
    ("permute", "perm", (zeros(3, 4), (0,)), {}, ValueError),
    ("permute", "perm", (zeros(3, 4), (0, 1, 2)), {}, ValueError),
    ("permute", "perm", (zeros(3, 4), ("a", "b")), {}, TypeError),
    ("permute", "perm", (zeros(3, 4), 1), {}, (ValueError, TypeError)),
    ("slice", "axis", (zeros(3, 4), 2, 0, 1), {}, ValueError),
    ("slice", "axis", (zeros(3, 4), -3, 0, 1), {}, ValueError),
    ("slice", "stop", (zeros(3, 4), 0, 0, 4), {}, ValueError),
    ("slice", "start", (zeros(3, 4), 0, -1, 2), {}, ValueError),
    ("slice", "start", (zeros(3, 4), 0, 1.5, 2), {}, TypeError),
    ("slice", "stop", (zeros(3, 4), 0, 1, 2**63), {}, (ValueError, TypeError)),
    ("take", "axis", (zeros(3, 4), zeros(2), 2), {}, ValueError),
    ("take", "axis", (zeros(3, 4), zeros(2), -3), {}, ValueError),
    ("take", "axis", (zeros(3, 4), zeros(2), 0.5), {}, TypeError),
    ("take", "x", (zeros(), zeros(2), 0), {}, ValueError),
    ("take", "ids", (zeros(*(1,) * 6), zeros(1, 1, 1, 1), 0), {}, ValueError),
    ("concat", "axis", (zeros(3, 4), zeros(3, 4)), {"axis": 2}, ValueError),
    ("concat", "b", (zeros(3, 4), zeros(4, 3)), {"axis": 0}, ValueError),
    ("concat", "b", (zeros(3, 4), zeros(4)), {"axis": 0}, ValueError),
    ("concat", "h", (*(zeros(3, 4),) * 7, zeros(3, 5)), {"axis": 0}, ValueError),
    ("concat", "a", (zeros(), zeros()), {"axis": 0}, ValueError),
    ("gelu", "approximate", (zeros(3),), {"approximate": "erf"}, ValueError),
    ("gelu", "approximate", (zeros(3),), {"approximate": None}, (ValueError, TypeError)),
    ("layer_norm", "eps", (zeros(3, 4), zeros(4), zeros(4)), {"eps": -1.0}, ValueError),
    ("layer_norm", "eps", (zeros(3, 4), zeros(4), zeros(4)), {"eps": float("nan")}, ValueError),
    ("layer_norm", "eps", (zeros(3, 4), zeros(4), zeros(4)), {"eps": "small"}, TypeError),
    ("rms_norm", "eps", (zeros(3, 4), zeros(4)), {"eps": -1.0}, ValueError),
    ("rms_norm", "eps", (zeros(3, 4), zeros(4)), {"eps": None}, TypeError),
    ("rotary", "layout", (zeros(1, 2, 3, 4), zeros(3, 2), zeros(3, 2)), {"layout": "qkv"},
     ValueError),
    ("rotary", "cos", (zeros(1, 2, 3, 4), zeros(3, 2), zeros(3, 2)), {"layout": "bshd"},
     ValueError),
    ("rotary", "pairs", (zeros(1, 2, 3, 4), zeros(3, 2), zeros(3, 2)), {"pairs": "thirds"},
     ValueError),
    ("rotary", "n_heads", (zeros(1, 2, 3, 4), zeros(3, 2), zeros(3, 2)), {"n_heads": 3},
     ValueError),
    ("rotary", "n_heads", (zeros(1, 2, 3, 4), zeros(3, 2), zeros(3, 2)), {"n_heads": -1},
     ValueError),
    ("attention", "tile_q", (zeros(1, 1, 2, 3),) * 3, {"tile_q": -1}, ValueError),
    ("attention", "tile_k", (zeros(1, 1, 2, 3),) * 3, {"tile_k": 2**40}, ValueError),
    ("attention", "tile_k", (zeros(1, 1, 2, 3),) * 3, {"tile_k": 2.0}, TypeError),
    ("attention", "causal", (zeros(1, 1, 2, 3),) * 3, {"causal": 1}, TypeError),
    ("attention", "window", (zeros(1, 1, 2, 3),) * 3, {"causal": True, "window": -1}, ValueError),
    ("attention", "window", (zeros(1, 1, 2, 3),) * 3, {"causal": True, "window": 2.0}, TypeError),
    ("attention", "window", (zeros(1, 1, 2, 3),) * 3, {"window": 2}, ValueError),
    ("attention", "window", (zeros(1, 1, 2, 3),) * 3, {"window": 2, "mask": zeros(2, 2)},
     ValueError),
    ("attention", "window", (zeros(1, 1, 2, 3),) * 3, {"window": 2, "mask_is_causal": True},
     ValueError),
    ("attention", "scale", (zeros(1, 1, 2, 3),) * 3, {"scale": "auto"}, TypeError),
    ("attention", "layout", (zeros(1, 1, 2, 3),) * 3, {"layout": "sbhd"}, ValueError),
    ("attention", "layout", (zeros(1, 1, 2, 3),) * 3, {"layout": None}, ValueError),
    ("attention", "k", (zeros(1, 1, 2, 3),), {}, ValueError),
    ("attention", "v", (zeros(1, 1, 2, 3), zeros(1, 1, 2, 3)), {}, ValueError),
    ("attention", "k", (zeros(1, 1, 2, 3), None, zeros(1, 1, 2, 3)), {"layout": "bshd"},
     ValueError),
    ("attention", "k", (zeros(1, 2, 3, 4), zeros(1, 5, 2, 4), zeros(1, 5, 2, 4)),
     {"layout": "bshd"}, ValueError),
    ("attention", "q", (zeros(1, 2, 3),), {"layout": "qkv"}, ValueError),
    ("attention", "q", (zeros(1, 2, 2, 3, 4),), {"layout": "qkv"}, ValueError),
    *(
        ("attention", "n_heads", (zeros(1, 2, 8, 4),), {"layout": "qkv", "n_heads": n}, ValueError)
        for n in (0, -1, 1, 5, 7, 8, 9, -(2**63), 2**63 - 1)
    ),
    ("attention", "n_heads", (zeros(1, 2, 8, 4),), {"layout": "qkv"}, ValueError),
    ("attention", "n_heads", (zeros(1, 2, 8, 4),), {"layout": "qkv", "n_heads": 4.0}, TypeError),
    ("attention", "n_heads", (zeros(1, 2, 3, 4, 4),), {"layout": "qkv", "n_heads": 4}, ValueError),
    ("attention", "n_heads", (zeros(1, 2, 3, 4),) * 3, {"layout": "bshd", "n_heads": 3},
     ValueError),
    ("attention", "k", (zeros(1, 2, 8, 4), zeros(1, 2, 2, 4)), {"layout": "qkv", "n_heads": 4},
     ValueError),
    ("attention", "mask", (zeros(1, 2, 8, 4),),
     {"layout": "qkv", "n_heads": 4, "mask": zeros(8, 2, 2)}, ValueError),
    *(
        ("attention", "softcap", (zeros(1, 1, 2, 3),) * 3, {"softcap": cap}, ValueError)
        for cap in (-1.0, 1e-39, 3e38, float("inf"), float("nan"))
    ),
    ("attention", "softcap", (zeros(1, 1, 2, 3),) * 3, {"softcap": None}, TypeError),
    ("attention", "q", (zeros(1, 2, 3, 3, 4),) * 3, {"layout": "bshd"}, ValueError),
    ("attention", "k", (zeros(1, 2, 3, 3, 4), zeros(1, 3, 2, 4)), {"layout": "qkv"}, ValueError),
    ("attention", "v", (zeros(1, 2, 3, 3, 4), None, zeros(1, 3, 2, 4)), {"layout": "qkv"},
     ValueError),
    ("attention", "mask", (zeros(1, 2, 3, 2, 4),), {"layout": "qkv", "mask": zeros(2, 5)},
     ValueError),
    ("attention_lse", "causal", (zeros(1, 1, 2, 3),) * 3, {"causal": 1}, TypeError),
    ("attention_lse", "scale", (zeros(1, 1, 2, 3),) * 3, {"scale": "auto"}, TypeError),
    ("softmax", "kernel", (zeros(3),), {"kernel": 3}, TypeError),
]  # fmt: skip


@pytest.mark.parametrize("op,argument,args,keywords,kind", VALUES)
def test_values(
    op: str, argument: str, args: tuple[Any, ...], keywords: dict[str, Any], kind: Any
) -> None:
    refused(kind, op, argument, *args, **keywords)


@pytest.mark.parametrize("start,stop", [(2, 2), (3, 2), (4, 4)])
def test_empty_slices(start: int, stop: int) -> None:
    with pytest.raises(ValueError, match="accepted"):
        ablation_kernels.slice(zeros(4, 4), 0, start, stop)


@pytest.mark.parametrize("op", OPS)
def test_unknown_kernel_names_the_nearest(op: str) -> None:
    example = example_of(op)
    name = ablation_kernels.op_table()[0].name
    for info in ablation_kernels.op_table():
        if info.op == op:
            name = info.name
    misspelt = name[:-2] + name[-1] + name[-2]
    with pytest.raises(ValueError) as caught:
        function_of(op)(*example.args, **example.keywords, kernel=misspelt)
    assert f"'{misspelt}'" in str(caught.value) and name in str(caught.value)
    other = "softmax_scalar" if op != "softmax" else "relu_scalar"
    with pytest.raises(ValueError):
        function_of(op)(*example.args, **example.keywords, kernel=other)
    with pytest.raises(ValueError):
        function_of(op)(*example.args, **example.keywords, kernel="")


@pytest.mark.parametrize("op", OPS)
def test_bad_outputs(op: str) -> None:
    example = example_of(op)
    shape = example.expected.shape
    read_only = zeros(*shape)
    read_only.flags.writeable = False
    strided = np.zeros((*shape, 2), np.float32)[..., 1]
    for kind, out in (
        (ValueError, zeros(*shape, 1)),
        (ValueError, zeros(*shape[:-1], shape[-1] + 1)),
        (ValueError, zeros(int(np.prod(shape)) if len(shape) > 1 else 1)),
        (ValueError, read_only),
        (ValueError, strided),
        (TypeError, np.zeros(shape, np.float64)),
        (TypeError, [0.0]),
    ):
        refused(kind, op, "out", *example.args, **example.keywords, out=out)


@pytest.mark.parametrize("op", OPS)
def test_overlapping_outputs(op: str) -> None:
    """An output that shares part of an input's memory, for every input of every op."""
    example = example_of(op)
    shape = example.expected.shape
    size = int(np.prod(shape))
    for argument in ARRAYS[op]:
        good = current(op, argument)
        for shift in (-(good.size - 1), -1, 1, size - 1):
            # the output starts `shift` floats before the input, and both lie in one buffer
            memory = np.zeros(2 * (size + good.size), np.float32)
            begin = good.size + size
            given = memory[begin : begin + good.size].reshape(good.shape)
            out = memory[begin - shift : begin - shift + size].reshape(shape)
            if shift <= -good.size or shift >= size or not np.shares_memory(given, out):
                continue
            args, keywords = replaced(op, argument, given)
            text = refused(ValueError, op, "out", *args, **keywords, out=out)
            assert argument in text


@pytest.mark.parametrize("op", ["matmul", "permute", "attention"])
def test_outputs_that_cannot_be_in_place(op: str) -> None:
    x = zeros(1, 1, 4, 4) if op == "attention" else zeros(4, 4)
    args: tuple[Any, ...] = {"matmul": (x, zeros(4, 4)), "permute": (x, (1, 0))}.get(op, (x, x, x))
    refused(ValueError, op, "out", *args, out=x)


def test_broadcast_input_cannot_be_the_output() -> None:
    """The smaller operand is read again after its first elements were overwritten."""
    memory = zeros(3, 4)
    refused(ValueError, "add", "out", zeros(3, 4), memory[0], out=memory)


@pytest.mark.parametrize("n", [0, -1, -(2**31), 2**31, 2**70])
def test_set_num_threads_values(n: int) -> None:
    before = ablation_kernels.get_num_threads()
    with pytest.raises((ValueError, TypeError)) as caught:
        ablation_kernels.set_num_threads(n)
    if isinstance(caught.value, ValueError):  # beyond 32 bits it is a TypeError of the signature
        assert str(n) in str(caught.value) and "accepted" in str(caught.value)
    assert ablation_kernels.get_num_threads() == before


@pytest.mark.parametrize("n", ["2", None, 2.5, [1]])
def test_set_num_threads_types(n: Any) -> None:
    before = ablation_kernels.get_num_threads()
    with pytest.raises(TypeError):
        ablation_kernels.set_num_threads(n)
    assert ablation_kernels.get_num_threads() == before


def test_wrong_number_of_arguments() -> None:
    for op in OPS:
        with pytest.raises(TypeError):
            function_of(op)()
        with pytest.raises(TypeError):
            function_of(op)(*example_of(op).args, unknown=1)


@pytest.mark.parametrize(
    "shapes,attributes,threads,kind",
    [
        ([(3, 4)], {"unknown": 1}, 1, ValueError),
        ([(3, 4), (3, 4)], {}, 1, ValueError),
        ([], {}, 1, ValueError),
        ([None], {}, 1, ValueError),
        ([(3, -4)], {}, 1, ValueError),
        ([(3, 0)], {}, 1, ValueError),
        ([(1,) * 9], {}, 1, ValueError),
        ([("a",)], {}, 1, TypeError),
        ([(3, 4)], {}, 0, ValueError),
        ([(3, 4)], {}, 1025, ValueError),
        (3, {}, 1, TypeError),
    ],
)
def test_scratch_bytes_arguments(shapes: Any, attributes: Any, threads: int, kind: Any) -> None:
    with pytest.raises(kind):
        ablation_kernels.scratch_bytes("softmax_simd", shapes, attributes, threads)


@pytest.mark.parametrize(
    "argument,q,k,attributes",
    [
        ("q", (1, 1, 2**31, 1), (1, 1, 3, 1), {}),
        ("q", (1, 1, 3, 2**31), (1, 1, 3, 2**31), {}),
        ("k", (1, 1, 3, 1), (1, 1, 2**31 - 31, 1), {}),
        ("tile_q", (1, 1, 2**31 - 1, 1), (1, 1, 2**31 - 32, 1), {"tile_q": 2**31 - 1}),
        ("tile_q", (1, 1, 2**23, 1), (1, 1, 2**23, 1), {"tile_q": 2**23}),
    ],
)
def test_attention_beyond_its_limits(
    argument: str, q: tuple[int, ...], k: tuple[int, ...], attributes: dict[str, int]
) -> None:
    """32 bits of the BLAS interface; scratch that 64 bits could not count."""
    for kernel in kernels_of("attention"):
        with pytest.raises(ValueError, match=f"'{argument}'.*accepted"):
            ablation_kernels.scratch_bytes(kernel, [q, k, k, None], attributes, 1)
    most = (1, 1, 2**31 - 32, 1)
    for kernel in kernels_of("attention"):
        assert ablation_kernels.scratch_bytes(kernel, [most] * 3, {"tile_q": 2**14}, 1024) > 0


@pytest.mark.parametrize(
    "op,shapes",
    [
        ("softmax", [(2**32, 2**32)]),
        ("softmax", [(2**32 + 1, 2**32 + 1)]),  # 64 bits wrap around to a small positive number
        ("softmax", [(2**62, 4)]),
        ("softmax", [(2**40, 2**40, 2**40)]),
        ("add", [(2**40, 1), (2**40,)]),
        ("matmul", [(2**40, 1), (1, 2**40)]),
    ],
)
def test_sizes_beyond_64_bits(op: str, shapes: list[tuple[int, ...]]) -> None:
    kernel = kernels_of(op)[-1]
    for ask in (
        lambda: ablation_kernels.scratch_bytes(kernel, shapes, {}, 1),
        lambda: ablation_kernels.best_kernel(op, shapes),
        lambda: ablation_kernels.infer_shape(op, shapes),
    ):
        with pytest.raises(ValueError, match="accepted"):
            ask()
