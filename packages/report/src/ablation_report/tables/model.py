"""The tables of modules: our default against PyTorch and the other runtimes, and the time of each
module within one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablation_report.run import Comparison, Row, Run, detail, is_other
from ablation_report.series import short_case
from ablation_report.tables.block import error_ratio
from ablation_report.tables.layout import NOTHING, Table, count, duration, marked, percent, times

SUITE = "model"
EAGER, DEFAULT = "torch-eager", "default"
# The parts of a program's time that a table lists; the rest is one line.
MOST_PATHS = 24
# What a narrow terminal does without, the first to go first.
_LEAST = ("error / PT's", "calls", "A/A floor", "best other", "PyTorch eager")
SUMMARY_HEADER = (
    *("Module", "PyTorch eager", "Ours", "ours / eager", "verdict", "A/A floor"),
    *("error / PT's", "calls", "best other", "ours / best other"),
)


def summary_table(run: Run) -> Table:
    """Return our default of each case with PyTorch and the fastest of the others."""
    rows = [_summary_row(run, case) for case in run.by_case] if run.suite == SUITE else []
    notes = [
        "calls: of the exported graph > after all passes. best other: the fastest of PyTorch eager"
        " and the other runtimes"
    ]
    title = "SUMMARY: our default against the others"
    return Table(title, SUMMARY_HEADER, [("", rows)], notes, least=_LEAST)


def _summary_row(run: Run, case: str) -> Sequence[str]:
    ours, eager = run.row(case, DEFAULT), run.row(case, EAGER)
    other = run.best(case, is_other)
    against, best = run.compare(ours, eager), run.compare(ours, other)
    return [
        short_case(run.by_case[case][0]),
        *(_time(run, row) for row in (eager, ours)),
        marked(against),
        _verdict(against, run.floor(case)),
        percent(run.floor(case)),
        times(error_ratio(ours, eager) if ours else None),
        _calls(ours),
        NOTHING if other is None else f"{_time(run, other)} ({other['printed_name']})",
        marked(best),
    ]


def _time(run: Run, row: Row | None) -> str:
    time = run.time(row)
    if row is not None and time is None:
        return str(row["status"])
    return duration(time.value if time else None)


def _verdict(compared: Comparison | None, floor: float | None) -> str:
    return NOTHING if compared is None or floor is None else compared.verdict


def _calls(row: Row | None) -> str:
    if row is None or row["n_calls"] is None:
        return NOTHING
    before = detail(row, "exported_calls")
    return count(row["n_calls"]) if before is None else f"{before:,} > {row['n_calls']:,}"


def module_table(run: Run) -> Table:
    """Return where the time of our default goes by the module that each operation is of, a group
    for each case, and the share of the operations' sum."""
    groups = []
    for case in run.by_case:
        row = run.row(case, DEFAULT)
        if row is not None and row["ops"] and detail(row, "module_paths"):
            groups.append((short_case(row), _path_lines(row)))
    return Table("Time by module, our default", ("Module", "Operations", "Time", "Share"), groups)


def _path_lines(row: Row) -> list[Sequence[str]]:
    paths: Mapping[str, str] = detail(row, "module_paths")
    spent: dict[str, float] = {}
    names: dict[str, list[str]] = {}
    for op in row["ops"]:
        path = paths.get(op["name"]) or "(the module itself)"
        spent[path] = spent.get(path, 0) + (op["median_ns"] or 0)
        names.setdefault(path, []).append(op["op"])
    total = sum(spent.values())
    lines: list[Sequence[str]] = [
        [path, ", ".join(dict.fromkeys(names[path])), duration(spent[path]), _share(time, total)]
        for path, time in list(spent.items())[:MOST_PATHS]
    ]
    if rest := list(spent.items())[MOST_PATHS:]:
        left = sum(time for _, time in rest)
        lines.append([f"{len(rest)} others", NOTHING, duration(left), _share(left, total)])
    return lines


def _share(part: float, total: float) -> str:
    return percent(part / total if total else None)
