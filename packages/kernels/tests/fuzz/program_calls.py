"""Programs: right descriptions, descriptions with one thing changed, and their runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import reference
import tolerance
from harness import Float32

import ablation_kernels
from fuzz import foreign, hostile
from fuzz.case import Case, Chance, Expected, require_close

#: What half of the programs share.
_WORKSPACE = ablation_kernels.Workspace()


class _Chain:
    """relu(x @ weight + bias) + y, through an arena, with an alias and perhaps a stage."""

    def __init__(self, chance: Chance) -> None:
        rows, depth, width = (min(chance.size(), 60) for _ in range(3))
        self.x, self.y = chance.array((rows, depth)), chance.array((1, rows, width))
        self.weight, self.bias = chance.array((depth, width)), chance.array((width,))
        self.workspace: Any = _WORKSPACE if chance.is_one_of(2) else None
        # Only what nobody can write to is packed for several programs
        self.weight.flags.writeable = self.workspace is None
        forms = ("scalar", "blas", "packed_simd", "strassen_simd", "strassen_simd_parallel")
        kernel = f"matmul_{chance.choice(forms)}"
        shapes = [(rows, depth), (depth, width), (width,), None]
        constants = ("b", "bias")
        threads = ablation_kernels.get_num_threads()
        scratch = ablation_kernels.scratch_bytes(
            kernel, shapes, threads=threads, constants=constants
        )
        self.stages: Any = [(0, 2)] if chance.is_one_of(4) else ()
        place = (rows * width * 4 + 63) // 64 * 64
        self.values: list[Any] = [
            ("input", (rows, depth)),
            ("constant", self.weight),
            ("constant", self.bias),
            ("arena", (rows, width), 0),
            ("alias", (1, rows, width), 3),
            ("input", (1, rows, width)),
            ("output", (1, rows, width)),
        ]
        self.calls: list[Any] = [
            (kernel, [0, 1, 2, None], 3, {"activation": "relu"}, place, "product"),
            (chance.choice(("add_scalar", "add_simd")), [4, 5], 6, {}, 0, "sum"),
        ]
        # In a stage each thread takes that of its rows
        self.arena_bytes: Any = place + scratch * (threads if self.stages else 1)
        product = reference.matmul(self.x, self.weight, bias=self.bias, activation="relu")
        self.expected = product.value + reference.float64(self.y)
        self.allowed = tolerance.product(
            kernel, self.x, self.weight, product.magnitude + np.abs(reference.float64(self.y))
        )

    def build(self) -> ablation_kernels.Program:
        return ablation_kernels.Program(
            self.values, self.calls, self.arena_bytes, self.stages, self.workspace
        )


def _changed(chance: Chance, entry: Any) -> Any:
    """A tuple of a description with one thing changed."""
    if not isinstance(entry, tuple):
        return hostile.junk(chance)
    fields: list[Any] = list(entry)
    index = chance.randrange(len(fields))
    numbers = (0, 1, 2, 3, 4, 6, 7, -1, 64, 63, -64, 2**31, 2**62, np.int64(3))
    match chance.randrange(8):
        case 0:
            fields[index] = hostile.junk(chance)
        case 1:
            fields.pop(index)
        case 2:
            fields[index] = chance.choice(numbers)
        case 3:
            return hostile.lying(chance, fields)
        case 4:
            return hostile.honest(chance, fields)
        case 5:
            fields[-1 if len(fields) < 4 else 4] = chance.choice(numbers)
        case 6:
            if isinstance(fields[index], list):
                slots = range(chance.randint(0, 7))
                fields[index] = [chance.choice((None, *numbers)) for _ in slots]
            else:
                fields[index] = chance.shape(0, 4)
        case 7:
            kind = fields[0] if isinstance(fields[0], str) else ""
            if kind == "constant" and isinstance(fields[-1], np.ndarray):
                fields[-1] = chance.choice(foreign.DEFECTS)(chance, fields[-1])
            elif kind:
                fields[0] = chance.choice(("input", "output", "arena", "alias", "relu_simd", "x"))
    return tuple(fields)


def described(chance: Chance) -> Case:
    """A program with a changed description, which is run if it is taken."""
    chain = _Chain(chance)
    for _ in range(chance.randint(1, 2)):
        entries = chance.choice((chain.values, chain.calls))
        index = chance.randrange(len(entries))
        entries[index] = _changed(chance, entries[index])
    match chance.randrange(12):
        case 0:
            chain.values = hostile.lying(chance, chain.values)
        case 1:
            chain.calls = hostile.lying(chance, chain.calls)
        case 2:
            chain.arena_bytes = chance.choice((0, -1, 1, 63, 2**62, 1.5, None, np.int64(128)))
        case 3:
            chain.stages = chance.choice(
                ([(0, 2)], [(0, 3)], [(1, -1)], [(0, 1), (0, 1)], 5, [(2**63, 1)], [None], [(0,)])
            )
        case 4:
            chain.values = hostile.honest(chance, chain.values)
        case 5:
            chain.workspace = hostile.junk(chance)

    def run() -> Any:
        program = chain.build()
        return program.run([chain.x, chain.y])

    parts = ("program", chain.calls, chain.arena_bytes, chain.stages, chain.values)
    return Case(parts, run)


def run_of(chance: Chance) -> Case:
    """A right program, run on arrays from elsewhere or on wrong ones."""
    chain = _Chain(chance)
    shape = chain.expected.shape
    inputs: Any = [
        chance.choice(foreign.INPUTS)(chance, x) if chance.is_one_of(2) else x
        for x in (chain.x, chain.y)
    ]
    kinds = [type(x).__name__ for x in inputs]
    outputs: Any = None
    view: Float32 | None = None
    if chance.is_one_of(2):
        output, view = chance.choice(foreign.OUTPUTS)(chance, np.zeros(shape, np.float32))
        outputs = hostile.honest(chance, [output])
    expected: Expected = "taken"
    match chance.randrange(10):
        case 0:
            expected = "refused"
            inputs[chance.randrange(2)] = chance.choice(foreign.DEFECTS)(chance, chain.x)
        case 1:
            expected, inputs = "any", hostile.lying(chance, inputs)
        case 2:
            expected, outputs = "any", hostile.lying(chance, [np.zeros(shape, np.float32)])
        case 3:
            expected = "refused"
            outputs = [
                chance.choice((*foreign.DEFECTS, *foreign.READ_ONLY))(
                    chance, np.zeros(shape, np.float32)
                )
            ]
        case 4:
            expected = "any"
            inputs = [chain.x, hostile.Trap(chain.y, hostile.freeing(chain.x))]
            output = np.zeros(shape, np.float32)
            outputs = [hostile.Trap(output, lambda: (inputs.clear(), outputs.clear()))]
        case _:
            inputs = hostile.honest(chance, inputs)
    is_timed = chance.is_one_of(3)

    def run() -> Any:
        program = chain.build()
        if outputs is None and set(kinds) == {"ndarray"} and expected == "taken":
            program.run([chain.x, chain.y])
        return (program.run_timed if is_timed else program.run)(inputs, outputs)

    def check(result: Any) -> None:
        if expected != "taken":
            return
        written = (result[0] if is_timed else result)[0]
        require_close(written if view is None else view, chain.expected, chain.allowed)

    parts = ("run of", chain.calls, kinds, type(outputs).__name__)
    return Case(parts, run, expected, check)
