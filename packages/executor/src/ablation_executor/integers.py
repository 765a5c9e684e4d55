"""Whole numbers carried in float32: their types and ranges.

Kernels, planner and passes know one element type, float32. It holds each whole number of at most
2^24 exactly, so integers and booleans of a model are carried in it where they are known to stay
within that: a graph declares type and range of its integer inputs, and export keeps the range of
each value that is made of them.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Every whole number from -LIMIT to LIMIT is a float32.
LIMIT = 2**24


@dataclass(frozen=True, slots=True)
class Range:
    """The whole numbers from `low` to `high`, both included."""

    low: int
    high: int

    @classmethod
    def of(cls, *numbers: int) -> Range:
        """Return the smallest range that holds all of the numbers."""
        return cls(min(numbers), max(numbers))

    @property
    def is_exact(self) -> bool:
        """Whether float32 holds every number of the range."""
        return self.low >= -LIMIT and self.high <= LIMIT

    def holds(self, other: Range) -> bool:
        """Return whether each number of the other range is in this one."""
        return self.low <= other.low and other.high <= self.high

    def within(self, other: Range) -> Range | None:
        """Return the numbers that are in both ranges, None where there are none."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        return Range(low, high) if low <= high else None

    def __or__(self, other: Range) -> Range:
        return Range.of(self.low, self.high, other.low, other.high)

    def __neg__(self) -> Range:
        return Range(-self.high, -self.low)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)

    def __sub__(self, other: Range) -> Range:
        return self + -other

    def __mul__(self, other: Range) -> Range:
        return Range.of(*(a * b for a in (self.low, self.high) for b in (other.low, other.high)))

    def __str__(self) -> str:
        return f"[{self.low}, {self.high}]"


#: The numbers of each type that a graph can carry.
DTYPES: dict[str, Range] = {
    "bool": Range(0, 1),
    "uint8": Range(0, 2**8 - 1),
    "int8": Range(-(2**7), 2**7 - 1),
    "int16": Range(-(2**15), 2**15 - 1),
    "int32": Range(-(2**31), 2**31 - 1),
    "int64": Range(-(2**63), 2**63 - 1),
}


@dataclass(frozen=True, slots=True)
class Integers:
    """What callers see of an input or output of whole numbers: a type of DTYPES, and the range.

    ValueError: another type, or a range that is empty, beyond the type or beyond 2^24.
    """

    dtype: str
    range: Range

    def __post_init__(self) -> None:
        known = DTYPES.get(self.dtype)
        if known is None:
            raise ValueError(f"dtype is {self.dtype!r}; accepted: {', '.join(DTYPES)}")
        if self.range.low > self.range.high:
            raise ValueError(f"the range {self.range} of {self.dtype} has no number")
        if not known.holds(self.range):
            raise ValueError(f"the range {self.range} does not fit {self.dtype}, which has {known}")
        if not self.range.is_exact:
            raise ValueError(
                f"the range {self.range} of {self.dtype} is beyond 2^24, up to which float32 holds"
                " each whole number"
            )

    def __str__(self) -> str:
        return f"{self.dtype} of {self.range}"


def widest(dtype: str) -> Integers:
    """The integers of a type that float32 holds."""
    known = DTYPES[dtype]
    return Integers(dtype, Range(max(known.low, -LIMIT), min(known.high, LIMIT)))
