"""The pages of the kernels, from the op table of the installed wheel and the recorded rows."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ablation_report.escaping import code, escape
from ablation_report.metrics import Cell
from ablation_report.site.choose import shown_run
from ablation_report.site.config_pages import all_configs, config_page_path
from ablation_report.site.text import join, page_title, run_page, table
from ablation_report.sources import Gathered, Source
from ablation_report.tables import NOTHING, duration

# A line of the op table: name, op, form, simd, parallel, gemm, provider, idea
Kernel = Mapping[str, Any]
NO_WHEEL = (
    "*This site was built without the kernels wheel, so their table is not known here: "
    "`nox -s docs` installs it.*"
)


def installed_kernels() -> list[Kernel] | None:
    """The op table of the installed kernels wheel; None where there is none."""
    try:
        wheel = importlib.import_module("ablation_kernels")
    except ImportError:
        return None
    return [asdict(info) for info in wheel.op_table()]


def kernel_page_path(name: str) -> str:
    """The path of a kernel's page, from the root of the site."""
    return f"kernels/{name}.md"


def by_op(kernels: Iterable[Kernel]) -> dict[str, list[Kernel]]:
    """Kernels by op, in the order of the table."""
    groups: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        groups.setdefault(kernel["op"], []).append(kernel)
    return groups


def kernels_block(kernels: Sequence[Kernel] | None) -> str:
    """The op table, a section for each op."""
    if kernels is None:
        return NO_WHEEL + "\n"
    parts = []
    for op, group in by_op(kernels).items():
        rows = [
            [
                f"[{code(kernel['name'])}]({kernel_page_path(kernel['name'])})",
                escape(kernel["idea"]),
                escape(kernel["provider"]),
            ]
            for kernel in group
        ]
        header = ["Kernel", "The one idea it adds", "Provider here"]
        parts += [f"## {escape(op)}", table(header, rows, n_left=3)]
    return join(*parts)


def kernel_page(kernel: Kernel, kernels: Sequence[Kernel], gathered: Gathered) -> str:
    """The page of one kernel: its idea, its place among its op's, and what it was measured at."""
    group = [other["name"] for other in kernels if other["op"] == kernel["op"]]
    place = group.index(kernel["name"])
    facts = [
        ["Op", code(kernel["op"])],
        ["Form", escape(kernel["form"] or "the plain one")],
        ["Instructions", "SIMD" if kernel["simd"] else "scalar"],
        ["Threads", "the whole pool" if kernel["parallel"] else "one"],
        ["Matrix products", escape(kernel["gemm"])],
        ["Provider where this site was built", escape(kernel["provider"])],
        ["Plainer", _neighbor(group, place - 1)],
        ["Next", _neighbor(group, place + 1)],
    ]
    return join(
        page_title(kernel["name"]),
        f"{escape(kernel['idea'][:1].upper() + kernel['idea'][1:])}.",
        table(["Property", "This kernel"], facts, n_left=2),
        "## In the recorded runs",
        _measured(kernel["name"], gathered),
        "`python -m ablation_kernels "
        f"{kernel['op']} SHAPE` times every kernel of the op side by side on the machine at hand.",
    )


def _neighbor(group: Sequence[str], place: int) -> str:
    if not 0 <= place < len(group):
        return NOTHING
    return f"[{code(group[place])}]({group[place]}.md)"


def _measured(name: str, gathered: Gathered) -> str:
    """For each config, its time in the fastest variant of the run shown that ran it."""
    rows = []
    for config in all_configs(gathered):
        run = shown_run(gathered, config)
        found = _fastest_user(run, config, name) if run else None
        if run is None or found is None:
            continue
        times = _times(found, name)
        total = sum(op["median_ns"] or 0 for op in found["ops"])
        rows.append(
            [
                f"[{escape(config)}](../{config_page_path(config)})",
                escape(found["printed_name"]),
                str(len(times)),
                duration(sum(times)),
                f"{sum(times) / total:.1%}" if total else NOTHING,
                f"[{escape(run.name)}](../{run_page(run)})",
            ]
        )
    if not rows:
        return "*No run that this site shows ran this kernel.*"
    header = ["Config", "Variant", "Calls", "Time in a block", "Share", "Run"]
    explained = "Medians of profiled calls, in the fastest variant of the run that used it."
    return join(explained, table(header, rows, n_left=2)).rstrip()


def _times(cell: Cell, name: str) -> list[float]:
    ops = cell["ops"] or []
    return [op["median_ns"] for op in ops if op["kernel"] == name and op["median_ns"] is not None]


def _fastest_user(run: Source, config: str, name: str) -> Cell | None:
    """The cell with the smallest time of those that ran the kernel."""
    users = [
        (time.median, cell["variant"])
        for cell in run.by_config[config].values()
        if _times(cell, name) and (time := run.time(config, cell["variant"]))
    ]
    return run.cell(config, min(users)[1]) if users else None
