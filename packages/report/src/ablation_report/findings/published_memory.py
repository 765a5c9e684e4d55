"""Published figures of memory, which stand in lines of their own."""

from __future__ import annotations

from collections.abc import Iterable

from ablation_report.run import Row, detail


def published_bytes(row: Row) -> int | None:
    """Return the bytes that were published with a time; None where none were."""
    found: int | None = detail(row, "published_memory_bytes")
    return found


def with_memory_line(rows: Iterable[Row]) -> list[Row]:
    """Return published rows as they stand in the line of their memory."""
    return [{**row, "line": detail(row, "memory_line")} for row in rows]
