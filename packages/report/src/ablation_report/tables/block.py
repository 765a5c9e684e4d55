"""The tables of a ladder: one for each case in the published columns, a summary of the best program
against PyTorch and the league, and what each rung is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ablation_report.means import geometric_mean
from ablation_report.run import (
    BLOCK,
    LEAGUE,
    NAIVE,
    SDPA,
    Comparison,
    Row,
    Run,
    by_layers,
    error_of,
    is_other,
    is_ours,
)
from ablation_report.series import short_case
from ablation_report.stats import MOST_FLOOR, Interval, is_too_noisy, median
from ablation_report.tables.layout import (
    NOTHING,
    Table,
    duration,
    marked,
    percent,
    threads_text,
    times,
)

SUMMARY_HEADER = (
    *("Config", "PT naive", "PT SDPA", "Best compiled", "vs naive", "vs SDPA"),
    *("verdict", "A/A floor", "of ceiling", "error / PT's"),
    *("best other", "ours / best other"),
)
LEGEND = (
    "Total: wall time of a call, the first quartile over rounds. Attn, LN, Other: medians of",
    "profiled calls. vs PT: time over that of PT naive in the same rounds; ~ not resolved. ±:",
    "half the width of Total's interval. Noisy: the interval is wider than 5% of the time.",
    "Ops/wall: profiled time over wall time, both medians. verdict: best compiled variant against",
    "PT SDPA, beyond the A/A floor. of ceiling: the block's FLOPs per second over the",
    "multiply-add ceiling that the run measured. error / PT's: largest error against float64 over",
    "that of PT SDPA. best other: the fastest of PT naive, PT SDPA and the league. ours / best",
    "other: time of the best compiled variant over that of the best other. RUNGS: time of a rung",
    "over its parent's in the same rounds; ~ not resolved. geo. mean: over the n configs that",
    "have both times.",
)
# The number of cases that the mean is over stands behind it.
MEAN_HEADER = "geo. mean (n)"
# What a narrow terminal does without, the first to go first.
_LEAST = ("Ops/wall", "LN%", "Other", "LN", "Attn%", "Attn", "±", "Noisy")
_LEAST_OF_SUMMARY = (
    *("error / PT's", "of ceiling", "A/A floor", "PT naive", "vs naive", "PT SDPA", "best other"),
)
# A column of the table of a case, in published order, and the figure that it has.
CASE_COLUMNS: Mapping[str, str] = {
    "Total": "total_ns",
    "Attn": "attention_ns",
    "LN": "layer_norm_ns",
    "Other": "other_ns",
    "Attn%": "attention_share",
    "LN%": "layer_norm_share",
}
Place = tuple[str, str]


def has_ladder(run: Run) -> bool:
    """True where rows stand on rungs or in groups, and of the block whatever it measured."""
    grouped = (row["parent"] or row["group"] not in (None, LEAGUE) for row in run.rows)
    return bool(run.rows) and (run.suite == BLOCK or any(grouped))


def case_tables(run: Run) -> list[Table]:
    """Return a table for each case and phase of a run that has a ladder."""
    return [_case_table(run, *place, name) for place, name in _places(run).items()]


def summary_tables(run: Run) -> list[Table]:
    """Return what the rungs of a ladder are worth, and its best against the baselines; cases with
    several layers have tables of their own."""
    parts = by_layers(run)
    summaries = map(summary_table, parts) if run.baseline == NAIVE else ()
    return [*map(rungs_table, parts), *summaries]


def summary_table(run: Run) -> Table:
    """Return the best compiled variant of each case with the baselines and the best other."""
    places = _places(run)
    rows = [_summary_row(run, *place, name) for place, name in places.items()]
    notes = []
    if len(places) > 1:
        found = {name: _best_ratios(run, *place) for place, name in places.items()}
        for column in ("vs naive", "vs SDPA", "ours / best other"):
            mean = geometric_mean({name: _middle(r[column]) for name, r in found.items()})
            notes += [mean.sentence(column)] if mean.value is not None else []
    title = "SUMMARY: best compiled variant vs PyTorch"
    return Table(title, SUMMARY_HEADER, [("", rows)], notes, least=_LEAST_OF_SUMMARY)


def rungs_table(run: Run) -> Table:
    """Return what each rung is worth: its time over its parent's, with a column for each case.

    With several cases a last column has the geometric mean of the ratios that there are.
    """
    places = _places(run)
    rungs: dict[str, tuple[str, str]] = {}
    worth: dict[str, dict[str, Comparison | None]] = {}
    for place, name in places.items():
        for row in _rows(run, *place):
            parent = run.row(row["case"], row["parent"], row["phase"])
            if row["group"] != LEAGUE and parent is not None and row["status"] == "ok":
                rungs[row["variant"]] = row["printed_name"], parent["printed_name"]
                worth.setdefault(row["variant"], {})[name] = run.compare(row, parent)
    header = ["Rung", "over", *places.values()]
    header += [MEAN_HEADER] if len(places) > 1 else []
    rows = []
    for variant, found in worth.items():
        line = [*rungs[variant], *(marked(found.get(name)) for name in places.values())]
        if len(places) > 1:
            line.append(geometric_mean({name: _middle(c) for name, c in found.items()}).text())
        rows.append(line)
    return Table("RUNGS: time over the parent's", header, [("", rows)])


def floor_note(run: Run, case: str) -> str | None:
    """Say what the noise floor of a case is and where it is from; None of a published one."""
    floor = run.floor(case)
    if floor is None or run.is_published:
        return None
    pairs = [f"{name} {r.value:.3f} in {r.n} rounds" for name, r in _named_twins(run, case)]
    if not pairs:
        return f"Noise floor {percent(floor)} assumed: no program ran twice"
    return f"Noise floor {percent(floor)}; same program twice: {', '.join(pairs)}"


def noise_warning(floor: float | None, name: str = "") -> str | None:
    """Say that nothing can be compared in a case of this floor; None where it can."""
    if floor is None or not is_too_noisy(floor):
        return None
    where = f"{name}: " if name else ""
    return f"Too noisy to compare: {where}noise floor {percent(floor)}, above {MOST_FLOOR:.0%}"


def error_ratio(row: Row, base: Row | None) -> float | None:
    """Return the largest error of a row over that of another; None where one is unknown."""
    if base is None or base["status"] != "ok":
        return None
    error, other = error_of(row), error_of(base)
    return error / other if error is not None and other else None


def profile_figures(run: Run, row: Row) -> dict[str, float | None]:
    """Return the time of a row and of its parts in ns, shares of the profiled total, and that total
    over the median time; without a profile the time alone."""
    time, usual, profile = run.time(row), run.median(row), row["profile"]
    found: dict[str, float | None] = {"total_ns": time.value if time else None}
    if not usual or not profile or not profile["total"]:
        return found
    totals, attention, norm = (profile[name] for name in ("total", "attention", "layer_norm"))
    rest = [t - a - n for t, a, n in zip(totals, attention, norm, strict=True)]
    total = median(totals)
    return found | {
        "attention_ns": median(attention),
        "layer_norm_ns": median(norm),
        "other_ns": median(rest),
        "attention_share": median(attention) / total,
        "layer_norm_share": median(norm) / total,
        "profile_over_total": total / usual,
    }


def _named_twins(run: Run, case: str) -> list[tuple[str, Interval]]:
    """The ratios of the twins of a case, by the first's name; with phases where there are some."""
    found = run.twin_ratios(case)
    is_one = len({phase for _, phase in found}) == 1
    return [
        (name if is_one else f"{name} {phase}", ratio) for (name, phase), ratio in found.items()
    ]


