"""Makes runs of the suite attribution whose worths are known: a value for each point of a lattice,
noise by round, programs that have no time."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from samples import make_row, make_run, make_untimed

from ablation_report.attribution.result import Point
from ablation_report.run import Run

SUITE = "attribution"
# Name, printed name, levels; of the block, as its suite switches them.
BLOCK_FACTORS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "native_loop": ("Native loop", ("python", "compiled")),
    "folding": ("Folding", ("off", "folded")),
    "adds": ("Fused adds", ("apart", "fused", "epilogues")),
    "attention": ("Attention", ("unfused", "fused", "flash", "packed")),
    "simd": ("SIMD", ("scalar", "simd")),
    "threads": ("Threads", ("one", "all")),
    "packed_weights": ("Packed weights", ("blas", "packed")),
    "layout": ("Layout", ("exported", "direct", "merged")),
    "shared_joins": ("Shared fork-joins", ("off", "on")),
}
SMALL_FACTORS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    name: BLOCK_FACTORS[name] for name in ("folding", "attention", "simd", "threads")
}


def block_is_feasible(point: Mapping[str, int]) -> bool:
    """What the factors of the block need of each other; a factor that is left out is no need."""
    has = {name: point.get(name, 9) for name in BLOCK_FACTORS}
    if point.get("attention", 0) >= 2 and not has["simd"]:
        return False
    if point.get("packed_weights") and not (has["native_loop"] and has["folding"]):
        return False
    if point.get("layout") and not has["attention"]:
        return False
    return not (point.get("shared_joins") and not (has["native_loop"] and has["threads"]))


def points_of(
    factors: Mapping[str, tuple[str, tuple[str, ...]]],
    is_feasible: Callable[[Mapping[str, int]], bool] = block_is_feasible,
) -> list[Point]:
    """Every point of the factors' lattice that is feasible, lowest first."""
    levels = [range(len(names)) for _, names in factors.values()]
    points = itertools.product(*levels)
    return [point for point in points if is_feasible(dict(zip(factors, point, strict=True)))]


def usual_value(point: Mapping[str, int]) -> float:
    """ln(time of base / time): each level with a worth of its own, and two that save the same."""
    worths = {"folding": 0.3, "attention": 0.1, "simd": 0.2, "threads": 0.4, "packed_weights": 0.15}
    value = math.fsum(worth * point.get(name, 0) for name, worth in worths.items())
    both = min(point.get("folding", 0), point.get("threads", 0))
    return value - 0.1 * both


def text_of(point: Point) -> str:
    """A point as a row names it: a digit for each factor."""
    return "".join(map(str, point))


def make_attribution_rows(
    value: Callable[[Mapping[str, int]], float] = usual_value,
    factors: Mapping[str, tuple[str, tuple[str, ...]]] = SMALL_FACTORS,
    *,
    is_feasible: Callable[[Mapping[str, int]], bool] = block_is_feasible,
    points: Sequence[Point] | None = None,
    program: Callable[[Mapping[str, int]], Hashable] | None = None,
    counters: Callable[[Mapping[str, int]], dict[str, int] | None] = lambda point: None,
    missing: Mapping[Point, str] | None = None,
    noise: Callable[[random.Random, int], float] | float = 0.0,
    rounds: int = 12,
    base_ns: float = 10_000_000.0,
    orders: Sequence[str] | None = None,
    others: Mapping[str, float] | None = None,
    seed: int = 0,
    **changes: Any,
) -> list[dict[str, Any]]:
    """Make a row for each program of a case, two of them twice.

    `value` is ln(time of base / time) of a point by factor name; `points` replaces those that are
    feasible; points of one `program` are one row. `missing` has the status of points without a
    time, "" for one without a row. `noise` is what a round's time is multiplied with beyond 1: a
    function of a generator and the round, or the standard deviation of a logarithm. `others` are
    rows without points by variant, with their time over base's. `changes` are columns.
    """
    generator = random.Random(seed)
    lattice = points_of(factors, is_feasible) if points is None else list(points)
    named = {point: dict(zip(factors, point, strict=True)) for point in lattice}
    programs: dict[Hashable, list[Point]] = {}
    for point in lattice:
        programs.setdefault(program(named[point]) if program else point, []).append(point)

    def samples(log_ratio: float) -> list[int]:
        times = [base_ns * math.exp(-log_ratio) for _ in range(rounds)]
        if callable(noise):
            times = [time * noise(generator, index) for index, time in enumerate(times)]
        elif noise:
            times = [time * math.exp(generator.gauss(0, noise)) for time in times]
        return [max(1, round(time)) for time in times]

    def row(variant: str, log_ratio: float, **more: Any) -> dict[str, Any]:
        known: dict[str, Any] = {
            "suite": SUITE,
            "variant": variant,
            "printed_name": variant,
            "group": None,
            "parent": None,
            "changed": None,
            "profile": None,
            "ops": None,
            "n_calls": None,
            "samples_ns": samples(log_ratio),
            "sample_rounds": list(range(rounds)),
            "cpu_ns": None,
            "factors": {},
            "details": None,
        }
        return make_row(**(known | more | changes))

    rows = []
    lowest, highest = lattice[0], lattice[-1]
    for members in programs.values():
        point = members[0]
        status = (missing or {}).get(point)
        if status == "":
            continue
        variant = "base" if lowest in members else "top" if highest in members else "p-"
        variant += text_of(point) if variant == "p-" else ""
        levels = {name: factors[name][1][level] for name, level in named[point].items()}
        details: dict[str, Any] = {"points": [text_of(member) for member in members]}
        if orders is not None and variant == "base":
            details["orders"] = list(orders)
        told = {"factors": levels, "details": details, "counters": counters(named[point])}
        made = row(variant, value(named[point]), **told)
        reasons = {"incorrect": "check", "skipped": "selection", "oom": "predicted"}
        rows.append(make_untimed(made, status, reasons.get(status, "Crash")) if status else made)
    for variant, point in (("base_again", lowest), ("top_again", highest)):
        rows.append(row(variant, value(named[point])))
    for variant, ratio in (others or {}).items():
        rows.append(row(variant, -math.log(ratio), origin="torch"))
    return rows


def make_attribution_run(
    value: Callable[[Mapping[str, int]], float] = usual_value,
    factors: Mapping[str, tuple[str, tuple[str, ...]]] = SMALL_FACTORS,
    name: str = "run",
    **options: Any,
) -> Run:
    """Make a run of one case; the options are those of `make_attribution_rows`."""
    return run_of(make_attribution_rows(value, factors, **options), factors, name)


def run_of(
    rows: list[dict[str, Any]],
    factors: Mapping[str, tuple[str, tuple[str, ...]]] = SMALL_FACTORS,
    name: str = "run",
) -> Run:
    """Make a run of rows of these factors."""
    header = [
        {"name": key, "printed_name": printed, "what": f"{printed} in words", "levels": [*levels]}
        for key, (printed, levels) in factors.items()
    ]
    twins = [["base", "base_again"], ["top", "top_again"]]
    return make_run(rows, name, baseline="base", twins=twins, factors=header)
