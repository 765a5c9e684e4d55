"""Attention alone, the tier `crossover`: every variant against PyTorch's SDPA over the lengths, and
which form of our kernels wins where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ablation_report.run import Comparison, Row, Run
from ablation_report.series import SHAPE, length_of, mask_of
from ablation_report.tables.layout import (
    NOTHING,
    Table,
    duration,
    interval_text,
    marked,
    number,
    threads_text,
    times,
)

TIER = "crossover"
FLASH, FUSED, MATERIALIZED = "flash", "fused", "materialized"
# The forms of the variants whose rows do not name one; those of single kernels are in their names,
# and a variant without a form is in the tables of all rows alone.
_FORMS: Mapping[str, str] = {
    "torch_sdpa_flash": "sdpa",
    "torch_unfused_lse": MATERIALIZED,
    "ablation_unfused": MATERIALIZED,
    "ablation_unfused_packed": MATERIALIZED,
    "ablation_flash": "flash_packed",
}
_KERNEL, _THREADED = "attention_", "_simd_parallel"
_RIVALS = ((MATERIALIZED, "whole scores"), (FUSED, "whole rows of scores"))
LEGEND = (
    "Attention alone: GFLOP/s: useful, 4 d for each pair of a query and a visible key. vs SDPA:",
    "time over that of SDPA in the same rounds, with its 95% interval; ~ not resolved. Scaling:",
    "time on the most threads over time on one. Maps: the faster form, and its time over the",
    "other's in the same rounds; = the same, ~ not resolved; (status): why the other has no time.",
)


def form_of(row: Row) -> str | None:
    """Return how a variant holds the scores: sdpa, materialized, fused, flash, flash_packed; None
    where its row does not say."""
    if isinstance(form := row["factors"].get("form"), str):
        return form
    name = str(row["variant"])
    if name.startswith(_KERNEL) and name.endswith(_THREADED):
        return name.removeprefix(_KERNEL).removesuffix(_THREADED)
    return _FORMS.get(name)


def crossover_cases(run: Run) -> dict[str, list[Row]]:
    """Return the rows of each case of the tier that have a form; cases in order of threads, mask
    and size. Published figures have another tier."""
    found = {
        case: [row for row in rows if form_of(row)]
        for case, rows in run.by_case.items()
        if rows[0]["tier"] == TIER and set(SHAPE) <= rows[0]["sizes"].keys()
    }
    kept = {case: rows for case, rows in found.items() if rows}
    return dict(sorted(kept.items(), key=lambda item: _order(item[1][0])))


def crossover_tables(run: Run) -> list[Table]:
    """Return the tables against SDPA, one for each mask and number of heads, then the maps."""
    cases = list(crossover_cases(run).values())
    ordered = sorted(cases, key=lambda rows: (rows[0]["sizes"]["causal"], rows[0]["sizes"]["H"]))
    titles = dict.fromkeys(_title(rows[0]) for rows in ordered)
    tables = [
        _against_sdpa(run, title, [rows for rows in cases if _title(rows[0]) == title])
        for title in titles
    ]
    for rival, what in _RIVALS:
        table = crossover_map(run, FLASH, rival, f"Flash against {rival} ({what}), our kernels")
        tables += [table] if table.groups else []
    return tables


def crossover_map(run: Run, first: str, second: str, title: str) -> Table:
    """Lay out for each case which of two forms of our kernels is faster, each by its fastest.

    A form that begins with the word counts too: flash_packed is flash. A row is a number of heads,
    a column a length, a group a mask and a number of threads.
    """
    cases = list(crossover_cases(run).values())
    by_length = sorted(cases, key=lambda rows: rows[0]["sizes"]["Nk"])
    lengths = list(dict.fromkeys(length_of(rows[0]) for rows in by_length))
    groups: dict[str, dict[str, dict[str, str]]] = {}
    for rows in cases:
        row = rows[0]
        text = _winner(run, rows, first, second)
        heads = f"heads {row['sizes']['H']}, head_dim {row['sizes']['d']}"
        group = f"{mask_of(row)}, {threads_text(row['threads'])}"
        if text != NOTHING:
            groups.setdefault(group, {}).setdefault(heads, {})[length_of(row)] = text
    laid = [
        (group, [[heads, *(texts.get(n, NOTHING) for n in lengths)] for heads, texts in of.items()])
        for group, of in groups.items()
    ]
    return Table(title, ["seq_len", *lengths], laid)


def fastest_of(run: Run, rows: Sequence[Row], form: str) -> Row | None:
    """Return our fastest row of a form in a case; without a time any, None where none was asked."""
    ours = [r for r in rows if r["origin"] == "ablation" and (form_of(r) or "").startswith(form)]
    timed = [(time.value, i) for i, row in enumerate(ours) if (time := run.time(row))]
    return ours[min(timed)[1]] if timed else next(iter(ours), None)


def _order(row: Row) -> tuple[int, ...]:
    sizes = row["sizes"]
    return (row["threads"], *(int(sizes[name]) for name in ("causal", "B", "H", "Nq", "Nk", "d")))


def _title(row: Row) -> str:
    """What a table has in common."""
    sizes = row["sizes"]
    return f"{mask_of(row)}, batch {sizes['B']}, heads {sizes['H']}, head_dim {sizes['d']}"


def _against_sdpa(run: Run, title: str, cases: Sequence[Sequence[Row]]) -> Table:
    """Lay out every length and variant, with columns for each number of threads."""
    threads = sorted({rows[0]["threads"] for rows in cases})
    header = ["Variant"]
    for n in threads:
        header += [f"{n} thr", "GFLOP/s", "vs SDPA", "95%"]
    known = {row["variant"] for rows in cases for row in rows}
    order = [variant for variant in run.header["variants"] if variant in known]
    groups = []
    for words in dict.fromkeys(length_of(rows[0]) for rows in cases):
        of_length = {
            (row["threads"], row["variant"]): row
            for rows in cases
            for row in rows
            if length_of(row) == words
        }
        lines = []
        for variant in order:
            rows = [of_length.get((n, variant)) for n in threads]
            figures = [figure for row in rows for figure in _figures(run, row)]
            lines.append([run.printed(variant), *figures, _scaling(run, threads, rows)])
        groups.append((f"seq_len {words}", lines))
    notes = [
        f"{row['printed_name']}, seq_len {length_of(row)}, {threads_text(row['threads'])}: "
        f"{row['status']}, {row['reason_text']}"
        for rows in cases
        for row in rows
        if row["status"] != "ok"
    ]
    return Table(f"Attention alone: {title}", [*header, "Scaling"], groups, notes)


def _figures(run: Run, row: Row | None) -> list[str]:
    time = run.time(row)
    if row is None or time is None:
        return [row["status"] if row else NOTHING, *[NOTHING] * 3]
    compared = None if row["variant"] == run.baseline else run.compare(row, run.baseline)
    figures = [duration(time.value), number(run.gflops(row)), marked(compared)]
    return [*figures, interval_text(compared.ratio if compared else None)]


def _scaling(run: Run, threads: Sequence[int], rows: Sequence[Row | None]) -> str:
    """Write the time on the most threads over that on one; they were not measured in turns."""
    one, most = run.time(rows[0]), run.time(rows[-1])
    if threads[0] != 1 or len(threads) < 2 or one is None or most is None:
        return NOTHING
    return times(most.value / one.value)


def _winner(run: Run, rows: Sequence[Row], first: str, second: str) -> str:
    """Write the form that is faster, and by how much; nothing where one was not asked for."""
    one, other = (fastest_of(run, rows, form) for form in (first, second))
    if one is None or other is None:
        return NOTHING
    compared = run.compare(one, other)
    if compared is None:
        if one["status"] == other["status"]:
            return str(one["status"])
        faster, failed = (first, other) if one["status"] == "ok" else (second, one)
        return f"{faster} ({failed['status']})"
    return _named(compared, run.compare(other, one), first, second)


def _named(ahead: Comparison, behind: Comparison | None, first: str, second: str) -> str:
    if ahead.verdict == "faster":
        return f"{first} {times(ahead.ratio.value)}"
    if ahead.verdict == "slower" and behind is not None:
        return f"{second} {times(behind.ratio.value)}"
    sign = "=" if ahead.verdict == "same" else "~"
    return f"{sign} {times(ahead.ratio.value)}"
