"""The table at the end of a run, from its rows alone."""

from __future__ import annotations

from collections.abc import Sequence

from ..run_reading import Row
from ..stats import median
from .case import parse_label

HEADINGS = (
    *("implementation", "published name", "phase", "median", "p95", "min", "GFLOP/s"),
    *("x vs {baseline}", "peak memory", "error", "status"),
)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of them lies, between two neighbors by their distance."""
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def _milliseconds(value: float) -> str:
    return f"{value / 1e6:.3f} ms" if value < 1e8 else f"{value / 1e6:.1f} ms"


def _mebibytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**20:.2f} MiB"


def row_cells(row: Row, base_ns: float | None) -> list[str]:
    """One line of a case's table; `base_ns` is the median of the baseline in it."""
    name = [row["impl"], row["published_name"] or "-", row["phase"]]
    if row["status"] != "ok":
        error = _error(row) if row["status"] == "incorrect" else "-"
        return [*name, *["-"] * 6, error, f"{row['status']} ({row['reason']})"]
    samples = row["samples_ns"]
    middle = median(samples)
    rate = "-" if row["flops_useful"] is None else f"{row['flops_useful'] / middle:.1f}"
    ratio = "-" if base_ns is None else f"{base_ns / middle:.2f}x"
    times = (middle, percentile(samples, 0.95), min(samples))
    memory = _mebibytes(row["mem_op_peak_bytes"])
    return [*name, *map(_milliseconds, times), rate, ratio, memory, _error(row), "ok"]


def _error(row: Row) -> str:
    errors = row["errors"]
    return f"{max(errors.values()):.1e}" if errors else "-"


def case_table(rows: Sequence[Row], baseline: str) -> str:
    """The rows of one case, a Markdown table under its label."""
    base = {
        row["phase"]: median(row["samples_ns"])
        for row in rows
        if row["impl"] == baseline and row["status"] == "ok"
    }
    headings = [heading.format(baseline=baseline) for heading in HEADINGS]
    lines = [headings, *(row_cells(row, base.get(row["phase"])) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    return "\n".join("| " + " | ".join(line) + " |" for line in padded)


def tables(rows: Sequence[Row], baseline: str) -> str:
    """The tables of all cases, in order of measuring."""
    parts = []
    for label in dict.fromkeys(row["case"] for row in rows):
        case = parse_label(label)
        own = [row for row in rows if row["case"] == label]
        head = f"{label} ({case.flops_useful / 1e9:.3g} GFLOP in the attention of one forward)"
        parts.append(f"{head}\n\n{case_table(own, baseline)}\n")
    return "\n".join(parts)
