"""Findings of attention-backward: the memory column, means and outliers, growth, the first OOM."""

from __future__ import annotations

from ablation_report.run import Row
from ablation_report.series import mask_of

SUITE = "attention-backward"
SDPA, ABLATION = "torch_sdpa_flash", "ablation_flash"
FLASH_FORMS = (SDPA, ABLATION)
FLOAT32_BYTES = 4


def is_unfused(variant: str) -> bool:
    """True for a form that has all scores in memory, recorded or published."""
    return variant.startswith("torch_unfused")


def place_of(row: Row) -> str:
    """Write length and head size of a row, and the mask where it is known to have mattered."""
    sizes = row["sizes"]
    words = f"N {sizes['Nk']}, d {sizes['d']}"
    return words if row["origin"] == "published" else f"{words}, {mask_of(row)}"
