"""Makes sources for the tests of findings, of cells whose ratios and noise floor are known."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from rows import make_header, make_timed_cell

from ablation_report.ladder import PARENTS
from ablation_report.sources import Source

ROUNDS = 10
FLOOR = 0.02
FAR_NS = 1_000_000
Cells = list[dict[str, Any]]


def steady(time_ns: int) -> list[int]:
    """Samples without noise."""
    return [time_ns] * ROUNDS


def wide(time_ns: int) -> list[int]:
    """Samples around a time whose interval leaves everything within a third open."""
    return [time_ns * 2 // 3, time_ns * 4 // 3] * (ROUNDS // 2)


def make(
    variant: str, time_ns: int | list[int], config: str = "Toy", **changes: Any
) -> dict[str, Any]:
    """Make a cell of a rung below which its parent of the ladder stands."""
    samples = steady(time_ns) if isinstance(time_ns, int) else time_ns
    named = {"config": config, "parent": PARENTS.get(variant)}
    return make_timed_cell(variant, samples, **(named | changes))


def floor_of_flash(config: str = "Toy", **changes: Any) -> Cells:
    """Make a pair of one program far from every other time, whose floor is `FLOOR`."""
    slower = round(FAR_NS * (1 + FLOOR))
    return [
        make("attention-flash-parallel", slower, config, **changes),
        make("flash-layernorm", FAR_NS, config, **changes),
    ]


def make_source(cells: Iterable[dict[str, Any]], name: str = "run") -> Source:
    """Make a recorded run of cells, their lines in order."""
    path = f"data/runs/{name}/cells.jsonl"
    rows = [{**cell, "path": path, "line": line} for line, cell in enumerate(cells, start=1)]
    return Source(name, Path("data/runs") / name, "run", make_header(), tuple(rows))


def make_published(times_ns: Iterable[tuple[str, str, int]], **changes: Any) -> Source:
    """Make a published file of configs, variants and times, a row a line from the second on."""
    cells = [
        make_timed_cell(variant, [time_ns], config=config, sample_rounds=None, **changes)
        for config, variant, time_ns in times_ns
    ]
    path = "data/published/block.csv"
    rows = [{**cell, "path": path, "line": line} for line, cell in enumerate(cells, start=2)]
    origin: Literal["published"] = "published"
    return Source("block", Path(path), origin, None, tuple(rows))
