"""Times every kernel of an op on one shape, side by side."""

from __future__ import annotations

import random
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from ablation_kernels import _native
from ablation_kernels.table import infer_shape, op_table, ops, scratch_bytes

_SMALL = ("weight", "bias")
_ANGLES = ("cos", "sin")


def _is_constant(op: str, slot: str) -> bool:
    """Whether the slot holds a layer's parameter, which a program gets as a constant."""
    return slot in (*_SMALL, *_ANGLES) or (op == "matmul" and slot == "b")


@dataclass(frozen=True)
class KernelTime:
    """Nanoseconds of a kernel's calls, one a round, by the clock of `Program.run_timed`."""

    kernel: str
    times_ns: tuple[int, ...]

    @property
    def min_ns(self) -> int:
        """The fastest call."""
        return min(self.times_ns)

    @property
    def median_ns(self) -> float:
        """The median call."""
        return median(self.times_ns)


def input_shapes(op: str, shape: tuple[int, ...]) -> list[tuple[int, ...] | None]:
    """Shapes of an op's inputs when its first input has this one; optional inputs are absent, but
    for the k and v of attention.

    A weight or bias is a vector of the last size, the b of matmul is square, an lse lacks the last
    axis, tables of angles fit the layout bhsd; the others have the first input's shape. Raises
    ValueError for an unknown op or one whose attributes have no default (permute, slice, take,
    concat).
    """
    table = {
        name: info
        for name, info in ops().items()
        if not any(attribute.is_required for attribute in info.attributes.values())
    }
    if not isinstance(op, str) or op not in table:
        raise ValueError(f"argument 'op' is {op!r}; accepted: {', '.join(table)}")
    shapes: list[tuple[int, ...] | None] = []
    for slot in table[op].slots:
        if slot in table[op].optional and not (op == "attention" and slot in ("k", "v")):
            shapes.append(None)
        elif slot in _SMALL:
            shapes.append(shape[-1:])
        elif op == "matmul" and slot == "b":
            shapes.append(shape[-1:] * 2)
        elif slot in _ANGLES:
            shapes.append((*shape[-2:-1], shape[-1] // 2))
        elif slot == "lse":
            shapes.append(shape[:-1])
        else:
            shapes.append(shape)
    return shapes


def time_kernels(op: str, shape: tuple[int, ...], rounds: int = 20) -> list[KernelTime]:
    """Times of every kernel of an op, in the table's order, on get_num_threads() threads.

    `shape` is the first input's; see `input_shapes` for the others. Inputs are normal random
    numbers; weights, biases and the b of matmul are constants of the program, as in a linear layer,
    so that a kernel that packs b has done so before. After one call that is not counted, each round
    has one call of each kernel, in random order. Raises ValueError for an unknown op or a shape
    that it does not accept, or fewer rounds than 1.
    """
    if rounds < 1:
        raise ValueError(f"time_kernels: argument 'rounds' is {rounds}; accepted: 1 or more")
    if not isinstance(shape, tuple | list):
        given = type(shape).__name__
        raise TypeError(f"time_kernels: argument 'shape' is {given}; accepted: a tuple of sizes")
    shapes = input_shapes(op, tuple(shape))
    generator = np.random.default_rng(0)
    slot_names = ops()[op].slots
    values: list[Any] = []
    inputs: list[np.ndarray[Any, np.dtype[np.float32]]] = []
    slots: list[int | None] = []
    for slot, size in zip(slot_names, shapes, strict=True):
        if size is None:
            slots.append(None)
            continue
        slots.append(len(values))
        array = generator.standard_normal(size, dtype=np.float32)
        if _is_constant(op, slot):
            values.append(("constant", array))
        else:
            values.append(("input", size))
            inputs.append(array)
    output = np.empty(infer_shape(op, shapes), np.float32)
    values.append(("output", output.shape))
    threads = _native.get_num_threads()
    constants = [slot for slot in slot_names if _is_constant(op, slot)]
    programs = {}
    for kernel in [kernel.name for kernel in op_table() if kernel.op == op]:
        call: tuple[Any, ...] = (kernel, slots, len(values) - 1, {}, 0, kernel)
        arena_bytes = scratch_bytes(kernel, shapes, threads=threads, constants=constants)
        programs[kernel] = _native.Program(values, [call], arena_bytes)
        programs[kernel].run(inputs, [output])
    times: dict[str, list[int]] = {kernel: [] for kernel in programs}
    order = random.Random(0)
    for _ in range(rounds):
        for kernel in order.sample(list(programs), len(programs)):
            times[kernel].append(int(programs[kernel].run_timed(inputs, [output])[1][0]))
    return [KernelTime(kernel, tuple(taken)) for kernel, taken in times.items()]
