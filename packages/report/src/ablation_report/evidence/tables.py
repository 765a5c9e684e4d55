"""The evidence as tables."""

from __future__ import annotations

from collections.abc import Iterable

from ablation_report.evidence import Evidence
from ablation_report.evidence.between import CHOSEN_TIME
from ablation_report.evidence.candidates import CHOSEN
from ablation_report.evidence.verdicts import FLOORS, INJECTED, Counted, Quality
from ablation_report.tables.layout import NOTHING, Table, percent

SIZES = tuple(f"+{part:.0%}" for part in INJECTED)


def evidence_tables(found: Evidence) -> list[Table]:
    """Return the table of candidates, the power of the chosen one, times, and pairs of runs; those
    without a row are left out."""
    every = [candidates_table(found), power_table(found), times_table(found), pairs_table(found)]
    return [table for table in every if table.rows]


def candidates_table(found: Evidence) -> Table:
    """Return what each candidate calls falsely, what it calls of what is there, and how much it
    resolves."""
    header = (
        *("Ratio and verdict", "twins", "exchanged", "dealt", "same at +5%"),
        *SIZES,
        "resolved",
    )
    rows = []
    for quality in found.qualities:
        if quality.resolved.n:
            wrong = (quality.twins, quality.exchanged, quality.divided, quality.false_same)
            rows.append(
                [
                    _name(quality),
                    *map(_counted, wrong),
                    *(percent(quality.power_at(part), digits=0) for part in INJECTED),
                    _counted(quality.resolved),
                ]
            )
    notes = (
        "False calls: twins: one program under two names that is called different by the floor of "
        "the other twins. exchanged: twins whose times change places at random in each round. "
        "dealt: the rounds of one row, dealt to two names at random",
        f"same at {SIZES[1]}: twins that are called the same though one was made that much slower",
        f"{', '.join(SIZES)}: exchanged twins that are called slower after one was made that much "
        "slower",
        "resolved: share of all ratios of rows to their parents and to the baseline",
    )
    return Table("Candidates for ratio and verdict", header, [("", rows)], notes)


def power_table(found: Evidence) -> Table:
    """Return the share of injected slow-downs that the chosen definition calls, by floor."""
    quality = next(q for q in found.qualities if q.candidate is CHOSEN)
    rows = []
    for low, high in zip((None, *FLOORS), (*FLOORS, None), strict=True):
        counts = [quality.power[part, high] for part in INJECTED]
        if counts[0].n:
            name = f"above {low:.0%}" if high is None else f"up to {high:.0%}"
            shares = [percent(count.share, digits=0) for count in counts]
            rows.append([name, *shares, f"{counts[0].n:,}"])
    return Table(
        "Power: slow-downs that are called, by floor", ("Floor", *SIZES, "pairs"), [("", rows)]
    )


def times_table(found: Evidence) -> Table:
    """Return how far estimates of a time lie apart in two runs of one machine."""
    rows = [
        [
            f"{time.title} (chosen)" if time.title == CHOSEN_TIME else time.title,
            percent(time.typical),
            percent(time.most),
            f"{time.n:,}",
        ]
        for time in found.times
    ]
    header = ("Time", "median", "90th percentile", "rows")
    return Table("Difference of a row's time between two runs", header, [("", rows)])


def pairs_table(found: Evidence) -> Table:
    """Return for each two runs of one tree how many comparisons are resolved that were not, and how
    many contradict each other."""
    rows = []
    for pair in found.pairs:
        counts = (pair.called, pair.open_now, pair.contradicted, pair.unlike)
        rows.append([f"{pair.first}, {pair.second}", *_of_pairs(*counts)])
    if len(rows) > 1:
        columns = ("called", "open_now", "contradicted", "unlike")
        sums = (_sum(getattr(pair, column) for pair in found.pairs) for column in columns)
        rows.append(["all", *_of_pairs(*sums)])
    header = (
        *("Runs", "open before", "of these resolved", "open now", "contradicted"),
        "same and beyond 2%",
    )
    note = (
        "open before: not resolved by the first candidate, in either run. contradicted: faster in "
        "one run and slower in the other, of those resolved in both. same and beyond 2%: the same "
        "in one run, and different by more than that margin in the other"
    )
    return Table("Two runs of one tree", header, [("", rows)], [note])


def _of_pairs(
    called: Counted, open_now: Counted, contradicted: Counted, unlike: Counted
) -> list[str]:
    shares = map(_counted, (called, open_now, contradicted, unlike))
    return [f"{called.n} of {open_now.n:,}", *shares]


def _sum(counts: Iterable[Counted]) -> Counted:
    found = list(counts)
    return Counted(sum(count.called for count in found), sum(count.n for count in found))


def _name(quality: Quality) -> str:
    title = quality.candidate.title
    return f"{title} (chosen)" if quality.candidate is CHOSEN else title


def _counted(counted: Counted) -> str:
    if counted.share is None:
        return NOTHING
    return f"{percent(counted.share)} of {counted.n:,}"
