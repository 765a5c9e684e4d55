"""The crossover of flash in a block: from which sequence length on it is faster than fused."""

from __future__ import annotations

from collections.abc import Sequence

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.block.flash_never_wins import by_pair, flash_against_fused
from ablation_report.findings.judge import gaps_text, judged, missing
from ablation_report.run import BLOCK, Run
from ablation_report.stats import Verdict


def crossover(points: Sequence[tuple[int, Verdict]]) -> tuple[OutcomeVerdict, int | None]:
    """Return the smallest length from which on every verdict is "faster", and if there is one.

    There is none when the longest is slower or the same; whether there is one stays open when it
    is not resolved.
    """
    start: int | None = None
    for length in sorted({length for length, _ in points}, reverse=True):
        said = {verdict for at, verdict in points if at == length}
        if said != {"faster"}:
            if start is None:
                return ("does not hold" if said & {"slower", "same"} else "not resolved"), None
            break
        start = length
    return ("holds", start) if start is not None else ("not measured", None)


def evaluate(run: Run) -> Outcome:
    """Look for the length at which flash begins to win for good."""
    found, gaps = flash_against_fused(run)
    if not found:
        return not_measured(gaps_text(gaps))
    lengths = [comparison.row["sizes"]["Nq"] for comparison in found]
    points = [(length, c.verdict) for length, c in zip(lengths, found, strict=True)]
    verdict, start = crossover(points)
    ends = dict.fromkeys((min(lengths), max(lengths)))
    span = f"seq_len {' to '.join(map(str, ends))}"
    if start is None:
        text = f"No crossover is shown in {span}"
    elif start == min(lengths):
        text = f"Flash wins from seq_len {start} on, the shortest length measured"
    else:
        text = f"Flash wins from seq_len {start} on, in {span}"
    sentence = f"{text}. {by_pair(run, found)}.{missing(gaps)}"
    figures = {"seq_len of the crossover": float(start)} if start is not None else {}
    return judged(run, verdict, sentence, found, figures=figures)


FINDING = Finding(
    key="flash_crossover",
    suite=BLOCK,
    claim="In a block, flash attention is faster than fused attention from some length on.",
    published=None,
    evaluate=evaluate,
)
