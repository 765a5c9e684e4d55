"""Calls of the ops as a model makes them: shapes, attributes, arrays, and their work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ablation_kernels.table import Ceilings, infer_shape, ops

Shape = tuple[int, ...]

FLOAT_BYTES = 4
_VECTORS = ("weight", "bias")
_ANGLES = ("cos", "sin")
_POSITIVE = {"log": ("x",), "sqrt": ("x",), "rsqrt": ("x",), "pow": ("a",)}
# Rows that take reads where no shape of ids is given: a sequence's
_N_IDS = 512

# One array that stays in the caches of most machines, and one that does not
_ELEMENTS = ("512x3072", "4096x4096")
#: Usual shapes of an op's inputs, as the command line takes them; see `usual_calls`.
_USUAL = {
    # Projections of GPT-2 at 512 tokens, its wider layer, and a token of a model of 7 billion
    "matmul": ("512x768", "512x768,768x3072", "1x4096"),
    "permute": ("1x512x12x64", "1x2048x32x128"),
    "slice": ("512x2304", "2048x12288"),
    "take": ("50257x768", "32000x1024,2048"),
    "concat": ("1x12x512x64", "1x32x2047x128,1x32x1x128"),
    # The scores of 12 heads, and the words of a vocabulary
    "softmax": ("6144x512", "512x50257"),
    "layer_norm": ("512x768", "2048x4096"),
    "rms_norm": ("512x768", "2048x4096"),
    "rotary": ("1x12x512x64", "1x32x2048x128"),
    "attention": ("1x12x512x64", "1x32x2048x128", "1x32x1x128,1x32x2048x128"),
    "attention_lse": ("1x12x512x64", "1x32x2048x128"),
    "attention_backward": ("1x12x512x64", "1x32x2048x128"),
}


@dataclass(frozen=True)
class Call:
    """An op with the shapes of its slots (None: absent) and its attributes."""

    op: str
    shapes: tuple[Shape | None, ...]
    attributes: dict[str, Any]
    text: str
    """The shapes as the command line takes them."""

    @property
    def output_shape(self) -> Shape:
        """Shape of the output."""
        return infer_shape(self.op, self.shapes, self.attributes)

    @property
    def flops(self) -> int | None:
        """Two for each multiply-add of the products; None for an op without products.

        (M, K) by (K, N): 2 M N K, for Strassen's kernels too. Attention has two products of
        queries by keys, its gradient five.
        """
        if self.op == "matmul":
            return 2 * math.prod(self.output_shape) * self._shape("a")[-1]
        if not self.op.startswith("attention"):
            return None
        q, k, v = self._shape("q"), self._shape("k"), self._shape("v")
        pairs = math.prod(q[:-1]) * k[-2]
        if self.op == "attention_backward":
            return 2 * pairs * (3 * q[-1] + 2 * v[-1])
        return 2 * pairs * (q[-1] + v[-1])

    @property
    def n_bytes(self) -> int:
        """Bytes of the elements that the call has to read and to write, each once."""
        written = math.prod(self.output_shape)
        read = sum(math.prod(shape) for shape in self.shapes if shape is not None)
        if self.op == "slice":
            read = written
        elif self.op == "take":
            read = written + math.prod(self._shape("ids"))
        return FLOAT_BYTES * (read + written)

    def roof(self, ceilings: Ceilings) -> tuple[str, float]:
        """Return what bounds the call on a machine, "multiply-adds" or "memory", and its least time
        in nanoseconds: the longer of both at their ceilings."""
        memory_ns = 1e9 * self.n_bytes / ceilings.memory_bytes_per_s
        compute_ns = 1e9 * (self.flops or 0) / ceilings.multiply_add_flops_per_s
        return ("multiply-adds", compute_ns) if compute_ns > memory_ns else ("memory", memory_ns)

    def arrays(self) -> list[NDArray[np.float32] | None]:
        """Return an array for each slot, always the same ones: normal random numbers, their
        magnitudes where a logarithm or root is taken, numbers of rows for ids, 0 and 1 for a
        condition."""
        generator = np.random.default_rng(0)
        return [
            None if shape is None else self._array(slot, shape, generator)
            for slot, shape in zip(ops()[self.op].slots, self.shapes, strict=True)
        ]

    def _array(self, slot: str, shape: Shape, generator: np.random.Generator) -> Any:
        if slot == "ids":
            n_rows = self._shape("x")[self.attributes["axis"]]
            return generator.integers(0, max(1, n_rows), shape).astype(np.float32)
        array = generator.standard_normal(shape, dtype=np.float32)
        if slot == "condition":
            return (array < 0).astype(np.float32)
        return np.abs(array) if slot in _POSITIVE.get(self.op, ()) else array

    def _shape(self, slot: str) -> Shape:
        shape = self.shapes[ops()[self.op].slots.index(slot)]
        assert shape is not None, slot
        return shape


def is_constant(op: str, slot: str) -> bool:
    """Return whether the slot holds a layer's parameter, which a program gets as a constant."""
    return slot in (*_VECTORS, *_ANGLES) or (op == "matmul" and slot == "b")


