"""Lays out a run of attention alone: against PyTorch's SDPA, and who wins where."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ablation_report.attention_rows import Row
from ablation_report.metrics import MIN_ROUNDS, Interval, median_interval, rounds_ns, rounds_ratio
from ablation_report.tables import NOTHING, Table, duration

SDPA = "torch-sdpa"
LEGEND = (
    "GFLOP/s: useful ones, 4 d for each pair of a query and a key that it sees. vs SDPA: time over",
    "that of torch-sdpa in the same rounds, with its 95% interval. Scaling: median time on one",
    "thread over that on the most. Maps: the winner, and the other's time over its own in the same",
    "rounds; = where the interval of that ratio holds 1. ~: fewer than six rounds, the interval is",
    "their whole range and covers less than 95%: it resolves nothing. (status): why there is no",
    "time of the other.",
)


@dataclass(frozen=True)
class Case:
    """The rows of one case by implementation."""

    threads: int
    causal: bool
    batch: int
    heads: int
    queries: int
    keys: int
    head_dim: int
    rows: dict[str, Row]

    @property
    def shape_title(self) -> str:
        """What a table has in common."""
        mask = "causal" if self.causal else "full"
        return f"{mask}, batch {self.batch}, heads {self.heads}, head_dim {self.head_dim}"

    @property
    def length(self) -> str:
        """The sequence's length, or queries x keys."""
        same = self.queries == self.keys
        return str(self.keys) if same else f"{self.queries}x{self.keys}"


def cases_of(rows: Iterable[Row]) -> list[Case]:
    """Group rows by case, in order of size."""
    names = ("threads", "causal", "B", "H", "Nq", "Nk", "d")
    grouped: dict[tuple[int, ...], dict[str, Row]] = {}
    for row in rows:
        grouped.setdefault(tuple(row[name] for name in names), {})[row["impl"]] = row
    return [
        Case(threads, bool(causal), batch, heads, queries, keys, head_dim, grouped[key])
        for key in sorted(grouped)
        for threads, causal, batch, heads, queries, keys, head_dim in [key]
    ]


def attention_tables(rows: Sequence[Row], impls: Sequence[str]) -> list[Table]:
    """Return the tables against SDPA, one for each mask and number of heads, then the maps."""
    cases = cases_of(rows)
    titles = dict.fromkeys(
        case.shape_title for case in sorted(cases, key=lambda c: (c.causal, c.heads))
    )
    tables = [
        _against_sdpa(title, [case for case in cases if case.shape_title == title], impls)
        for title in titles
    ]
    for rival, what in (("materialized", "whole scores"), ("fused", "whole rows of scores")):
        table = crossover_map(cases, "flash", rival, f"Flash against {rival} ({what}), our kernels")
        tables += [table] if table.groups else []
    return tables


def _against_sdpa(title: str, cases: Sequence[Case], impls: Sequence[str]) -> Table:
    """Lay out every length and implementation, with columns for each number of threads."""
    counts = sorted({case.threads for case in cases})
    header = ["Implementation"]
    for count in counts:
        header += [f"{count} thr", "GFLOP/s", "vs SDPA", "95%"]
    header.append("Scaling")
    groups = []
    for length in dict.fromkeys(case.length for case in cases):
        by_threads = {case.threads: case.rows for case in cases if case.length == length}
        lines = []
        for impl in impls:
            line = [impl]
            for count in counts:
                line += _figures(by_threads.get(count, {}), impl)
            lines.append([*line, _scaling(by_threads, counts, impl)])
        groups.append((f"seq_len {length}", lines))
    notes = [
        f"{row['impl']}, seq_len {case.length}, {case.threads} threads: {row['status']}, "
        f"{row['reason']}"
        for case in cases
        for row in case.rows.values()
        if row["status"] != "ok"
    ]
    return Table(f"Attention alone: {title}", header, groups, notes)


def median_ns(row: Row | None) -> float | None:
    """Return the median over rounds; None without times."""
    times = rounds_ns(row) if row is not None else {}
    return median_interval(list(times.values())).median if times else None


def _figures(rows: dict[str, Row], impl: str) -> list[str]:
    row = rows.get(impl)
    if row is None:
        return [NOTHING] * 4
    time_ns = median_ns(row)
    if time_ns is None:
        return [row["status"], NOTHING, NOTHING, NOTHING]
    ratio = rounds_ratio(row, rows[SDPA]) if SDPA in rows and impl != SDPA else None
    figures = [duration(time_ns), f"{row['flops_useful'] / time_ns:.1f}"]
    if ratio is None:
        return [*figures, NOTHING, NOTHING]
    interval = f"{ratio.low:.2f}-{ratio.high:.2f}"
    return [*figures, f"{ratio.median:.2f}x", interval + _mark(ratio)]


def _mark(ratio: Interval) -> str:
    return "~" if ratio.n < MIN_ROUNDS else ""


def _scaling(by_threads: dict[int, dict[str, Row]], counts: Sequence[int], impl: str) -> str:
    """Write the time on one thread over that on the most; the two were not measured in turns."""
    one, most = (
        median_ns(by_threads.get(count, {}).get(impl)) for count in (counts[0], counts[-1])
    )
    if counts[0] != 1 or len(counts) < 2 or one is None or most is None:
        return NOTHING
    return f"{one / most:.2f}x"


def crossover_map(cases: Sequence[Case], first: str, second: str, title: str) -> Table:
    """Say for each case which of two forms of our kernels wins, each by its fastest.

    A form that begins with the word counts too: flash_packed is flash. A row is a number of heads,
    a column a length, a group a mask and a number of threads.
    """
    lengths = list(dict.fromkeys(case.length for case in sorted(cases, key=lambda c: c.keys)))
    groups: dict[str, dict[str, dict[str, str]]] = {}
    for case in cases:
        group = f"{'causal' if case.causal else 'full'}, {case.threads} thread"
        group += "s" if case.threads > 1 else ""
        cell = _winner(case, first, second)
        heads = f"heads {case.heads}, head_dim {case.head_dim}"
        if cell != NOTHING:
            groups.setdefault(group, {}).setdefault(heads, {})[case.length] = cell
    laid = [
        (
            group,
            [
                [heads, *(cells.get(length, NOTHING) for length in lengths)]
                for heads, cells in lines.items()
            ],
        )
        for group, lines in groups.items()
    ]
    return Table(title, ["seq_len", *lengths], laid)


def _winner(case: Case, first: str, second: str) -> str:
    """Write the form that wins, and by how much; a nothing where neither was asked for."""
    forms = {}
    for form in (first, second):
        rows = [r for r in case.rows.values() if r["form"].startswith(form) and r["kernels"]]
        if not rows:
            return NOTHING
        timed = [(time_ns, row["impl"]) for row in rows if (time_ns := median_ns(row)) is not None]
        forms[form] = case.rows[min(timed)[1]] if timed else rows[0]
    one, other = forms[first], forms[second]
    if one["status"] != "ok" or other["status"] != "ok":
        if one["status"] == other["status"]:
            return str(one["status"])
        is_first = one["status"] == "ok"
        winner, loser = (first, other) if is_first else (second, one)
        timed_row = one if is_first else other
        return f"{winner} ({loser['status']})" if timed_row["status"] == "ok" else NOTHING
    ratio = rounds_ratio(other, one)
    if ratio is None:
        return NOTHING
    if ratio.low > 1:
        return f"{first} {ratio.median:.2f}x{_mark(ratio)}"
    if ratio.high < 1:
        return f"{second} {1 / ratio.median:.2f}x{_mark(ratio)}"
    return f"= {ratio.median:.2f}x{_mark(ratio)}"
