"""What each optimization is worth, whatever the order: from rows of the suite attribution.

`attributions` is what tables, charts, findings and pages ask. Standard library only.
"""

from __future__ import annotations

from ablation_report.attribution.case import attributions_of, why_not
from ablation_report.attribution.result import Attribution, Step, Worth
from ablation_report.run import Run

__all__ = ["Attribution", "Step", "Worth", "attributions", "why_not"]


def attributions(run: Run) -> tuple[Attribution, ...]:
    """Return what each factor is worth in every case and phase that answers; computed once a run.

    Empty for a run without factors. `why_not` says why a case is missing.
    """
    if "attributions" not in run.derived:
        run.derived["attributions"] = attributions_of(run)
    found: tuple[Attribution, ...] = run.derived["attributions"]
    return found
