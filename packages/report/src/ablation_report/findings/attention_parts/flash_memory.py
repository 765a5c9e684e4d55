"""The memory of the tiled form against that of the one that finishes row by row."""

from __future__ import annotations

from ablation_report.findings.attention_parts import FLASH, FUSED, SUITE, published_pairs
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import combine, judged
from ablation_report.findings.published_memory import published_bytes, with_memory_line
from ablation_report.findings.words import place_of, ranged
from ablation_report.run import Row, Run

FLOAT32_BYTES = 4
# One of the two sources is four bytes below the other in every row.
ROUNDING_BYTES = 4


def evaluate(run: Run) -> Outcome:
    """Judge whether the tiled form takes less scratch in every case."""
    if run.is_published:
        return _published(run)
    found: dict[str, tuple[int, int]] = {}
    used: list[Row] = []
    verdicts: list[OutcomeVerdict] = []
    for row in run.select(lambda row: row["variant"] == FLASH):
        other = run.row(row["case"], FUSED, row["phase"])
        mine = row["memory"]["scratch"]
        theirs = other["memory"]["scratch"] if other is not None else None
        if other is None or mine is None or theirs is None:
            continue
        found[place_of(run, row)] = (mine, theirs)
        used += [row, other]
        verdicts.append("holds" if mine < theirs else "does not hold")
    if not found:
        return not_measured(f"no case with the scratch of both {FLASH} and {FUSED}")
    # Some sizes of tiles may be smaller than a row, others not.
    verdict = verdicts[0] if len(set(verdicts)) == 1 else "not resolved"
    figures = {place: mine / theirs for place, (mine, theirs) in found.items() if theirs}
    sentence = f"Scratch of the flash form over that of the form by rows: {ranged(figures)}."
    place, (mine, theirs) = next(iter(found.items()))
    sentence += f" At {place}: {mine:,} B against {theirs:,} B."
    return judged(run, verdict, sentence, (), used, figures)


def _published(run: Run) -> Outcome:
    """Of the published figures, take the output away: what is left is what was seen of scratch."""
    parts: list[str] = []
    used: list[Row] = []
    verdicts: list[OutcomeVerdict] = []
    for row, other in published_pairs(run):
        mine, theirs = published_bytes(row), published_bytes(other)
        if not mine or not theirs:
            continue
        used += [row, other]
        sizes = row["sizes"]
        output = FLOAT32_BYTES * sizes["B"] * sizes["H"] * sizes["Nq"] * sizes["d"]
        if abs(mine - output) <= ROUNDING_BYTES:
            # Nothing of the scratch was counted, so that less of it was not shown.
            verdicts.append("does not hold")
            parts.append(f"the {mine:,} B of {row['variant']} are its output alone ({output:,} B)")
        else:
            verdicts.append("holds" if mine < theirs else "does not hold")
            parts.append(f"{row['variant']} {mine:,} B, {other['variant']} {theirs:,} B")
    if not used:
        return not_measured("no figures of memory of a flash form and a fused one")
    sentence = "; ".join(dict.fromkeys(parts))
    sentence = f"{sentence[0].upper()}{sentence[1:]}."
    if "does not hold" in verdicts:
        sentence += " Memory that was allocated before the profiler's range opened was not counted."
    return judged(run, combine(verdicts), sentence, (), with_memory_line(used))


FINDING = Finding(
    key="flash_memory",
    suite=SUITE,
    claim="The course's flash form needs less memory than its form that finishes row by row.",
    published="The memory falls from 557,056 to 524,288 bytes.",
    evaluate=evaluate,
)
