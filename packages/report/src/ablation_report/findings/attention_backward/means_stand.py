"""The mean of a row's calls against a typical call."""

from __future__ import annotations

import math

from ablation_report.findings.attention_backward import SUITE, place_of
from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import judged
from ablation_report.findings.words import times
from ablation_report.run import Row, Run, detail
from ablation_report.stats import MIN_ROUNDS

# Half of its mean: one call of many has taken many times the others.
RUINED = 0.5
FAR = 0.10


def evaluate(run: Run) -> Outcome:
    """Judge whether the mean of each row stands for a typical call."""
    if run.is_published:
        return _published(run)
    found = [
        (row, math.fsum(row["samples_ns"]) / len(row["samples_ns"]) / median)
        for row in run.rows
        if (median := run.median(row))
    ]
    if not found:
        return not_measured("no time of a call")
    far = [(row, ratio) for row, ratio in found if abs(ratio - 1) > FAR]
    sentence = f"{len(far)} of {len(found)} means differ from their median by more than {FAR:.0%}"
    if far:
        row, most = max(far, key=lambda pair: abs(pair[1] - 1))
        sentence += f", at most {times(most)} ({_name(row)})"
    used = far or found
    # Of few samples one outlier decides.
    is_short = all(len(row["samples_ns"]) < MIN_ROUNDS for row, _ in found)
    verdict: OutcomeVerdict = "does not hold" if far else "holds"
    return judged(
        run,
        "not resolved" if is_short else verdict,
        f"{sentence}.",
        (),
        [row for row, _ in used],
        {_name(row): ratio for row, ratio in used},
    )


def _published(run: Run) -> Outcome:
    """Name the means with a standard deviation that no typical call has, and one case twice."""
    spread = [
        (row, detail(row, "std_ns") / detail(row, "mean_ns"))
        for row in run.rows
        if detail(row, "std_ns") is not None and detail(row, "mean_ns")
    ]
    if not spread:
        return not_measured("no mean with its standard deviation")
    ruined = [(row, cv) for row, cv in spread if cv > RUINED]
    twice = _repeated(run)
    parts = []
    if ruined:
        words = ", ".join(f"{_mean(row)} ({_name(row)})" for row, _ in ruined)
        parts.append(f"Means that outliers dominate: {words}")
    if twice:
        first, second = max(twice, key=lambda pair: _change(run, *pair))
        parts.append(
            f"The same {first['variant']} ({first['phase']}, {place_of(first)}) is {_mean(first)} "
            f"in one table and {_mean(second)} in another"
        )
    if not parts:
        parts = [f"No standard deviation above {RUINED:.0%} of its mean, and no case twice"]
    used = [row for row, _ in ruined] + [row for pair in twice for row in pair]
    figures = {f"cv {_name(row)}": cv for row, cv in ruined}
    rows = used or [row for row, _ in spread]
    verdict: OutcomeVerdict = "does not hold" if ruined else "holds"
    return judged(run, verdict, ". ".join(parts) + ".", (), rows, figures)


def _name(row: Row) -> str:
    return f"{row['variant']}, {row['phase']}, {place_of(row)}"


def _change(run: Run, first: Row, second: Row) -> float:
    times_ns = [time.value for row in (first, second) if (time := run.time(row))]
    return max(times_ns) / min(times_ns)


def _mean(row: Row) -> str:
    mean, std = detail(row, "mean_ns"), detail(row, "std_ns")
    if mean is None:
        return "nothing"
    text = f"{mean / 1e6:g}"
    return f"{text} ms" if std is None else f"{text} ± {std / 1e6:g} ms"


def _repeated(run: Run) -> list[tuple[Row, Row]]:
    """Return the pairs of times of one case, variant and phase."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in run.select(timed=True):
        found.setdefault((row["case"], row["variant"], row["phase"]), []).append(row)
    return [(group[0], group[1]) for group in found.values() if len(group) > 1]


FINDING = Finding(
    key="means_stand",
    suite=SUITE,
    claim="The mean of a row's calls is the time of a typical call.",
    published="Means and standard deviations of 100 calls; one of them is 0.426 ± 0.419 ms.",
    evaluate=evaluate,
)
