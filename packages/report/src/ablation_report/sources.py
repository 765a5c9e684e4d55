"""Runs and published files as findings, charts and pages see them: one `Source` each.

`gather` reads everything below its paths and loses nothing to a bad neighbor: what cannot be read
is a problem beside the sources that can.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import polars as pl

from ablation_report.attention_rows import AttentionRun
from ablation_report.crossover_rows import crossover_run
from ablation_report.escaping import visible
from ablation_report.ladder import CONFIGS, PARENTS, PRINTED_NAMES, is_ours
from ablation_report.load import (
    CELLS_NAME,
    FRAME_SCHEMA,
    Content,
    Run,
    kind_in_words,
    read_all,
    read_one,
    without_rows,
)
from ablation_report.metrics import (
    Cell,
    Interval,
    median_interval,
    noise_floor,
    paired_ratio,
    rounds_ns,
    sound_ceilings,
    verdict,
)
from ablation_report.naming import name_of, names_of
from ablation_report.output import UsageError
from ablation_report.published import PublishedBlock, PublishedSuites
from ablation_report.schema import Problem
from ablation_report.suite_published import published_sources
from ablation_report.suite_sources import SuiteSource, recorded_source

# A published figure has no interval. Two of them are told apart from this difference on: several
# times the floor of a quiet run, and above the rounding of three digits.
PUBLISHED_FLOOR = 0.05


@dataclass(frozen=True)
class Comparison:
    """The time of one variant over that of another at one config, and what may be said of it.

    `ratio` is paired by round (a published one is a single quotient, n = 1); `floor` is the noise
    floor of the config, None where the run has no A/A pair.
    """

    config: str
    variant: str
    base: str
    ratio: Interval
    floor: float | None
    verdict: Literal["faster", "slower", "same", "not resolved"]
    rows: tuple[Cell, Cell]


@dataclass(frozen=True)
class Source:
    """One recorded run or published file of the block ablation.

    Every cell is a dictionary with the columns of `cells.jsonl`, and `path` and `line`.
    """

    name: str
    path: Path
    origin: Literal["run", "published"]
    header: Mapping[str, Any] | None
    cells: tuple[Cell, ...] = field(repr=False)

    @property
    def is_published(self) -> bool:
        """True for a published file: one figure a cell, no rounds, no floor."""
        return self.origin == "published"

    @property
    def machine(self) -> str:
        """The processor and its cores in words."""
        if self.header is None:
            return "Apple M4 Max" if "m4max" in self.name else self.name
        machine = self.header["machine"]
        return f"{machine['cpu_model']}, {machine['cores']} cores"

    @property
    def threads(self) -> int | None:
        """Threads of each runtime; None where the source does not say."""
        return None if self.header is None else int(self.header["threads"])

    @property
    def label(self) -> str:
        """A short name for axes and headings."""
        return f"{self.machine} (published)" if self.is_published else self.name

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The cells as `load.load` gives them."""
        rows = [{"origin": self.origin, **cell} for cell in self.cells]
        return pl.DataFrame(rows, schema=FRAME_SCHEMA, orient="row")

    @cached_property
    def ceilings(self) -> Mapping[str, Any] | None:
        """What the run measured of its machine; None where it did not, or its times refute it."""
        return sound_ceilings(self.header["ceilings"], self.cells) if self.header else None

    @property
    def ceiling_flops_per_s(self) -> float | None:
        """The rate of multiply-adds among the ceilings."""
        return float(self.ceilings["multiply_add_flops_per_s"]) if self.ceilings else None

    @cached_property
    def by_config(self) -> Mapping[str, Mapping[str, Cell]]:
        """Cells by config, smallest first, and variant."""
        groups: dict[str, dict[str, Cell]] = {}
        for cell in self.cells:
            groups.setdefault(cell["config"], {})[cell["variant"]] = cell
        order = {name: index for index, name in enumerate(CONFIGS)}
        return dict(sorted(groups.items(), key=lambda item: order.get(item[0], len(order))))

    @property
    def configs(self) -> tuple[str, ...]:
        """The configs that have a cell, smallest first."""
        return tuple(self.by_config)

    def cell(self, config: str, variant: str) -> Cell | None:
        """The cell of a variant, whatever its status; None where it was not asked for."""
        return self.by_config.get(config, {}).get(variant)

    def time(self, config: str, variant: str) -> Interval | None:
        """Median nanoseconds of a call with their 95% interval; None where there is no time."""
        cell = self.cell(config, variant)
        times = list(rounds_ns(cell).values()) if cell else []
        return median_interval(times) if times else None

    def floor(self, config: str) -> float | None:
        """The noise floor of a config as a part of the time; None without an A/A pair."""
        if self.is_published:
            return PUBLISHED_FLOOR
        return noise_floor(list(self.by_config.get(config, {}).values()))

    def compare(self, config: str, variant: str, base: str | None) -> Comparison | None:
        """The time of a variant over that of another; None where one of them has no time."""
        cell, other = self.cell(config, variant), self.cell(config, base) if base else None
        ratio = paired_ratio(cell, other) if cell and other else None
        if cell is None or other is None or base is None or ratio is None:
            return None
        floor = self.floor(config)
        said = _published_verdict(ratio.median) if self.is_published else verdict(ratio, floor)
        return Comparison(config, variant, base, ratio, floor, said, (cell, other))

    def parent(self, config: str, variant: str) -> str | None:
        """The rung below, by the row itself or, for a published one, by the ladder."""
        cell = self.cell(config, variant)
        return (cell["parent"] if cell else None) or PARENTS.get(variant)

    def best(self, config: str, ours: bool = True) -> str | None:
        """The variant with the smallest median, of ours or of the others; None without a time."""
        times = {
            name: time.median
            for name, cell in self.by_config.get(config, {}).items()
            if _is_wanted(cell, ours) and (time := self.time(config, name))
        }
        return min(times, key=lambda name: times[name]) if times else None

    def printed(self, variant: str) -> str:
        """The name of a variant as tables print it."""
        for cells in self.by_config.values():
            if variant in cells:
                return str(cells[variant]["printed_name"])
        return PRINTED_NAMES.get(variant, variant)


