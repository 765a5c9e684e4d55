"""The published baseline against the function of PyTorch whose name it has."""

from __future__ import annotations

from ablation_report.findings.attention_sweep import EINSUM, PUBLISHED_EINSUM, SDPA, SUITE
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import combine, judged, pairs, ratios_by_place
from ablation_report.findings.words import ranged
from ablation_report.run import Run
from ablation_report.stats import Verdict

_JUDGED: dict[Verdict, OutcomeVerdict] = {
    "same": "holds",
    "faster": "does not hold",
    "slower": "does not hold",
    "not resolved": "not resolved",
}


def evaluate(run: Run) -> Outcome:
    """Judge whether the published baseline takes the time of what its name says."""
    found = pairs(run, EINSUM, SDPA)
    if not found:
        return not_measured(f"no case with times of both {EINSUM} and {SDPA}")
    sentence = f"Time of the einsum form over SDPA: {ranged(ratios_by_place(run, found))}."
    return judged(run, combine(_JUDGED[c.verdict] for c in found), sentence, found)


FINDING = Finding(
    key="einsum_is_sdpa",
    suite=SUITE,
    claim=f"The variant published as {PUBLISHED_EINSUM} takes the time of PyTorch's SDPA.",
    published="The name is that of PyTorch's function. The code is einsum, mask, softmax, einsum.",
    evaluate=evaluate,
)
