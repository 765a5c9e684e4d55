"""What a column of a row or header may hold, and what to say of a value that it may not.

A table is a column too: its own columns are named below it, `machine.cores`. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

MOST_INT = 2**63 - 1
# An exabyte: sums of a few such still have 64 bits
MOST_BYTES = 2**60
# A machine that does more or less in a second was not measured
LEAST_RATE, MOST_RATE = 1.0, 1e30
MOST_SECONDS = 1e12


@dataclass(frozen=True)
class Column:
    """A column: its type in words, the test of a value, its null rule.

    An optional one came later than the schema's version: earlier files lack it. `fields` are the
    columns of a table, `others` what its other entries may hold; without it there may be none.
    """

    words: str
    accepts: Callable[[Any], bool]
    nullable: bool = False
    is_optional: bool = False
    fields: Mapping[str, Column] | None = None
    others: Column | None = None

    def fault(self, value: Any) -> str | None:
        """Say what is wrong with a value, or return None."""
        if value is None:
            return None if self.nullable else f"null, expected {self.words}"
        if self.accepts(value):
            return None
        is_wide = isinstance(value, int) and abs(value) > MOST_INT
        return f"{show(value)}, expected {self.words}{' of 64 bits' if is_wide else ''}"

    def faults(self, name: str, value: Any) -> dict[str, str]:
        """Return what is wrong with a value and with what it holds, by the name of each."""
        if fault := self.fault(value):
            return {name: fault}
        if value is None or (self.fields is None and self.others is None):
            return {}
        inner = column_faults(value, self.fields or {}, self.others)
        return {f"{name}.{entry}": fault for entry, fault in inner.items()}

    def or_null(self) -> Column:
        """Return the same column with null allowed."""
        return replace(self, nullable=True)

    def optional(self) -> Column:
        """Return the same column for a fact that a file may lack."""
        return replace(self, is_optional=True)


Columns = Mapping[str, Column]
_MISSING = object()


def column_faults(
    values: Mapping[str, Any], columns: Columns, others: Column | None = None
) -> dict[str, str]:
    """Return the faults of a row, header or table by column: unknown, missing, of the wrong type.

    `others` is what entries may hold that are no column; without it they are unknown.
    """
    faults: dict[str, str] = {}
    if values.keys() - columns.keys():
        for name in values:
            if name not in columns:
                faults |= others.faults(name, values[name]) if others else {name: "unknown column"}
    for name, column in columns.items():
        value = values.get(name, _MISSING)
        if value is _MISSING:
            if not column.is_optional:
                faults[name] = "missing"
        elif value is None:
            if not column.nullable:
                faults[name] = f"null, expected {column.words}"
        elif column.fields is not None or column.others is not None or not column.accepts(value):
            faults |= column.faults(name, value)
    return faults


def show(value: Any) -> str:
    """Write a value into a message, cut to a readable length."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # An integer of more digits than Python writes
        text = f"a value of type {type(value).__name__} that is too large to show"
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_int(value: Any) -> bool:
    """True for an integer of 64 bits; Python's booleans are not."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST_INT


def is_count(value: Any) -> bool:
    """True for an integer of zero or more."""
    return is_int(value) and bool(value >= 0)


def is_positive(value: Any) -> bool:
    """True for an integer above zero."""
    return is_int(value) and bool(value > 0)


def is_number(value: Any) -> bool:
    """True for a finite number (NaN and the infinities are no JSON, though Python reads them)."""
    return is_int(value) or (isinstance(value, float) and abs(value) < float("inf"))


def is_text(value: Any) -> bool:
    """True for a string that is not empty."""
    return isinstance(value, str) and value != ""


def is_scalar(value: Any) -> bool:
    """True for a number, text, true and false."""
    return isinstance(value, str | bool) or is_number(value)


def is_list_of(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Make the test of a list whose entries all pass."""
    return lambda value: isinstance(value, list) and all(accepts(entry) for entry in value)


def _are_ints(value: Any, least: int) -> bool:
    """True for a list of integers of 64 bits, none below `least`; long lists are the rule."""
    if not isinstance(value, list) or not set(map(type, value)) <= {int}:
        return False
    return not value or (min(value) >= least and max(value) <= MOST_INT)


def within(low: float, high: float) -> Callable[[Any], bool]:
    """Make the test of a number in [low, high]."""
    return lambda value: is_number(value) and low <= value <= high


def one_of(*words: str) -> Column:
    """Return a column of one of some words."""
    accepts = words.__contains__
    return Column(f"one of {', '.join(words)}", lambda v: isinstance(v, str) and accepts(v))


TEXT = Column("text", is_text)
# Unknown facts of a platform are empty
ANY_TEXT = Column("text", lambda value: isinstance(value, str))
FLAG = Column("true or false", lambda value: isinstance(value, bool))
COUNT = Column("an integer of 0 or more", is_count)
POSITIVE = Column("an integer above 0", is_positive)
INTEGER = Column("an integer", is_int)
NUMBER = Column("a finite number", is_number)
AMOUNT = Column("a number of 0 or more", lambda v: is_number(v) and v >= 0)
BYTES = Column("an integer from 0 to 2^60", lambda v: is_count(v) and v <= MOST_BYTES).or_null()
SECONDS = Column("a number from 0 to 1e12", within(0, MOST_SECONDS)).or_null()
RATE = Column("a number from 1 to 1e30", within(LEAST_RATE, MOST_RATE))
SCALAR = Column("a number, text, true or false", is_scalar)
ANYTHING = Column("anything", lambda value: True).or_null()
TEXTS = Column("a list of text", is_list_of(is_text))
COUNTS = Column("a list of integers of 0 or more", lambda v: _are_ints(v, 0))
POSITIVES = Column("a list of integers above 0", lambda v: _are_ints(v, 1))
INTEGERS = Column("a list of integers", lambda v: _are_ints(v, -MOST_INT))
# Microseconds of a GPU's own clock are no whole nanoseconds
AMOUNTS = Column("a list of numbers above 0", is_list_of(lambda v: is_number(v) and v > 0))


def table(fields: Columns | None = None, others: Column | None = ANYTHING) -> Column:
    """Return a column of tables that have these columns, and others of one kind, or of none."""
    words = f"a table with {', '.join(fields)}" if fields else "a table"
    return Column(words, lambda value: isinstance(value, dict), fields=fields, others=others)
