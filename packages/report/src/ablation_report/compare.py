"""Sets two runs of the same work beside each other, cell by cell, and says what has changed.

Two runs share no round, so the machine may have changed its speed in between. What runs code of
others (PyTorch, NumPy, the league) is the control: its common change at a config is taken for the
machine's, and how far its cells disagree about it is noise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ablation_report.metrics import MIN_ROUNDS, Interval, Verdict, median
from ablation_report.sources import Source
from ablation_report.tables import NOTHING, Table, duration

# What must be the same for two times to be of the same thing
VERSIONS = ("python", "numpy", "torch")


@dataclass(frozen=True)
class Change:
    """One cell in two runs: its times, second over first corrected for the machine, the verdict.

    `floor` is the part by which the ratio must differ from 1; `kernels` are those that the cell
    ran in the second run.
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


def differences(first: Source, second: Source) -> list[str]:
    """Say in which respects two runs are not of the same machine, threads and versions."""
    found = []
    for what, a, b in (
        ("machine", first.machine, second.machine),
        ("instruction sets and caches", _hardware(first), _hardware(second)),
        ("threads", first.threads, second.threads),
        *(
            (f"version of {name}", _version(first, name), _version(second, name))
            for name in VERSIONS
        ),
        ("instruction set used", _provider(first, "simd"), _provider(second, "simd")),
    ):
        if a != b:
            values = f": {a} and {b}" if isinstance(a, str | int) else ""
            found.append(what + values)
    return found


def compare_runs(first: Source, second: Source) -> list[Change]:
    """Compare every cell that either run has, in the order of the second.

    A cell that one run lacks has the verdict "only in FIRST" or "only in SECOND"; one without a
    time in either has its status there as verdict.
    """
    changes: list[Change] = []
    for config in dict.fromkeys((*first.configs, *second.configs)):
        shift, spread = _machine_change(first, second, config)
        floors = [floor for source in (first, second) if (floor := source.floor(config))]
        floor = max([*floors, spread]) if floors and spread is not None else None
        variants = dict.fromkeys(
            (*first.by_config.get(config, {}), *second.by_config.get(config, {}))
        )
        changes += [_change(first, second, config, v, shift, floor) for v in variants]
    return changes


def compare_table(first: Source, second: Source, changes: Sequence[Change]) -> Table:
    """Lay out the comparison, a group for each config."""
    header = ("Variant", first.name, second.name, "second / first", "floor", "verdict", "kernels")
    groups: dict[str, list[Sequence[str]]] = {}
    for change in changes:
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
    counts = Counter(change.verdict for change in changes)
    notes = [", ".join(f"{count} {said}" for said, count in counts.most_common())]
    notes.append(
        "second / first is corrected for the machine: divided by the median change of the cells"
        " that run code of others"
    )
    return Table(f"{first.name} and {second.name}", header, list(groups.items()), notes)


def _change(
    first: Source,
    second: Source,
    config: str,
    variant: str,
    shift: float,
    floor: float | None,
) -> Change:
    cells = first.cell(config, variant), second.cell(config, variant)
    times = first.time(config, variant), second.time(config, variant)
    cell: Mapping[str, Any] = cells[1] or cells[0] or {}
    ratio = _quotient(times[1], times[0], shift) if times[0] and times[1] else None
    if cells[0] is None or cells[1] is None:
        said: str = f"only in {(first if cells[1] is None else second).name}"
    elif ratio is None:
        said = " and ".join(dict.fromkeys(c["status"] for c in cells if c))
    else:
        said = _judge(ratio, floor)
    kernels = [op["kernel"] for op in cell["ops"] or () if op["kernel"]]
    return Change(
        config=config,
        variant=variant,
        printed_name=cell["printed_name"],
        first=times[0],
        second=times[1],
        ratio=ratio,
        floor=floor,
        verdict=said,
        kernels=tuple(dict.fromkeys(kernels)),
    )


def _quotient(time: Interval, base: Interval, shift: float) -> Interval:
    """The quotient of two independent medians; the widths add up as logarithms in quadrature."""
    below = math.hypot(math.log(time.median / time.low), math.log(base.high / base.median))
    above = math.hypot(math.log(time.high / time.median), math.log(base.median / base.low))
    ratio = time.median / base.median / shift
    return Interval(ratio, ratio * math.exp(-below), ratio * math.exp(above), min(time.n, base.n))


def _judge(ratio: Interval, floor: float | None) -> Verdict:
    """As `metrics.verdict`, for a quotient that is not paired: the floor adds to its interval."""
    if floor is None or ratio.n < MIN_ROUNDS:
        return "not resolved"
    if ratio.low > 1 + floor:
        return "slower"
    if ratio.high < 1 - floor:
        return "faster"
    if abs(ratio.median - 1) <= floor and ratio.high / ratio.low - 1 <= 2 * floor:
        return "same"
    return "not resolved"


def _machine_change(first: Source, second: Source, config: str) -> tuple[float, float | None]:
    """How much slower the machine was in the second run, and how far the controls disagree.

    Without a control in both runs the fixed product that a run times before and after each config
    stands in; without either the change is unknown: 1, and no spread.
    """
    logs = []
    for variant, cell in second.by_config.get(config, {}).items():
        times = first.time(config, variant), second.time(config, variant)
        if times[0] and times[1] and cell["runtime"] != "kernels":
            logs.append(math.log(times[1].median / times[0].median))
    if not logs:
        products = [_calibration(source, config) for source in (first, second)]
        if not products[0] or not products[1]:
            return 1.0, None
        logs = [math.log(b / a) for a, b in zip(products[0], products[1], strict=True)]
    middle = median(logs)
    return math.exp(middle), math.expm1(max(abs(value - middle) for value in logs))


def _calibration(source: Source, config: str) -> tuple[float, float] | None:
    """Medians of the fixed product before and after a config."""
    for cell in source.by_config.get(config, {}).values():
        before, after = cell["calibration_before_ns"], cell["calibration_after_ns"]
        if before and after:
            return median(before), median(after)
    return None


def _version(source: Source, name: str) -> str | None:
    return source.header["versions"][name] if source.header else None


def _hardware(source: Source) -> list[Any] | None:
    """What tells processors of one name apart."""
    machine = source.header["machine"] if source.header else None
    return [machine[name] for name in ("arch", "isa_flags", "caches")] if machine else None


def _provider(source: Source, name: str) -> str | None:
    return source.header["providers"].get(name) if source.header else None
