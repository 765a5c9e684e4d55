"""Which kernel is fastest: recorded times by op, kernel and shape, and the idea of each kernel."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from ablation_report.escaping import code, escape
from ablation_report.kernel_records import KernelRecord, KernelTime
from ablation_report.machines import machine_name
from ablation_report.site.data_table import Cell, Column, Line, data_table
from ablation_report.site.inputs import Inputs, Kernel
from ablation_report.site.sections import section
from ablation_report.site.text import details, join, slug
from ablation_report.tables import duration, percent, threads_text
from ablation_report.tables.layout import number

NO_WHEEL = (
    "*This site was built without the kernels wheel, so it has no table of kernels: "
    "`nox -s docs` installs it.*"
)
COMMAND = "python -m ablation_kernels --all --json data/kernels/NAME.json"
NO_RECORD = (
    f"*No kernel run is recorded. `{COMMAND}` measures every kernel of the installed wheel; the "
    "site shows each file of `data/kernels`.*"
)
COLUMNS = (
    Column("Op", is_left=True, name="op"),
    Column("Kernel", is_left=True, name="kernel"),
    Column("Shape", is_left=True, name="shape"),
    Column("Time", duration, name="median_ns"),
    Column("Rate", number, name="rate"),
    Column("Of ceiling", percent, name="share_of_ceiling"),
    *(Column(name, is_hidden=True) for name in ("unit", "bound", "threads", "n_calls", "min_ns")),
)
IDEAS = (
    Column("Kernel", is_left=True, name="kernel"),
    Column("The one idea that it adds", is_left=True, is_prose=True, name="idea"),
    Column("Provider here", is_left=True, name="provider"),
)
IDEAS_TITLE = "What each kernel does"
LEGEND = (
    "The fastest kernel of each op and shape is blue. The rate is GFLOP/s of an op with "
    "multiply-adds, and GB/s of any other. The ceiling is the rate of multiply-adds or of memory "
    "that the same run measured, whichever takes longer. A share above 100 % is faster than the "
    "measured memory traffic, as from a cache, or it is Strassen's scheme, which needs fewer "
    "multiplications."
)


def installed_kernels() -> list[Kernel] | None:
    """The op table of the installed kernels wheel; None where there is none."""
    try:
        wheel = importlib.import_module("ablation_kernels")
    except ImportError:
        return None
    return [asdict(info) for info in wheel.op_table()]


def by_op(kernels: Iterable[Kernel]) -> dict[str, list[Kernel]]:
    """Kernels by op, in the order of the table."""
    groups: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        groups.setdefault(kernel["op"], []).append(kernel)
    return groups


def kernels_block(inputs: Inputs) -> str:
    """The times of each recorded machine, and what each kernel does, folded."""
    ideas = {kernel["name"]: str(kernel["idea"]) for kernel in inputs.kernels or ()}
    records = sorted(inputs.kernel_records, key=lambda record: record.created, reverse=True)
    return join(
        LEGEND if records else NO_RECORD,
        *(_record(record, ideas) for record in records),
        NO_WHEEL if inputs.kernels is None else _ideas(inputs.kernels),
    )


def _record(record: KernelRecord, ideas: Mapping[str, str]) -> str:
    machine = machine_name(record.machine)
    made = f"{threads_text(record.threads)}, {record.created[:10]}"
    body = join(
        f"## {escape(machine)} {{ #{slug(record.name)} }}",
        times_table(record.rows, ideas),
        f"Rows: {code(f'data/kernels/{record.name}.json')}, {escape(made)}, by "
        f"{code(' '.join(record.command))}.",
    )
    return section(body, machine)


def times_table(rows: Sequence[KernelTime], ideas: Mapping[str, str]) -> str:
    """Lay out the kernels of each op and shape, the fastest first."""
    groups: dict[tuple[str, str], list[KernelTime]] = {}
    for row in rows:
        groups.setdefault((row.op, row.shape), []).append(row)
    lines: list[Line] = []
    for group in groups.values():
        ordered = sorted(group, key=lambda row: row.median_ns)
        lines += [_line(row, ideas, row is ordered[0] and len(group) > 1) for row in ordered]
    return data_table(COLUMNS, lines)


def _line(row: KernelTime, ideas: Mapping[str, str], is_fastest: bool) -> Line:
    rate = Cell(row.rate) if row.rate is None else Cell(row.rate, f"{number(row.rate)} {row.unit}")
    return [
        row.op,
        Cell(row.kernel, mark="better" if is_fastest else None, tip=ideas.get(row.kernel, "")),
        row.shape,
        row.median_ns,
        rate,
        Cell(row.share, tip=f"bound by {row.bound}"),
        *(row.unit, row.bound, row.threads, row.n_calls, row.min_ns),
    ]


def _ideas(kernels: Sequence[Kernel]) -> str:
    """A folded table of all kernels by op, the plainest first."""
    lines = {
        op: [[kernel["name"], kernel["idea"], kernel["provider"]] for kernel in group]
        for op, group in by_op(kernels).items()
    }
    return details(IDEAS_TITLE, data_table(IDEAS, lines))
