"""The length at which forms with all scores in memory stop to fit."""

from __future__ import annotations

from ablation_report.findings.attention_backward import (
    FLASH_FORMS,
    FLOAT32_BYTES,
    SUITE,
    is_unfused,
)
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import combine, judged
from ablation_report.findings.words import two_digits
from ablation_report.run import FORWARD, Row, Run
from ablation_report.series import Series, series_of

LAST_LENGTH = 16384


def evaluate(run: Run) -> Outcome:
    """Judge where the forward of each unfused series first runs out of memory."""
    verdicts: list[OutcomeVerdict] = []
    parts: list[str] = []
    used: list[Row] = []
    for series in series_of(run):
        if not is_unfused(series.variant) or series.phase != FORWARD:
            continue
        said, text, row = _oom_of(series)
        if row is not None:
            verdicts.append(said)
            parts.append(text)
            used.append(row)
    if not used:
        return not_measured(
            f"no unfused forward at N {LAST_LENGTH}, and none out of memory below it"
        )
    counts = {text: parts.count(text) for text in dict.fromkeys(parts)}
    words = "; ".join(f"{text} ({count} series)" for text, count in counts.items())
    flash = run.select(lambda row: row["variant"] in FLASH_FORMS, timed=True)
    longest = max((row["sizes"]["Nk"] for row in flash), default=None)
    tail = "" if longest is None else f" Flash forms run at up to N {longest}."
    used += [row for row in flash if row["sizes"]["Nk"] == longest]
    limit = (run.header.get("limits") or {}).get("memory_limit_bytes")
    if limit is None:
        return judged(run, combine(verdicts), f"{words}.{tail}", (), used)
    # A limit that was asked for says nothing of the machine.
    sentence = f"Under a limit of {limit / 2**30:.1f} GiB for a variant: {words}.{tail}"
    return judged(run, "not resolved", sentence, (), used)


def _oom_of(series: Series) -> tuple[OutcomeVerdict, str, Row | None]:
    """Return the verdict of one series, its words, and the row that it rests on."""
    oom = series.first_oom
    if oom is not None and oom["sizes"]["Nk"] <= LAST_LENGTH:
        sizes = oom["sizes"]
        arrays = two_digits(FLOAT32_BYTES * sizes["B"] * sizes["H"] * sizes["Nk"] ** 2 / 2**30)
        reason = f" ({oom['reason']})" if oom["reason"] else ""
        text = f"{series.variant} first runs out at N {sizes['Nk']}{reason}, "
        return "holds", f"{text}{arrays} GiB an array of scores", oom
    last = next((row for row in series.rows if row["sizes"]["Nk"] == LAST_LENGTH), None)
    if last is None:
        return "not measured", "", None
    if last["status"] == "ok":
        return "does not hold", f"{series.variant} runs at N {LAST_LENGTH}", last
    return "not resolved", f"{series.variant} is {last['status']} at N {LAST_LENGTH}", last


FINDING = Finding(
    key="first_oom",
    suite=SUITE,
    claim=f"Attention that keeps all scores runs out of memory at N {LAST_LENGTH}, at every head "
    "size.",
    published=f"Out of memory at N {LAST_LENGTH} at every head size.",
    evaluate=evaluate,
)
