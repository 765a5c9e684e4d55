"""What a finding is: a claim about a suite, and what the rows of one run say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from ablation_report.run import Comparison, Row, Run
from ablation_report.tables import Table

OutcomeVerdict = Literal["holds", "does not hold", "not resolved", "not measured"]
VERDICTS: tuple[OutcomeVerdict, ...] = ("holds", "does not hold", "not resolved", "not measured")
# How the sentence of an outcome without rows begins.
NOT_MEASURED = "Not measured: "


@dataclass(frozen=True)
class Outcome:
    """What one run says of a claim.

    `sentence` says it with its figures, and says no more than `verdict` carries; `rows` are those
    that it rests on; `figures` are the numbers in the sentence, unrounded, by name; `comparisons`
    are those that were judged; `table` has the details where a sentence would be too long.
    """

    verdict: OutcomeVerdict
    sentence: str
    rows: tuple[Row, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    comparisons: tuple[Comparison, ...] = ()
    table: Table | None = None


@dataclass(frozen=True)
class Finding:
    """A claim that every run of a suite is asked for.

    `key` is its file and anchor; `claim` a sentence that can be true or false, so short that a
    verdict next to it needs no more; `published` what the published text said of it, in our words,
    or None for a question of this project. One that `is_target` asks whether this project reached
    a speed that it set itself; pages leave it out.
    """

    key: str
    suite: str
    claim: str
    published: str | None
    evaluate: Callable[[Run], Outcome]
    is_target: bool = False


def not_measured(what: str, rows: Iterable[Row] = ()) -> Outcome:
    """Return the outcome of a run that lacks the rows: `what` names them."""
    return Outcome("not measured", f"{NOT_MEASURED}{what}.", unique(rows))


def unique(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return each row once, by its file and line."""
    return tuple({(row["path"], row["line"]): row for row in rows}.values())
