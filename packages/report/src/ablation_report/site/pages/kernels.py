"""The pages of the kernels, from the op table of the installed wheel and the recorded rows."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from ablation_report.escaping import code, escape
from ablation_report.run import BLOCK, Row
from ablation_report.site.choose import Place, by_evidence, places, verdicts
from ablation_report.site.inputs import Inputs, Kernel
from ablation_report.site.text import join, link, page_title, table
from ablation_report.tables import NOTHING, duration, percent

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


def kernels_block(inputs: Inputs) -> str:
    """The op table, a section for each op."""
    if inputs.kernels is None:
        return NO_WHEEL + "\n"
    parts = []
    for op, group in by_op(inputs.kernels).items():
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


def kernel_page(kernel: Kernel, inputs: Inputs) -> str:
    """The page of one kernel: its idea, its place among its op's, and what it was measured at."""
    kernels = inputs.kernels or ()
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
        _measured(kernel["name"], inputs),
        "`python -m ablation_kernels "
        f"{kernel['op']} SHAPE` times every kernel of the op side by side on the machine at hand.",
    )


def _neighbor(group: Sequence[str], place: int) -> str:
    if not 0 <= place < len(group):
        return NOTHING
    return f"[{code(group[place])}]({group[place]}.md)"


def _measured(name: str, inputs: Inputs) -> str:
    """For each config, its time in the fastest variant of the quietest run that ran it."""
    rows = []
    for config, page in inputs.configs.items():
        found = places(inputs.recorded(BLOCK), config)
        users = by_evidence((place for place in found if _users(place, name)), verdicts)
        if not users:
            continue
        run = users[0].run
        row = min(
            _users(users[0], name), key=lambda row: time.value if (time := run.time(row)) else 0
        )
        times = _times(row, name)
        total = sum(op["median_ns"] or 0 for op in row["ops"])
        rows.append(
            [
                f"[{escape(config)}](../{page})",
                escape(row["printed_name"]),
                str(len(times)),
                duration(sum(times)),
                percent(sum(times) / total if total else None),
                link(run, "../"),
            ]
        )
    if not rows:
        return "*No recorded run ran this kernel.*"
    header = ["Config", "Variant", "Calls", "Time in a block", "Share", "Run"]
    explained = "Medians of profiled calls, in the fastest variant of the run that used it."
    return join(explained, table(header, rows, n_left=2)).rstrip()


def _times(row: Row, name: str) -> list[float]:
    ops = row["ops"] or []
    return [op["median_ns"] for op in ops if op["kernel"] == name and op["median_ns"] is not None]


def _users(place: Place, name: str) -> list[Row]:
    """The rows with a time that ran the kernel."""
    return [row for row in place.rows if _times(row, name) and place.run.time(row)]
