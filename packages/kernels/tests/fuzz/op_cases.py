"""Calls of the op table's functions, with arrays and attributes from elsewhere, or spoiled."""

from __future__ import annotations

from typing import Any

import numpy as np
from harness import Float32, function_of, joined, kernels_of

import ablation_kernels
from fuzz import foreign, hostile
from fuzz.case import Case, Chance, Expected, require_close
from fuzz.op_calls import CALLS, Call

KERNELS = {op: kernels_of(op) for op in CALLS}
SLOTS = ablation_kernels.ops()


class _Given:
    """The arguments of one call on their way from right to wrong."""

    def __init__(self, chance: Chance, call: Call) -> None:
        self.chance, self.call = chance, call
        call.arrays = {name: np.asarray(x) for name, x in call.arrays.items()}
        self.arguments: dict[str, Any] = {**call.arrays, **call.attributes}
        self.kernel: Any = None
        if not chance.is_one_of(3):
            self.kernel = chance.choice(KERNELS[call.op])
            if chance.is_one_of(3):
                self.kernel = self.kernel.removeprefix(f"{call.op}_")
        self.out: Any = None
        self.out_view: Float32 | None = None
        self.expected: Expected = "taken"

    def disguise(self) -> None:
        """Replace arrays by other objects that hold them, and numbers by NumPy's."""
        for name, x in self.call.arrays.items():
            if self.chance.is_one_of(3):
                self.arguments[name] = self.chance.choice(foreign.INPUTS)(self.chance, x)
        for name, value in self.call.attributes.items():
            if self.chance.is_one_of(4):
                self.arguments[name] = _as_numpy(self.chance, value)

    def add_out(self) -> None:
        """Give an output, or an input in place."""
        shape, op = np.shape(self.call.expected), self.call.op
        if self.chance.is_one_of(8):
            for name in SLOTS[op].in_place & self.call.arrays.keys():
                x = self.call.arrays[name]
                if x.shape == shape and type(self.arguments[name]) is np.ndarray:
                    if self.arguments[name].flags.writeable:
                        self.out = self.out_view = self.arguments[name]
                    return
            return
        self.out, self.out_view = self.chance.choice(foreign.OUTPUTS)(
            self.chance, np.full(shape, np.nan, np.float32)
        )

    def spoil(self) -> None:
        """Make one thing wrong."""
        chance, arguments = self.chance, self.arguments
        name = chance.choice(list(self.call.arrays))
        x = self.call.arrays[name]
        self.expected = "refused"
        match chance.randrange(9):
            case 0 | 1 | 2:
                arguments[name] = chance.choice(foreign.DEFECTS)(chance, x)
            case 3:
                self.out = chance.choice((*foreign.DEFECTS, *foreign.READ_ONLY))(
                    chance, np.zeros(np.shape(self.call.expected), np.float32)
                )
            case 4:
                self.kernel = chance.choice(("", "relu\0", "none", 3, b"simd", [], "\ud800", 1.0))
            case 5:
                self.expected = "any"
                arguments[name] = chance.array(chance.shape(0, 6))
            case 6:
                self.expected = "any"
                if self.call.attributes:
                    arguments[chance.choice(list(self.call.attributes))] = hostile.junk(chance)
            case 7:
                self.expected = "any"
                arguments[name] = None
            case 8:
                self._trap(name, x)

    def _trap(self, name: str, x: Float32) -> None:
        """Free another array of the call while this one is taken."""
        chance = self.chance
        self.expected = "any"
        others = [a for a in self.arguments.values() if isinstance(a, np.ndarray) and a is not x]
        if isinstance(self.out, np.ndarray):
            others.append(self.out)
        if others:
            action = hostile.freeing(chance.choice(others))
            self.out_view = None
            if chance.is_one_of(2) and self.call.attributes:
                attribute = chance.choice(list(self.call.attributes))
                self.arguments[attribute] = hostile.Number(1, action)
            else:
                self.arguments[name] = hostile.Trap(x, action)


def _as_numpy(chance: Chance, value: Any) -> Any:
    match value:
        case bool():
            return np.bool_(value)
        case int():
            return chance.choice((np.int64, np.int32, np.int8 if value < 100 else np.int16))(value)
        case float():
            return np.float64(value)
        case str():
            return np.str_(value)
        case list():
            return hostile.honest(chance, value) if chance.is_one_of(2) else np.array(value, int)
    return value


def make(chance: Chance) -> Case:
    """One call of an op: right in more than half of the cases."""
    call = CALLS[chance.choice(list(CALLS))](chance)
    given = _Given(chance, call)
    given.disguise()
    if chance.is_one_of(2):
        given.add_out()
    if chance.is_one_of(3):
        given.spoil()

    def run() -> Any:
        return function_of(call.op)(**given.arguments, kernel=given.kernel, out=given.out)

    def check(result: Any) -> None:
        if given.expected != "taken":
            return
        if given.out is not None and not isinstance(result, tuple):
            assert result is given.out, "the result is not the array given as out"
        made = joined(result) if given.out_view is None else given.out_view
        is_other = "strassen" in str(given.kernel)
        require_close(made, call.expected, call.other_allowed if is_other else call.allowed)

    shapes = {name: x.shape for name, x in call.arrays.items()}
    types = {name: type(x).__name__ for name, x in given.arguments.items()}
    parts = (call.op, shapes, types, call.attributes, given.kernel, type(given.out).__name__)
    return Case(parts, run, given.expected, check)
