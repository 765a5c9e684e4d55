"""What a finding is: a claim, and what the rows of one source say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ablation_report.metrics import Cell
from ablation_report.sources import Comparison, Source
from ablation_report.tables import Table

OutcomeVerdict = Literal["holds", "does not hold", "not resolved", "not measured"]
VERDICTS: tuple[OutcomeVerdict, ...] = ("holds", "does not hold", "not resolved", "not measured")
# The sentence of an outcome without rows begins so
NOT_MEASURED = "Not measured: "


@dataclass(frozen=True)
class Outcome:
    """What one source says of a claim.

    `sentence` says it with its figures, and says no more than `verdict` carries; `rows` are the
    cells it rests on; `figures` are the numbers in the sentence, unrounded, by name; `comparisons`
    are those that were judged; `table` has the details where a sentence would be too long.
    """

    verdict: OutcomeVerdict
    sentence: str
    rows: tuple[Cell, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Finding:
    """A claim that every source is asked for.

    `key` is its file and anchor; `claim` a sentence that can be true or false; `published` what the
    published text said of it, in our words, or None for a question of this project.
    """

    key: str
    title: str
    claim: str
    published: str | None
    evaluate: Callable[[Source], Outcome]


def not_measured(what: str) -> Outcome:
    """The outcome of a source that lacks the rows: `what` names them."""
    return Outcome("not measured", f"{NOT_MEASURED}{what}.")


def judged(
    verdict: OutcomeVerdict,
    sentence: str,
    comparisons: Iterable[Comparison],
    rows: Iterable[Cell] = (),
    figures: Mapping[str, float] | None = None,
    table: Table | None = None,
) -> Outcome:
    """The outcome that rests on comparisons, and on further rows and figures where there are."""
    found = tuple(comparisons)
    every = [*(cell for comparison in found for cell in comparison.rows), *rows]
    unique = {(cell["path"], cell["line"]): cell for cell in every}
    ratios = {f"{c.config}: {c.variant} / {c.base}": c.ratio.median for c in found}
    return Outcome(
        verdict, sentence, tuple(unique.values()), ratios | dict(figures or {}), found, table
    )
