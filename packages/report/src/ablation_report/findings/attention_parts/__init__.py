"""Findings of attention-parts: the published memory, a cold run, and tiles against rows."""

from __future__ import annotations

from ablation_report.run import Row, Run

SUITE = "attention-parts"
FLASH, FUSED = "ablation_flash_course", "ablation_fused_row"
# Published names come in pairs, the course's own form and the one of the published text.
PUBLISHED_PAIRS = (
    ("student_flash", "student_fused_row"),
    ("reference_flash", "reference_fused_row"),
)


def published_pairs(run: Run) -> list[tuple[Row, Row]]:
    """Return the published rows of a flash form with those of the fused one in the same case."""
    return [
        (row, other)
        for flash, fused in PUBLISHED_PAIRS
        for row in run.rows
        if row["variant"] == flash
        and (other := run.row(row["case"], fused, row["phase"])) is not None
    ]
