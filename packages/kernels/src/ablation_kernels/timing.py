"""Time every kernel of an op on one call, side by side."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from ablation_kernels import _native
from ablation_kernels.calls import FLOAT_BYTES, Call, is_constant, make_call
from ablation_kernels.table import op_table, ops, scratch_bytes

# What `seconds` may not cut or stretch the calls of a kernel to; a slow call takes over a second.
LEAST_CALLS, LEAST_SLOW_CALLS, MOST_CALLS = 5, 3, 100


@dataclass(frozen=True)
class KernelTime:
    """Nanoseconds of a kernel's calls, by the clock of `Program.run_timed`."""

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


def time_kernels(op: str, shape: tuple[int, ...], rounds: int = 20) -> list[KernelTime]:
    """Time every kernel of an op, in the table's order, on get_num_threads() threads.

    `shape` is the first input's; see `calls.make_call` for the others and for the attributes.
    Inputs are normal random numbers; weights, biases and the b of matmul are constants of the
    program, as in a linear layer, so that a kernel that packs b has done so before. After one call
    that is not counted, each round has one call of each kernel, in random order. Times are
    nanoseconds. Raises ValueError for an unknown op, for a shape that it does not accept, and for
    fewer than 1 rounds.
    """
    if rounds < 1:
        raise ValueError(f"time_kernels: argument 'rounds' is {rounds}; accepted: 1 or more")
    if not isinstance(shape, tuple | list):
        given = type(shape).__name__
        raise TypeError(f"time_kernels: argument 'shape' is {given}; accepted: a tuple of sizes")
    return time_call(make_call(op, tuple(shape)), rounds)


def held_bytes(call: Call) -> int:
    """Return the bytes that `time_call` takes at least: the arrays of a call, and for each kernel
    the constants and the scratch of its program."""
    slot_names = ops()[call.op].slots
    constants = [slot for slot in slot_names if is_constant(call.op, slot)]
    of_program = sum(
        FLOAT_BYTES * math.prod(shape)
        for slot, shape in zip(slot_names, call.shapes, strict=True)
        if slot in constants and shape is not None
    )
    arrays = [shape for shape in (*call.shapes, call.output_shape) if shape is not None]
    total = FLOAT_BYTES * sum(map(math.prod, arrays))
    for kernel in [kernel.name for kernel in op_table() if kernel.op == call.op]:
        scratch = scratch_bytes(
            kernel,
            call.shapes,
            call.attributes,
            threads=_native.get_num_threads(),
            constants=constants,
        )
        total += of_program + scratch
    return total


def time_call(
    call: Call, rounds: int | None = None, seconds: float | None = None
) -> list[KernelTime]:
    """Time every kernel of a call's op, as `time_kernels` does.

    With `rounds` each kernel has as many calls. With `seconds` it has as many as fit into them, 5
    to 100, or 3 if one takes more than a second; they are spread over all rounds.
    """
    inputs, output, programs = _programs(call)
    counts = {}
    for kernel, program in programs.items():
        program.run(inputs, [output])
        counts[kernel] = rounds or MOST_CALLS
        if seconds is not None:
            taken_ns = max(1, int(program.run_timed(inputs, [output])[1][0]))
            least = LEAST_CALLS if taken_ns < 1e9 else LEAST_SLOW_CALLS
            counts[kernel] = min(counts[kernel], max(least, round(1e9 * seconds / taken_ns)))
    times: dict[str, list[int]] = {kernel: [] for kernel in programs}
    order = random.Random(0)
    most = max(counts.values())
    for index in range(most):
        turns = [
            kernel
            for kernel, count in counts.items()
            if index * count // most != (index + 1) * count // most
        ]
        for kernel in order.sample(turns, len(turns)):
            times[kernel].append(int(programs[kernel].run_timed(inputs, [output])[1][0]))
    return [KernelTime(kernel, tuple(taken)) for kernel, taken in times.items()]


def _programs(call: Call) -> tuple[list[Any], np.ndarray[Any, Any], dict[str, _native.Program]]:
    """Return the inputs, an output, and a program of one call for each kernel of the op."""
    slot_names = ops()[call.op].slots
    values: list[Any] = []
    inputs: list[Any] = []
    slots: list[int | None] = []
    for slot, array in zip(slot_names, call.arrays(), strict=True):
        if array is None:
            slots.append(None)
            continue
        slots.append(len(values))
        if is_constant(call.op, slot):
            values.append(("constant", array))
        else:
            values.append(("input", array.shape))
            inputs.append(array)
    output = np.empty(call.output_shape, np.float32)
    values.append(("output", output.shape))
    threads = _native.get_num_threads()
    constants = [slot for slot in slot_names if is_constant(call.op, slot)]
    programs = {}
    for kernel in [kernel.name for kernel in op_table() if kernel.op == call.op]:
        step = (kernel, slots, len(values) - 1, call.attributes, 0, kernel)
        arena_bytes = scratch_bytes(
            kernel, call.shapes, call.attributes, threads=threads, constants=constants
        )
        programs[kernel] = _native.Program(values, [step], arena_bytes)
    return inputs, output, programs
