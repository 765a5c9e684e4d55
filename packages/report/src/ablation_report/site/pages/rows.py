"""Every row of a run with its raw values, and the commands that measure rows again."""

from __future__ import annotations

import shlex

from ablation_report.attribution.worths import SUITE as ATTRIBUTION
from ablation_report.escaping import escape
from ablation_report.run import BLOCK, Row, Run
from ablation_report.site.data_table import Cell, Column, Line, stored_table
from ablation_report.site.pages.league import MARKS
from ablation_report.site.published_names import SUITES
from ablation_report.site.text import details, join
from ablation_report.tables.layout import duration, number, percent, status_text, times

PROGRAM = "ablation-bench"
MODEL = "model"
VARIANT = "VARIANT"
# A page stays below its limit; the folder of a larger run has its rows
MOST_ROWS = 1000


def rows_block(run: Run) -> str:
    """Every row of a run by case in a folded table, and the commands that measure them again."""
    groups: dict[str, list[Line]] = {}
    for row in run.rows[:MOST_ROWS]:
        groups.setdefault(row["case"], []).append(_line(run, row))
    columns = [
        Column("Variant", name="variant", is_left=True),
        Column("Phase", name="phase", is_left=True),
        Column("Time", duration, "time_ns"),
        Column("Low", duration, "low_ns", tip="lower end of the 95% interval"),
        Column("High", duration, "high_ns", tip="upper end of the 95% interval"),
        Column("Rounds", name="n_rounds"),
        Column(f"/ {run.printed(run.baseline)}", times, "ratio", tip="below 1 is faster"),
        Column("GFLOP/s", number, "gflops"),
        Column("Of ceiling", lambda share: percent(share, digits=0), "of_ceiling"),
        Column("Status", name="status"),
    ]
    commands = dict.fromkeys(filter(None, (repeat_command(run, row) for row in run.rows)))
    body = join(
        f"The first {MOST_ROWS} of {len(run.rows)} rows." if len(run.rows) > MOST_ROWS else None,
        stored_table(columns, groups),
        f"To repeat a row, put its variant in the place of `{VARIANT}`, if there is one:"
        if commands
        else None,
        f"<pre><code>{'&#10;'.join(map(escape, commands))}</code></pre>" if commands else None,
    )
    return details(f"All {len(run.rows)} rows, and how to repeat one", body.rstrip())


def _line(run: Run, row: Row) -> Line:
    time = run.time(row)
    said = None if row["variant"] == run.baseline else run.compare(row, run.baseline)
    ends = (time.low, time.high, time.n) if time and time.n > 1 else (None, None, None)
    return [
        Cell(row["variant"], text=row["printed_name"]),
        row["phase"],
        time.value if time else None,
        *ends,
        Cell(said.ratio.value, mark=MARKS[said.verdict]) if said else None,
        run.gflops(row),
        run.of_ceiling(row),
        status_text(row),
    ]


def repeat_command(run: Run, row: Row) -> str | None:
    """Return the command that measures a variant of a row's case, and the baseline, again.

    None for published figures, for a suite that is no longer there, and for a model, which the
    command of the run names.
    """
    if run.is_published or run.suite not in SUITES or run.suite == MODEL:
        return None
    words = [PROGRAM]
    words += ["--suite", run.suite] if run.suite != BLOCK else []
    words += ["--device", row["device"]] if row["device"] != "cpu" else []
    words += ["--tiers", row["tier"], "--cases", row["case"]]
    words += ["--threads", str(row["threads"])]
    # Its programs are chosen by factors: all of a case run together
    words += [] if run.suite == ATTRIBUTION else ["--variants", f"{run.baseline},{VARIANT}"]
    return shlex.join(words)
