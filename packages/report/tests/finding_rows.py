"""Makes runs for the tests of findings, of rows whose ratios and noise floor are known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from samples import SIZES, make_run, make_timed

from ablation_report.published import PARENTS
from ablation_report.run import Run

ROUNDS = 10
FLOOR = 0.01
FAR_NS = 1_000_000
TWINS = [
    ["attention-fused-parallel", "layernorm-parallel"],
    ["attention-flash-parallel", "flash-layernorm"],
]
Rows = list[dict[str, Any]]


def steady(time_ns: int) -> list[int]:
    """Samples without noise."""
    return [time_ns] * ROUNDS


def wide(time_ns: int) -> list[int]:
    """Samples around a time whose interval leaves everything within a third open."""
    return [time_ns * 2 // 3, time_ns * 4 // 3] * (ROUNDS // 2)


def make(
    variant: str, time_ns: int | list[int], config: str = "Toy", **changes: Any
) -> dict[str, Any]:
    """Make a row of a rung below which its parent of the ladder stands; sizes are changed by their
    name."""
    samples = steady(time_ns) if isinstance(time_ns, int) else time_ns
    sizes = SIZES | {"config": config}
    sizes |= {name: changes.pop(name) for name in SIZES if name in changes}
    named = {"sizes": sizes, "parent": PARENTS.get(variant)}
    if variant.startswith("torch"):
        named |= {"origin": "torch", "factors": {"executor": "torch"}, "group": "Baselines"}
    if variant.startswith("beyond"):
        named |= {"group": "Beyond"}
    return make_timed(variant, samples, **(named | changes))


def floor_of_flash(config: str = "Toy", floor: float = FLOOR, **changes: Any) -> Rows:
    """Make a pair of one program far from every other time, whose floor is known."""
    slower = round(FAR_NS * (1 + floor))
    return [
        make("attention-flash-parallel", slower, config, **changes),
        make("flash-layernorm", FAR_NS, config, **changes),
    ]


def block_run(rows: Iterable[dict[str, Any]], name: str = "run", **changes: Any) -> Run:
    """Make a recorded run of the block, its lines in order."""
    return make_run(list(rows), name, **({"twins": TWINS} | changes))


def published_run(times_ns: Iterable[tuple[str, str, int]], **changes: Any) -> Run:
    """Make a published run of configs, variants and times, a row a line from the second on."""
    known = {"kernels": None, "passes": None} | changes
    rows = [make(variant, [time_ns], config, **known) for config, variant, time_ns in times_ns]
    run = make_run(rows, "block", twins=TWINS)
    path = "data/published/block.csv"
    placed = [{**row, "path": path, "line": row["line"] + 1} for row in run.rows]
    return replace(run, path=Path(path), rows=tuple(placed), is_published=True)
