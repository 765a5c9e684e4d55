"""Tables of timed kernels as text that fits the terminal."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ablation_kernels.record import KernelRow, Record
from ablation_kernels.strassen import (
    PACKED,
    ProductTime,
    expected_ratio,
    kernel_for,
    levels_of,
)
from ablation_kernels.table import KernelInfo

_GAP = "  "
_BEYOND_MEMORY = "> memory"
# A file or pipe is as wide as its lines
_UNBOUNDED = 10_000


@dataclass(frozen=True)
class Column:
    """A heading with a text for each row; of columns that do not fit, those of the highest `rank`
    go first."""

    heading: str
    texts: Sequence[str]
    rank: int = 0
    is_left: bool = False

    @property
    def width(self) -> int:
        """Characters of the widest text."""
        return max(map(len, (self.heading, *self.texts)))


def terminal_width() -> int:
    """Return the columns of the terminal, or of COLUMNS; of a pipe as many as are needed."""
    fallback = 80 if sys.stdout is not None and sys.stdout.isatty() else _UNBOUNDED
    return shutil.get_terminal_size((fallback, 24)).columns


def table(columns: Sequence[Column], width: int) -> list[str]:
    """Write columns side by side within a width; a column is whole or left out, and those of rank 0
    always stay."""
    kept = list(columns)
    while sum(column.width + len(_GAP) for column in kept) - len(_GAP) > width:
        last = max(kept, key=lambda column: column.rank)
        if last.rank == 0:
            break
        kept.remove(last)
    lines = zip(*((column.heading, *column.texts) for column in kept), strict=True)
    return [
        _GAP.join(
            text.ljust(column.width) if column.is_left else text.rjust(column.width)
            for text, column in zip(line, kept, strict=True)
        ).rstrip()
        for line in lines
    ]


def fact_lines(facts: Mapping[str, object], width: int) -> list[str]:
    """Write facts by name; those that are too long go on in further lines."""
    indent = max(map(len, facts)) + 1
    return [
        line
        for name, fact in facts.items()
        for line in _filled(f"{name:{indent}}{fact}", width, indent)
    ]


def kernel_lines(kernels: Sequence[KernelInfo], width: int) -> list[str]:
    """Write name, provider and idea of each kernel, the idea below the name where a line of all
    three is too long."""
    columns = [
        Column("kernel", [kernel.name for kernel in kernels], is_left=True),
        Column("provider", [kernel.provider for kernel in kernels], is_left=True),
        Column("idea", [kernel.idea for kernel in kernels], is_left=True),
    ]
    lines = table(columns, _UNBOUNDED)
    if max(map(len, lines)) <= width:
        return lines
    head, *short = table(columns[:2], width)
    ideas = [_filled(f"    {kernel.idea}", width, 4) for kernel in kernels]
    return [
        head,
        *(text for pair in zip(short, ideas, strict=True) for text in (pair[0], *pair[1])),
    ]


def _filled(text: str, width: int, indent: int) -> list[str]:
    """Wrap a text at blanks; further lines begin with blanks."""
    return textwrap.wrap(
        text,
        width,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def call_lines(rows: Sequence[KernelRow], record: Record, width: int) -> list[str]:
    """Write the kernels of one call: what it is, its ceilings, a line for each kernel, notes."""
    first = rows[0]
    has_products = first.flops is not None
    work = f"{first.bytes / 1e6:.3g} MB read and written"
    if first.flops is not None:
        work = f"{first.flops / 1e9:.3g} GFLOP, {work}"
    lines = [f"{first.op} {first.shape} {first.dtype}: {work}", *ceiling_lines(record), ""]
    columns = [
        Column("kernel", [row.kernel for row in rows], is_left=True),
        Column("threads", [str(row.threads) for row in rows], rank=4),
        Column("median us", [_micro(row.median_ns) for row in rows]),
        Column("min us", [_micro(row.min_ns) for row in rows], rank=3),
        Column("GFLOP/s" if has_products else "GB/s", [_number(row.rate) for row in rows], rank=1),
        Column("of ceiling", [_share(row) for row in rows], rank=2),
        Column("time / first", [_number(row.median_ns / first.median_ns) for row in rows], rank=5),
    ]
    return [*lines, *table(columns, width), "", *_notes(rows)]


def ceiling_lines(record: Record) -> list[str]:
    """Write the machine's ceilings, a line for each number of threads."""
    return [
        f"ceiling on {count} thread{'s' if count > 1 else ''}: "
        f"{found.multiply_add_flops_per_s / 1e9:.0f} GFLOP/s ({found.provider}), "
        f"{found.memory_bytes_per_s / 1e9:.0f} GB/s"
        for count, found in record.ceilings.items()
    ]


