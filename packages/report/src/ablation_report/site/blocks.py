"""The generated blocks that a hand-written page may ask for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ablation_report.output import UsageError
from ablation_report.site.attention_pages import attention_block, attention_targets_block
from ablation_report.site.choose import main_run
from ablation_report.site.config_pages import configs_block
from ablation_report.site.figures import home_figure
from ablation_report.site.finding_pages import findings_block, home_findings_block
from ablation_report.site.kernel_pages import Kernel, kernels_block
from ablation_report.site.ladder_pages import NO_RUN, floors_block, ladder_block, league_block
from ablation_report.site.pass_pages import passes_block
from ablation_report.site.run_pages import runs_block
from ablation_report.site.target_pages import (
    instruction_sets_block,
    rungs_beyond_block,
    targets_block,
)
from ablation_report.site.text import join, origin
from ablation_report.sources import Gathered

MARK = re.compile(r"^<!-- generated: (\S+) -->$", re.MULTILINE)


@dataclass(frozen=True)
class Inputs:
    """What blocks are made from: rows, the op table, and the folder of the passes' sources."""

    gathered: Gathered
    kernels: Sequence[Kernel] | None = None
    passes: Path | None = None


def _home_chart(inputs: Inputs) -> str:
    run = main_run(inputs.gathered)
    return join(home_figure(run), origin(run)) if run else NO_RUN + "\n"


BLOCKS: Mapping[str, Callable[[Inputs], str]] = {
    "home-chart": _home_chart,
    "home-findings": lambda inputs: home_findings_block(inputs.gathered),
    "findings": lambda inputs: findings_block(inputs.gathered),
    "ladder": lambda inputs: ladder_block(inputs.gathered),
    "floors": lambda inputs: floors_block(inputs.gathered),
    "configs": lambda inputs: configs_block(inputs.gathered),
    "league": lambda inputs: league_block(inputs.gathered),
    "attention": lambda inputs: attention_block(inputs.gathered),
    "attention-targets": lambda inputs: attention_targets_block(inputs.gathered),
    "league-targets": lambda inputs: targets_block(inputs.gathered),
    "rungs-beyond": lambda inputs: rungs_beyond_block(inputs.gathered),
    "instruction-sets": lambda inputs: instruction_sets_block(inputs.gathered),
    "runs": lambda inputs: runs_block(inputs.gathered),
    "passes": lambda inputs: passes_block(inputs.passes, inputs.gathered),
    "kernels": lambda inputs: kernels_block(inputs.kernels),
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
