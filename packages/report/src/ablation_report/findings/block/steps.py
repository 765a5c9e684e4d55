"""What findings of the block share: its configs, its rungs, and each rung against the one below."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ablation_report.findings.judge import compare, is_twin
from ablation_report.rows import config_name
from ablation_report.run import Comparison, Row, Run, is_ours

# The group of the rungs that the published ladder does not have.
BEYOND = "Beyond"


def cases_of(run: Run, configs: Iterable[str]) -> list[str]:
    """Return the cases of these configs; of a config that was not run its name.

    A config with several layers has another name.
    """
    found: dict[str | None, list[str]] = {}
    for case, rows in run.by_case.items():
        found.setdefault(config_name(rows[0]["sizes"]), []).append(case)
    return [case for config in configs for case in found.get(config, [config])]


def is_published_rung(row: Row) -> bool:
    """True for a compiled variant of the published ladder."""
    return is_ours(row) and row["group"] != BEYOND


def variants_of(run: Run, wanted: Callable[[Row], bool]) -> list[str]:
    """Return the variants of which a row is wanted, in the order of the table."""
    found = dict.fromkeys(
        row["variant"] for rows in run.by_case.values() for row in rows if wanted(row)
    )
    order = {name: index for index, name in enumerate(run.header.get("variants", ()))}
    return sorted(found, key=lambda name: order.get(name, len(order)))


def steps(run: Run, wanted: Callable[[Row], bool] = is_ours) -> list[Comparison]:
    """Compare each wanted rung with its parent in each case, in the order of the table."""
    found = []
    for case, rows in run.by_case.items():
        for row in rows:
            if row["parent"] is None or not wanted(row):
                continue
            comparison = compare(run, row, row["parent"])
            if comparison is not None and not is_twin(run, case, row["variant"], row["parent"]):
                found.append(comparison)
    return found
