"""Add the closing lines of several pytest runs, read from standard input, into one."""

from __future__ import annotations

import re
import sys
from collections import Counter

COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed|deselected|warnings?)")
SECONDS = re.compile(r" in ([0-9.]+)s")


def closing_line(lines: list[str]) -> str:
    """Return one line in pytest's form with the sums of all; ValueError when there is none."""
    if not lines:
        raise ValueError("no closing line of pytest was found")
    counts: Counter[str] = Counter()
    seconds = 0.0
    for line in lines:
        for number, word in COUNT.findall(line):
            counts[word] += int(number)
        seconds += sum(float(number) for number in SECONDS.findall(line))
    sums = ", ".join(f"{number} {word}" for word, number in counts.items())
    return f" {sums} in {seconds:.2f}s ".center(80, "=")


if __name__ == "__main__":
    print(closing_line(sys.stdin.read().splitlines()))
