"""What the tables behind the charts share: whose a row is, its order, its ratio, its unit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from ablation_report.ladder import LEAGUE, rank
from ablation_report.metrics import Cell, Interval, median
from ablation_report.sources import Comparison, Source

Schema = Mapping[str, pl.DataType | type[pl.DataType]]

IDENTITY: Schema = dict.fromkeys(
    ("variant", "printed_name", "group", "status", "reason"), pl.String
)
RATIO: Schema = {
    **dict.fromkeys(("ratio", "ratio_low", "ratio_high", "floor"), pl.Float64),
    "n_rounds": pl.Int64,
    "verdict": pl.String,
}


@dataclass(frozen=True)
class TimeUnit:
    """A unit of time: how columns and axes write it, and its nanoseconds."""

    suffix: str
    symbol: str
    ns: float


UNITS = (TimeUnit("us", "µs", 1e3), TimeUnit("ms", "ms", 1e6), TimeUnit("s", "s", 1e9))


def unit_for(source: Source, config: str) -> TimeUnit:
    """Return the largest unit in which a typical time of the config is at least 1."""
    times = [
        time.median for name in source.by_config[config] if (time := source.time(config, name))
    ]
    typical = median(times) if times else 0.0
    return next((unit for unit in reversed(UNITS) if typical >= unit.ns), UNITS[0])


def frame_of(rows: Sequence[Mapping[str, Any]], schema: Schema) -> pl.DataFrame:
    """Return rows as a frame of these columns; what a row lacks is null."""
    return pl.DataFrame(rows, schema=dict(schema), orient="row")


def in_order(cells: Iterable[Cell]) -> list[Cell]:
    """Return cells in the order of the ladder, the league below it."""
    return sorted(cells, key=lambda cell: (cell["group"] == LEAGUE, rank(cell["variant"])))


def ordered(source: Source, config: str) -> list[Cell]:
    """Return the cells of a config, in order."""
    return in_order(source.by_config.get(config, {}).values())


def identity(cell: Cell) -> dict[str, Any]:
    """Return the columns that say whose a row is."""
    return {name: cell[name] for name in IDENTITY}


def ends(interval: Interval | None, scale: float = 1.0) -> tuple[float | None, float | None]:
    """Return the ends of an interval over `scale`; a single value has none."""
    if interval is None or interval.width is None:
        return None, None
    return interval.low / scale, interval.high / scale


def ratio_columns(comparison: Comparison | None) -> dict[str, Any]:
    """Return the columns of `RATIO`; empty without a comparison."""
    if comparison is None:
        return {}
    low, high = ends(comparison.ratio)
    return {
        "ratio": comparison.ratio.median,
        "ratio_low": low,
        "ratio_high": high,
        "floor": comparison.floor,
        "n_rounds": comparison.ratio.n,
        "verdict": comparison.verdict,
    }


def why_no_time(source: Source, config: str | None = None) -> str | None:
    """Say why a config, or a whole source, has nothing to draw; None where there is a time."""
    configs = source.configs if config is None else (config,)
    cells = [cell for name in configs for cell in source.by_config.get(name, {}).values()]
    where = source.label if config is None else config
    if not cells:
        return f"{where} was not measured."
    if any(source.time(cell["config"], cell["variant"]) for cell in cells):
        return None
    counts = Counter(cell["status"] for cell in cells)
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    return f"No time was measured at {where}: {said}."


def floor_note(source: Source, config: str) -> str:
    """Say what two times of a config must differ by, or that it is not known."""
    floor = source.floor(config)
    if source.is_published:
        return f"One figure a variant: differences within {floor:.0%} are not resolved"
    if floor is None:
        return "No A/A pair: the noise is not known, nothing is resolved"
    return f"Noise floor {floor:.1%}"
