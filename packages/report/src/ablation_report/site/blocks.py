"""The generated blocks that a hand-written page may ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ablation_report.output import UsageError
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.attribution import worths_block
from ablation_report.site.pages.cold_weights import cold_weights_block
from ablation_report.site.pages.configs import configs_block
from ablation_report.site.pages.evidence import evidence_block
from ablation_report.site.pages.findings import findings_block
from ablation_report.site.pages.home import home_block, home_rows_block
from ablation_report.site.pages.kernels import kernels_block
from ablation_report.site.pages.ladder import ladder_block
from ablation_report.site.pages.league import league_block
from ablation_report.site.pages.models import models_block
from ablation_report.site.pages.passes import passes_block
from ablation_report.site.pages.performance import (
    costs_block,
    floors_block,
    instruction_sets_block,
    rungs_beyond_block,
)
from ablation_report.site.pages.published import published_block
from ablation_report.site.pages.refused import refused_block
from ablation_report.site.pages.runs import runs_block
from ablation_report.site.pages.strassen import strassen_block

MARK = re.compile(r"^<!-- generated: (\S+) -->$", re.MULTILINE)


BLOCKS: Mapping[str, Callable[[Inputs], str]] = {
    "home": home_block,
    "home-rows": home_rows_block,
    "findings": findings_block,
    "published": published_block,
    "worths": worths_block,
    "refused": refused_block,
    "ladder": ladder_block,
    "floors": floors_block,
    "cold-weights": cold_weights_block,
    "configs": configs_block,
    "league": league_block,
    "compile-costs": costs_block,
    "rungs-beyond": rungs_beyond_block,
    "instruction-sets": instruction_sets_block,
    "runs": runs_block,
    "strassen": strassen_block,
    "evidence": evidence_block,
    "passes": passes_block,
    "models": models_block,
    "kernels": kernels_block,
}


def fill(text: str, inputs: Inputs) -> str:
    """Put the blocks that a page asks for in their places.

    Raises:
        UsageError: the page asks for a block that does not exist.
    """

    def block(match: re.Match[str]) -> str:
        name = match[1]
        if name not in BLOCKS:
            raise UsageError(f"no generated block {name!r}; there are {', '.join(BLOCKS)}")
        return BLOCKS[name](inputs)

    return MARK.sub(block, text)
