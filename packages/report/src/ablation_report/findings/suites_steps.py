"""Findings of lm-step: what a size is called, and whether the parts of a step add up to it."""

from __future__ import annotations

from ablation_report.findings.base import Outcome, OutcomeVerdict
from ablation_report.findings.judge import combine
from ablation_report.findings.suites_base import SuiteFinding, never_run, outcome, ranged
from ablation_report.metrics import MIN_ROUNDS
from ablation_report.suite_detail_tables import part_medians
from ablation_report.suite_series import short_case
from ablation_report.suite_sources import Measure, SuiteSource, n_rounds

SUITE = "lm-step"
NAMED, NAMED_PARAMETERS = "2.7B", 2.7e9
# A size named with two digits is off by less than half of the second one
NAME_TOLERANCE = 0.05e9
WHOLE, PARTS = "fwd_bwd", ("fwd_grad", "bwd")
SUM_TOLERANCE, STEP_TOLERANCE = 0.15, 0.10


def n_parameters(measure: Measure) -> int | None:
    """The parameters of a case's model: as the model told, or by its widths.

    A block has four matrices of attention, three of SwiGLU and two norms; beside the blocks stand
    an embedding, a norm and a head of its own.
    """
    told = measure.detail("n_params")
    if told is not None:
        return int(told)
    layers, d_ff, vocab = (measure.parameter(name) for name in ("layers", "d_ff", "vocab"))
    if layers is None or d_ff is None or vocab is None:
        return None
    width = measure["H"] * measure["d"]
    block = 4 * width**2 + 3 * width * d_ff + 2 * width
    return int(layers * block + width + 2 * vocab * width)


def named_size(source: SuiteSource) -> Outcome:
    """Judge whether the size named 2.7B has as many parameters."""
    found: dict[Measure, int] = {}
    for measure in source.measures:
        if str(measure.parameter("size") or "").startswith(NAMED):
            count = n_parameters(measure)
            if count is not None:
                found[measure] = count
    if not found:
        return never_run(f"no row of the size named {NAMED}")
    counts = sorted(set(found.values()))
    said = [abs(count - NAMED_PARAMETERS) <= NAME_TOLERANCE for count in counts]
    verdict: OutcomeVerdict = "holds" if all(said) else "does not hold"
    if any(said) and not all(said):
        verdict = "not resolved"
    words = ", ".join(f"{count / 1e9:.3f} G ({count:,})" for count in counts)
    sentence = f"It has {words} parameters, with three matrices of d_model x d_ff in each block."
    return outcome(verdict, sentence, found, {f"parameters {c}": float(c) for c in counts})


def parts_add_up(source: SuiteSource) -> Outcome:
    """Judge whether forward with gradient and backward, and the parts of a step, make the whole.

    Not in the study of warm-up, where each sample is of a process of its own and pays for what a
    first call pays.
    """
    verdicts: list[OutcomeVerdict] = []
    off: dict[str, float] = {}
    figures: dict[str, float] = {}
    used: dict[Measure, None] = {}
    for measure in source.measures:
        if measure.parameter("study_warmup") is not None:
            continue
        for name, share, tolerance, measures in (*_halves(source, measure), *_marks(measure)):
            is_open = any(n_rounds(m) < MIN_ROUNDS or m.timing is None for m in measures)
            is_noisy = any(m.timing and m.timing.is_noisy for m in measures)
            said: OutcomeVerdict = "holds" if abs(share - 1) <= tolerance else "does not hold"
            verdicts.append("not resolved" if is_open or (is_noisy and said != "holds") else said)
            key = f"{name} of {measure['impl']}, {short_case(measure)}"
            figures[key] = share
            used |= dict.fromkeys(measures)
            if verdicts[-1] != "holds":
                off[key] = share
    if not figures:
        return never_run(f"no case with {WHOLE} and its halves, and no step with its parts")
    held = sum(said == "holds" for said in verdicts)
    sentence = f"{held} of {len(verdicts)} sums are the whole"
    sentence += f"; not so, or not resolved: {ranged(off)}." if off else "."
    return outcome(combine(verdicts), sentence, used, figures)


Sum = tuple[str, float, float, list[Measure]]


def _halves(source: SuiteSource, measure: Measure) -> list[Sum]:
    """The sum of forward and backward over both together."""
    if measure["phase"] != WHOLE or not measure.timing:
        return []
    halves = [source.find(measure["case"], measure["impl"], phase) for phase in PARTS]
    known = [half for half in halves if half is not None and half.timing]
    if len(known) < len(PARTS):
        return []
    total = sum(half.timing.time_ns for half in known if half.timing)
    return [("fwd_grad + bwd", total / measure.timing.time_ns, SUM_TOLERANCE, [measure, *known])]


def _marks(measure: Measure) -> list[Sum]:
    """The sum of a step's parts over the step."""
    parts = part_medians(measure)
    if measure["phase"] != "step" or not parts or not measure.timing:
        return []
    share = sum(parts.values()) / measure.timing.time_ns
    return [("parts of a step", share, STEP_TOLERANCE, [measure])]


FINDINGS = (
    SuiteFinding(
        "suite-named-size",
        SUITE,
        "The size named 2.7B",
        "The model that the course's table names 2.7B has 2.7 G parameters.",
        "The table of 2025 names it so; that of 2026 calls the same widths xl.",
        named_size,
    ),
    SuiteFinding(
        "suite-parts-add-up",
        SUITE,
        "Parts of a step",
        f"Forward and backward add up to both together within {SUM_TOLERANCE:.0%}, and the parts "
        f"of a step to the step within {STEP_TOLERANCE:.0%}.",
        None,
        parts_add_up,
    ),
)
