"""The page's maps of products: when Strassen's pay."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.escaping import escape
from ablation_report.products import Product, ProductMap
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import join, table

NOTHING = "*No map is recorded.*\n"
LEVELS = ("one", "two")


def strassen_block(inputs: Inputs) -> str:
    """A map over N and K for each M, of every file."""
    parts = [_map(found) for found in inputs.products]
    return join(*parts) if parts else NOTHING


def _map(found: ProductMap) -> str:
    threads = f"{found.threads} thread{'s' * (found.threads != 1)}"
    gains = [p for p in found.products if p.chosen]
    lost = [p for p in gains if p.ratios[p.chosen - 1] > 1]
    said = f"The model takes another arithmetic for {len(gains)} of {len(found.products)} products"
    slower = f"; {len(lost)} of these are slower than the packed product." if gains else "."
    worst = ", ".join(
        f"{max(p.errors[level] for p in found.products):.0f} with {words} level{'s' * level}"
        for level, words in enumerate(LEVELS)
    )
    sizes = sorted({product.m for product in found.products})
    return join(
        f"**{escape(found.name)}**: {escape(found.simd)}, {threads}. {said}{slower} The largest"
        f" error over the packed product's: {worst}.",
        *(_grid(m, [p for p in found.products if p.m == m]) for m in sizes),
    )


def _grid(m: int, products: Sequence[Product]) -> str:
    depths = sorted({product.k for product in products})
    at = {(product.n, product.k): product for product in products}
    rows = [
        [f"N {n}", *(_entry(at[n, k]) if (n, k) in at else "" for k in depths)]
        for n in sorted({product.n for product in products})
    ]
    return table((f"M {m}", *(f"K {k}" for k in depths)), rows)


def _entry(product: Product) -> str:
    """The least time over the packed product's and its levels; bold where the model takes it."""
    if product.best == 0:
        text = f"{min(product.ratios):.2f}"
    else:
        text = f"{product.ratios[product.best - 1]:.2f} {LEVELS[product.best - 1]}"
    return f"**{text}**" if product.chosen else text
