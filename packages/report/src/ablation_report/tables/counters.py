"""What changed in the counters of two runs, as text."""

from __future__ import annotations

from ablation_report.attribution.change import CounterChanges
from ablation_report.escaping import visible
from ablation_report.run import Run
from ablation_report.series import short_case
from ablation_report.tables.fitting import filled
from ablation_report.tables.layout import Table, count

MOST_ROWS = 20


def changes_text(first: Run, second: Run, changes: CounterChanges, width: int | None = None) -> str:
    """Write the factors that changed, then the programs with each counter before and after."""
    compared = f"{changes.n_points} points of {changes.n_cases} cases"
    if changes.is_equal:
        return visible(f"{compared}: every counter of {second.name} is that of {first.name}")
    lines = [visible(sentence) for sentence in changes.sentences]
    isas = [run.header["providers"].get("simd") for run in (first, second)]
    if isas[0] != isas[1]:
        lines.append(visible(f"The runs used other instruction sets: {isas[0]} and {isas[1]}"))
    rows = [
        [
            *(
                _name(first, change.case),
                change.program,
                change.point,
                change.counter.replace("_", " "),
            ),
            *(count(change.before), count(change.after)),
        ]
        for change in changes.programs
    ]
    more = len(rows) - MOST_ROWS
    table = Table(
        f"Counters that changed, {compared}",
        ("Case", "Program", "Point", "Counter", "before", "after"),
        [("", rows[:MOST_ROWS])],
        [f"and {more} more; --out writes all"] if more > 0 else [],
    )
    above = [line for text in lines for line in filled(text, width)]
    return "\n".join([*above, *(["", table.text(width)] if rows else [])])


def _name(run: Run, case: str) -> str:
    return short_case(run.by_case[case][0])
