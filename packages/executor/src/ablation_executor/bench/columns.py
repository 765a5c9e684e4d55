"""What a column of a run's files may hold, in words and as a test.

The same tests as those of the report, which refuses a run for what they refuse: a run that can be
gone on with can be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

MOST_INTEGER = 2**63 - 1
# An exabyte: sums of a few such still have 64 bits
MOST_BYTES = 2**60
# A machine that does more or less in a second was not measured
LEAST_RATE, MOST_RATE = 1.0, 1e30
MOST_SECONDS = 1e12
# Rows nest four deep; Python's own functions fail at hundreds
MOST_DEPTH = 32


@dataclass(frozen=True)
class Column:
    """A column: its type in words, the test of a value, and whether null is one.

    An optional one came later than the schema's version: earlier files lack it, which reads as
    `default`. A table is a column too: `fields` are its own columns, `others` what further entries
    may hold.
    """

    words: str
    accepts: Callable[[Any], bool]
    is_nullable: bool = False
    is_optional: bool = False
    default: Any = None
    fields: Mapping[str, Column] = field(default_factory=dict)
    others: Column | None = None

    def fault(self, name: str, value: Any) -> str | None:
        """Say what is wrong with a value or with what it holds, or return None."""
        if value is None:
            return None if self.is_nullable else f"column {name}: null, expected {self.words}"
        if not self.accepts(value):
            return f"column {name}: {show(value)}, expected {self.words}"
        if isinstance(value, dict) and (self.fields or self.others):
            return column_fault(value, self.fields, self.others, f"{name}.")
        return None

    def or_null(self) -> Column:
        """The same column with null allowed."""
        return replace(self, is_nullable=True)

    def optional(self, default: Any = None) -> Column:
        """The same column for a fact that came later."""
        return replace(self, is_optional=True, default=default)


Columns = Mapping[str, Column]


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
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST_INTEGER


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


def is_table(value: Any) -> bool:
    """True for a JSON object."""
    return isinstance(value, dict)


def is_list_of(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Make the test of a list whose entries all pass."""
    return lambda value: isinstance(value, list) and all(accepts(entry) for entry in value)


def is_table_of(accepts: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Make the test of a JSON object whose values all pass."""
    return lambda value: isinstance(value, dict) and all(map(accepts, value.values()))


def within(low: float, high: float) -> Callable[[Any], bool]:
    """Make the test of a number in [low, high]."""
    return lambda value: is_number(value) and low <= value <= high


def table(columns: Columns, others: Column | None = None) -> Column:
    """A column of tables with these columns, and others of one kind, or of any."""
    words = f"a table with {', '.join(columns)}" if columns else "a table"
    return Column(words, is_table, fields=columns, others=others or ANYTHING)


def one_of(*words: str) -> Column:
    """A column of one of some words."""
    accepts = words.__contains__
    return Column(f"one of {', '.join(words)}", lambda v: isinstance(v, str) and accepts(v))


TEXT = Column("text", is_text)
ANY_TEXT = Column("text", lambda value: isinstance(value, str))
FLAG = Column("true or false", lambda value: isinstance(value, bool))
COUNT = Column("an integer of 0 or more", is_count)
POSITIVE = Column("an integer above 0", is_positive)
NUMBER = Column("a finite number", is_number)
BYTES = Column("an integer from 0 to 2^60", lambda v: is_count(v) and v <= MOST_BYTES).or_null()
SECONDS = Column("a number from 0 to 1e12", within(0, MOST_SECONDS)).or_null()
RATE = Column("a number from 1 to 1e30", within(LEAST_RATE, MOST_RATE))
ANYTHING = Column("anything", lambda value: True).or_null()
TEXTS = Column("a list of text", is_list_of(is_text))
COUNTS = Column("a list of integers of 0 or more", is_list_of(is_count))
POSITIVES = Column("a list of integers above 0", is_list_of(is_positive))
INTEGERS = Column("a list of integers", is_list_of(is_int))


def column_fault(
    values: Mapping[str, Any], columns: Columns, others: Column | None = None, within: str = ""
) -> str | None:
    """The first fault of a row, header or table, with its column: unknown, missing, of a wrong
    type. `others` is what entries may hold that are no column, `within` stands before names."""
    for name in values:
        if name not in columns:
            if others is None:
                return f"column {within}{show(name)}: unknown"
            if (fault := others.fault(f"{within}{name}", values[name])) is not None:
                return fault
    for name, column in columns.items():
        if name not in values:
            if not column.is_optional:
                return f"column {within}{name}: missing"
        elif (fault := column.fault(f"{within}{name}", values[name])) is not None:
            return fault
    return None


def parse(data: bytes) -> Any:
    """Read JSON; ValueError with the place for what is none, whatever the bytes are.

    Refused too is what not every reader takes: a name twice in an object, deep nesting, half a
    surrogate pair.
    """
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique)
        if data.count(b"[") + data.count(b"{") > MOST_DEPTH and _is_deeper(value, MOST_DEPTH):
            raise RecursionError
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from None
    except UnicodeEncodeError:
        raise ValueError("half of a surrogate pair, which is no character") from None
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} " if b"\n" in data else ""
        raise ValueError(f"no JSON from {line}character {error.colno} on ({error.msg})") from None
    except RecursionError:
        raise ValueError(f"nested deeper than {MOST_DEPTH} levels") from None
    except _TwiceError as error:
        raise ValueError(f"column {show(error.args[0])}: twice in an object") from None
    except ValueError:
        # Python reads no integer of more than 4300 digits
        raise ValueError("an integer of thousands of digits, expected at most 64 bits") from None
    return value


class _TwiceError(ValueError):
    """A name stands twice in one object."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return found


def _is_deeper(value: Any, levels: int) -> bool:
    """True where lists and tables are nested more than so many levels deep."""
    layer = [value]
    for _ in range(levels + 1):
        entries = [
            entry
            for each in layer
            if isinstance(each, dict | list)
            for entry in (each.values() if isinstance(each, dict) else each)
        ]
        layer = [entry for entry in entries if isinstance(entry, dict | list)]
        if not layer:
            return False
    return True
