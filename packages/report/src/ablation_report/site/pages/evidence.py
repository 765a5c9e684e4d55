"""What the definitions of figures rest on: false calls, power, and how far two runs agree."""

from __future__ import annotations

from ablation_report import charts
from ablation_report.evidence import evidence
from ablation_report.evidence import picture as drawn
from ablation_report.evidence.tables import evidence_tables
from ablation_report.site.figures import fragment
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import (
    folded,
    join,
    measures,
    rows_of,
)

NOTHING = "*No recorded run has a program under two names.*\n"


def evidence_block(inputs: Inputs) -> str:
    """Every table of the evidence, and its chart, from the recorded runs."""
    runs = inputs.recorded()
    found = evidence(runs)
    frame = drawn.rows(found)
    if frame.is_empty():
        return NOTHING
    table = charts.to_table(frame)
    return join(
        fragment("chart-evidence", drawn.TITLE, drawn.CAPTION, drawn.draw(found)),
        folded(table),
        *(measures(each, f"#### {each.title}") for each in evidence_tables(found)),
        rows_of(run for run in runs if run.twins),
    )
