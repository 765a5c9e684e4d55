"""The tables of attribution: what each factor of a case is worth, what it adds to the counters, and
the programs that have no time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from ablation_report.attribution import Attribution, Worth, attributions, rounding, why_not
from ablation_report.attribution.counters import CounterWorth, counter_worths
from ablation_report.attribution.points import places_of, read_points
from ablation_report.run import DEFAULT, NAIVE, SDPA, Row, Run
from ablation_report.series import short_case
from ablation_report.stats import MIN_ROUNDS, Interval
from ablation_report.tables.block import floor_note, noise_warning
from ablation_report.tables.layout import (
    NOTHING,
    Table,
    duration,
    marked,
    percent,
    status_text,
    threads_text,
)
from ablation_report.tables.model import DEFAULT as MODULE_DEFAULT
from ablation_report.tables.model import EAGER

LEGEND = (
    "worth: time without the factor over time with it, the mean over all orders; worths multiply",
    "to the total. saved: the worth as time of a call; these sum to base minus top. interval: 95%",
    "of the worth, for all factors of a case together, by resampling rounds. first-in, last-in:",
    "worth when switched on as early, or as late, as possible; not in runs of sampled orders.",
    "range: smallest and largest worth in any order. worth something, costs something: the whole",
    "interval lies beyond the noise floor. Counters: what each factor adds to them, the mean over",
    "all orders.",
)
HEADER = ("Factor", "worth", "saved", "interval", "first-in", "last-in", "range")
# What a narrow terminal does without, the first to go first.
_LEAST = ("range", "sampling", "last-in", "first-in")
_SAID = {"worth": "worth something", "costs": "costs something"}
MOST_FAILED = 20


def attribution_tables(run: Run) -> list[Table]:
    """Return the tables of a run that has factors, without its rows."""
    tables = [worth_table(run, found) for found in attributions(run)]
    tables += [counter_table(run, *place) for place in places_of(run)]
    return [*tables, failed_table(run), unanswered_table(run)]


def worth_table(run: Run, found: Attribution) -> Table:
    """Lay out the worths of a case, largest first, and how they add up."""
    worths = sorted(found.worths, key=lambda worth: -worth.phi.value)
    texts, total = rounding.worths([worth.phi.value for worth in worths])
    shown = rounding.times(found.base_ns, found.top_ns, [worth.ns.value for worth in worths])
    is_sampled = found.n_orders is not None
    rows = [
        [
            *(worth.printed_name, f"{text}x", f"{saved} {shown.unit}"),
            *(_interval(worth.phi), _times(worth.first), _times(worth.last)),
            _between(worth.lowest, worth.highest),
            *([f"±{percent(math.expm1(worth.sampling_error))}"] if is_sampled else []),
            _SAID.get(worth.verdict, worth.verdict),
        ]
        for worth, text, saved in zip(worths, texts, shown.parts, strict=True)
    ]
    ends = ["All", f"{total}x", f"{shown.difference} {shown.unit}", _interval(found.total)]
    rows.append([*ends, *[NOTHING] * (len(HEADER) - len(ends) + is_sampled + 1)])
    header = [*HEADER, *(["sampling"] if is_sampled else []), "verdict"]
    name = _case(found.base)
    title = f"{name}: worth of each factor, the mean over all orders"
    notes = [
        f"Base {shown.base} {shown.unit}, top {shown.top} {shown.unit}: {total}x is the product of "
        f"the worths, {shown.difference} {shown.unit} the sum of the times",
        *_notes(run, found, worths),
    ]
    warning = noise_warning(found.floor)
    table = Table(title, header, [("", rows)], notes, [warning] if warning else [], _LEAST)
    # The points of first-in and last-in are no part of orders that were drawn
    return table.without_empty() if is_sampled else table


def _notes(run: Run, found: Attribution, worths: Sequence[Worth]) -> list[str]:
    notes = []
    if found.higher is not None:
        pairs = math.fsum(found.pairs.values())
        early = math.fsum(worth.first for worth in worths if worth.first is not None)
        notes.append(
            f"First-in worths multiply to {_times(early)}, pairs to {_times(pairs)}, "
            f"higher orders to {_times(found.higher)}"
        )
    if found.no_effect:
        notes.append(f"No effect here: {', '.join(found.no_effect)}")
    measured = f"{len(found.programs)} programs of {found.n_points} points"
    if found.n_orders is not None:
        worst = max((worth.sampling_error for worth in worths), default=0.0)
        notes.append(
            f"{measured}, mean over {found.n_orders} sampled orders, standard error of a worth at "
            f"most {percent(math.expm1(worst))}"
        )
    elif found.is_complete:
        notes.append(f"{measured}, mean over all orders")
    else:
        notes.append(f"{measured}, mean over the orders that avoid programs without a time")
    if found.total.n < MIN_ROUNDS:
        rounds = f"{found.total.n} common rounds" if found.total.n > 1 else "No common rounds"
        notes.append(f"{rounds}: verdicts need {MIN_ROUNDS} or more")
    notes += [note for note in (floor_note(run, found.case),) if note]
    return [*notes, *_others(run, found)]


def _others(run: Run, found: Attribution) -> list[str]:
    """Write where base and top stand: the time over them of what a user would run."""
    notes = []
    for variant, words, end in (
        (NAIVE, "base", found.base),
        (SDPA, "base", found.base),
        (DEFAULT, "top", found.top),
        (EAGER, "base", found.base),
        (MODULE_DEFAULT, "top", found.top),
    ):
        row = run.row(found.case, variant, found.phase)
        time, compared = run.time(row), run.compare(row, end)
        if row is not None and time is not None and compared is not None:
            ratio = f"{marked(compared)} the time of {words}"
            notes.append(f"{row['printed_name']}: {duration(time.value)}, {ratio}")
    return notes


def counter_table(run: Run, case: str, phase: str) -> Table:
    """Lay out what each factor adds to each counter, from base to top; columns that no factor
    changes are in a note."""
    found = counter_worths(run, case, phase)
    changing = {name: each for name, each in found.items() if any(each.worths.values())}
    if not changing:
        return Table("Counters", (), [])
    points = read_points(run, case, phase)
    columns = [_counter_column(each) for each in changing.values()]
    names = ["Base", *(factor["printed_name"] for factor in points.factors), "Top"]
    base, *factors, top = [list(row) for row in zip(names, *columns, strict=True)]
    kept = [base, *(row for row in factors if set(row[1:]) != {"0"}), top]
    still = [
        f"{_words(name)} {each.base:,}" for name, each in found.items() if name not in changing
    ]
    notes = [f"No factor changes {', '.join(still)}"] if still else []
    title = f"{_case(points.base)}: what each factor adds to the counters of a call"
    return Table(title, ("Factor", *map(_words, changing)), [("", kept)], notes)


def _counter_column(worth: CounterWorth) -> list[str]:
    """Write the counter of base, what each factor adds, and that of top, which is their sum."""
    added = list(worth.worths.values())
    decimals = 0 if all(each.denominator == 1 for each in added) else 1
    parts = rounding.shares(
        [each * 10**decimals for each in added], (worth.top - worth.base) * 10**decimals
    )
    shown = [f"{Decimal(part).scaleb(-decimals):+,.{decimals}f}" if part else "0" for part in parts]
    return [f"{worth.base:,}", *shown, f"{worth.top:,}"]


def _case(row: Row) -> str:
    return f"{short_case(row)}, {threads_text(row['threads'])}"


def _words(name: str) -> str:
    return name.replace("_", " ")


def failed_table(run: Run) -> Table:
    """Lay out the programs that failed, were wrong, or did not fit; what was not asked for is not
    among them."""
    rows = []
    for case, phase in places_of(run):
        for row in run.by_case[case]:
            if row["phase"] == phase and row["status"] not in ("ok", "skipped"):
                why = [status_text(row), row["reason_text"] or NOTHING]
                rows.append([row["printed_name"], _case(row), *why])
    more = len(rows) - MOST_FAILED
    notes = [f"and {more} more"] if more > 0 else []
    header = ("Program", "Case", "Status", "Reason")
    return Table("Programs without a time", header, [("", rows[:MOST_FAILED])], notes)


def unanswered_table(run: Run) -> Table:
    """Lay out why cases have no worths; none where only counters were asked for."""
    answered = {(found.case, found.phase) for found in attributions(run)}
    rows = []
    for case, phase in places_of(run):
        if (case, phase) in answered or counter_worths(run, case, phase):
            continue
        rows.append([case, why_not(run, case, phase) or NOTHING])
    return Table("Cases without worths", ("Case", "Reason"), [("", rows)])


def _times(log: float | None) -> str:
    return NOTHING if log is None else f"{math.exp(log):.2f}x"


def _between(low: float, high: float) -> str:
    return f"{math.exp(low):.2f}-{math.exp(high):.2f}"


def _interval(phi: Interval) -> str:
    return NOTHING if phi.low == phi.high else f"{math.exp(phi.low):.3f}-{math.exp(phi.high):.3f}"
