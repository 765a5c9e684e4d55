"""Sets two runs of the same work beside each other, cell by cell, and says what has changed.

Two runs share no round. What may differ between them beside the code is the machine's speed and
the state of each worker process. Both are estimated from what many cells have in common, and taken
out of the single cell:

- the machine, by the median change of the cells that run code of others (PyTorch, NumPy, the
  league). A machine that changed does not change all cells alike, so its change is part of the
  floor, as is how far the controls disagree;
- a process, by what most of its cells have in common. This is reported by itself: a state of the
  process and a change to all of its cells look the same in two runs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablation_report.escaping import visible
from ablation_report.metrics import MIN_ROUNDS, Cell, Interval, is_different, median
from ablation_report.processes import MIN_CELLS, Floors, ProcessChange, judge, process_change
from ablation_report.sources import Source, hardware
from ablation_report.tables import NOTHING, Table, duration

# What must be the same for two times to be of the same thing
VERSIONS = ("python", "numpy", "torch")


@dataclass(frozen=True)
class Change:
    """One cell in two runs: its times, and second over first beyond what it shares with others.

    `ratio` is corrected for the machine and for what its process changed by as a whole; `floor` is
    the part by which it must differ from 1; `kernels` are those that the cell ran in the second
    run.
    """

    config: str
    variant: str
    printed_name: str
    first: Interval | None
    second: Interval | None
    ratio: Interval | None
    floor: float | None
    verdict: str
    kernels: tuple[str, ...]


@dataclass(frozen=True)
class Changes:
    """Two runs beside each other: every cell, and every process that has a cell in both."""

    cells: tuple[Change, ...]
    processes: tuple[ProcessChange, ...]


def differences(first: Source, second: Source) -> list[str]:
    """Say in which respects two runs are not of the same machine, threads and versions."""
    return told_differences(
        ("machine", first.machine, second.machine),
        ("instruction sets, caches and quota", _hardware(first), _hardware(second)),
        ("threads", first.threads, second.threads),
        *version_pairs(first.header, second.header),
        ("instruction set used", _provider(first, "simd"), _provider(second, "simd")),
    )


def version_pairs(
    first: Mapping[str, Any] | None, second: Mapping[str, Any] | None
) -> list[tuple[str, str | None, str | None]]:
    """The versions of two headers that have to be the same, for `told_differences`."""

    def version(header: Mapping[str, Any] | None, name: str) -> str | None:
        return header["versions"][name] if header else None

    return [(f"version of {n}", version(first, n), version(second, n)) for n in VERSIONS]


def told_differences(*respects: tuple[str, object, object]) -> list[str]:
    """Name the respects (what, of the first, of the second) that differ, with short values."""
    found = []
    for what, a, b in respects:
        if a != b:
            is_short = what != "instruction sets, caches and quota"
            values = f": {a} and {b}" if is_short and isinstance(a, str | int) else ""
            found.append(visible(what + values))
    return found


def compare_runs(first: Source, second: Source) -> Changes:
    """Compare every cell that either run has, in the order of the second.

    A cell that one run lacks has the verdict "only in FIRST" or "only in SECOND"; one without a
    time in either has its status there as verdict. One whose process has fewer cells than
    `processes.MIN_CELLS` is never called slower or faster.
    """
    cells: list[Change] = []
    processes: list[ProcessChange] = []
    for config in dict.fromkeys((*first.configs, *second.configs)):
        ratios = _ratios(first, second, config)
        machine, floors = _machine_and_floors(first, second, config, ratios)
        found = {
            runtime: process_change(
                config, runtime, [r.median / machine for r in of_runtime.values()], floors
            )
            for runtime, of_runtime in ratios.items()
        }
        processes += found.values()
        variants = dict.fromkeys(
            (*first.by_config.get(config, {}), *second.by_config.get(config, {}))
        )
        for variant in variants:
            cell = second.cell(config, variant) or first.cell(config, variant) or {}
            process = found.get(cell["runtime"])
            ratio = ratios.get(cell["runtime"], {}).get(variant)
            if ratio is not None:
                shared = process.ratio.median if process and process.ratio else 1.0
                ratio = _over(ratio, machine * shared)
            is_told = process is not None and process.ratio is not None
            cells.append(_change(first, second, cell, ratio, floors, is_told))
    return Changes(tuple(cells), tuple(processes))


def _change(
    first: Source,
    second: Source,
    cell: Cell,
    ratio: Interval | None,
    floors: Floors,
    is_told: bool,
) -> Change:
    config, variant = cell["config"], cell["variant"]
    pair = first.cell(config, variant), second.cell(config, variant)
    if pair[0] is None or pair[1] is None:
        said: str = f"only in {(first if pair[1] is None else second).name}"
    elif ratio is None:
        said = " and ".join(dict.fromkeys(c["status"] for c in pair if c))
    else:
        verdict = judge(ratio, floors)
        is_open = ratio.n < MIN_ROUNDS or (is_different(verdict) and not is_told)
        said = "not resolved" if is_open else verdict
    kernels = [op["kernel"] for op in cell["ops"] or () if op["kernel"]]
    return Change(
        config=config,
        variant=variant,
        printed_name=cell["printed_name"],
        first=first.time(config, variant),
        second=second.time(config, variant),
        ratio=ratio,
        floor=floors.different,
        verdict=said,
        kernels=tuple(dict.fromkeys(kernels)),
    )


# Second over first of the cells with a time in both runs, by runtime and variant
Ratios = Mapping[str, Mapping[str, Interval]]


def _ratios(first: Source, second: Source, config: str) -> Ratios:
    found: dict[str, dict[str, Interval]] = {}
    for variant, cell in second.by_config.get(config, {}).items():
        times = first.time(config, variant), second.time(config, variant)
        if times[0] and times[1]:
            found.setdefault(cell["runtime"], {})[variant] = _quotient(times[1], times[0])
    return found


def _quotient(time: Interval, base: Interval) -> Interval:
    """The quotient of two independent medians; the widths add up as logarithms in quadrature."""
    below = math.hypot(math.log(time.median / time.low), math.log(base.high / base.median))
    above = math.hypot(math.log(time.high / time.median), math.log(base.median / base.low))
    ratio = time.median / base.median
    return Interval(ratio, ratio * math.exp(-below), ratio * math.exp(above), min(time.n, base.n))


def _over(ratio: Interval, common: float) -> Interval:
    return Interval(ratio.median / common, ratio.low / common, ratio.high / common, ratio.n)


def _machine_and_floors(
    first: Source, second: Source, config: str, ratios: Ratios
) -> tuple[float, Floors]:
    """How much slower the machine was in the second run, and what a cell must differ by.

    Without a control in both runs the fixed product that a run times before and after each config
    stands in; without either the change is unknown: 1, and no floor. The floor is the largest of
    the A/A floors of both runs and of how far the controls disagree, and to be called different of
    the machine's change too: what it does to one cell it need not do to another.
    """
    logs = [
        math.log(ratio.median)
        for runtime, of_runtime in ratios.items()
        if runtime != "kernels"
        for ratio in of_runtime.values()
    ]
    if not logs:
        products = [_calibration(source, config) for source in (first, second)]
        if not products[0] or not products[1]:
            return 1.0, Floors(None, None)
        logs = [math.log(b / a) for a, b in zip(products[0], products[1], strict=True)]
    middle = median(logs)
    spread = max(abs(value - middle) for value in logs)
    floors = [floor for source in (first, second) if (floor := source.floor(config)) is not None]
    if not floors:
        return math.exp(middle), Floors(None, None)
    same = max(*floors, math.expm1(spread))
    return math.exp(middle), Floors(max(same, math.expm1(abs(middle))), same)


def _calibration(source: Source, config: str) -> tuple[float, float] | None:
    """Medians of the fixed product before and after a config."""
    for cell in source.by_config.get(config, {}).values():
        before, after = cell["calibration_before_ns"], cell["calibration_after_ns"]
        if before and after:
            return median(before), median(after)
    return None


def _hardware(source: Source) -> str | None:
    return hardware(source.header) if source.header else None


def _provider(source: Source, name: str) -> str | None:
    return source.header["providers"].get(name) if source.header else None


def compare_tables(first: Source, second: Source, changes: Changes) -> list[Table]:
    """Lay out the comparison: the processes, then the cells, a group for each config."""
    return [_processes_table(second, changes.processes), _cells_table(first, second, changes.cells)]


def _processes_table(second: Source, processes: Sequence[ProcessChange]) -> Table:
    """Lay out what each process changed by as a whole, and say what the resolved ones mean."""
    groups: dict[str, list[Sequence[str]]] = {}
    notes = ["half of the cells: the ends of the half that agrees best, corrected for the machine"]
    if any(process.ratio is None for process in processes):
        notes.append(f"with fewer than {MIN_CELLS} cells none is told from what all have in common")
    for process in processes:
        ratio, common, half = process.ratio, NOTHING, NOTHING
        if ratio is not None:
            common, half = f"{ratio.median:.3f}x", f"{ratio.low:.3f}-{ratio.high:.3f}"
        limit = process.floors.different
        floor = NOTHING if limit is None else f"{100 * limit:.1f}%"
        row = [process.runtime, str(process.n_cells), common, half, floor, process.verdict]
        groups.setdefault(process.config, []).append(row)
        if is_different(process.verdict) and ratio is not None:
            times = max(ratio.median, 1 / ratio.median)
            notes.append(
                f"{process.config}: the {process.runtime} process of {second.name} as a whole: "
                f"{times:.2f}x {process.verdict}; a state of the process or a change to all of "
                "its cells: a third run tells, since a state does not come back"
            )
    header = ("Process", "cells", "second / first", "half of the cells", "floor", "verdict")
    return Table("Worker processes as a whole", header, list(groups.items()), notes)


def _cells_table(first: Source, second: Source, cells: Sequence[Change]) -> Table:
    header = ("Variant", first.name, second.name, "second / first", "floor", "verdict", "kernels")
    groups: dict[str, list[Sequence[str]]] = {}
    for change in cells:
        row = [
            change.printed_name,
            duration(change.first.median if change.first else None),
            duration(change.second.median if change.second else None),
            NOTHING if change.ratio is None else f"{change.ratio.median:.3f}x",
            NOTHING if change.floor is None else f"{100 * change.floor:.1f}%",
            change.verdict,
            " ".join(change.kernels) if change.verdict in ("slower", "faster") else "",
        ]
        groups.setdefault(change.config, []).append(row)
    counts = Counter(change.verdict for change in cells)
    notes = [", ".join(f"{count} {said}" for said, count in counts.most_common())]
    notes.append(
        "second / first is corrected for the machine, by the median change of the cells that run"
        " code of others, and for what the cell's process changed by as a whole"
    )
    return Table(f"{first.name} and {second.name}", header, list(groups.items()), notes)
