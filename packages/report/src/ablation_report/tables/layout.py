"""A table as text or Markdown, and how figures are written in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ablation_report.escaping import code, escape, list_item, visible
from ablation_report.means import ratio_text
from ablation_report.run import Comparison, Run
from ablation_report.stats import Interval, is_different
from ablation_report.tables.fitting import (
    GAP,
    blocks,
    filled,
    kept_columns,
    laid_out,
    narrowed,
)

NOTHING = "-"
MIB = 2**20


@dataclass(frozen=True)
class Table:
    """A title, a header, and rows of text in groups; `warnings` stand above them and `notes` below,
    a sentence each. `least`: headings of the columns that a narrow terminal does without, the
    first to go first."""

    title: str
    header: Sequence[str]
    groups: Sequence[tuple[str, Sequence[Sequence[str]]]]
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    least: Sequence[str] = ()

    @property
    def rows(self) -> list[Sequence[str]]:
        """The rows of all groups."""
        return [row for _, group in self.groups for row in group]

    def without_empty(self) -> Table:
        """Return the table without the columns in which no row has anything; the first and the last
        stay."""
        last = len(self.header) - 1
        kept = [
            i
            for i in range(len(self.header))
            if i in (0, last) or any(row[i] != NOTHING for row in self.rows)
        ]
        groups = [(name, [[row[i] for i in kept] for row in group]) for name, group in self.groups]
        return replace(self, header=[self.header[i] for i in kept], groups=groups)

    def text(self, width: int | None = None) -> str:
        """Lay the table out for a terminal: first column left, the others right.

        In a width the columns of `least` go one by one, a note names them, and what is still too
        wide stands in blocks below each other.
        """
        header = list(map(visible, self.header))
        groups = [
            (visible(name), [list(map(visible, row)) for row in group])
            for name, group in self.groups
        ]
        rows = [header, *(row for _, group in groups for row in group)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
        parts, notes = [list(range(len(header)))], list(self.notes)
        if width is not None and header:
            widths = narrowed(widths, width)
            kept = kept_columns(header, widths, self.least, width)
            gone = [name for i, name in enumerate(header) if i not in kept]
            notes += [f"Left out at {width} columns: {', '.join(gone)}"] if gone else []
            parts = blocks(widths, kept, width)
        lines = []
        for part in parts:
            lines += ["", *laid_out(header, widths, part)]
            lines.append("-" * (sum(widths[i] for i in part) + len(GAP) * (len(part) - 1)))
            for name, group in groups:
                lines += filled(f"  {name}", width, "  ") if name else []
                lines += [line for row in group for line in laid_out(row, widths, part)]
        foot = [line for text in notes for line in filled(visible(text), width)]
        top = [line for t in (self.title, *self.warnings) for line in filled(visible(t), width)]
        return "\n".join([*top, *lines, *(["", *foot] if foot else [])])

    def markdown(self) -> str:
        """Lay the table out as Markdown, the groups' names as rows of their own."""
        width = len(self.header)
        lines = [f"### {escape(self.title)}", ""]
        lines += [f"**{escape(warning)}**\n" for warning in self.warnings]
        lines += [markdown_row(map(escape, self.header)), "|---|" + "---:|" * (width - 1)]
        for name, group in self.groups:
            lines += [markdown_row([f"**{escape(name)}**", *[""] * (width - 1)])] if name else []
            lines += [markdown_row(map(escape, row)) for row in group]
        notes = list(map(list_item, self.notes))
        return "\n".join([*lines, *(["", *notes] if notes else [])])


def markdown_row(texts: Iterable[str]) -> str:
    """Write a row of a Markdown table; the texts are escaped already."""
    return "| " + " | ".join(texts) + " |"


def facts_text(facts: Mapping[str, str], is_markdown: bool, width: int | None = None) -> str:
    """Lay out facts by name, a line each, in a width several; a command in the type of code."""
    if not is_markdown:
        lines = (f"{name + ':':<11}{visible(fact)}" for name, fact in facts.items())
        return "\n".join(line for text in lines for line in filled(text, width, " " * 11))
    texts = {name: (code if name == "Command" else escape)(fact) for name, fact in facts.items()}
    return "\n".join(f"- {name}: {text}" for name, text in texts.items())


def duration(ns: float | None) -> str:
    """Write nanoseconds with three or four digits in µs, ms or s."""
    if ns is None:
        return NOTHING
    for unit, size in (("s", 1e9), ("ms", 1e6)):
        if ns >= size:
            return f"{ns / size:.2f} {unit}"
    return f"{ns / 1e3:.1f} µs"


def times(ratio: float | None) -> str:
    """Write a ratio as `means.ratio_text` does; nothing where there is none."""
    return NOTHING if ratio is None else ratio_text(ratio)


def interval_text(ratio: Interval | None) -> str:
    """Write the ends of a ratio's interval; nothing where it has none."""
    if ratio is None or ratio.n < 2:
        return NOTHING
    return "-".join(times(end).removesuffix("x") for end in (ratio.low, ratio.high))


def marked(comparison: Comparison | None) -> str:
    """Write a ratio, with a ~ where the run's own noise may account for its distance from 1."""
    if comparison is None:
        return NOTHING
    return times(comparison.ratio.value) + ("" if is_different(comparison.verdict) else " ~")


def percent(part: float | None, digits: int = 1) -> str:
    """Write a part of 1 as a percentage."""
    if part is None:
        return NOTHING
    return f"{100 * part:.{digits}f}%" if part < 10 else ">999%"


def number(value: float | None) -> str:
    """Write a rate with one decimal."""
    return NOTHING if value is None else f"{value:.1f}"


def count(value: int | None) -> str:
    """Write a count with separators of thousands."""
    return NOTHING if value is None else f"{value:,}"


def mib(size: int | None) -> str:
    """Write bytes in MiB."""
    return NOTHING if size is None else f"{size / MIB:.2f}"


def threads_text(threads: int) -> str:
    """Write a number of threads: 1 thread, 2 threads."""
    return f"{threads} thread{'s' if threads > 1 else ''}"


def tier_title(run: Run, tier: str, threads: int | None) -> str:
    """Name a tier and its threads."""
    if threads is None:
        return f"{run.suite}: {tier}"
    return f"{run.suite}/{tier}, {threads_text(threads)}"


def status_text(row: Mapping[str, object]) -> str:
    """Write the status of a row with its reason: oom (predicted)."""
    return f"{row['status']} ({row['reason']})" if row["reason"] else str(row["status"])
