"""Rounds figures so that the printed ones still multiply, or sum, to the printed total.

Largest remainder (Hamilton): all parts are rounded down, then those that lost most are raised by
one in their last digit. Of factors of a product, what each lost is a logarithm.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

# Digits of a printed total, and decimals of a worth: more where the product needs them.
TOTAL_DIGITS = 3
WORTH_DECIMALS = 3
_UNITS = (("s", 10**9), ("ms", 10**6), ("µs", 10**3))


def shares(parts: Sequence[float | Fraction], total: int) -> list[int]:
    """Round parts to whole numbers that sum to a total: each down, then the total's rest to those
    that are furthest below their part; taken from those that are furthest above, if it is less."""
    found = [math.floor(part) for part in parts]
    while found and (left := total - sum(found)):
        lost = [part - each for part, each in zip(parts, found, strict=True)]
        index = lost.index(max(lost) if left > 0 else min(lost))
        found[index] += 1 if left > 0 else -1
    return found


def worths(logs: Sequence[float]) -> tuple[list[str], str]:
    """Write the exponentials of logarithms, and their product: ["1.372", "1.757"], "2.41".

    The product of the printed worths, rounded half up to the decimals of the printed total, is the
    printed total.
    """
    exact = [Fraction(math.exp(log)) for log in logs]
    total = math.prod(exact, start=Fraction(1))
    decimals = max(0, TOTAL_DIGITS - 1 - math.floor(math.log10(total)))
    digits = WORTH_DECIMALS
    # Ends: the product of ever finer roundings up comes as close to the total as is needed
    while (found := _raised(exact, digits, total, decimals)) is None:
        digits += 1
    return [_decimal(each, digits) for each in found], _decimal(_half_up(total, decimals), decimals)


def _raised(
    exact: Sequence[Fraction], digits: int, total: Fraction, decimals: int
) -> list[int] | None:
    """Round numbers down to some digits, then those up that lost the largest part, so many that
    the product has the decimals of the total and is closest to it; None if no number does."""
    downs = [math.floor(each * 10**digits) for each in exact]
    if not all(downs):
        return None
    lost = [each * 10**digits / down for each, down in zip(exact, downs, strict=True)]
    order = sorted(range(len(exact)), key=lambda index: lost[index], reverse=True)
    wanted = _half_up(total, decimals)
    candidates = []
    for count in range(len(exact) + 1):
        found = [down + (index in order[:count]) for index, down in enumerate(downs)]
        product = Fraction(math.prod(found), 10 ** (digits * len(found)))
        if _half_up(product, decimals) == wanted:
            candidates.append((abs(product - total), found))
    return min(candidates)[1] if candidates else None


def _half_up(value: Fraction, decimals: int) -> int:
    shifted: Fraction = value * 10**decimals
    return math.floor(shifted + Fraction(1, 2))


def _decimal(value: int, decimals: int) -> str:
    """Write a whole number of the last digit's unit."""
    sign, digits = "-" if value < 0 else "", str(abs(value)).rjust(decimals + 1, "0")
    return f"{sign}{digits[: len(digits) - decimals]}.{digits[len(digits) - decimals :]}".rstrip(
        "."
    )


@dataclass(frozen=True)
class PrintedTimes:
    """Times in one unit and with one number of decimals: base - top is the sum of the parts."""

    unit: str
    base: str
    top: str
    difference: str
    parts: tuple[str, ...]


def times(base_ns: float, top_ns: float, parts_ns: Sequence[float]) -> PrintedTimes:
    """Write the times of base and top and the parts of their difference, in the unit that suits the
    larger, with four digits of it.

    The printed parts sum to the printed base minus the printed top.
    """
    largest = max(base_ns, top_ns)
    unit, size = next(((u, s) for u, s in _UNITS if largest >= s), _UNITS[-1])
    decimals = max(1, 3 - max(0, math.floor(math.log10(largest / size))))
    quantum = Fraction(size, 10**decimals)
    base, top = (_half_up(Fraction(ns) / quantum, 0) for ns in (base_ns, top_ns))
    parts = shares([Fraction(ns) / quantum for ns in parts_ns], base - top)
    texts = [_decimal(value, decimals) for value in (base, top, base - top, *parts)]
    return PrintedTimes(unit, texts[0], texts[1], texts[2], tuple(texts[3:]))