def _places(run: Run) -> dict[Place, str]:
    """The cases and phases of a run by name, with threads and phase where there are several."""
    places = dict.fromkeys((c, r["phase"]) for c, rows in run.by_case.items() for r in rows)
    is_one = len({phase for _, phase in places}) == 1
    firsts = {case: rows[0] for case, rows in run.by_case.items()}
    names = {case: short_case(row) or row["tier"] for case, row in firsts.items()}
    if len({row["threads"] for row in run.rows}) > 1:
        names = {c: f"{names[c]}, {threads_text(row['threads'])}" for c, row in firsts.items()}
    return {
        (case, phase): names[case] if is_one else f"{names[case]}, {phase}"
        for case, phase in places
    }


def _rows(run: Run, case: str, phase: str) -> list[Row]:
    """The rows of a table, the runtimes of others below the ladder."""
    rows = [row for row in run.by_case[case] if row["phase"] == phase]
    return sorted(rows, key=lambda row: row["group"] == LEAGUE)


def _case_table(run: Run, case: str, phase: str, name: str) -> Table:
    groups: dict[str, list[Sequence[str]]] = {}
    notes = []
    rows = _rows(run, case, phase)
    for row in rows:
        groups.setdefault(row["group"] or "", []).append(_line(run, row))
        if row["status"] != "ok":
            notes.append(f"{row['printed_name']}: {row['status']}, {row['reason_text']}")
    notes += [note for note in (floor_note(run, case), _drift_note(rows)) if note]
    warning = noise_warning(run.floor(case))
    base = "PT" if run.baseline == NAIVE else run.printed(run.baseline)
    header = ("Variant", *CASE_COLUMNS, f"vs {base}", "±", "Ops/wall", "Noisy")
    return Table(
        _title(run, rows[0], name),
        header,
        list(groups.items()),
        notes,
        [warning] if warning else [],
        _LEAST,
    )


