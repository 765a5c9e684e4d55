"""The column that was published as the memory before the backward."""

from __future__ import annotations

from ablation_report.findings.attention_backward import FLOAT32_BYTES, SUITE, place_of
from ablation_report.findings.base import Finding, Outcome, not_measured
from ablation_report.findings.judge import combine, judged, within
from ablation_report.findings.published_memory import published_bytes, with_memory_line
from ablation_report.findings.words import listed, ranged, times
from ablation_report.run import Run, detail
from ablation_report.series import MIN_LENGTH

COURSE = "torch_unfused_course"
# Exponentials and weights are what the backward of a softmax in parts needs.
SAVED_ARRAYS = 2
# What a column may be off before it is another quantity.
TOLERANCE = 0.1


def evaluate(run: Run) -> Outcome:
    """Judge whether the column is what a forward keeps for its backward."""
    if run.is_published:
        return _published(run)
    found = [
        (row, detail(row, "mem_published_style_bytes") / row["memory"]["saved"])
        for row in run.select(lambda row: row["variant"] == COURSE, timed=True)
        if row["sizes"]["Nk"] >= MIN_LENGTH
        and detail(row, "mem_published_style_bytes")
        and row["memory"]["saved"]
    ]
    if not found:
        return not_measured(
            f"no memory of {COURSE} at N of {MIN_LENGTH} or more, counted both ways"
        )
    figures = {place_of(row): ratio for row, ratio in found}
    verdict = combine(
        "not resolved" if row["memory"]["disagree"] else within(ratio, 1.0, TOLERANCE)
        for row, ratio in found
    )
    span_text = ranged(figures)
    sentence = (
        f"Peak with the previous graph alive, over the bytes that one forward keeps: {span_text}."
    )
    return judged(run, verdict, sentence, (), [row for row, _ in found], figures)


def _published(run: Run) -> Outcome:
    """Judge the published column in arrays of all scores; a softmax in parts keeps two of them."""
    found = []
    for row in run.rows:
        sizes, counted = row["sizes"], published_bytes(row)
        if counted and sizes["Nk"] >= MIN_LENGTH:
            scores = FLOAT32_BYTES * sizes["B"] * sizes["H"] * sizes["Nq"] * sizes["Nk"]
            found.append((row, counted / scores))
    if not found:
        return not_measured(f"no memory at N of {MIN_LENGTH} or more")
    longest = max(row["sizes"]["Nk"] for row, _ in found)
    arrays = [value for row, value in found if row["sizes"]["Nk"] == longest]
    ratios = [value / SAVED_ARRAYS for value in arrays]
    span = listed(list(dict.fromkeys(f"{value:.2f}" for value in (min(arrays), max(arrays)))))
    over = listed(list(dict.fromkeys(times(value) for value in (min(ratios), max(ratios)))))
    sentence = (
        f"At N {longest} the column is {span} arrays of all scores. A forward of this form keeps "
        f"{SAVED_ARRAYS}, exponentials and weights. The column is {over} of these: it is a peak "
        "with two graphs alive."
    )
    verdict = combine(within(ratio, 1.0, TOLERANCE) for ratio in ratios)
    figures = {place_of(row): value for row, value in found}
    return judged(run, verdict, sentence, (), with_memory_line(row for row, _ in found), figures)


FINDING = Finding(
    key="memory_column",
    suite=SUITE,
    claim="The memory published for the time before the backward is what the forward keeps.",
    published="12385.75 MiB at N 8192, printed as the memory in use before the backward starts.",
    evaluate=evaluate,
)
