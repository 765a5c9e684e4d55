"""The findings in reading order."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module

from ablation_report.findings.base import Finding, Outcome
from ablation_report.run import Run

# The folder of the suite and the file, a finding a line.
_FILES = (
    # The five published ones of the block.
    "block.dispatch_overhead",
    "block.threading_in_attention",
    "block.flash_never_wins",
    "block.feed_forward_dominates",
    "block.layer_norm_at_medium",
    # What else the published ladder says.
    "block.matmul_add_worth",
    "block.published_noise",
    "block.best_variant",
    "block.rungs",
    "block.shifts",
    # Ours.
    "block.against_baselines",
    "block.flash_crossover",
    "block.default_never_loses",
    "attribution.worth_of_each",
    "attribution.order_matters",
    "attribution.same_time",
    "attribution.costs_time",
    "attention_sweep.attention_crossover",
    "attention_sweep.triton_against_sdpa",
    "attention_sweep.einsum_is_sdpa",
    "attention_sweep.flash_time_grows",
    "attention_sweep.forward_target",
    "attention_sweep.bfloat16_target",
    "lm_step.named_size",
    "lm_step.parts_add_up",
    "attention_backward.memory_column",
    "attention_backward.means_stand",
    "attention_backward.saved_grows",
    "attention_backward.first_oom",
    "attention_backward.backward_target",
    "attention_parts.flash_memory",
    "attention_parts.cold_run",
    "attention_parts.flash_slower",
)
FINDINGS: tuple[Finding, ...] = tuple(
    import_module(f"ablation_report.findings.{name}").FINDING for name in _FILES
)


def evaluate_all(runs: Iterable[Run]) -> list[tuple[Finding, Run, Outcome]]:
    """Ask every run for the findings of its suite, in the order of the findings, then of the
    runs."""
    asked = tuple(runs)
    return [
        (finding, run, finding.evaluate(run))
        for finding in FINDINGS
        for run in asked
        if run.suite == finding.suite
    ]
