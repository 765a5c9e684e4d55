"""The feed-forward at large sizes: its share of the profiled time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ablation_report.findings.base import Finding, Outcome, OutcomeVerdict, judged, not_measured
from ablation_report.findings.judge import Gap, combine, gaps_text, missing
from ablation_report.findings.words import name_of, percent, placed
from ablation_report.metrics import Cell, median
from ablation_report.sources import PUBLISHED_FLOOR, Source

LARGE_D_MODEL = 2048
HALF = 0.5
# The two products of the feed-forward, as the model names them; an op is the product or its bias
PRODUCTS = ("up", "down")


@dataclass(frozen=True)
class Share:
    """A part of the profiled time of a cell; `is_bound` where it counts more than feed-forward."""

    config: str
    cell: Cell
    feed_forward: float
    linear: float | None
    is_bound: bool

    def verdict(self, floor: float | None) -> OutcomeVerdict:
        """Say whether it is more than half, beyond the floor; a bound can only be too low."""
        if floor is None:
            return "not resolved"
        if self.feed_forward < HALF * (1 - floor):
            return "does not hold"
        is_more = self.feed_forward > HALF * (1 + floor)
        return "holds" if is_more and not self.is_bound else "not resolved"


def evaluate(source: Source) -> Outcome:
    """Judge the share at each large config, of the fastest compiled variant."""
    found: list[Share] = []
    gaps: list[Gap] = []
    for config, cells in source.by_config.items():
        if next(iter(cells.values()))["d_model"] < LARGE_D_MODEL:
            continue
        best = source.best(config)
        share = share_of(cells[best]) if best else None
        if share is None:
            gaps.append((config, "no compiled variant with a profile"))
        else:
            found.append(share)
    if not found:
        return not_measured(gaps_text(gaps) or f"no config with d_model {LARGE_D_MODEL} or more")
    floors = [PUBLISHED_FLOOR if source.is_published else source.floor(s.config) for s in found]
    verdicts = [share.verdict(floor) for share, floor in zip(found, floors, strict=True)]
    sentence = f"{_shares(source, found)} {_places(found, verdicts)}{missing(gaps)}"
    rows = [share.cell for share in found]
    figures = {f"{share.config}: share": share.feed_forward for share in found}
    return judged(combine(verdicts), sentence, (), rows, figures)


def share_of(cell: Cell) -> Share | None:
    """The share of feed-forward, or of all that a published row counts with it; None without."""
    if not cell["profile_total_ns"]:
        return None
    total = median(cell["profile_total_ns"])
    if cell["profile_linear_ns"] is None:
        parts = zip(
            cell["profile_total_ns"],
            cell["profile_attention_ns"],
            cell["profile_layer_norm_ns"],
            strict=True,
        )
        other = median([whole - attention - norm for whole, attention, norm in parts])
        return Share(cell["config"], cell, other / total, None, is_bound=True)
    timed = [op for op in cell["ops"] or () if op["median_ns"] is not None]
    products = [op for op in timed if op["name"].split(".")[0] in PRODUCTS]
    if not products:
        return None
    feed_forward = sum(op["median_ns"] for op in products) / total
    linear = median(cell["profile_linear_ns"]) / total
    return Share(cell["config"], cell, feed_forward, linear, is_bound=False)


def _shares(source: Source, found: Sequence[Share]) -> str:
    of = ", ".join(
        f"{percent(s.feed_forward)} at {s.config} ({name_of(source, s.cell['variant'])})"
        for s in found
    )
    if found[0].is_bound:
        return (
            f'"Other", which counts the projections and all else with the feed-forward: {of} of '
            "the profiled time. It bounds the feed-forward from above and does not tell it apart."
        )
    linear = ", ".join(f"{percent(s.linear)} at {s.config}" for s in found if s.linear is not None)
    return (
        f"The feed-forward's two products: {of} of the profiled time. All linear layers, the "
        f"projections included: {linear}."
    )


def _places(found: Sequence[Share], verdicts: Sequence[OutcomeVerdict]) -> str:
    words: dict[OutcomeVerdict, str] = {
        "holds": "more than half at",
        "does not hold": "less than half at",
        "not resolved": "not resolved at",
    }
    parts = placed([share.config for share in found], verdicts, words)
    return f"The feed-forward is {', '.join(parts)}."


FINDING = Finding(
    key="feed_forward_dominates",
    title="The feed-forward at large sizes",
    claim=f"From d_model {LARGE_D_MODEL} up, the feed-forward takes more than half of the time of "
    "the fastest compiled variant.",
    published="The feed-forward dominates at large sizes.",
    evaluate=evaluate,
)