@dataclass(frozen=True)
class Gathered:
    """What lies below some paths: sources, runs of attention alone, the published rows of the
    further suites, problems, the further suites' runs and published figures as sources, and notes
    of what has no rows or is there twice.

    No two sources and no two runs have names with the same slug.
    """

    sources: tuple[Source, ...]
    attention: tuple[AttentionRun, ...]
    suites: tuple[Mapping[str, Any], ...]
    problems: tuple[Problem, ...]
    suite_sources: tuple[SuiteSource, ...] = ()
    notes: tuple[Problem, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """What was read, and what could not be."""
        return [
            *(source.path for source in self.sources),
            *(run.path for run in self.attention),
            *(source.path for source in self.suite_sources),
            *(told.path for told in (*self.problems, *self.notes)),
        ]

    def source(self, name: str) -> Source:
        """The source of this name; KeyError names those there are."""
        for source in self.sources:
            if source.name == name:
                return source
        raise KeyError(f"{name}: no such run; there are {', '.join(s.name for s in self.sources)}")


def gather(*paths: Path | str) -> Gathered:
    """Read every run and published file at or directly below the paths, published ones first.

    A file that is damaged, foreign or of a newer schema is in `problems`, by file, line and column;
    the others are read all the same. A block ablation without rows is in `notes` alone.

    Raises:
        FileNotFoundError: a path does not exist, or nothing readable lies under it.
    """
    found = read_all(paths)
    names = names_of(content.path for content in found.contents)
    sources: list[Source] = []
    attention: list[AttentionRun] = []
    suites: list[Mapping[str, Any]] = []
    suite_sources: list[SuiteSource] = []
    for content in found.contents:
        name = names[content.path]
        if isinstance(content, Run | PublishedBlock):
            sources += [_source(content, name)] if content.rows else []
        elif isinstance(content, PublishedSuites):
            suites += [row for _, row in content.rows]
            suite_sources += published_sources(content.path, content.rows)
        elif isinstance(content, AttentionRun):
            attention.append(replace(content, own_name=name))
        else:
            suite_sources.append(replace(recorded_source(content), name=name))
            crossover = crossover_run(content)
            attention += [replace(crossover, own_name=name)] if crossover else []
    sources.sort(key=lambda source: (not source.is_published, source.name))
    suite_sources.sort(key=lambda source: (not source.is_published, source.name))
    return Gathered(
        tuple(sources),
        tuple(attention),
        tuple(suites),
        found.problems,
        tuple(suite_sources),
        found.notes,
    )


def read_source(path: Path) -> Source:
    """Read one run folder or published block ablation.

    Raises:
        SchemaError: it is damaged, breaks a rule, or has another schema.
        UsageError: it is of another suite, or has no rows.
        FileNotFoundError: the path does not exist, or holds none or several.
    """
    return block_source(read_one(path))


def block_source(content: Content) -> Source:
    """Return a run or published file as a source; UsageError for one that is no block ablation or
    has no rows."""
    if not isinstance(content, Run | PublishedBlock):
        raise UsageError(f"{content.path}: {kind_in_words(content)}, no block ablation")
    if not content.rows:
        raise UsageError(f"{content.path}: {without_rows(content)}")
    return _source(content, name_of(content.path))


def _source(content: Run | PublishedBlock, name: str) -> Source:
    path = content.path
    if isinstance(content, Run):
        place = visible(path / CELLS_NAME)
        rows = [
            {**cell, "path": place, "line": line}
            for line, cell in enumerate(content.cells, start=1)
        ]
        return Source(name, path, "run", content.header, tuple(rows))
    rows = [{**cell, "path": visible(path), "line": line} for line, cell in content.rows]
    return Source(name, path, "published", None, tuple(rows))


def hardware(header: Mapping[str, Any]) -> str:
    """What tells machines apart, processors of one name too, as one text to group by."""
    machine = header["machine"]
    told = ("cpu_model", "cores", "arch", "isa_flags", "caches")
    quota = machine.get("processor_quota")
    return json.dumps([*(machine[name] for name in told), quota], sort_keys=True)


def _is_wanted(cell: Cell, ours: bool) -> bool:
    is_other = cell["variant"] in ("torch-naive", "torch-sdpa") or cell["group"] == "League"
    return is_ours(cell["variant"], cell["group"]) if ours else is_other


def _published_verdict(ratio: float) -> Literal["faster", "slower", "not resolved"]:
    if abs(ratio - 1) <= PUBLISHED_FLOOR:
        return "not resolved"
    return "faster" if ratio < 1 else "slower"