def make_call(op: str, *shapes: Shape) -> Call:
    """Make a call of an op from the shapes of its first inputs.

    The inputs that are not given follow from the first: a weight or bias is a vector of its last
    size, the b of matmul is square, an lse lacks the last axis, tables of angles fit the layout
    bhsd, take has 512 ids, k and v of attention have the shape of the last one given; others have
    the first input's shape. Optional inputs that are not given are absent. permute exchanges the
    second and third axis from the end (of a matrix both), slice takes the first third of the last
    axis, take takes rows, concat joins at the second axis from the end. Raises ValueError for an
    unknown op, and for shapes that it does not accept.
    """
    if not isinstance(op, str) or op not in ops():
        raise ValueError(f"argument 'op' is {op!r}; accepted: {', '.join(ops())}")
    info = ops()[op]
    if not 1 <= len(shapes) <= len(info.slots):
        raise ValueError(
            f"argument 'shapes' has {len(shapes)} shapes; accepted: at most {len(info.slots)}, of "
            f"{', '.join(info.slots)}"
        )
    found: list[Shape | None] = list(shapes)
    for slot in info.slots[len(shapes) :]:
        is_needed = slot not in info.optional or (op == "attention" and slot in ("k", "v"))
        found.append(_derived(op, slot, shapes) if is_needed else None)
    attributes = _attributes(op, shapes[0])
    infer_shape(op, found, attributes)
    text = ",".join("x".join(map(str, shape)) for shape in shapes)
    return Call(op, tuple(found), attributes, text)


def _derived(op: str, slot: str, shapes: Sequence[Shape]) -> Shape:
    """Return the shape of a slot of which none is given."""
    first = shapes[0]
    if slot in _VECTORS:
        return first[-1:]
    if op == "matmul" and slot == "b":
        return first[-1:] * 2
    if slot in _ANGLES:
        return (*first[-2:-1], *(size // 2 for size in first[-1:]))
    if slot == "lse":
        return first[:-1]
    if slot == "ids":
        return (_N_IDS,)
    return shapes[-1] if op == "attention" else first


def _attributes(op: str, first: Shape) -> dict[str, Any]:
    """Return the attributes that an op has to be given."""
    n_axes = len(first)
    if op == "permute":
        order = list(range(n_axes))
        swapped = (-3, -2) if n_axes > 2 else (-2, -1)
        if n_axes > 1:
            one, other = swapped
            order[one], order[other] = order[other], order[one]
        return {"perm": tuple(order)}
    if op == "slice":
        return {"axis": n_axes - 1, "start": 0, "stop": max([1, *(s // 3 for s in first[-1:])])}
    if op == "concat":
        return {"axis": max(0, n_axes - 2)}
    return {"axis": 0} if op == "take" else {}


def parse_shapes(text: str) -> tuple[Shape, ...]:
    """Parse the shapes of an op's first inputs: 512x768 or 512x768,768x3072."""
    return tuple(tuple(int(size) for size in part.split("x")) for part in text.split(","))


def usual_calls(op: str) -> list[Call]:
    """Make the calls of an op that a record of all kernels has."""
    return [make_call(op, *parse_shapes(text)) for text in _USUAL.get(op, _ELEMENTS)]
