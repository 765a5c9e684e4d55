"""The ladder's page: its rungs as the rows say them, and what each is worth."""

from __future__ import annotations

from collections.abc import Mapping

from ablation_report.escaping import escape
from ablation_report.run import BLOCK, LEAGUE, Row, Run
from ablation_report.site.choose import main_run, shown
from ablation_report.site.data_table import Column, Line, data_table
from ablation_report.site.figures import run_figures
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import (
    details,
    folded,
    join,
    label_of,
    legend,
    measures,
    once,
    origin,
    slug,
)
from ablation_report.tables.block import rungs_table, summary_table

RUNGS = (
    *(Column(title, is_left=True) for title in ("Rung", "Above", "Changes")),
    *(Column(title, is_left=True) for title in ("Attention kernel", "Product kernel")),
    Column("variant", is_hidden=True),
)
NO_RUN = "*No usable run has been recorded.*"
# What a row calls the axis that its rung changes, in words
AXES = {
    "executor": "who runs the graph",
    "layer_norm": "LayerNorm",
    "matmul": "matrix products",
    "share_rows": "shared fork-joins",
    "kernels": "who chooses the kernels",
}


def ladder_block(inputs: Inputs) -> str:
    """The rungs with what each changes, and what each is worth in the main run; then, folded, in
    the other runs that the pages of configs begin with."""
    recorded = inputs.recorded(BLOCK)
    main = main_run(recorded)
    places = (shown(recorded, config) for config in inputs.configs)
    others = [run for run in once(place.run for place in places if place) if run is not main]
    return join(
        _source(main) if main else NO_RUN,
        legend(main) if main else None,
        "## Other runs { #other-runs }" if others else None,
        *(details(label_of(run), _worth(run)) for run in others),
        details("What each rung changes", _rung_list(recorded)) if recorded else None,
    )


def _source(run: Run) -> str:
    """A run's rungs, its charts and its summary."""
    summary = summary_table(run)
    title = f"## {escape(label_of(run))} {{ #{slug(run.name)} }}"
    return join(title, _worth(run), run_figures(run), folded(summary)).rstrip()


def _worth(run: Run) -> str:
    """What each rung is worth in a run."""
    return join(origin(run), measures(rungs_table(run))).rstrip()


def _rung_list(runs: list[Run]) -> str:
    """A line for each rung: what it changes, and what it then consists of.

    The newest run says it, and a rung stands where the runs that have it measured it.
    """
    rungs: dict[str, Row] = {}
    for run in sorted(runs, key=lambda run: len(run.header["variants"]), reverse=True):
        for row in run.rows:
            if row["group"] != LEAGUE:
                rungs.setdefault(row["variant"], row)
    if not rungs:
        return ""
    return data_table(RUNGS, (_rung(row, rungs) for row in rungs.values()))


def _rung(row: Row, rungs: Mapping[str, Row]) -> Line:
    parent, kernels, changed = row["parent"], row["kernels"] or {}, row["changed"]
    above = rungs[parent]["printed_name"] if parent in rungs else parent
    named = (kernels.get(op) for op in ("attention", "matmul"))
    return [row["printed_name"], above, AXES.get(changed, changed), *named, row["variant"]]
