"""Kernels and NumPy references over zeros, denormals, huge values, infinities and NaN.

Expected is what PyTorch computes in float64, rounded to float32; where squares of float32 overflow
a kernel of rms_norm may also give what PyTorch gives in float32, which is 0.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional

import ablation_kernels
from ablation_executor.ir import Array
from ablation_executor.ops import OPS

MAGNITUDES = [0, 1e-45, 1e-40, 1.2e-38, 1e-30, 1e-19, 1, 3.3, 13, 40, 90, 105, 1e5, 1e10, 1e19]
MAGNITUDES += [2e19, 1e30, 3.4e38, np.inf]
SPECIAL = np.array([*MAGNITUDES, *(-np.array(MAGNITUDES)), np.nan], np.float32)
#: A vector register and a tail of every value, in every place.
LINE = np.concatenate([np.roll(SPECIAL, shift) for shift in range(5)])
LEFT, RIGHT = np.repeat(SPECIAL, len(SPECIAL)), np.tile(SPECIAL, len(SPECIAL))
FEW = SPECIAL[[0, 1, 2, 4, 6, 12, 14, 16, 17, 18, 20, 35, 36, 37, 38]]
ROWS = np.array([[*three, 1, 2, -1, 0.5, 3, *three] for three in itertools.product(FEW, repeat=3)])
ROWS = ROWS.astype(np.float32)
WEIGHT, BIAS = np.linspace(0.5, 2, 11, dtype=np.float32), np.full(11, 0.25, np.float32)


def silu_mul(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """silu(a) * b, the gate rounded to float32 as well."""
    return functional.silu(a).float().double() * b


def is_denormal_gate(a: torch.Tensor) -> npt.NDArray[np.bool_]:
    """Where silu(a) has few digits left, which a large factor would show."""
    gate = functional.silu(a).abs()
    return np.asarray(((gate != 0) & (gate < torch.finfo(torch.float32).tiny)).numpy())


UNARY: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": torch.relu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "rsqrt": torch.rsqrt,
    **{name: getattr(torch, name) for name in ("exp", "log", "sqrt", "tanh", "sigmoid", "erf")},
    **{name: getattr(torch, name) for name in ("abs", "sin", "cos")},
}
BINARY: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "silu_mul": silu_mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "pow": torch.pow,
    "equal": lambda a, b: torch.eq(a, b).double(),
    "less": lambda a, b: torch.lt(a, b).double(),
    "less_equal": lambda a, b: torch.le(a, b).double(),
}


def ways(op: str) -> list[str]:
    """The kernels of an op, and its NumPy reference."""
    return [*(info.name for info in ablation_kernels.op_table() if info.op == op), "numpy"]


def each_way(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("op", "way"), [(op, way) for op in names for way in ways(op)])


def compute(op: str, way: str, *arrays: Array, **attributes: object) -> Array:
    if way != "numpy":
        result: Array = getattr(ablation_kernels, op)(*arrays, **attributes, kernel=way)
        return result
    spec = OPS[op]
    with np.errstate(all="ignore"):
        given = (*arrays, *(None,) * (len(spec.slots) - len(arrays)))
        return np.asarray(spec.reference(given, spec.complete(attributes)))


def wide(array: Array) -> torch.Tensor:
    return torch.from_numpy(array).double()


def differs(
    actual: Array, expected: torch.Tensor, relative: float, absolute: float | Array
) -> Array:
    want = expected.float().numpy()
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(actual.astype(np.float64) - want)
        near = error <= relative * np.abs(want.astype(np.float64)) + absolute
    return np.asarray(~(near | (actual == want) | (np.isnan(actual) & np.isnan(want))))


@each_way(*UNARY)
def test_unary(op: str, way: str) -> None:
    wrong = differs(compute(op, way, LINE), UNARY[op](wide(LINE)), 1e-5, 1e-37)
    assert not wrong.any(), LINE[wrong]


@each_way("gelu")
def test_gelu_by_tanh(op: str, way: str) -> None:
    """In float32 the tanh of the tail is exactly -1."""
    actual = compute(op, way, LINE, approximate="tanh")
    wrong = differs(actual, functional.gelu(wide(LINE), approximate="tanh"), 1e-4, 1e-6)
    assert not wrong.any(), LINE[wrong]


@each_way("gelu")
def test_gelu_by_the_sigmoid(op: str, way: str) -> None:
    actual = compute(op, way, LINE, approximate="sigmoid")
    expected = wide(LINE) * torch.sigmoid(1.702 * wide(LINE))
    wrong = differs(actual, expected, 1e-4, 1e-36)
    assert not wrong.any(), LINE[wrong]


@each_way("sum", "amax", "cumsum")
def test_reductions(op: str, way: str) -> None:
    expected = {
        "sum": lambda x: x.sum(-1, keepdim=True),
        "amax": lambda x: x.amax(-1, keepdim=True),
        "cumsum": lambda x: x.cumsum(-1),
    }[op](wide(ROWS))
    size = np.abs(np.nan_to_num(ROWS.astype(np.float64), posinf=0, neginf=0)).sum(-1, keepdims=True)
    absolute = 2e-6 * size if op == "sum" else 1e-37
    wrong = differs(compute(op, way, ROWS), expected, 1e-6, absolute)
    assert not wrong.any(), ROWS[wrong.any(axis=-1)]


@each_way(*BINARY)
def test_binary(op: str, way: str) -> None:
    expected = BINARY[op](wide(LEFT), wide(RIGHT))
    wrong = differs(compute(op, way, LEFT, RIGHT), expected, 1e-5, 1e-36)
    if op == "silu_mul":
        wrong &= ~is_denormal_gate(wide(LEFT))
    assert not wrong.any(), (LEFT[wrong], RIGHT[wrong])


@each_way("softmax")
def test_softmax(op: str, way: str) -> None:
    wrong = differs(compute(op, way, ROWS), torch.softmax(wide(ROWS), -1), 1e-5, 1e-37)
    assert not wrong.any(), ROWS[wrong.any(axis=-1)]


@each_way("layer_norm")
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_layer_norm(op: str, way: str, eps: float) -> None:
    expected = functional.layer_norm(wide(ROWS), (11,), wide(WEIGHT), wide(BIAS), eps)
    wrong = differs(compute(op, way, ROWS, WEIGHT, BIAS, eps=eps), expected, 1e-3, 1e-3)
    assert not wrong.any(), ROWS[wrong.any(axis=-1)]


@each_way("rms_norm")
@pytest.mark.parametrize("eps", [0.0, 1e-5])
def test_rms_norm(op: str, way: str, eps: float) -> None:
    actual = compute(op, way, ROWS, WEIGHT, eps=eps)
    right = functional.rms_norm(wide(ROWS), (11,), wide(WEIGHT), eps)
    torchs = functional.rms_norm(
        torch.from_numpy(ROWS), (11,), torch.from_numpy(WEIGHT), eps
    ).double()
    wrong = differs(actual, right, 1e-5, 1e-37) & differs(actual, torchs, 1e-5, 1e-37)
    assert not wrong.any(), ROWS[wrong.any(axis=-1)]
