"""What a column of a row or header may hold, and what to say of a value that it may not.

A table is a column too: its own columns are named below it, `machine.cores`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

DType = pl.DataType | type[pl.DataType]

# The integers of a frame have 64 bits
MOST_INT = 2**63 - 1
# An exabyte: sums of a few such still have 64 bits
MOST_BYTES = 2**60
# A machine that does more or less in a second was not measured
LEAST_RATE, MOST_RATE = 1.0, 1e30
MOST_SECONDS = 1e12


@dataclass(frozen=True)
class Column:
    """A column: its type in words, the test of a value, its type in the frame, its null rule.

    An optional one came later than the schema's version: earlier files lack it. `fields` are the
    columns of a table, `others` what its further entries may hold; without it there may be none.
    """

    words: str
    accepts: Callable[[Any], bool]
    dtype: DType
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


def column_faults(
    values: Mapping[str, Any], columns: Mapping[str, Column], others: Column | None = None
) -> dict[str, str]:
    """Return the faults of a row, header or table by column: unknown, missing, of the wrong type.

    `others` is what entries may hold that are no column; without it they are unknown.
    """
    faults: dict[str, str] = {}
    for name in values:
        if name not in columns:
            faults |= others.faults(name, values[name]) if others else {name: "unknown column"}
    for name, column in columns.items():
        if name in values:
            faults |= column.faults(name, values[name])
        elif not column.is_optional:
            faults[name] = "missing"
    return faults


def show(value: Any) -> str:
    """Write a value into a message, cut to a readable length."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def is_int(value: Any) -> bool:
    """True for an integer of 64 bits; Python's booleans are not."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST_INT


def is_count(value: Any) -> bool:
    """True for an integer of zero or more."""
    return is_int(value) and value >= 0


def is_positive(value: Any) -> bool:
    """True for an integer above zero."""
    return is_int(value) and value > 0


def is_number(value: Any) -> bool:
    """True for a finite number (NaN and the infinities are no JSON, though Python reads them)."""
    return is_int(value) or (isinstance(value, float) and abs(value) < float("inf"))


def is_text(value: Any) -> bool:
    """True for a string that is not empty."""
    return isinstance(value, str) and value != ""


def is_list_of(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Make the test of a list whose entries all pass."""
    return lambda value: isinstance(value, list) and all(accepts(entry) for entry in value)


def text_column(nullable: bool = False, is_optional: bool = False) -> Column:
    """A column of text that is not empty."""
    return Column("text", is_text, pl.String, nullable, is_optional)


def one_of_column(words: tuple[str, ...], nullable: bool = False) -> Column:
    """A column of one of some words."""
    return Column(f"one of {', '.join(words)}", lambda v: v in words, pl.String, nullable)


def flag_column(nullable: bool = False) -> Column:
    """A column of true and false."""
    return Column("true or false", lambda v: isinstance(v, bool), pl.Boolean, nullable)


def count_column(nullable: bool = False, is_optional: bool = False) -> Column:
    """A column of integers of 0 or more."""
    return Column("an integer of 0 or more", is_count, pl.Int64, nullable, is_optional)


def positive_column(nullable: bool = False) -> Column:
    """A column of integers above 0."""
    return Column("an integer above 0", is_positive, pl.Int64, nullable)


def bytes_column(is_optional: bool = False) -> Column:
    """A column of bytes, or null."""
    return Column(
        "an integer from 0 to 2^60",
        lambda value: is_count(value) and value <= MOST_BYTES,
        pl.Int64,
        nullable=True,
        is_optional=is_optional,
    )


def number_column(nullable: bool = True) -> Column:
    """A column of finite numbers."""
    return Column("a finite number", is_number, pl.Float64, nullable)


def amount_column(nullable: bool = False, is_optional: bool = False) -> Column:
    """A column of finite numbers of 0 or more."""
    return Column(
        "a number of 0 or more",
        lambda value: is_number(value) and value >= 0,
        pl.Float64,
        nullable,
        is_optional,
    )


def seconds_column() -> Column:
    """A column of seconds, or null."""
    return Column(
        "a number from 0 to 1e12",
        lambda value: is_number(value) and 0 <= value <= MOST_SECONDS,
        pl.Float64,
        nullable=True,
    )


def rate_column(nullable: bool = False, is_optional: bool = False) -> Column:
    """A column of what a machine does in a second."""
    return Column(
        "a number from 1 to 1e30",
        lambda value: is_number(value) and LEAST_RATE <= value <= MOST_RATE,
        pl.Float64,
        nullable,
        is_optional,
    )


def texts_column(nullable: bool = False, is_optional: bool = False) -> Column:
    """A column of lists of text."""
    return Column("a list of text", is_list_of(is_text), pl.List(pl.String), nullable, is_optional)


def times_column(nullable: bool = True) -> Column:
    """A column of lists of integers of 0 or more."""
    return Column(
        "a list of integers of 0 or more", is_list_of(is_count), pl.List(pl.Int64), nullable
    )


def positive_times_column() -> Column:
    """A column of lists of integers above 0, or null."""
    return Column(
        "a list of integers above 0", is_list_of(is_positive), pl.List(pl.Int64), nullable=True
    )


ANYTHING = Column("anything", lambda value: True, pl.Object, nullable=True)


def table_column(
    fields: Mapping[str, Column] | None = None,
    others: Column | None = ANYTHING,
    nullable: bool = False,
    is_optional: bool = False,
) -> Column:
    """A column of tables that have these columns, and others of one kind."""
    words = f"a table with {', '.join(fields)}" if fields else "a table"
    return Column(
        words, lambda v: isinstance(v, dict), pl.Object, nullable, is_optional, fields, others
    )