def _title(run: Run, row: Row, name: str) -> str:
    sizes: Mapping[str, Any] = row["sizes"]
    if not {"config", "B", "H", "Nq", "d"} <= sizes.keys():
        return f"{run.suite}/{row['tier']}: {name}"
    return (
        f"{name}: d_model {sizes['H'] * sizes['d']}, heads {sizes['H']}, "
        f"seq_len {sizes['Nq']}, batch {sizes['B']}"
    )


def _line(run: Run, row: Row) -> Sequence[str]:
    figures = profile_figures(run, row)
    time = run.time(row)
    if row["status"] != "ok":
        return [row["printed_name"], row["status"], *[NOTHING] * (len(CASE_COLUMNS) + 3)]
    found = [figures.get(name) for name in CASE_COLUMNS.values()]
    versus = marked(run.compare(row, run.baseline))
    if row["variant"] == run.baseline:
        versus = versus.removesuffix(" ~")
    return [
        row["printed_name"],
        *map(duration, found[:4]),
        *map(percent, found[4:]),
        versus,
        percent(time.width / 2 if time and time.width is not None else None),
        percent(figures.get("profile_over_total"), digits=0),
        "noisy" if time and time.is_noisy else "",
    ]


def _drift_note(rows: Sequence[Row]) -> str | None:
    """Say how the fixed matrix product changed between the start and the end of the case."""
    for row in rows:
        before, after = row["calibration_before_ns"], row["calibration_after_ns"]
        if before and after:
            change = median(after) / median(before) - 1
            return f"Calibration product {duration(median(before))} before, {change:+.1%} after"
    return None


def _summary_row(run: Run, case: str, phase: str, name: str) -> Sequence[str]:
    naive, sdpa = (run.row(case, base, phase) for base in (NAIVE, SDPA))
    best, other = (run.best(case, wanted, phase) for wanted in (is_ours, is_other))
    row = [name, *(duration(_time(run, base)) for base in (naive, sdpa))]
    best_other = NOTHING if other is None else _named_time(run, other)
    if best is None:
        return [*row, *[NOTHING] * (len(SUMMARY_HEADER) - len(row) - 2), best_other, NOTHING]
    ratios = _best_ratios(run, case, phase)
    versus_sdpa, floor = ratios["vs SDPA"], run.floor(case)
    return [
        *row,
        _named_time(run, best),
        times(_middle(ratios["vs naive"])),
        times(_middle(versus_sdpa)),
        NOTHING if versus_sdpa is None or floor is None else versus_sdpa.verdict,
        NOTHING if run.is_published else percent(floor),
        percent(run.of_ceiling(best), digits=0),
        times(error_ratio(best, sdpa)),
        best_other,
        marked(ratios["ours / best other"]),
    ]


def _best_ratios(run: Run, case: str, phase: str) -> dict[str, Comparison | None]:
    """The best compiled variant over each variant that the summary compares it with, by column."""
    best, other = (run.best(case, wanted, phase) for wanted in (is_ours, is_other))
    return {
        "vs naive": run.compare(best, NAIVE),
        "vs SDPA": run.compare(best, SDPA),
        "ours / best other": run.compare(best, other),
    }


def _time(run: Run, row: Row | None) -> float | None:
    time = run.time(row)
    return time.value if time else None


def _named_time(run: Run, row: Row) -> str:
    return f"{duration(_time(run, row))} ({row['printed_name']})"


def _middle(compared: Comparison | None) -> float | None:
    return compared.ratio.value if compared else None
