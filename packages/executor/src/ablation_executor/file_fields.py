"""Fields of a JSON object that somebody else may have written: each is checked as it is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

#: More elements than a tensor of any machine: a size above it is damage.
_LARGEST = 2**40
_WHOLE = 2**63


class ProgramFileError(ValueError):
    """A file is no program, is damaged, or is of a version that this package does not read."""


class Fields:
    """A JSON object and where it stands; ProgramFileError names place, field, given, expected."""

    def __init__(self, given: Any, place: str) -> None:
        if not isinstance(given, dict):
            raise ProgramFileError(f"{place} is {_kind(given)}, expected an object")
        self._given: Mapping[str, Any] = given
        self.place = place

    def names(self) -> Iterable[str]:
        """The names of the fields."""
        return self._given.keys()

    def _field(self, name: str, kind: type | tuple[type, ...], expected: str) -> Any:
        if name not in self._given:
            raise ProgramFileError(f"{self.place} has no field {name!r}")
        found = self._given[name]
        if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
            raise ProgramFileError(f"{self.place}: {name!r} is {_kind(found)}, expected {expected}")
        return found

    def text(self, name: str) -> str:
        """A text."""
        return str(self._field(name, str, "a text"))

    def truth(self, name: str) -> bool:
        """true or false."""
        return bool(self._field(name, bool, "true or false"))

    def whole(self, name: str) -> int:
        """A whole number of 64 bits."""
        return self._bounded(name, self._field(name, int, "a whole number"))

    def _bounded(self, name: str, number: int) -> int:
        if not -_WHOLE <= number < _WHOLE:
            raise ProgramFileError(f"{self.place}: {name!r} has a number beyond 64 bits")
        return number

    def is_null(self, name: str) -> bool:
        """Whether a field that may be null is."""
        return self._field(name, (dict, type(None)), "an object or null") is None

    def object(self, name: str) -> Fields:
        """An object."""
        return Fields(self._field(name, dict, "an object"), f"{self.place}.{name}")

    def objects(self, name: str) -> list[Fields]:
        """A list of objects."""
        listed = self._field(name, list, "a list of objects")
        return [
            Fields(part, f"{self.place}.{name}[{number}]") for number, part in enumerate(listed)
        ]

    def optional_texts(self, name: str) -> list[str | None]:
        """A list of texts and nulls."""
        listed = self._field(name, list, "a list of texts")
        for part in listed:
            if part is not None and not isinstance(part, str):
                raise ProgramFileError(
                    f"{self.place}: {name!r} has {_kind(part)}, expected texts and null"
                )
        return list(listed)

    def shape(self, name: str) -> tuple[int, ...]:
        """A list of whole numbers of at least 1: the lengths of a tensor's axes."""
        sizes = self._wholes(name, self._field(name, list, "a list of whole numbers"))
        if any(size < 1 for size in sizes) or math.prod(sizes) > _LARGEST:
            raise ProgramFileError(f"{self.place}: {name!r} is {list(sizes)}, which is no shape")
        return sizes

    def _wholes(self, name: str, listed: list[Any]) -> tuple[int, ...]:
        for part in listed:
            if type(part) is not int:
                raise ProgramFileError(
                    f"{self.place}: {name!r} has {_kind(part)}, expected whole numbers"
                )
        return tuple(self._bounded(name, part) for part in listed)

    def settings(self) -> dict[str, Any]:
        """All fields as attributes of an op: numbers, texts, true, false, null, lists of wholes."""
        return {name: self._setting(name) for name in self._given}

    def _setting(self, name: str) -> Any:
        found = self._given[name]
        if isinstance(found, list):
            return self._wholes(name, found)
        if type(found) is int:
            return self._bounded(name, found)
        if isinstance(found, bool | float | str) or found is None:
            return found
        raise ProgramFileError(f"{self.place}: {name!r} is {_kind(found)}, expected no object")


def _kind(found: Any) -> str:
    """What a JSON value is, in words."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    if found is None:
        return "null"
    return kinds.get(type(found), f"the number {found!r}")
