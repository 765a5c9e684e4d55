"""The tables of two runs compared: what each process changed by, then every row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from ablation_report.compare import Changes
from ablation_report.compare.case import MIN_ROWS, ProcessChange
from ablation_report.run import Row, Run
from ablation_report.series import short_case
from ablation_report.stats import is_different, median
from ablation_report.tables.block import noise_warning
from ablation_report.tables.layout import NOTHING, Table, duration, percent
from ablation_report.tables.noise import trusted


def compare_tables(first: Run, second: Run, changes: Changes) -> list[Table]:
    """Lay out the comparison: processes that hold several variants, then the rows of each case."""
    tables = [_processes_table(second, changes.processes), _rows_table(first, second, changes)]
    return [trusted(table, [first, second]) for table in tables if table.rows]


def _names(run: Run, rows: Iterable[Row]) -> dict[str, str]:
    """Return what each case is called: short where that distinguishes it, else by its label."""
    short = {row["case"]: short_case(row) for row in rows}
    counts = Counter(short.values())
    return {case: name if name and counts[name] == 1 else case for case, name in short.items()}


def _processes_table(second: Run, processes: Sequence[ProcessChange]) -> Table:
    """Lay out what each process changed by as a whole, and say what the resolved ones mean."""
    names = _names(second, second.rows)
    groups: dict[str, list[Sequence[str]]] = {}
    notes = ["half of the rows: lowest and highest of the half that agrees best, machine corrected"]
    if any(process.ratio is None for process in processes):
        notes.append(f"a process is judged as a whole only with {MIN_ROWS} rows or more")
    for process in processes:
        ratio, common, half = process.ratio, NOTHING, NOTHING
        name = names.get(process.case, process.case)
        if ratio is not None:
            common, half = f"{ratio.value:.3f}x", f"{ratio.low:.3f}-{ratio.high:.3f}"
        floor = percent(process.floors.different)
        row = [process.worker, str(process.n_rows), common, half, floor, process.verdict]
        groups.setdefault(name, []).append(row)
        if is_different(process.verdict) and ratio is not None:
            notes.append(
                f"{name}: the {process.worker} process of {second.name} as a whole: "
                f"{ratio.value:.2f}x, {process.verdict}. Either the process was in another state,"
                " or all of its rows changed. A third run decides: a state does not repeat"
            )
    header = ("Process", "rows", "second / first", "half of the rows", "floor", "verdict")
    least = ("half of the rows", "rows")
    title = "Worker processes as a whole"
    return Table(title, header, list(groups.items()), notes, least=least)


def _rows_table(first: Run, second: Run, changes: Changes) -> Table:
    names = _names(second, [change.row for change in changes.rows])
    with_phase = len({change.row["phase"] for change in changes.rows}) > 1
    with_peak = any(change.peak is not None for change in changes.rows)
    header = ["Variant", *(["Phase"] if with_phase else []), "first", "second"]
    header += ["second / first", "floor", *(["of its peak memory"] if with_peak else [])]
    groups: dict[str, list[Sequence[str]]] = {}
    for change in changes.rows:
        row = change.row
        line = [row["printed_name"], *([row["phase"]] if with_phase else [])]
        line += [duration(t.value if t else None) for t in (change.first, change.second)]
        line += [_three(change.ratio.value if change.ratio else None), percent(change.floor)]
        line += [_three(change.peak)] if with_peak else []
        line += [
            change.verdict,
            " ".join(change.kernels) if change.verdict in ("slower", "faster") else "",
        ]
        groups.setdefault(names[row["case"]], []).append(line)
    noisy = {change.row["case"]: change.noise for change in changes.rows}
    warnings = [w for case, floor in noisy.items() if (w := noise_warning(floor, names[case]))]
    counts = Counter(change.verdict for change in changes.rows)
    notes = [", ".join(f"{count} {said}" for said, count in counts.most_common())]
    notes += _machine_note(changes.machine)
    notes.append(
        "second / first is corrected for the machine (the median change of the rows that run code"
        " of others) and for the change of the row's process as a whole"
    )
    title = f"First {first.name}, second {second.name}"
    heads = [*header, "verdict", "kernels"]
    least = ("kernels", "of its peak memory", "floor")
    return Table(title, heads, list(groups.items()), notes, warnings, least)


def _machine_note(machine: Mapping[str, float]) -> list[str]:
    values = list(machine.values())
    if not values:
        return []
    span = f"median {median(values):.2f}x, from {min(values):.2f}x to {max(values):.2f}x by case"
    return [f"the machine, second / first: {span}"]


def _three(ratio: float | None) -> str:
    return NOTHING if ratio is None else f"{ratio:.3f}x"
