"""The parameters of the size that is called 2.7B."""

from __future__ import annotations

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import judged
from ablation_report.findings.lm_step import SUITE
from ablation_report.run import Row, Run, detail

NAME, PARAMETERS = "2.7B", 2.7e9
# A size named with two digits is off by less than half of the second one.
TOLERANCE = 0.05e9


def n_parameters(row: Row) -> int | None:
    """Return the parameters of a case's model: as recorded, or by its widths.

    A block has four matrices of attention, three of SwiGLU and two norms; the model has an
    embedding, a norm and a head of its own as well.
    """
    recorded = detail(row, "n_params")
    if recorded is not None:
        return int(recorded)
    sizes = row["sizes"]
    layers, d_ff, vocab = (sizes.get(name) for name in ("layers", "d_ff", "vocab"))
    if layers is None or d_ff is None or vocab is None:
        return None
    width = sizes["H"] * sizes["d"]
    block = 4 * width**2 + 3 * width * d_ff + 2 * width
    return int(layers * block + width + 2 * vocab * width)


def evaluate(run: Run) -> Outcome:
    """Judge whether the size of this name has as many parameters."""
    rows = run.select(lambda row: str(row["sizes"].get("size") or "").startswith(NAME))
    known = [(row, count) for row in rows if (count := n_parameters(row)) is not None]
    if not known:
        return not_measured(f"no row of the size named {NAME}")
    counts = sorted({count for _, count in known})
    said = [abs(count - PARAMETERS) <= TOLERANCE for count in counts]
    verdict: OutcomeVerdict = "holds" if all(said) else "does not hold"
    if any(said) and not all(said):
        verdict = "not resolved"
    words = ", ".join(f"{count / 1e9:.3f} billion ({count:,})" for count in counts)
    sentence = f"It has {words} parameters, with three matrices of d_model x d_ff in each block."
    figures = {f"parameters {count}": float(count) for count in counts}
    return judged(run, verdict, sentence, (), [row for row, _ in known], figures)


FINDING = Finding(
    key="named_size",
    suite=SUITE,
    claim="The model that the course's table names 2.7B has 2.7 billion parameters.",
    published="The table of 2025 names it so; that of 2026 calls the same widths xl.",
    evaluate=evaluate,
)
