"""The feed-forward at large sizes: its share of the profiled time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, not_measured
from ablation_report.findings.judge import Gap, combine, gaps_text, judged, missing
from ablation_report.findings.words import (
    case_name,
    listed,
    name_of,
    percent,
    place_of,
    placed,
)
from ablation_report.run import BLOCK, Row, Run, is_ours
from ablation_report.stats import is_too_noisy, median

LARGE_D_MODEL = 2048
HALF = 0.5
# The two products of the feed-forward, as the model names them; an op is the product or its bias.
PRODUCTS = ("up", "down")


@dataclass(frozen=True)
class Share:
    """A part of the profiled time of a row; `is_bound` where it counts more than feed-forward."""

    row: Row
    feed_forward: float
    linear: float | None
    is_bound: bool

    def verdict(self, floor: float | None) -> OutcomeVerdict:
        """Say whether it is more than half, beyond the floor; a bound can only be too low."""
        if floor is None or is_too_noisy(floor):
            return "not resolved"
        if self.feed_forward < HALF * (1 - floor):
            return "does not hold"
        is_more = self.feed_forward > HALF * (1 + floor)
        return "holds" if is_more and not self.is_bound else "not resolved"


def evaluate(run: Run) -> Outcome:
    """Judge the share in each large case, of the fastest compiled variant."""
    found: list[Share] = []
    gaps: list[Gap] = []
    for case, rows in run.by_case.items():
        sizes = rows[0]["sizes"]
        if sizes["H"] * sizes["d"] < LARGE_D_MODEL:
            continue
        best = run.best(case, is_ours)
        share = share_of(best) if best else None
        if share is None:
            gaps.append((case_name(run, case), "no compiled variant has a profile"))
        else:
            found.append(share)
    if not found:
        return not_measured(gaps_text(gaps) or f"no config with d_model {LARGE_D_MODEL} or more")
    verdicts = [share.verdict(run.floor(share.row["case"])) for share in found]
    sentence = f"{_shares(run, found)} {_places(run, found, verdicts)}{missing(gaps)}"
    rows_used = [share.row for share in found]
    figures = {f"{place_of(run, share.row)}: share": share.feed_forward for share in found}
    return judged(run, combine(verdicts), sentence, (), rows_used, figures)


def share_of(row: Row) -> Share | None:
    """Return the share of feed-forward, or of all that a published row counts with it; None
    without a profile."""
    profile = row["profile"]
    if not profile:
        return None
    total = median(profile["total"])
    if profile.get("linear") is None:
        parts = zip(profile["total"], profile["attention"], profile["layer_norm"], strict=True)
        other = median([whole - attention - norm for whole, attention, norm in parts])
        return Share(row, other / total, None, is_bound=True)
    timed = [op for op in row["ops"] or () if op["median_ns"] is not None]
    # Of several layers the names begin with the number of the layer.
    products = [op for op in timed if set(op["name"].split(".")) & set(PRODUCTS)]
    if not products:
        return None
    feed_forward = sum(op["median_ns"] for op in products) / total
    return Share(row, feed_forward, median(profile["linear"]) / total, is_bound=False)


def _shares(run: Run, found: Sequence[Share]) -> str:
    of = ", ".join(
        f"{percent(share.feed_forward)} at {place_of(run, share.row)} "
        f"({name_of(run, share.row['variant'])})"
        for share in found
    )
    if found[0].is_bound:
        return (
            f'"Other", which includes the projections and the rest: {of} of the profiled time. It '
            "is an upper bound for the feed-forward."
        )
    linear = ", ".join(
        f"{percent(share.linear)} at {place_of(run, share.row)}"
        for share in found
        if share.linear is not None
    )
    return (
        f"The two products of the feed-forward: {of} of the profiled time. All linear layers, with "
        f"the projections: {linear}."
    )


def _places(run: Run, found: Sequence[Share], verdicts: Sequence[OutcomeVerdict]) -> str:
    words: dict[OutcomeVerdict, str] = {
        "holds": "more than half at",
        "does not hold": "less than half at",
        "not resolved": "not resolved at",
    }
    places = [place_of(run, share.row) for share in found]
    text = f"The feed-forward is {', '.join(placed(places, verdicts, words))}."
    noisy = [
        place
        for place, share in zip(places, found, strict=True)
        if is_too_noisy(run.floor(share.row["case"]))
    ]
    return f"{text} Too noisy to compare: {listed(noisy)}." if noisy else text


FINDING = Finding(
    key="feed_forward_dominates",
    suite=BLOCK,
    claim=f"From d_model {LARGE_D_MODEL} on, the feed-forward takes more than half of the time.",
    published="The feed-forward dominates at large sizes.",
    evaluate=evaluate,
)