def _notes(rows: Sequence[KernelRow]) -> list[str]:
    notes = []
    bounds = {row.bound for row in rows}
    notes.append(f"of ceiling: the least time by {' or '.join(sorted(bounds))}, over the median")
    if any(_share(row) == _BEYOND_MEMORY for row in rows):
        notes.append(
            f"{_BEYOND_MEMORY}: faster than the measured traffic of memory, as from a cache"
        )
    if any(
        row.bound == "multiply-adds" and row.share_of_ceiling > 1 and not levels_of(row.kernel)
        for row in rows
    ):
        notes.append("above 100%: the ceiling was measured while the machine was slower")
    if any(levels_of(row.kernel) for row in rows):
        notes.append("strassen: GFLOP/s of the plain product, of which it computes 7/8 or 49/64")
    return notes


def record_lines(record: Record, width: int) -> list[str]:
    """Write the fastest kernel of each call of a record, a line each; of those that round as others
    do."""
    groups: dict[tuple[str, str], list[KernelRow]] = {}
    for row in record.rows:
        if levels_of(row.kernel):
            continue
        groups.setdefault((row.op, row.shape), []).append(row)
    best = [min(group, key=lambda row: row.median_ns) for group in groups.values()]
    columns = [
        Column("op", [row.op for row in best], rank=4, is_left=True),
        Column("shape", [row.shape for row in best], is_left=True),
        Column("fastest kernel", [row.kernel for row in best], is_left=True),
        Column("median us", [_micro(row.median_ns) for row in best], rank=1),
        Column("rate", [_rate(row) for row in best], rank=2),
        Column("of ceiling", [_share(row) for row in best], rank=3),
    ]
    return [*ceiling_lines(record), "", *table(columns, width)]


def map_line(found: ProductTime | None, width: int) -> str:
    """Write a line of the map of Strassen's products, or its headings; what does not fit is left
    out as in `table`."""
    columns = [
        Column(name, [text.rjust(digits)], rank) for name, digits, rank, text in _map_columns(found)
    ]
    return table(columns, width)[0 if found is None else 1]


def _map_columns(found: ProductTime | None) -> list[tuple[str, int, int, str]]:
    """Return heading, digits, rank and text of each column of the map."""
    texts = ["" for _ in range(12)]
    if found is not None:
        m, n, k, packed_ns = found.m, found.n, found.k, found.times_ns[0]
        levels = levels_of(kernel_for(m, n, k) or PACKED)
        rates = [f"{packed_ns / 1e3:.1f}", f"{2 * m * n * k / packed_ns:.0f}"]
        texts = [str(m), str(n), str(k), *rates]
        for level in (1, 2):
            ratios = (found.ratio(level), expected_ratio(m, n, k, level))
            error = found.errors[level] / found.errors[0]
            texts += [*(f"{ratio:.3f}" for ratio in ratios), f"{error:.1f}"]
        texts.append(("packed", "one", "two")[levels])
    sizes = [(name, 6, 0) for name in "MNK"]
    level_columns = [
        column
        for name in ("one", "two")
        for column in ((name, 6, 0), ("expected", 7, 1), ("error", 5, 2))
    ]
    heads = [*sizes, ("packed us", 10, 0), ("GFLOP/s", 6, 3), *level_columns, ("chosen", 6, 0)]
    return [(*head, text) for head, text in zip(heads, texts, strict=True)]


def _share(row: KernelRow) -> str:
    """Write the share of the ceiling; the traffic of memory is none for what a cache holds."""
    if row.bound == "memory" and row.share_of_ceiling > 1:
        return _BEYOND_MEMORY
    return f"{row.share_of_ceiling:.0%}"


def _rate(row: KernelRow) -> str:
    return f"{_number(row.rate)} {'GB/s' if row.flops is None else 'GFLOP/s'}"


def _micro(time_ns: float) -> str:
    return _number(time_ns / 1e3)


def _number(value: float) -> str:
    """Write three significant digits, and no fewer than the whole part."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"
