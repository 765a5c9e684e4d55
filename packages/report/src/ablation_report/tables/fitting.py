"""How a table fits the width of a terminal: columns that matter least are left out, the others
stand in blocks below each other, and long words of prose go on in the next line. A number is never
broken."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

GAP = "  "
# A figure with its unit is shorter: text that is wrapped breaks no number
SHORTEST_TEXT = 24


def kept_columns(
    header: Sequence[str], widths: Sequence[int], least: Iterable[str], width: int
) -> list[int]:
    """Return the columns that stay in a width when those of the headings `least` go, in that order,
    one by one, as long as the others are too wide."""
    kept = list(range(len(header)))
    for heading in least:
        if _total(widths, kept) <= width:
            break
        kept = [i for i in kept if header[i] != heading]
    return kept


def blocks(widths: Sequence[int], kept: Sequence[int], width: int) -> list[list[int]]:
    """Divide columns into blocks that fit a width; each begins with the first column."""
    first, *others = kept
    found = [[first]]
    for column in others:
        is_full = len(found[-1]) > 1 and _total(widths, [*found[-1], column]) > width
        found = [*found, [first, column]] if is_full else [*found[:-1], [*found[-1], column]]
    return found


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[i] for i in kept) + len(GAP) * (len(kept) - 1)


def narrowed(widths: Sequence[int], width: int) -> list[int]:
    """Return widths of which the first and any other fit together: text that is longer is wrapped.

    The first column takes at most half of the width.
    """
    first = min(widths[0], max(SHORTEST_TEXT, width // 2))
    most = max(SHORTEST_TEXT, width - first - len(GAP))
    return [first, *(min(other, most) for other in widths[1:])]


def laid_out(row: Sequence[str], widths: Sequence[int], block: Sequence[int]) -> list[str]:
    """Write the texts of a block side by side, the first to the left, in as many lines as the
    longest takes."""
    columns = [filled(row[i], widths[i]) for i in block]
    found = []
    for index in range(max(map(len, columns))):
        texts = [lines[index] if index < len(lines) else "" for lines in columns]
        line = [texts[0].ljust(widths[block[0]])]
        line += [text.rjust(widths[i]) for text, i in zip(texts[1:], block[1:], strict=True)]
        found.append(GAP.join(line).rstrip())
    return found


def filled(text: str, width: int | None, indent: str = "") -> list[str]:
    """Wrap a sentence into lines of a width; the second and later ones begin with the indent."""
    if width is None or len(text) <= width:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)
