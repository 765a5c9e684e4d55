"""Published figures, reread: where they come from as far as it is known, what the rows of each
source say of its claims, and what recorded rows say of the same claims."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ablation_report.escaping import escape
from ablation_report.findings import Finding, Outcome
from ablation_report.findings.text import rows_text
from ablation_report.machines import machine_of
from ablation_report.run import Run
from ablation_report.site.data_table import Cell, Column, data_table
from ablation_report.site.inputs import Inputs
from ablation_report.site.pages.findings import (
    NOT_MEASURED,
    PAGE,
    Answer,
    answer_sentence,
    answers_of,
    ask,
    badge,
)
from ablation_report.site.published_names import NAMES
from ablation_report.site.text import (
    details,
    folded,
    join,
    link,
    slug,
)
from ablation_report.tables import NOTHING

NOTHING_PUBLISHED = "*No published figures were given.*"
NONE_OF_OURS = "not measured by a recorded run"
COLUMNS = (
    Column("Claim", is_left=True, is_prose=True),
    Column("Published rows", is_left=True, is_prose=True),
    Column("Recorded rows", is_left=True, is_prose=True),
)
NAME_COLUMNS = (
    Column("Published as", is_left=True, is_prose=True),
    Column("Here", is_left=True, is_prose=True),
    Column("What it really is", is_left=True, is_prose=True),
)
Said = Sequence[tuple[Run, Outcome]]


def published_block(inputs: Inputs) -> str:
    """The claims by source and by recorded runs, the sources, and the names."""
    published = inputs.published()
    if not published:
        return NOTHING_PUBLISHED + "\n"
    asked = _asked(published)
    ours = {finding.key: said for finding, said in answers_of(inputs.recorded())}
    return join(
        "## What the rows say { #what-the-rows-say }",
        _matrix(asked, ours),
        *(_claim(finding, said, ours.get(key, ())) for key, (finding, said) in asked.items()),
        "## Where the figures come from { #where-the-figures-come-from }",
        "\n".join(map(_source, published)),
        "## What was published under which name { #names }",
        *(details(suite, _names(suite)) for suite in NAMES),
    )


def _asked(published: Sequence[Run]) -> dict[str, tuple[Finding, Said]]:
    """The claims that a published source has rows for, or a text about."""
    found: dict[str, tuple[Finding, list[tuple[Run, Outcome]]]] = {}
    for finding, run, outcome in ask(published):
        if outcome.verdict != NOT_MEASURED:
            found.setdefault(finding.key, (finding, []))[1].append((run, outcome))
    return dict(found)


def _matrix(asked: Mapping[str, tuple[Finding, Said]], ours: Mapping[str, Sequence[Answer]]) -> str:
    lines = [
        [
            Cell(finding.claim, page=f"#{slug(key)}"),
            _counted([outcome.verdict for _, outcome in said]),
            _counted([answer.outcome.verdict for answer in ours.get(key, ())]),
        ]
        for key, (finding, said) in asked.items()
    ]
    return data_table(COLUMNS, lines)


def _counted(verdicts: Sequence[str]) -> str | None:
    """Write the verdict that all give, or how many give each."""
    counts = Counter(verdicts)
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{verdict} ({count})" for verdict, count in counts.items()) or None


def _claim(finding: Finding, said: Said, ours: Sequence[Answer]) -> str:
    """A claim: the published text, the answer of published rows and that of ours."""
    sentences = [
        f"{badge(outcome.verdict)} {link(run)}: {escape(outcome.sentence)} "
        f'<small class="rows">{escape(rows_text(outcome.rows))}</small>'
        for run, outcome in said
    ]
    tables = [folded(o.table) for _, o in said if o.table]
    verdicts = _counted([outcome.verdict for _, outcome in said]) or NOTHING
    told = answer_sentence(ours) if ours else f"{NONE_OF_OURS}."
    recorded = told[:1].lower() + told[1:]
    more = f" [Sentences]({PAGE}#{slug(finding.key)})." if ours else ""
    return join(
        f"### {escape(finding.claim)} {{ #{slug(finding.key)} }}",
        f"> {escape(finding.published)}" if finding.published else None,
        f"Published rows: {escape(verdicts)}. Recorded rows: {escape(recorded)}{more}",
        details("What the published rows say", "\n\n".join([*sentences, *tables])),
    ).rstrip()


def _source(run: Run) -> str:
    """A source: its device and rows, and the notes that its file has on them."""
    notes = Counter(row["reason_text"] for row in run.rows if row["reason_text"])
    known = "; ".join(f"{note} ({count} rows)" for note, count in notes.items())
    facts = f"{run.suite}, {machine_of(run)}, {len(run.rows)} rows"
    return f"- {link(run)}: {escape(facts)}.{f' {escape(known)}.' if known else ''}"


def _names(suite: str) -> str:
    lines = [[", ".join(name.published), name.variant, name.what] for name in NAMES.get(suite, ())]
    return data_table(NAME_COLUMNS, lines)
