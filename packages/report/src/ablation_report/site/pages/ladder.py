"""The ladder's page: its rungs as the rows say them, and what each is worth."""

from __future__ import annotations

from collections.abc import Mapping

from ablation_report.escaping import code, escape
from ablation_report.run import BLOCK, LEAGUE, Row, Run
from ablation_report.site.choose import main_run, shown
from ablation_report.site.figures import run_figures
from ablation_report.site.inputs import Inputs
from ablation_report.site.text import join, label_of, legend, measures, once, origin, slug, table
from ablation_report.tables import NOTHING
from ablation_report.tables.block import rungs_table, summary_table

NO_RUN = "*No quiet run has been recorded: there is nothing to show.*"
# What a row calls the axis that its rung changes, in words
AXES = {
    "executor": "who runs the graph",
    "layer_norm": "LayerNorm",
    "matmul": "matrix products",
    "share_rows": "shared fork-joins",
    "kernels": "who chooses the kernels",
}


def ladder_block(inputs: Inputs) -> str:
    """The rungs with what each changes, and what each is worth in the main run, as published, and
    in the other runs that the pages of configs begin with."""
    recorded, published = inputs.recorded(BLOCK), inputs.published(BLOCK)
    main = main_run(recorded)
    places = (shown(recorded, config) for config in inputs.configs)
    others = [run for run in once(place.run for place in places if place) if run is not main]
    return join(
        _rung_list([*recorded, *published]),
        None if main else NO_RUN,
        *(_source(run) for run in (main, *published) if run),
        *map(_worth, others),
        legend(main) if main else None,
    )


def _source(run: Run) -> str:
    """A run's charts, its rungs and its summary."""
    summary = summary_table(run)
    title = f"### Summary {{ #{slug('summary ' + run.name)} }}"
    return join(_worth(run), run_figures(run), measures(summary, title)).rstrip()


def _worth(run: Run) -> str:
    """What each rung is worth in a run."""
    title = f"## {escape(label_of(run))} {{ #{slug(run.name)} }}"
    return join(title, origin(run), measures(rungs_table(run))).rstrip()


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
    header = ["Variant", "In tables", "Above", "Changes", "Attention kernel", "Product kernel"]
    return table(header, (_rung(row, rungs) for row in rungs.values()), n_left=len(header))


def _rung(row: Row, rungs: Mapping[str, Row]) -> list[str]:
    parent, kernels, changed = row["parent"], row["kernels"] or {}, row["changed"] or NOTHING
    above = escape(rungs[parent]["printed_name"]) if parent in rungs else code(parent or NOTHING)
    named = (kernels.get(op) for op in ("attention", "matmul"))
    return [
        code(row["variant"]),
        escape(row["printed_name"]),
        above if parent else NOTHING,
        escape(AXES.get(changed, changed)),
        *(code(name) if name else NOTHING for name in named),
    ]
